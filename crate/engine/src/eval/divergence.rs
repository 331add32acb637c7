//! How far models' predictions are from a base's, on the same windows again and again.

use std::rc::Rc;

use statepress_kernels::backend::{Residuals, Runner};
use statepress_kernels::ops::softmax;
use statepress_kernels::program::MatrixId;

use crate::EngineError;
use crate::models::{CpuNetwork, Loaded, Model};

/// Usual room for residual streams, in bytes.
pub(crate) const STREAMS: usize = 256 << 20;

/// Bytes of the base's logits that are held.
const LOGITS: usize = 256 << 20;

/// Measures mean divergences from a base, whose logits are held; and its residual streams as far as there is room: a model that
/// differs from it in its last layer then runs through no other.
pub(crate) struct Divergence {
    /// What the models that are judged differ from: the base, or a [later](Self::go_on_from) one.
    near: Model,
    windows: Vec<Vec<u32>>,
    /// Of how many windows, from the first on, the streams are held.
    streams: usize,
    /// What is known of each window.
    made: Vec<Made>,
}

/// What is known of a window.
#[derive(Default)]
struct Made {
    /// The base's, `[tokens, V]`.
    logits: Vec<f32>,
    /// The near model's residual stream after the embedding and after each layer, `[tokens, d]` each; none where there is no room.
    streams: Residuals,
}

impl Divergence {
    /// How many windows of so many tokens a model can be judged on: one at least.
    pub fn most(base: &Model, tokens: usize) -> usize {
        (LOGITS / (4 * base.info.program.vocab_size * tokens).max(1)).max(1)
    }

    /// Prepares to judge on these windows, with so many bytes of room for residual streams.
    pub fn new(base: &Model, windows: Vec<Vec<u32>>, room: usize) -> Self {
        let program = &base.info.program;
        let window = windows.first().map_or(0, Vec::len);
        let streams = room / (4 * (program.n_layers() + 1) * program.hidden_size() * window).max(1);
        Self { near: base.clone(), windows, streams, made: Vec::new() }
    }

    /// Tokens that are judged.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }

    /// Runs the base over the next window; answers whether there was one.
    pub async fn prepare(&mut self) -> Result<bool, EngineError> {
        let Some(ids) = self.windows.get(self.made.len()) else { return Ok(false) };
        let (mut runner, mut made) = (self.near.row_runner(true)?, Made::default());
        let has_room = self.made.len() < self.streams;
        runner.forward(ids, has_room.then_some(&mut made.streams)).await?;
        runner.logits(0..ids.len(), &mut made.logits).await?;
        self.made.push(made);
        Ok(true)
    }

    /// Has the models to come differ from this one: its streams take the place of the last one's.
    pub async fn go_on_from(&mut self, model: Model) -> Result<(), EngineError> {
        let mut runner = model.row_runner(true)?;
        for (ids, made) in self.windows.iter().zip(&mut self.made).take(self.streams) {
            runner.restart();
            runner.forward(ids, Some(&mut made.streams)).await?;
        }
        self.near = model;
        Ok(())
    }

    /// The mean divergence of another model's predictions, in nats a token. It is the near one but for some numbers, or without
    /// some layers.
    pub async fn of(&self, model: &Model) -> Result<f64, EngineError> {
        let program = self.near.program();
        let layer = first_change(self.near.network(), model.network());
        let begin = layer.and_then(|layer| program.begin(layer));
        let from = begin.and_then(|begin| {
            let held = program.nodes[..begin].iter().filter(|node| node.ends_layer).count();
            Some((begin, held.checked_sub(1)?))
        });
        let mut runner = model.row_runner(true)?;
        let (mut sum, mut logits) = (0.0, Vec::new());
        for (ids, base) in self.windows.iter().zip(&self.made) {
            match from.and_then(|(begin, held)| Some((begin, base.streams.get(held)?))) {
                Some((begin, stream)) => runner.resume(begin, stream, ids),
                None => {
                    runner.restart();
                    runner.forward(ids, None).await?;
                }
            }
            runner.logits(0..ids.len(), &mut logits).await?;
            let rows =
                base.logits.chunks_exact(program.vocab_size).zip(logits.chunks_exact(program.vocab_size));
            for (a, b) in rows {
                let kl = softmax::compare(a, b, 0).kl;
                if !kl.is_finite() {
                    let message = "the logits are not numbers somewhere in the calibration text: the model cannot be judged \
                                   by it; compress it by a recipe of your own, or let it read another text";
                    return Err(EngineError::Evaluation(message.into()));
                }
                // Rounding can leave a divergence of equal distributions just below zero.
                sum += f64::from(kl.max(0.0));
            }
        }
        Ok(sum / self.tokens().max(1) as f64)
    }
}

/// The first layer that another network lacks, or in which it has other numbers; `None` where that is before all layers.
/// What a head of its own has comes after all of them.
fn first_change(a: &CpuNetwork, b: &CpuNetwork) -> Option<usize> {
    let program = &a.program;
    if !Rc::ptr_eq(program, &b.program) {
        let same = program.nodes.iter().zip(&b.program.nodes).take_while(|(a, b)| a == b).count();
        return program.nodes.get(same)?.layer;
    }
    let matrices = a.matrices.iter().zip(&b.matrices).zip(&program.matrices).enumerate();
    let matrices = matrices.filter_map(|(id, ((a, b), matrix))| {
        let is_same = match (a, b) {
            (Some(a), Some(b)) => Rc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let is_head = MatrixId(id) == program.head.matrix && MatrixId(id) != program.table;
        (!is_same).then_some(if is_head { Some(program.n_layers()) } else { matrix.layer })
    });
    let vectors = a.vectors.iter().zip(&b.vectors).zip(&program.vectors);
    let vectors = vectors.filter_map(|((a, b), vector)| (a != b).then_some(vector.layer));
    // Before all layers is less than in any.
    matrices.chain(vectors).min().unwrap_or(Some(program.n_layers()))
}

//! The numbers of every weight that mentions the residual stream, for its new directions.

use std::rc::Rc;

use statepress_core::Index;
use statepress_core::recipe::Prune;
use statepress_kernels::program::{Layout, MatrixId, NormKind, Program, VectorId, VectorSource};

use super::fit::{self, Affine, Means};
use super::stream::{Reading, Stream};
use crate::EngineError;
use crate::families::ModelSpec;
use crate::models::Model;
use crate::techniques::change::{Along, Change, Turn};
use crate::techniques::derived::{Changes, Derived, Draft, Fitted};
use crate::techniques::pairs::Pairs;
use crate::techniques::prune::left::{heads, running};
use crate::techniques::prune::places::{Kept, mentions};
use crate::techniques::prune::put;
use crate::techniques::prune::weights::Weights;

/// What takes the place of the stream.
pub(super) struct Narrow {
    /// P.
    pub p: Rc<Turn>,
    /// What the logits feel of what enters the head, `[d, d]`.
    pub felt: Vec<f64>,
    /// The share of the energy of the table's rows that stays.
    pub of_table: f64,
    /// By norm: the share of the energy that it reads.
    pub of_norms: Vec<f64>,
    /// What readers are multiplied by, and what was fitted.
    turns: Pairs<MatrixId, Rc<Turn>>,
    fitted: Fitted,
    /// The most that a reader lost.
    pub lost: f64,
}

impl Narrow {
    /// Directions P, of which nothing is known but what the logits feel and the share of the table's energy.
    pub fn new(p: Turn, felt: Vec<f64>, of_table: f64) -> Self {
        let (of_norms, turns, fitted) = (Vec::new(), Pairs::default(), Fitted::default());
        Self { p: Rc::new(p), felt, of_table, of_norms, turns, fitted, lost: 0.0 }
    }

    /// What becomes of every weight.
    pub fn changes(&self, program: &Program, stream: &Stream) -> Changes {
        changes(program, stream, &self.p, &self.turns)
    }

    /// The numbers that are not turned as they are read, by key.
    pub fn fitted(&self) -> Fitted {
        self.fitted.clone()
    }

    /// Gives a norm and what reads it numbers for the new directions; `None` where the text says too little for that.
    pub fn fit(
        &mut self,
        model: &Model,
        reading: &Reading,
        means: &Means,
        weights: &mut Weights,
        repairs: bool,
    ) -> Result<Option<()>, EngineError> {
        let program = &model.info.program;
        let (p, norm) = (self.p.clone(), &reading.norm);
        let vector =
            |id: VectorId| model.network().vector(id).iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let bias = match norm.kind {
            NormKind::Layer { bias } => Some(bias),
            NormKind::Rms => None,
        };
        let affine = Affine {
            weight: norm.weight.map_or_else(|| vec![1.0; p.from], vector),
            bias: bias.map_or_else(|| vec![0.0; p.from], vector),
        };
        self.of_norms.push(means.captured(&p));
        let scale = means.scale(&p);
        if reading.readers == [program.table] {
            let squares = p.numbers.iter().map(|x| scale * x * x).collect::<Vec<f64>>();
            let start = Affine {
                weight: fit::product(&affine.weight, &squares, p.to),
                bias: fit::product(&affine.bias, &p.numbers, p.to),
            };
            let fitted = match repairs {
                true => means.before_table(&affine, &p, &self.felt, bias.is_some(), &start),
                false => Some(start),
            };
            let Some(fitted) = fitted else { return Ok(None) };
            self.put_norm(program, (norm.weight, fitted.weight), (bias, fitted.bias));
            return Ok(Some(()));
        }
        let turn = Rc::new(p.scaled(|j| scale * affine.weight[j]));
        let mut readers = Vec::with_capacity(reading.readers.len());
        for &id in &reading.readers {
            readers.push(means.reader(&affine, &weights.matrix(program.matrix(id))?, &turn));
        }
        // What the bias was before the weights, in the new directions; where those are 0, nobody knows.
        let before =
            affine.weight.iter().zip(&affine.bias).map(|(w, b)| if *w == 0.0 { 0.0 } else { b / w / scale });
        let start = fit::product(&before.collect::<Vec<f64>>(), &p.numbers, p.to);
        let new_bias = match bias {
            Some(_) => means.bias(&affine, &readers, &start),
            None => Some(vec![0.0; p.to]),
        };
        let Some(new_bias) = new_bias else { return Ok(None) };
        let Some(fitted) = means.fit(&affine, &new_bias, &readers, repairs) else { return Ok(None) };
        for (&id, fitted) in reading.readers.iter().zip(fitted) {
            self.lost = self.lost.max(fitted.lost);
            self.turns.insert(id, turn.clone());
            if repairs {
                put(&mut self.fitted, program.matrix(id), fitted.w, p.to);
            }
        }
        self.put_norm(program, (norm.weight, vec![1.0; p.to]), (bias, new_bias));
        Ok(Some(()))
    }

    fn put_norm(
        &mut self,
        program: &Program,
        weight: (Option<VectorId>, Vec<f64>),
        bias: (Option<VectorId>, Vec<f64>),
    ) {
        for (id, values) in [weight, bias] {
            let source = id.map(|id| &program.vector(id).source);
            if let Some(VectorSource::Key(key)) = source {
                self.fitted.insert(key.clone(), Rc::new(values.iter().map(|&x| x as f32).collect()));
            }
        }
    }
}

/// The checkpoint that is left, which has to run.
pub(super) fn derived(
    (index, spec): (&Index, &ModelSpec),
    program: &Program,
    step: &Prune,
    (changes, len, fitted): (&Changes, u64, &mut Fitted),
) -> Result<Derived, EngineError> {
    let draft = Draft::new(index, spec, len, changes, fitted);
    // How wide a head is may have followed from the width of the stream.
    running(draft.with_config(heads(program, spec, &Kept::default())).understood()?, step)
}

/// What becomes of every weight that mentions the stream: `turns` of what reads it, of all others P.
pub(super) fn changes(
    program: &Program,
    stream: &Stream,
    p: &Rc<Turn>,
    turns: &Pairs<MatrixId, Rc<Turn>>,
) -> Changes {
    let mut changes = Changes::default();
    let mut change = |key: &str, dims: Vec<Option<Along>>| {
        if dims.iter().any(Option::is_some) && !changes.has(key) {
            changes.insert(key.into(), Some(Change { dims, ..Change::none(key) }));
        }
    };
    for (at, matrix) in program.matrices.iter().enumerate() {
        let along = |dim: usize, turn: &Rc<Turn>| {
            mentions(&matrix.dims[dim], stream.axis).then(|| Along::Turned(turn.clone()))
        };
        let (rows, cols) = (along(0, p), along(1, turns.get(&MatrixId(at)).unwrap_or(p)));
        let dims = match matrix.layout {
            Layout::Plain => vec![rows, cols],
            Layout::Transposed => vec![cols, rows],
            Layout::Part { .. } => vec![None, rows, cols],
        };
        change(&matrix.key, dims);
    }
    for vector in &program.vectors {
        if let VectorSource::Key(key) = &vector.source {
            let along = |dim| mentions(dim, stream.axis).then(|| Along::Turned(p.clone()));
            change(key, vector.dims.iter().map(along).collect());
        }
    }
    changes
}

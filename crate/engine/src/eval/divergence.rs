//! How far a model's predictions are from a base's, on the same windows again and again.

use statepress_kernels::backend::Runner;
use statepress_kernels::ops::softmax;

use crate::EngineError;
use crate::models::{CpuRunner, Loaded, Model};

/// Measures mean divergences from a base, whose logits are held.
pub(crate) struct Divergence {
    base: CpuRunner,
    windows: Vec<Vec<u32>>,
    /// The base's logits of each window, `[tokens, V]`.
    logits: Vec<Vec<f32>>,
    vocab_size: usize,
}

impl Divergence {
    /// Prepares to judge on these windows.
    pub fn new(base: &Model, windows: Vec<Vec<u32>>) -> Result<Self, EngineError> {
        let (vocab_size, base) = (base.info.vocab_size, base.runner(true)?);
        Ok(Self { base, windows, logits: Vec::new(), vocab_size })
    }

    /// Tokens that are judged.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }

    /// Tokens of a window.
    pub fn window(&self) -> usize {
        self.windows.first().map_or(0, Vec::len)
    }

    /// Runs the base over the next window; answers whether there was one.
    pub async fn prepare(&mut self) -> Result<bool, EngineError> {
        let Some(ids) = self.windows.get(self.logits.len()) else { return Ok(false) };
        let mut logits = Vec::new();
        self.base.restart();
        self.base.forward(ids, None).await?;
        self.base.logits(0..ids.len(), &mut logits).await?;
        self.logits.push(logits);
        Ok(true)
    }

    /// The mean divergence of another model's predictions, in nats a token.
    pub async fn of(&self, model: &Model) -> Result<f64, EngineError> {
        let mut runner = model.runner(true)?;
        let (mut sum, mut logits) = (0.0, Vec::new());
        for (ids, base) in self.windows.iter().zip(&self.logits) {
            runner.restart();
            runner.forward(ids, None).await?;
            runner.logits(0..ids.len(), &mut logits).await?;
            let rows = base.chunks_exact(self.vocab_size).zip(logits.chunks_exact(self.vocab_size));
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

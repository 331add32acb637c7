//! Whom a student learns from.

use statepress_engine::EngineError;
use statepress_engine::models::{Loaded, Model};
use statepress_kernels::backend::Runner;

use crate::{Batch, Trainable};

/// Whom a student learns from.
pub enum Teacher<L: Loaded = Model> {
    /// A model as it is run, from packed weights.
    Packed(L),
    /// A model whose weights are numbers where the student's are.
    Numbers(Trainable),
}

impl<L: Loaded> Teacher<L> {
    /// Logits `[n, V]` of windows that each begin with an empty state, row-major.
    pub(super) async fn logits(&self, batch: &Batch) -> Result<Vec<f32>, EngineError> {
        let model = match self {
            Self::Numbers(model) => return model.evaluate().logits(batch).await,
            Self::Packed(model) => model,
        };
        let mut runner = model.runner(true).map_err(EngineError::from)?;
        let (mut all, mut logits) = (Vec::new(), Vec::new());
        for window in batch.ids.chunks(batch.len) {
            runner.restart();
            runner.forward(window, None).await.map_err(EngineError::from)?;
            runner.logits(0..window.len(), &mut logits).await.map_err(EngineError::from)?;
            all.extend_from_slice(&logits);
        }
        Ok(all)
    }

    /// Bytes of its weights in memory.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Packed(model) => model.info().bytes,
            Self::Numbers(model) => {
                4 * model.keys().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum::<u64>()
            }
        }
    }

    /// Refuses a teacher whose logits are not those of the student's ids.
    pub(super) fn fits(&self, student: &Trainable, window: usize) -> Result<(), EngineError> {
        let (vocab_size, max_tokens, device) = match self {
            Self::Packed(model) => (model.info().vocab_size, model.info().max_tokens, None),
            Self::Numbers(model) => (model.program.vocab_size, model.program.max_tokens, Some(model.device)),
        };
        let refuse = |value: String, allowed: String| {
            Err(EngineError::Option { option: "teacher".into(), value, allowed })
        };
        if vocab_size != student.program.vocab_size {
            let allowed = format!("one of {}, as the student has", student.program.vocab_size);
            return refuse(format!("a model of {vocab_size} ids"), allowed);
        }
        if let Some(most) = max_tokens.filter(|&most| most < window) {
            return refuse(
                format!("a model of {most} positions"),
                format!("one that takes windows of {window}"),
            );
        }
        match device.filter(|&device| device != student.device) {
            Some(device) => refuse(format!("on {}", device.name()), format!("on {}", student.device.name())),
            None => Ok(()),
        }
    }
}

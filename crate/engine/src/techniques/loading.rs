//! The model by which a step of a recipe reads a text: the one that is there already, or the checkpoint's, loaded first.

use statepress_core::job::{Job, Progress};

use super::derived::Checkpoint;
use crate::EngineError;
use crate::models::{Cpu, Load, Model};

/// Such a model.
pub(super) struct Loading {
    load: Option<Load<Cpu>>,
    model: Option<Model>,
}

impl Loading {
    /// Of a checkpoint that loads as `model`, where that is known.
    pub fn new(of: &Checkpoint, model: Option<Model>) -> Result<Self, EngineError> {
        let load = match &model {
            Some(_) => None,
            None => Some(Load::new(Cpu, of.source.clone(), of.index.clone(), of.spec.clone())?),
        };
        Ok(Self { load, model })
    }

    /// Loads on; `None` once the model is there.
    pub async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if let Some(load) = &mut self.load {
            if let Some(progress) = load.step().await? {
                return Ok(Some(progress));
            }
            self.model = self.load.take().map(Load::finish).transpose()?;
        }
        Ok(None)
    }

    /// The model, once it is loaded.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }
}

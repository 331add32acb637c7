//! Recovery: training what was compressed.

use serde::{Deserialize, Serialize};

use super::RecipeError;

/// Train what the other steps have made to predict as the original does, on a text that is given beside the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Recover {
    /// What is trained. `vectors` when left out.
    pub weights: RecoverWeights,
    /// Updates of the weights, from 1. 1000 when left out.
    pub steps: usize,
    /// How much the original's predictions count, 0 to 1; the text itself counts the rest. 1 when left out. Of a student as much
    /// as when it was taught.
    pub alpha: f64,
    /// The highest learning rate, above 0 and at most 1. When left out 0.001 for vectors, and for codes the higher the fewer bits they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "types", ts(optional))]
    pub learning_rate: Option<f64>,
}

/// What recovery trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum RecoverWeights {
    /// What no codes stand for: norms, biases, and how states decay, skip and step. Every code stays.
    #[default]
    Vectors,
    /// Codes too, with the scales that they have.
    All,
}

impl Default for Recover {
    fn default() -> Self {
        Self { weights: RecoverWeights::Vectors, steps: 1000, alpha: 1.0, learning_rate: None }
    }
}

impl Recover {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        if self.steps == 0 {
            return Err(RecipeError::option("recover.steps", self.steps, "a whole number from 1"));
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(RecipeError::option("recover.alpha", self.alpha, "a number from 0 to 1"));
        }
        match self.learning_rate {
            Some(rate) if !(rate > 0.0 && rate <= 1.0) => {
                Err(RecipeError::option("recover.learningRate", rate, "a number above 0, and at most 1"))
            }
            _ => Ok(()),
        }
    }
}

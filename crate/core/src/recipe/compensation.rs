//! Rounding with errors made up for.

use serde::{Deserialize, Serialize};

use super::RecipeError;

/// Whether later weights make up for the rounding of earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ErrorCompensation {
    /// Every weight is rounded by itself.
    #[default]
    None,
    /// GPTQ (Frantar et al. 2022); needs a calibration text.
    Gptq,
}

/// How `gptq` is done: scales are refitted and codes moved once more as often as `passes` says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GptqOptions {
    /// Windows of the calibration text that are read, evenly spaced: 1 to 4096. Of a shorter text as many as it has.
    pub windows: usize,
    /// Tokens of a window: 1 to 65536, or the model's positions where they are fewer.
    pub window: usize,
    /// How often scales are refitted and codes moved: 0 to 8. With 0 it is GPTQ.
    pub passes: usize,
    /// What is added to the diagonal of the statistics, as a share of its mean: above 0 and at most 1.
    pub damping: f64,
}

impl Default for GptqOptions {
    fn default() -> Self {
        Self { windows: 16, window: 256, passes: 2, damping: 0.01 }
    }
}

impl GptqOptions {
    /// Checks every option against what is allowed.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        for (option, value, least, most) in [
            ("gptq.windows", self.windows, 1, 4096),
            ("gptq.window", self.window, 1, 65_536),
            ("gptq.passes", self.passes, 0, 8),
        ] {
            if !(least..=most).contains(&value) {
                return Err(RecipeError::option(option, value, &format!("{least} to {most}")));
            }
        }
        if !(self.damping > 0.0 && self.damping <= 1.0) {
            return Err(RecipeError::option("gptq.damping", self.damping, "above 0 and at most 1"));
        }
        Ok(())
    }
}

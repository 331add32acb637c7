//! Rounding with errors made up for.

use serde::{Deserialize, Serialize};

use super::RecipeError;

/// Rounding whose errors are made up for by weights that are rounded later: GPTQ (Frantar et al. 2022), with scales refitted
/// and codes moved once more as often as `passes` says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compensation {
    /// Windows of the calibration text that are read, evenly spaced: 1 to 4096. Of a shorter text as many as it has.
    pub windows: usize,
    /// Tokens of a window: 1 to 65536, or the model's positions where they are fewer.
    pub window: usize,
    /// How often scales are refitted and codes moved: 0 to 8. With 0 it is GPTQ.
    pub passes: usize,
    /// What is added to the diagonal of the statistics, as a share of its mean: above 0 and at most 1.
    pub damping: f64,
}

impl Default for Compensation {
    fn default() -> Self {
        Self { windows: 16, window: 256, passes: 2, damping: 0.01 }
    }
}

impl Compensation {
    /// Checks every option against what is allowed.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        for (option, value, least, most) in [
            ("compensation.windows", self.windows, 1, 4096),
            ("compensation.window", self.window, 1, 65_536),
            ("compensation.passes", self.passes, 0, 8),
        ] {
            if !(least..=most).contains(&value) {
                return Err(RecipeError::option(option, value, &format!("{least} to {most}")));
            }
        }
        if !(self.damping > 0.0 && self.damping <= 1.0) {
            return Err(RecipeError::option("compensation.damping", self.damping, "above 0 and at most 1"));
        }
        Ok(())
    }
}

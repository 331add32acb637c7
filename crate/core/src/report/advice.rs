//! What to do with a checkpoint (`advise`).

use serde::{Deserialize, Serialize};

use crate::Finding;

/// What to do with a checkpoint (`advise`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// What the rules recommend, best first.
    pub recommended: Vec<Recommendation>,
    /// What they advise against.
    pub avoid: Vec<Recommendation>,
    /// What the rules are and where they contradict each other.
    pub findings: Vec<Finding>,
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// Name of a built-in recipe, or of a technique that has none yet.
    pub recipe: String,
    /// The reason, and what was measured of it.
    pub why: String,
    /// Predicted on this checkpoint where a recipe exists, else the rule's own claim.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub expected_ratio: Option<f64>,
    /// Perplexity change in percent that was measured on another model of the family, `measured_on`;
    /// absent where none of the family was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub expected_loss: Option<f64>,
    /// The model that `expected_loss` was measured on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub measured_on: Option<String>,
    /// `low`, `medium` or `high`.
    pub risk: Risk,
    /// Where the figures come from: `measured`, `unmeasured` or `literature`.
    pub basis: Basis,
}

/// Where the figures of a piece of advice come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Measured on itera-tiny, the demo model: not on the file that is advised on.
    Measured,
    /// Measured on itera-tiny, which is of another family: a reason for the order, and no figure.
    Unmeasured,
    /// A claim of the research, not measured as a recipe of this version.
    Literature,
}

/// How likely harm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Risk {
    Low,
    Medium,
    High,
}

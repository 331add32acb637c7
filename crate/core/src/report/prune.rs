//! What prune steps will remove (`plan`), and have removed (`compress`).

use serde::{Deserialize, Serialize};

use crate::recipe::Prune;

/// What one prune step removed, or will.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// The step.
    pub step: Prune,
    /// Parameters before it.
    pub params_before: u64,
    /// Parameters after it.
    pub params_after: u64,
    /// Every place where something was removed.
    pub places: Vec<PrunedPlace>,
}

/// What was removed in one place: the channels of a layer, or of one expert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PrunedPlace {
    /// The layer, from 0.
    pub layer: Option<usize>,
    /// The weights that had them.
    pub tensors: Vec<String>,
    /// How many there were.
    pub before: usize,
    /// How many are left.
    pub after: usize,
    /// Which were removed, counted from 0 as they were before. Empty in a plan, and of what was fitted instead of cut.
    pub removed: Vec<usize>,
    /// What the outputs of their readers lost on the calibration text, as a share of their squares: with repair what is
    /// left of it; of a step size's projection, what it lost. Of whole layers and parts of them: how far predictions are from the
    /// original's there, in nats a token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub error: Option<f64>,
}

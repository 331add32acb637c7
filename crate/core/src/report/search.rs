//! What a search for the best recipe found (`search`).

use serde::{Deserialize, Serialize};

use crate::{Finding, Precision, Recipe, Role};

/// What rounding each tensor of a model alone costs: all that a search needs to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SearchCosts {
    /// What is stored how where the search does not choose.
    pub base: Recipe,
    /// Bytes of the model as opened.
    pub bytes_before: u64,
    /// Bytes of what the search does not choose about.
    pub fixed_bytes: u64,
    /// The tensors that it chooses about.
    pub tensors: Vec<TensorCosts>,
    /// How many more it would choose about that are not measured yet: they are stored as the base says, and in no prediction.
    #[serde(default)]
    pub unmeasured: u64,
    /// Whether tensors were rounded by gradients.
    #[serde(default)]
    pub gradients: bool,
    /// Tokens on which divergences were measured.
    pub tokens: u64,
    /// Tokens of a window of them.
    pub window: u64,
}

/// What rounding one tensor costs, or some of its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TensorCosts {
    /// Its name.
    pub tensor: String,
    /// Of a token table or a head, which is chosen about in classes of rows: which rows these are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub rows: Option<CostRows>,
    /// What it does.
    #[cfg_attr(feature = "types", ts(optional = nullable))]
    pub role: Option<Role>,
    /// Its parameters, those of these rows alone.
    pub params: u64,
    /// What each precision would cost, the smallest first.
    pub choices: Vec<Cost>,
}

/// Rows of a token table or a head, counted from the most used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CostRows {
    /// How many are used more.
    pub after: u64,
    /// How many these are.
    pub count: u64,
}

/// What a precision costs a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Which.
    pub precision: Precision,
    /// How far apart the levels of its rows are, where they are chosen for an entropy coder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub step: Option<f64>,
    /// Bytes of codes and scales; with a step, as they are stored, coded.
    pub bytes: u64,
    /// Divergence of the model with this tensor, or these rows, alone rounded, in nats a token.
    pub kl: f64,
    /// Whether that was measured, or is nothing because the tensor has these codes already; else it follows from the
    /// measurement of the nearest number of bits, a quarter for each bit more, or from those of other steps.
    pub measured: bool,
}

/// What is to be reached: exactly one of the four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SearchTarget {
    /// Bytes as opened over bytes after, above 1.
    #[cfg_attr(feature = "types", ts(optional))]
    pub ratio: Option<f64>,
    /// Bytes of weights and scales that may be left.
    #[cfg_attr(feature = "types", ts(optional))]
    pub bytes: Option<f64>,
    /// Divergence that may be lost, in nats a token.
    #[cfg_attr(feature = "types", ts(optional))]
    pub max_kl: Option<f64>,
    /// Perplexity change that may be lost, in percent.
    #[cfg_attr(feature = "types", ts(optional))]
    pub max_loss: Option<f64>,
}

/// The recipe that reaches a target by what was measured of each tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SearchResult {
    /// An ordinary recipe: a rule for each tensor that was chosen about, then what the base says.
    pub recipe: Recipe,
    /// Where it lies.
    pub chosen: SearchPoint,
    /// Everything on the way from the smallest to the closest recipe, smallest first.
    pub front: Vec<SearchPoint>,
}

/// A recipe on the front.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SearchPoint {
    /// Bytes of weights and scales.
    pub bytes: u64,
    /// Bytes as opened over these.
    pub ratio: f64,
    /// Predicted divergence in nats a token: the sum of what each tensor costs alone.
    pub kl: f64,
    /// Predicted perplexity change in percent, `100 (e^kl - 1)`: that of a text which the model itself could have written.
    pub perplexity_change: f64,
}

/// What was measured of a recipe that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SearchTry {
    /// Bytes of weights and scales, as they are stored.
    pub bytes: u64,
    /// Divergence on the part of the text that judges, in nats a token.
    pub kl: f64,
    /// Perplexity change on it, in percent.
    pub perplexity_change: f64,
}

/// What a search does next, and how far it got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SearchNext {
    /// The recipe to try; none where the search is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub next: Option<SearchResult>,
    /// Which of those that were tried is the best, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub best: Option<u64>,
    /// Whether that reaches the target.
    pub reached: bool,
}

/// What a search begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SearchSteps {
    /// The steps that come before anything is chosen; there may be none.
    pub first: Recipe,
    /// Whether a text has to be read for any of them.
    pub reads_text: bool,
    /// What is to be known of these steps.
    pub findings: Vec<Finding>,
}

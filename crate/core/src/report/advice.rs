//! What to do with a checkpoint (`advise`).

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::Finding;

/// What to do with a checkpoint (`advise`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Recipes that are recommended, best first.
    pub recommended: Vec<Recommendation>,
    /// What is advised against.
    pub avoid: Vec<Recommendation>,
    /// What can be done beyond a recipe by itself: making up for rounding errors, searching, ...
    pub techniques: Vec<TechniqueAdvice>,
    /// What was measured on this very model, as it was given.
    pub measured: Vec<MeasuredRecipe>,
    /// How to have the figures of this very model; absent where it cannot be run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub measure: Option<MeasureOffer>,
    /// How the order came about, which rules gave way to which, and what was measured against them.
    pub findings: Vec<Finding>,
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// Name of a built-in recipe; among what is advised against also of a technique.
    pub recipe: String,
    /// The reason.
    pub why: String,
    /// Bytes before over bytes after: measured, or planned for this checkpoint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub expected_ratio: Option<f64>,
    /// Perplexity change in percent, measured on `measured_on`; absent where neither this model nor one of its family was
    /// measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub expected_loss: Option<f64>,
    /// Standard error of `expected_loss`, in percent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub loss_stderr: Option<f64>,
    /// Mean KL divergence in nats a token, measured as `expected_loss` was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub kl: Option<f64>,
    /// Tokens it was measured on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tokens: Option<u64>,
    /// The model that was measured: `this file`, or the name of another one of its family.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub measured_on: Option<String>,
    /// Tokens a second that this device makes one after the other, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tokens_per_second: Option<f64>,
    /// What the scorecard says of these figures.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub verdict: Option<Verdict>,
    /// `low`, `medium` or `high`.
    pub risk: Risk,
    /// Where the figures come from: `measured`, `unmeasured` or `literature`.
    pub basis: Basis,
    /// The rules behind it, the one that counts most first.
    pub rules: Vec<RuleReport>,
}

impl Recommendation {
    /// What `measured_on` says of the checkpoint that is advised on.
    pub const THIS_FILE: &str = "this file";
}

/// What can be done beyond a recipe by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TechniqueAdvice {
    /// What it is called.
    pub technique: String,
    /// What it does, and what is known of it.
    pub why: String,
    /// The command that does it.
    pub command: String,
    /// Where it comes from, and the rules that recommend it.
    pub rules: Vec<RuleReport>,
}

/// A rule behind a piece of advice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// A stable kebab-case word for programs.
    pub id: String,
    /// The rule in a few words.
    pub title: String,
    /// The document it is from, and where in it.
    pub source: String,
    /// That document, where it can be opened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub url: Option<String>,
}

/// How to have a model's own figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct MeasureOffer {
    /// The recipes that are worth it.
    pub recipes: Vec<String>,
    /// Tokens to read, unless said otherwise.
    pub tokens: u64,
    /// What it takes on one core of a CPU, roughly.
    pub seconds: f64,
    /// The command that does it.
    pub command: String,
}

/// What was measured of a built-in recipe on the checkpoint that is advised on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeasuredRecipe {
    /// Its name; `none` is the original.
    pub recipe: String,
    /// Perplexity change in percent.
    pub loss: f64,
    /// Standard error of that, in percent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub stderr: Option<f64>,
    /// Mean KL divergence, nats a token.
    pub kl: f64,
    /// Bytes before over bytes after.
    pub ratio: f64,
    /// Tokens that were judged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tokens: Option<u64>,
    /// Tokens a second, made one after the other.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tokens_per_second: Option<f64>,
    /// What made them: `cpu` or `webgpu`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub backend: Option<String>,
}

/// Where the figures of a piece of advice come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Measured: on this file, or on another model of its family.
    Measured,
    /// Not measured on this file, nor on any model of its family.
    Unmeasured,
    /// A claim of a document, not measured as a recipe of this version.
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

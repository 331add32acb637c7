//! What a training run did (`distill`).

use serde::{Deserialize, Serialize};

/// What a training run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Training {
    /// What computed: `flex` or `ndarray`, both on the CPU.
    pub device: String,
    /// Parameters of the student.
    pub params: u64,
    /// Those of them that were trained.
    pub trained_params: u64,
    /// Updates of the weights.
    pub steps: u64,
    /// Tokens that they were computed from, repeated ones counted again.
    pub tokens: u64,
    /// Tokens of the held-out text that every look was about.
    pub held_out_tokens: u64,
    /// Seconds from the first look to the last.
    pub seconds: f64,
    /// Bytes of memory that it was estimated to take before it began.
    pub memory: u64,
    /// How much the teacher counts; the text counts the rest.
    pub alpha: f64,
    /// What logits are divided by before teacher and student are compared.
    pub temperature: f64,
    /// The learning rate at its highest.
    pub learning_rate: f64,
    /// What decided the order of windows, and fresh numbers.
    pub seed: u64,
    /// The share of the codes that are others than before, where codes were trained.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub codes_changed: Option<f64>,
    /// Why it ended.
    pub stopped: TrainingStop,
    /// Every look at the held-out text.
    pub validation: Vec<TrainingPoint>,
    /// The best of them, by `kl` where there is one, else by `nll`: the weights are those of that step.
    pub best: TrainingPoint,
}

/// How good a model in training was at some step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TrainingPoint {
    /// Updates until then.
    pub step: u64,
    /// Tokens that these were computed from, repeated ones counted again.
    pub tokens: u64,
    /// Seconds until then, those of looks among them.
    pub seconds: f64,
    /// The mean loss of training since the point before, nats a token; there is none at the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub loss: Option<f64>,
    /// Mean negative log-likelihood of the held-out text, nats a token.
    pub nll: f64,
    /// The exponential of it.
    pub perplexity: f64,
    /// Mean divergence from the teacher's predictions of the held-out text, nats a token, where the teacher counts alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub kl: Option<f64>,
}

/// Why a training run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum TrainingStop {
    /// All steps were done.
    Finished,
    /// It did not become better for as many looks as it was told to wait.
    NoBetter,
    /// It was told to.
    Asked,
    /// Something was no number.
    Diverged {
        /// The step that was not done.
        step: u64,
        /// The first tensor whose numbers or gradient it was; where there is none, the loss.
        what: String,
    },
}

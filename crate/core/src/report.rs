//! What the commands answer, as JSON: the contract with users, scripts and the page.

use serde::{Deserialize, Serialize};

use crate::index::Format;
use crate::spec::{Family, Fields};
use crate::{Finding, Precision, Recipe};

/// What a checkpoint is (`inspect`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The container.
    pub format: Format,
    /// Where in it the tensors were.
    pub wrapper: String,
    /// The family of models.
    pub family: Family,
    /// Parameters; tied ones once, buffers not at all.
    pub params: u64,
    /// Bytes of weights, scales and tables; tied ones once, buffers not at all.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The recipe that produced the file, when it is one of ours.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub recipe: Option<Recipe>,
    /// Every tensor in file order.
    pub tensors: Vec<TensorReport>,
    /// Every configuration field with its origin.
    pub spec: Fields,
    /// What was assumed, skipped, refused or found odd.
    pub findings: Vec<Finding>,
}

/// One tensor of an inspection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TensorReport {
    /// The real key.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// `F32`, `BF16`, `QI8`, `NF4`, ...
    pub dtype: String,
    /// Numbers in it.
    pub params: u64,
    /// Bytes of codes, scales and tables.
    pub bytes: u64,
    /// The earlier tensor that holds the same storage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tied_to: Option<String>,
    /// True for tensors that are not weights (counters, masks).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<bool>"))]
    pub buffer: bool,
}

/// What a recipe will do (`plan`), or did (`compress`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The recipe in full.
    pub recipe: Recipe,
    /// Tensors that a rule decided.
    pub matched: Matched,
    /// Tensors that took `otherwise`.
    pub unmatched: Matched,
    /// Bytes before and after.
    pub bytes: Bytes,
    /// Element widths alone, without scales, against FP32: the way the research counted.
    pub nominal: Nominal,
    /// Parameters and bytes after, by precision.
    pub precisions: Vec<PrecisionShare>,
    /// Every tensor that is written, in file order.
    pub tensors: Vec<TensorPlan>,
    /// Patterns that match nothing, shapes that refuse, too much unmatched.
    pub findings: Vec<Finding>,
}

/// How much a set of rules covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Matched {
    /// Tensors.
    pub tensors: u64,
    /// Parameters.
    pub params: u64,
    /// Share of all parameters.
    pub percent: f64,
}

/// Bytes of weights, scales and tables; tied ones once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Bytes {
    /// Bytes of the same, whole model in FP32: what published ratios compare with.
    pub fp32: u64,
    /// Bytes as opened.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
    /// `before / after`.
    pub ratio: f64,
}

/// Sizes from element widths alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Nominal {
    /// Bytes of the codes.
    pub bytes: u64,
    /// FP32 bytes over those.
    pub ratio: f64,
}

/// What a precision holds after compression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PrecisionShare {
    /// The precision.
    pub precision: Precision,
    /// Parameters in it.
    pub params: u64,
    /// Their bytes, scales included.
    pub bytes: u64,
}

/// One tensor of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TensorPlan {
    /// The real key.
    pub name: String,
    /// What it is stored in afterwards.
    pub precision: Precision,
    /// The pattern that decided, or `otherwise`.
    pub rule: String,
    /// Numbers in it.
    pub params: u64,
    /// Bytes as opened.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// What rounding did; only after compressing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub error: Option<RoundingError>,
}

/// The difference between a tensor and what its codes decode to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct RoundingError {
    /// Mean squared difference.
    pub mse: f64,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Cosine of the angle between the two; 1 when both are zero.
    pub cosine: f64,
    /// Values that were clipped (percentile) or overflowed to infinity (FP16).
    pub clipped: u64,
}

/// What compressing did (`compress`): the plan, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct CompressReport {
    /// The plan with each tensor's measured error.
    #[serde(flatten)]
    pub plan: Plan,
    /// Bytes of the produced file.
    pub file_bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// The most bytes of tensor buffers held at once while compressing.
    pub peak_memory: u64,
}

/// Perplexity of a model on a text (`evaluate`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Tokens predicted.
    pub tokens: u64,
    /// Mean negative log-likelihood, nats per token.
    pub nll: f64,
    /// Standard error of `nll` over tokens.
    pub nll_stderr: f64,
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Tokens of a window.
    pub window: usize,
    /// Windows evaluated.
    pub windows: usize,
    /// Tokens given that lie in no full window and were dropped.
    pub dropped: u64,
    /// Position `t` predicts token `t + offset`.
    pub offset: usize,
    /// What computed: `cpu` or `webgpu`.
    pub backend: String,
    /// The GPU that computed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub adapter: Option<String>,
    /// Wall time.
    pub seconds: f64,
    /// Tokens put in over wall time.
    pub tokens_per_second: f64,
    /// Mean NLL at offsets 0 to 3, when the offset was detected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub nll_by_offset: Option<Vec<f64>>,
    /// What was assumed or found odd.
    pub findings: Vec<Finding>,
}

/// Two models on the same tokens (`compare`): the quality card. `a` is the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The base.
    pub a: Evaluation,
    /// The other, normally the compressed one.
    pub b: Evaluation,
    /// Sizes.
    pub bytes: ComparedBytes,
    /// Percent; positive is worse.
    pub perplexity_change: f64,
    /// Standard error of the difference of the two mean NLLs over the same tokens.
    pub nll_difference_stderr: f64,
    /// Kullback-Leibler divergence KL(a || b) per position, nats.
    pub kl: Distribution,
    /// Share of positions where both put the same token first.
    pub top1_agreement: f64,
    /// Change of the probability of the right token, `p_b - p_a`.
    pub delta_p: DeltaP,
    /// Drift along the window.
    pub by_position: Vec<PositionDrift>,
    /// Drift through the layers.
    pub by_layer: Vec<LayerDrift>,
    /// Mean KL that rounding alone produces: `a` run window-wise against `a` run token by token.
    pub noise_floor: f64,
    /// The seed's scorecard.
    pub verdict: Verdict,
}

/// Sizes of two models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ComparedBytes {
    /// Weights, scales and tables of the base, tied once.
    pub a: u64,
    /// The same of the other.
    pub b: u64,
    /// `a / b`.
    pub ratio: f64,
    /// Bytes of the base's file.
    pub file_a: u64,
    /// Bytes of the other's file.
    pub file_b: u64,
}

/// A distribution in four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Distribution {
    pub mean: f64,
    pub median: f64,
    pub p99: f64,
    pub max: f64,
}

/// Change of the probability of the right token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct DeltaP {
    /// Root mean square.
    pub rms: f64,
    /// 1st percentile: the worst losses.
    pub p01: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Drift in one stretch of the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PositionDrift {
    /// First position of the stretch.
    pub from: usize,
    /// Position after its last.
    pub to: usize,
    /// Mean KL(a || b).
    pub kl: f64,
    /// Mean NLL of b minus that of a.
    pub nll_change: f64,
}

/// Drift after one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct LayerDrift {
    /// `embedding`, `layers.0`, ...
    pub layer: String,
    /// `||h_b - h_a|| / ||h_a||` over all positions of the residual stream.
    pub relative_error: f64,
}

/// The seed's scorecard with its direction put right: `ratio = base / compressed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// `success`: both targets; `partial`: size only; `failure`: else.
    pub result: VerdictResult,
    /// The ratio that had to be reached.
    pub ratio_target: f64,
    /// The perplexity change in percent that was allowed.
    pub loss_target: f64,
}

/// The three outcomes of the seed's scorecard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum VerdictResult {
    Success,
    Partial,
    Failure,
}

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
    /// The rule behind it, and whether it was measured.
    pub why: String,
    /// Predicted on this checkpoint where a recipe exists, else the rule's own claim.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub expected_ratio: Option<f64>,
    /// Perplexity change in percent that the rule claims.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub expected_loss: Option<f64>,
    /// `low`, `medium` or `high`.
    pub risk: Risk,
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

/// One generated token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct GeneratedToken {
    /// Its id.
    pub id: u32,
    /// Its probability under the model (before temperature and top-k).
    pub probability: f64,
}

//! How good a model is (`evaluate`), and what compressing cost it (`compare`).

use serde::{Deserialize, Serialize};

use crate::Finding;

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
    /// Its standard error, in percent: both judge the same tokens, so it is far below that of either perplexity.
    pub perplexity_change_stderr: f64,
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
    /// Whether that is a success, by size and by quality.
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

/// The scorecard of the findings document of Itera-Lite ("Success Metrics"), with its direction put right.
///
/// The document divides the final size by the baseline's and asks that the quotient be at least 1.5, which only a file that
/// has grown could reach. Here compression is what it means: bytes of the base over bytes of the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// `success`: both criteria are reached; `partial`: compression alone; `failure`: else.
    pub result: VerdictResult,
    /// Bytes of the base over bytes of the other: at least the limit.
    pub compression: Criterion,
    /// Perplexity change, `(new - base) / base`, in percent: at most the limit.
    pub degradation: Criterion,
}

impl Verdict {
    /// The compression that the document asks for.
    pub const COMPRESSION: f64 = 1.5;
    /// The degradation that it allows, in percent.
    pub const DEGRADATION: f64 = 5.0;

    /// Judges a ratio and a perplexity change in percent by these limits.
    pub fn of((ratio, least): (f64, f64), (loss, most): (f64, f64)) -> Self {
        let compression = Criterion { value: ratio, limit: least, reached: ratio >= least };
        let degradation = Criterion { value: loss, limit: most, reached: loss <= most };
        let result = match (compression.reached, degradation.reached) {
            (true, true) => VerdictResult::Success,
            (true, false) => VerdictResult::Partial,
            (false, _) => VerdictResult::Failure,
        };
        Self { result, compression, degradation }
    }
}

/// One of the two criteria of the scorecard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Criterion {
    /// What was measured.
    pub value: f64,
    /// What was wanted.
    pub limit: f64,
    /// Whether that is so.
    pub reached: bool,
}

/// The three outcomes of the scorecard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum VerdictResult {
    Success,
    Partial,
    Failure,
}

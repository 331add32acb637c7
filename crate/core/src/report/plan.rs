//! What a recipe will do (`plan`), and did (`compress`).

use serde::{Deserialize, Serialize};

use super::{FileReport, Pruned};
use crate::{Finding, Precision, Recipe, Role, StoredAs};

/// What a recipe will do (`plan`), or did (`compress`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The recipe in full.
    pub recipe: Recipe,
    /// Tensors that a rule decided. What no recipe touches is in neither of the two.
    pub matched: Matched,
    /// Tensors that took `otherwise`.
    pub unmatched: Matched,
    /// Bytes before and after.
    pub bytes: Bytes,
    /// Element widths alone, without scales, against FP32: the way the research counted.
    pub nominal: Nominal,
    /// Parameters and bytes after, by precision; buffers are not counted.
    pub precisions: Vec<PrecisionShare>,
    /// What prune steps remove, one after the other; empty where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<Vec<Pruned>>"))]
    pub pruned: Vec<Pruned>,
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
    /// Share of the parameters that a recipe decides about.
    pub percent: f64,
}

/// Bytes of weights, scales and tables; tied ones once, buffers not at all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Bytes {
    /// Bytes of the same, whole model in FP32: what published ratios compare with. Weights of types that no recipe
    /// touches count as they are.
    pub fp32: u64,
    /// Bytes as opened.
    pub before: u64,
    /// Bytes after. Of a recipe that says `coded`, planned: as if codes were packed; only compressing tells how many they
    /// are.
    pub after: u64,
    /// Bytes of the same in memory, where codes are packed: fewer are only in the file.
    pub memory: u64,
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

/// What a precision holds after compression, or all that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PrecisionShare {
    /// The precision.
    pub precision: StoredAs,
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
    /// What it is stored in afterwards. `kept`: whole numbers, booleans and types that no recipe touches stay as
    /// they are, bit for bit.
    pub precision: StoredAs,
    /// How far apart the levels of its rows are, where the recipe says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub step: Option<f64>,
    /// Where its rows are of several classes: those classes. `precision` is that of most rows then. Empty where all are alike.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<Vec<RowsPlan>>"))]
    pub rows: Vec<RowsPlan>,
    /// The pattern that decided, or `otherwise`, or in parentheses why no pattern did.
    pub rule: String,
    /// What it does in the model, where its family is known and says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub role: Option<Role>,
    /// Why it takes this precision, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub why: Option<String>,
    /// Numbers in it.
    pub params: u64,
    /// Bytes as opened.
    pub bytes_before: u64,
    /// Bytes after; see [`Bytes::after`].
    pub bytes_after: u64,
    /// What rounding did; only after compressing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub error: Option<RoundingError>,
}

/// Rows of a tensor that share a precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct RowsPlan {
    /// What they are stored in.
    pub precision: Precision,
    /// How many they are.
    pub rows: u64,
    /// Their bytes. Which class a row is of takes a few bits beside them.
    pub bytes: u64,
}

/// The difference between a tensor and what its codes decode to.
///
/// NaN and infinities that were in the tensor already stay what they are and are left out of the first three.
/// Where a finite number became infinite there is no distance: those three are `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct RoundingError {
    /// Mean squared difference.
    pub mse: Option<f64>,
    /// Largest absolute difference.
    pub max_abs: Option<f64>,
    /// Cosine of the angle between the two; 1 when both are zero.
    pub cosine: Option<f64>,
    /// Values brought nearer to 0, to the last code: beyond where a recipe clips, or
    /// what a scale or absmax in 16 bits does not reach.
    pub clipped: u64,
    /// Finite values that became infinite: beyond the range of FP16 or BF16, or float64 beyond that of float32.
    pub overflowed: u64,
    /// Values other than 0 that became 0: with FP16 and BF16 each of them; with codes those of rows, groups
    /// or blocks of which nothing but zeros is left.
    pub zeroed: u64,
    /// NaN and infinities that were there before.
    pub non_finite: u64,
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
    /// The shards that it was made from; empty where that was one file.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<Vec<FileReport>>"))]
    pub from_files: Vec<FileReport>,
    /// Wall time.
    pub seconds: f64,
    /// The most bytes of tensor buffers held at once while compressing.
    pub peak_memory: u64,
}

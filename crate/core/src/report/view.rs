//! One tensor looked at closely (`inspect --tensor`): its numbers, and what each codec makes of them.
//!
//! Numbers are those that a model would run with: what is read, as float32. Only [`BlockView`] and
//! [`RoundingError`] can hold what is not finite.

use serde::{Deserialize, Serialize};

use super::RoundingError;
use crate::{Finding, Precision, StoredAs};

/// A tensor, its numbers, and what they become in each precision that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TensorView {
    /// The real key.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// What it is stored in as opened: `F32`, `BF16`, `QI8`, `NF4`, ...
    pub dtype: String,
    /// Numbers in it.
    pub params: u64,
    /// What its numbers are like.
    pub statistics: Statistics,
    /// How they are spread.
    pub histogram: Histogram,
    /// One for each precision that was asked for, in that order.
    pub coded: Vec<CodedView>,
    /// Numbers that are not finite, digits lost in reading, a storage that is another's.
    pub findings: Vec<Finding>,
}

/// The finite numbers `x` of a tensor, `n` of them, in f64. With none of them, all but the counts is 0
/// and a finding says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// `sum(x) / n`
    pub mean: f64,
    /// `sqrt(sum((x - mean)^2) / n)`
    pub std: f64,
    /// The largest magnitude.
    pub abs_max: f64,
    /// How many are 0.
    pub zeros: u64,
    /// NaN and infinities; nothing else here counts them.
    pub non_finite: u64,
    /// How heavy the tails are: `n * sum((x - mean)^4) / sum((x - mean)^2)^2 - 3`. A normal
    /// distribution has 0, a uniform one -1.2, outliers make it large; 0 where all numbers are the same.
    pub kurtosis: f64,
}

/// Counts in equal bins: bin `i` of `b` holds `from + i * w <= x < from + (i + 1) * w` with
/// `w = (to - from) / b`, the last one `to` as well. Where `from` is `to`, all are in the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Histogram {
    /// The smallest finite number; 0 where there is none.
    pub from: f64,
    /// The largest finite number; 0 where there is none.
    pub to: f64,
    /// Finite numbers in each bin.
    pub counts: Vec<u64>,
}

/// A tensor as `compress` would store it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct CodedView {
    /// What was asked for.
    pub precision: Precision,
    /// What it is stored in: another one where the shape refuses, `kept` where no recipe touches it. A finding
    /// says why.
    pub stored: StoredAs,
    /// Bytes of codes, scales and tables.
    pub bytes: u64,
    /// `8 * bytes / params`; 0 of an empty tensor.
    pub bits_per_weight: f64,
    /// What rounding did, as `compress` reports it.
    pub error: RoundingError,
    /// The numbers that are finite, decoded, in the bins of the tensor's own histogram. What is
    /// decoded to somewhere beyond its ends is in the outermost bins.
    pub histogram: Vec<u64>,
    /// A few numbers before and after.
    pub block: BlockView,
    /// What a shape refused, what was clipped.
    pub findings: Vec<Finding>,
}

/// At most 64 consecutive numbers of what shares one scale: of an INT8 row (or tensor), an INT4 group or
/// an NF4 block, the one that holds the tensor's largest magnitude, which is among them. Floats have
/// no blocks: theirs are the tensor's first numbers, and may be NaN or infinite (in JSON: `null`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    /// Index of the first one in the flattened tensor.
    pub start: u64,
    /// The numbers.
    pub values: Vec<f32>,
    /// What their codes decode to.
    pub decoded: Vec<f32>,
    /// The scale of INT8 and INT4, the absmax of NF4, as decoding uses it.
    pub scale: Option<f32>,
    /// Everything the block's codes can stand for, ascending, each once: 16 values of NF4, 15 of INT4,
    /// 255 of INT8, and one more below them where the block uses the lowest code, -8 or -128.
    /// Empty for floats.
    pub levels: Vec<f32>,
}

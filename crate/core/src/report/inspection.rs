//! What a checkpoint is (`inspect`).

use serde::{Deserialize, Serialize};

use crate::index::{Format, WeightsAt};
use crate::spec::{Family, Fields};
use crate::{Finding, Recipe, Role};

/// What a checkpoint is (`inspect`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The container.
    pub format: Format,
    /// Where in it the tensors were: the keys to them; what their keys begin with; several with `+` between, which are one
    /// model; or `bare`, the top level of the file.
    pub wrapper: String,
    /// Everything that could be the weights, what was taken first.
    pub weights: Vec<WeightsAt>,
    /// The family of models.
    pub family: Family,
    /// Parameters; tied ones once, buffers not at all.
    pub params: u64,
    /// Bytes of weights, scales and tables; tied ones once, buffers not at all.
    pub bytes: u64,
    /// Bytes of the file, or of all shards together.
    pub file_bytes: u64,
    /// The shards of a checkpoint in several files; empty where it is one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<Vec<FileReport>>"))]
    pub files: Vec<FileReport>,
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

/// One of the files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
pub struct FileReport {
    /// What it is called.
    pub name: String,
    /// Its size.
    pub bytes: u64,
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
    /// Bytes of codes, scales and tables, as they are stored.
    pub bytes: u64,
    /// Whether its codes are entropy-coded, so that it takes more bytes in memory.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<bool>"))]
    pub coded: bool,
    /// The earlier tensor that holds the same storage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tied_to: Option<String>,
    /// What it does in the model, where its family is known and says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub role: Option<Role>,
    /// Where its rows are of several kinds: those kinds, in order. Empty where they are not.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<Vec<Segment>>"))]
    pub segments: Vec<Segment>,
    /// True for tensors that are not weights (counters, masks).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<bool>"))]
    pub buffer: bool,
}

/// Rows of a tensor that belong together, as `x`, `B` and `C` in one projection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// What the rows are called: `z`, `x`, `B`, `C`, `dt`, ...
    pub label: String,
    /// How many they are.
    pub rows: usize,
}

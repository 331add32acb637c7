//! What was written for another tool (`compress --format`).

use serde::{Deserialize, Serialize};

use crate::Finding;

/// What was written for another tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ExportReport {
    /// `plain`, `bitsandbytes`, `compressed-tensors`, `gguf` or `onnx`.
    pub format: String,
    /// Bytes of the file that has the weights.
    pub file_bytes: u64,
    /// What is in it, in file order.
    pub tensors: Vec<ExportedTensor>,
    /// What was changed, rounded again, left out or stored finer.
    pub findings: Vec<Finding>,
}

/// A tensor as the other tool has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ExportedTensor {
    /// Its name there.
    pub name: String,
    /// The key it was made of; there is none where the configuration says its numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub from: Option<String>,
    /// Its shape there, outermost dimension first.
    pub shape: Vec<usize>,
    /// How its numbers are stored, in the other tool's words: `F32`, `Q8_0`, `nf4`, ...
    pub dtype: String,
    /// Bytes of its numbers.
    pub bytes: u64,
}

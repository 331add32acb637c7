//! The precisions a recipe may name.

use serde::{Deserialize, Serialize};

/// How the numbers of a tensor are to be stored. What a precision needs beside its name
/// (group, block, granularity) is in [`crate::Encoding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE binary32.
    Fp32,
    /// IEEE binary16.
    Fp16,
    /// bfloat16.
    Bf16,
    /// Symmetric 8-bit integers with one scale per row or per tensor.
    Int8,
    /// Symmetric 4-bit integers with one scale per group of a row.
    Int4,
    /// 4-bit NormalFloat (QLoRA, Dettmers et al. 2023) with one absmax per block.
    Nf4,
}

/// What a tensor is stored as after compressing: a precision, or `kept`: whole numbers, booleans and
/// types that no recipe touches stay as they were, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum StoredAs {
    /// Bit for bit as it was.
    Kept,
    /// In a precision.
    #[serde(untagged)]
    Coded(Precision),
}

impl StoredAs {
    /// The word used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Coded(precision) => precision.name(),
        }
    }
}

impl Precision {
    /// The name used in recipes and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Nf4 => "nf4",
        }
    }

    /// Whether codes and scales are stored, rather than the numbers themselves.
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::Int8 | Self::Int4 | Self::Nf4)
    }
}

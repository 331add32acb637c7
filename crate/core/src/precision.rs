//! The precisions a recipe may name.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Grid;

/// How the numbers of a tensor are to be stored. What a precision needs beside its name
/// (group, block, granularity) is in [`crate::Encoding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[cfg_attr(feature = "types", ts(rename_all = "lowercase"))]
pub enum Precision {
    /// IEEE binary32.
    Fp32,
    /// IEEE binary16.
    Fp16,
    /// bfloat16.
    Bf16,
    /// Codes of a grid, with scales.
    #[cfg_attr(feature = "types", ts(untagged))]
    Codes(Grid),
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
            Self::Codes(grid) => grid.name(),
        }
    }

    /// Whether codes and scales are stored, rather than the numbers themselves.
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::Codes(_))
    }

    /// Every precision there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let codes = Grid::ALL.iter().map(|&grid| Self::Codes(grid));
        [Self::Fp32, Self::Fp16, Self::Bf16].into_iter().chain(codes)
    }

    /// Bits of a number, without scales.
    pub const fn bits(self) -> u64 {
        match self {
            Self::Fp32 => 32,
            Self::Fp16 | Self::Bf16 => 16,
            Self::Codes(grid) => grid.bits() as u64,
        }
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::all().find(|precision| precision.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(|precision| format!("`{}`", precision.name())).collect();
            D::Error::custom(format!("unknown precision `{name}`, expected one of {}", names.join(", ")))
        })
    }
}

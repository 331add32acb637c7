//! Element types as checkpoint files store them.

use serde::{Deserialize, Serialize};

/// The type of one stored element, little-endian, in the spelling of safetensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    Bf16,
    /// Four bits of exponent, three of mantissa; no infinities (torch: `float8_e4m3fn`).
    #[serde(rename = "F8_E4M3")]
    F8E4m3,
    /// Five bits of exponent, two of mantissa (torch: `float8_e5m2`).
    #[serde(rename = "F8_E5M2")]
    F8E5m2,
    /// A power of two, 2^(bits - 127) (torch: `float8_e8m0fnu`).
    #[serde(rename = "F8_E8M0")]
    F8E8m0,
    /// Two F32: a complex number.
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    const ALL: [Self; 17] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::F8E4m3,
        Self::F8E5m2,
        Self::F8E8m0,
        Self::C64,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::C64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F8E4m3 | Self::F8E5m2 | Self::F8E8m0 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name that safetensors headers use: `F32`, `BF16`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E5m2 => "F8_E5M2",
            Self::F8E8m0 => "F8_E8M0",
            Self::C64 => "C64",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// The type of that name in a safetensors header.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether elements are floats that recipes code. Eight bits and complex numbers are not: they
    /// are kept.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Whether elements are whole numbers or booleans: ids, counters, masks, never weights.
    pub const fn is_whole(self) -> bool {
        !self.is_float() && !matches!(self, Self::F8E4m3 | Self::F8E5m2 | Self::F8E8m0 | Self::C64)
    }
}

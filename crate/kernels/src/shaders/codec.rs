//! How the numbers of a matrix are stored, as a kernel sees it.

use std::fmt::Write;

use statepress_core::Encoding;
use statepress_core::encoding::{AbsmaxType, ScaleType};

use crate::codecs::nf4;

/// How a matrix's numbers are stored, as far as a kernel's text depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Codec {
    Fp32,
    Fp16,
    Bf16,
    Int8,
    Int4 { scale: Scale },
    Nf4 { absmax: Scale },
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Scale {
    Fp32,
    Fp16,
    Double,
}

impl From<Encoding> for Codec {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Fp32 => Self::Fp32,
            Encoding::Fp16 => Self::Fp16,
            Encoding::Bf16 => Self::Bf16,
            Encoding::Int8 { .. } => Self::Int8,
            Encoding::Int4 { scale: ScaleType::Fp32, .. } => Self::Int4 { scale: Scale::Fp32 },
            Encoding::Int4 { scale: ScaleType::Fp16, .. } => Self::Int4 { scale: Scale::Fp16 },
            Encoding::Nf4 { absmax: AbsmaxType::Fp32, .. } => Self::Nf4 { absmax: Scale::Fp32 },
            Encoding::Nf4 { absmax: AbsmaxType::Fp16, .. } => Self::Nf4 { absmax: Scale::Fp16 },
            Encoding::Nf4 { absmax: AbsmaxType::Double, .. } => Self::Nf4 { absmax: Scale::Double },
        }
    }
}

impl Codec {
    /// Every one there is.
    pub const ALL: [Self; 9] = [
        Self::Fp32,
        Self::Fp16,
        Self::Bf16,
        Self::Int8,
        Self::Int4 { scale: Scale::Fp32 },
        Self::Int4 { scale: Scale::Fp16 },
        Self::Nf4 { absmax: Scale::Fp32 },
        Self::Nf4 { absmax: Scale::Fp16 },
        Self::Nf4 { absmax: Scale::Double },
    ];

    /// Bytes of the codes of eight numbers.
    pub fn eight_bytes(self) -> usize {
        match self {
            Self::Fp32 => 32,
            Self::Fp16 | Self::Bf16 => 16,
            Self::Int8 => 8,
            Self::Int4 { .. } | Self::Nf4 { .. } => 4,
        }
    }

    /// What decodes eight columns of `MATRIX`.
    pub(super) fn text(self) -> String {
        let (codes, scale) = match self {
            Self::Fp32 => return include_str!("../linear/fp32.wgsl").into(),
            Self::Fp16 => return include_str!("../codecs/half16/fp16.wgsl").into(),
            Self::Bf16 => return include_str!("../codecs/half16/bf16.wgsl").into(),
            Self::Int8 => (include_str!("../codecs/int8/int8.wgsl"), Scale::Fp32),
            Self::Int4 { scale } => (include_str!("../codecs/int4/int4.wgsl"), scale),
            Self::Nf4 { absmax } => (include_str!("../codecs/nf4/nf4.wgsl"), absmax),
        };
        let mut text = codes.to_string();
        if self != Self::Int8 {
            text.push_str(include_str!("../codecs/blocks.wgsl"));
        }
        text.replace(
            "SCALE",
            match scale {
                Scale::Fp32 => "scale_fp32",
                Scale::Fp16 => "scale_fp16",
                Scale::Double => "scale_double",
            },
        )
    }
}

/// The tables that codecs look codes up in, and how they get there.
pub(super) fn tables(codecs: &[Codec]) -> String {
    if !codecs.iter().any(|codec| matches!(codec, Codec::Nf4 { .. })) {
        return "fn prepare_tables(thread: u32) {}\n".into();
    }
    let mut values = String::new();
    for value in nf4::TABLE {
        // Writing to a String cannot fail.
        let _ = write!(values, "{value:?}, ");
    }
    include_str!("../codecs/nf4/table.wgsl").replace("NF4_VALUES", &values)
}

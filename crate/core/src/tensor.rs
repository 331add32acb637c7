//! A tensor in memory: a shape and the packed numbers of one precision.

use crate::encoding::{AbsmaxType, Granularity, ScaleType};
use crate::{Encoding, shape};

/// A tensor as it is stored and as models run from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, row-major.
    pub data: Packed,
}

/// The numbers of a tensor in one precision. 16-bit floats are bit patterns.
///
/// Nibbles (INT4, NF4): byte `i` holds value `2i` in its high half and `2i + 1` in its low one,
/// as in bitsandbytes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Packed {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    /// `codes[rows * cols]`; `scales` has one entry per row, or exactly one.
    Int8 {
        codes: Vec<i8>,
        scales: Vec<f32>,
    },
    /// `codes[rows * cols / 2]` in two's complement nibbles; `scales[rows * cols / group]`,
    /// one per group of the flattened tensor.
    Int4 {
        codes: Vec<u8>,
        scales: Floats,
        group: usize,
    },
    /// `codes[ceil(n / 2)]`, flattened; `absmax` has one entry per block of the flattened tensor.
    Nf4 {
        codes: Vec<u8>,
        absmax: Absmax,
        block: usize,
    },
}

/// A list of floats in the type it is stored in.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Floats {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

/// NF4 block maxima.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Absmax {
    Plain(Floats),
    /// Double quantization: `absmax[i] = dynamic_table[codes[i]] * nested[i / 256] + offset`.
    Double {
        codes: Vec<u8>,
        nested: Vec<f32>,
        offset: f32,
    },
}

impl Tensor {
    /// A tensor of f32 numbers. `data.len()` is the product of `shape`.
    pub fn from_f32(shape: Vec<usize>, data: Vec<f32>) -> Self {
        debug_assert_eq!(shape::elements(&shape), Some(data.len()));
        Self { shape, data: Packed::F32(data) }
    }

    /// All dimensions but the last by the last.
    pub fn matrix(&self) -> (usize, usize) {
        shape::matrix(&self.shape)
    }

    /// How the numbers are coded.
    pub fn encoding(&self) -> Encoding {
        match &self.data {
            Packed::F32(_) => Encoding::Fp32,
            Packed::F16(_) => Encoding::Fp16,
            Packed::Bf16(_) => Encoding::Bf16,
            Packed::Int8 { scales, .. } => {
                let per_tensor = scales.len() == 1 && self.matrix().0 != 1;
                let granularity = if per_tensor { Granularity::Tensor } else { Granularity::Row };
                Encoding::Int8 { granularity }
            }
            Packed::Int4 { scales, group, .. } => {
                let scale = match scales {
                    Floats::F32(_) => ScaleType::Fp32,
                    Floats::F16(_) => ScaleType::Fp16,
                };
                Encoding::Int4 { group: *group, scale }
            }
            Packed::Nf4 { absmax, block, .. } => {
                let absmax = match absmax {
                    Absmax::Plain(Floats::F32(_)) => AbsmaxType::Fp32,
                    Absmax::Plain(Floats::F16(_)) => AbsmaxType::Fp16,
                    Absmax::Double { .. } => AbsmaxType::Double,
                };
                Encoding::Nf4 { block: *block, absmax }
            }
        }
    }

    /// Bytes of codes, scales and tables.
    pub fn bytes(&self) -> u64 {
        self.encoding().bytes(&self.shape)
    }
}

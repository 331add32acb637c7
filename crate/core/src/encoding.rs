//! A precision together with everything that decides its bytes.
//!
//! [`Encoding::parts`] is the one description of what a tensor of an encoding consists of; the
//! plan's arithmetic, the writer's layout and the reader's checks all ask it. The file layout
//! is documented in `crate/formats/FORMAT.md`.

use serde::{Deserialize, Serialize};

use crate::{DType, Precision, StoredAs, shape};

/// The number of blocks that share one second-level absmax in double quantization
/// (QLoRA, section 3; fixed in bitsandbytes).
pub const NESTED_BLOCK: usize = 256;

/// How a tensor's numbers are coded, with the parameters that size them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "precision", rename_all = "lowercase", deny_unknown_fields)]
pub enum Encoding {
    /// IEEE binary32.
    Fp32,
    /// IEEE binary16, rounded to nearest even.
    Fp16,
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// `value = code * scale`, codes -128..=127.
    Int8 {
        /// What one scale covers.
        granularity: Granularity,
    },
    /// `value = code * scale`, codes -8..=7, one scale per `group` values of the flattened tensor.
    Int4 {
        /// Values that share a scale: a part of a row, or several whole rows.
        group: usize,
        /// The type of the scales.
        scale: ScaleType,
    },
    /// `value = table[code] * absmax`, one absmax per `block` values of the flattened tensor.
    Nf4 {
        /// Values that share an absmax; blocks run across row ends and the last may be short.
        block: usize,
        /// The type of the absmax, or double quantization.
        absmax: AbsmaxType,
    },
}

/// What a tensor is in a produced file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Numbers, coded.
    Coded(Encoding),
    /// The elements of this type that it had, bit for bit: no recipe touches them.
    Kept(DType),
}

/// What one INT8 scale covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Granularity {
    /// One output row.
    #[default]
    Row,
    /// The whole tensor.
    Tensor,
}

/// The type of stored INT4 scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ScaleType {
    #[default]
    Fp16,
    Fp32,
}

/// The type of stored NF4 absmax values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbsmaxType {
    /// binary16.
    Fp16,
    /// binary32, as bitsandbytes stores it.
    Fp32,
    /// 8-bit codes of the dynamic table, a second-level absmax per 256 of them, and an offset.
    Double,
}

/// One stored array of an encoded tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What follows the tensor's name in the file: empty for the codes, else `.scale`, ...
    pub suffix: &'static str,
    /// Element type of the array.
    pub dtype: DType,
    /// Shape of the array.
    pub shape: Vec<usize>,
}

impl Part {
    /// Bytes of the array.
    pub fn bytes(&self) -> u64 {
        let elements: u64 = self.shape.iter().map(|&dim| dim as u64).product();
        elements * self.dtype.bytes() as u64
    }
}

impl Encoding {
    /// The precision this is an encoding of.
    pub const fn precision(self) -> Precision {
        match self {
            Self::Fp32 => Precision::Fp32,
            Self::Fp16 => Precision::Fp16,
            Self::Bf16 => Precision::Bf16,
            Self::Int8 { .. } => Precision::Int8,
            Self::Int4 { .. } => Precision::Int4,
            Self::Nf4 { .. } => Precision::Nf4,
        }
    }

    /// The arrays that a tensor of `shape` consists of, codes first, in file order.
    ///
    /// The caller has checked that the shape does not overflow and that [`Self::refusal`] has
    /// nothing against it.
    pub fn parts(self, shape: &[usize]) -> Vec<Part> {
        let part = |suffix, dtype, shape| Part { suffix, dtype, shape };
        let plain = |dtype| vec![part("", dtype, shape.to_vec())];
        let (rows, cols) = shape::matrix(shape);
        match self {
            Self::Fp32 => plain(DType::F32),
            Self::Fp16 => plain(DType::F16),
            Self::Bf16 => plain(DType::Bf16),
            Self::Int8 { granularity } => {
                let scales = match granularity {
                    Granularity::Row => rows,
                    Granularity::Tensor => 1,
                };
                vec![part("", DType::I8, shape.to_vec()), part(".scale", DType::F32, vec![scales])]
            }
            Self::Int4 { group, scale } => {
                let dtype = match scale {
                    ScaleType::Fp16 => DType::F16,
                    ScaleType::Fp32 => DType::F32,
                };
                let scales = if cols.is_multiple_of(group) {
                    vec![rows, cols / group]
                } else {
                    vec![rows * cols / group]
                };
                vec![part("", DType::U8, vec![rows, cols / 2]), part(".scale", dtype, scales)]
            }
            Self::Nf4 { block, absmax } => {
                let n = rows * cols;
                let blocks = n.div_ceil(block);
                let mut parts = vec![part("", DType::U8, vec![n.div_ceil(2), 1])];
                match absmax {
                    AbsmaxType::Fp16 => parts.push(part(".absmax", DType::F16, vec![blocks])),
                    AbsmaxType::Fp32 => parts.push(part(".absmax", DType::F32, vec![blocks])),
                    AbsmaxType::Double => {
                        parts.push(part(".absmax", DType::U8, vec![blocks]));
                        let nested = blocks.div_ceil(NESTED_BLOCK);
                        parts.push(part(".nested_absmax", DType::F32, vec![nested]));
                        parts.push(part(".nested_offset", DType::F32, vec![1]));
                    }
                }
                parts
            }
        }
    }

    /// Bytes of all parts of a tensor of `shape`.
    pub fn bytes(self, shape: &[usize]) -> u64 {
        self.parts(shape).iter().map(Part::bytes).sum()
    }

    /// Why a tensor of `shape` cannot take this encoding, if it cannot.
    pub fn refusal(self, shape: &[usize]) -> Option<String> {
        let (rows, cols) = shape::matrix(shape);
        let whole = |group: usize| {
            let within = cols.is_multiple_of(group);
            within
                || (group.is_multiple_of(cols)
                    && (rows * cols).is_multiple_of(group)
                    && cols.is_multiple_of(2))
        };
        match self {
            Self::Fp32 | Self::Fp16 | Self::Bf16 => None,
            _ if shape.len() < 2 => Some(format!("a vector is not quantized (shape {shape:?})")),
            _ if shape.contains(&0) => Some(format!("the tensor is empty (shape {shape:?})")),
            Self::Int4 { group, .. } if group < 2 || !group.is_multiple_of(2) || !whole(group) => {
                Some(format!("rows of {cols} and groups of {group} do not divide"))
            }
            Self::Nf4 { block: 0, .. } => Some("a block of 0 values holds nothing".into()),
            _ => None,
        }
    }
}

impl Form {
    /// What reports call it.
    pub const fn stored_as(self) -> StoredAs {
        match self {
            Self::Coded(encoding) => StoredAs::Coded(encoding.precision()),
            Self::Kept(_) => StoredAs::Kept,
        }
    }

    /// The arrays that a tensor of `shape` consists of; see [`Encoding::parts`].
    pub fn parts(self, shape: &[usize]) -> Vec<Part> {
        match self {
            Self::Coded(encoding) => encoding.parts(shape),
            Self::Kept(dtype) => vec![Part { suffix: "", dtype, shape: shape.to_vec() }],
        }
    }

    /// Bytes of all parts of a tensor of `shape`.
    pub fn bytes(self, shape: &[usize]) -> u64 {
        self.parts(shape).iter().map(Part::bytes).sum()
    }

    /// Why a tensor of `shape` cannot take this form, if it cannot.
    pub fn refusal(self, shape: &[usize]) -> Option<String> {
        match self {
            Self::Coded(encoding) => encoding.refusal(shape),
            Self::Kept(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_weight_are_those_of_the_literature() {
        let shape = [1024, 1024];
        let bits = |encoding: Encoding| encoding.bytes(&shape) as f64 * 8.0 / (1024.0 * 1024.0);
        assert_eq!(bits(Encoding::Nf4 { block: 64, absmax: AbsmaxType::Fp32 }), 4.5);
        let double = bits(Encoding::Nf4 { block: 64, absmax: AbsmaxType::Double });
        assert!((double - 4.127).abs() < 1e-3, "{double}");
        assert_eq!(bits(Encoding::Int4 { group: 32, scale: ScaleType::Fp16 }), 4.5);
    }

    #[test]
    fn shapes_that_cannot_be_coded_are_refused_with_the_reason() {
        let int4 = Encoding::Int4 { group: 32, scale: ScaleType::Fp16 };
        assert_eq!(int4.refusal(&[8, 48]).unwrap(), "rows of 48 and groups of 32 do not divide");
        assert!(int4.refusal(&[64]).unwrap().contains("vector"));
        assert!(int4.refusal(&[8, 64]).is_none());
        assert!(int4.refusal(&[256, 8]).is_none(), "a group covers four whole rows");
        assert!(int4.refusal(&[3, 8]).is_some(), "the last group would be short");
        assert!(Encoding::Nf4 { block: 64, absmax: AbsmaxType::Fp32 }.refusal(&[3, 5]).is_none());
    }
}

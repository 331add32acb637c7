//! A precision together with everything that decides its bytes.
//!
//! [`Encoding::parts`] is the one description of what a tensor of an encoding consists of; the
//! plan's arithmetic, the writer's layout and the reader's checks all ask it. The file layout
//! is documented in `crate/formats/FORMAT.md`.

mod described;
mod rows;

use serde::{Deserialize, Serialize};

use crate::{DType, Grid, Precision, StoredAs, shape};
pub use rows::{MOST_CLASSES, Plain, RowClass, RowClasses};

/// The number of blocks that share one second-level absmax in double quantization
/// (QLoRA, section 3; fixed in bitsandbytes).
pub const NESTED_BLOCK: usize = 256;

/// How a tensor's numbers are coded, with the parameters that size them.
#[allow(
    clippy::large_enum_variant,
    reason = "there are a few for each tensor, and they are copied everywhere"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "described::Described", try_from = "described::Described")]
pub enum Encoding {
    /// IEEE binary32.
    Fp32,
    /// IEEE binary16, rounded to nearest even.
    Fp16,
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// Codes and scales.
    Codes(Coding),
    /// A few classes of rows, each in an encoding of its own.
    Rows(RowClasses),
}

/// `value = level(code) * scale of the code's group`, counted from a minimum where scales have such ([`ScaleType::Affine`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coding {
    /// What codes stand for.
    pub grid: Grid,
    /// What shares a scale.
    pub group: Group,
    /// The type of the scales.
    pub scale: ScaleType,
}

/// What shares a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// One output row.
    Row,
    /// The whole tensor.
    Tensor,
    /// So many values of the flattened tensor, which run across row ends; the last may be fewer.
    Values(usize),
}

/// What a tensor is in a produced file.
#[allow(
    clippy::large_enum_variant,
    reason = "there are a few for each tensor, and they are copied everywhere"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Numbers, coded.
    Coded(Encoding),
    /// The elements of this type that it had, bit for bit: no recipe touches them.
    Kept(DType),
}

/// What one scale covers, where it is no group.
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

/// The type of stored scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ScaleType {
    /// binary16.
    #[default]
    Fp16,
    /// binary32.
    Fp32,
    /// A byte: `2^(-byte / 8)` of a power of two that the tensor has; 255 is zero.
    Log8,
    /// Double quantization: 8-bit codes of the dynamic table, a second-level absmax per 256 of them, and an offset.
    Double,
    /// binary32, and beside each what the least code stands for, the minimum of its group, in binary32 as well: `value = minimum +
    /// (code - least code) * scale`. What other tools quantized has such (ggml's K-quants, zero points); no recipe asks for them.
    Affine,
}

/// One stored array of an encoded tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What follows the tensor's name in the file: empty for the codes, else `.scale`, ...
    pub suffix: String,
    /// Element type of the array.
    pub dtype: DType,
    /// Shape of the array.
    pub shape: Vec<usize>,
}

impl Part {
    /// An array of that name and shape.
    pub fn new(suffix: impl Into<String>, dtype: DType, shape: Vec<usize>) -> Self {
        Self { suffix: suffix.into(), dtype, shape }
    }

    /// Bytes of the array.
    pub fn bytes(&self) -> u64 {
        let elements: u64 = self.shape.iter().map(|&dim| dim as u64).product();
        elements * self.dtype.bytes() as u64
    }
}

impl ScaleType {
    /// The name used in recipes and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Fp32 => "fp32",
            Self::Log8 => "log8",
            Self::Double => "double",
            Self::Affine => "affine",
        }
    }
}

impl Group {
    /// Values that share a scale in a tensor of `shape`; at least 1.
    pub fn size(self, shape: &[usize]) -> usize {
        let (rows, cols) = shape::matrix(shape);
        let size = match self {
            Self::Row => cols,
            Self::Tensor => rows * cols,
            Self::Values(size) => size.min(rows * cols),
        };
        size.max(1)
    }
}

impl Granularity {
    /// The same of a tensor of that shape: a single row has one scale either way, and then it is the row's.
    pub fn of(self, shape: &[usize]) -> Self {
        if shape::matrix(shape).0 == 1 { Self::Row } else { self }
    }
}

impl From<Granularity> for Group {
    fn from(granularity: Granularity) -> Self {
        match granularity {
            Granularity::Row => Self::Row,
            Granularity::Tensor => Self::Tensor,
        }
    }
}

impl Coding {
    /// That of [`Encoding::stepped`].
    pub const STEPPED: Self = Self { grid: Grid::Int8, group: Group::Row, scale: ScaleType::Log8 };

    /// Scales of a tensor of `shape`.
    pub fn scales(self, shape: &[usize]) -> usize {
        let (rows, cols) = shape::matrix(shape);
        (rows * cols).div_ceil(self.group.size(shape))
    }

    /// The arrays that a tensor of `shape` consists of, codes first.
    fn parts(self, shape: &[usize]) -> Vec<Part> {
        let part = |suffix: &str, dtype, shape| Part::new(suffix, dtype, shape);
        let (rows, cols) = shape::matrix(shape);
        let (n, scales) = (rows * cols, self.scales(shape));
        let codes = match (self.grid, self.grid.bits()) {
            (_, 8) => part("", DType::I8, shape.to_vec()),
            // The shapes that files of version 1 have, for bitsandbytes among others.
            (Grid::Int4, _) => part("", DType::U8, vec![rows, cols / 2]),
            (Grid::Nf4, _) => part("", DType::U8, vec![n.div_ceil(2), 1]),
            _ => part("", DType::U8, vec![self.grid.packed_bytes(n)]),
        };
        let plain = match (self.grid, self.group) {
            (Grid::Int4, Group::Values(group)) if cols.is_multiple_of(group) => vec![rows, cols / group],
            _ => vec![scales],
        };
        let [suffix, unit, nested, offset] = match self.grid {
            Grid::Nf4 => [".absmax", ".absmax_unit", ".nested_absmax", ".nested_offset"],
            _ => [".scale", ".scale_unit", ".nested_scale", ".nested_offset"],
        };
        let mut parts = vec![codes];
        match self.scale {
            ScaleType::Fp16 => parts.push(part(suffix, DType::F16, plain)),
            ScaleType::Fp32 => parts.push(part(suffix, DType::F32, plain)),
            ScaleType::Log8 => {
                parts.push(part(suffix, DType::U8, plain));
                parts.push(part(unit, DType::F32, vec![1]));
            }
            ScaleType::Affine => {
                parts.push(part(suffix, DType::F32, plain.clone()));
                parts.push(part(".minimum", DType::F32, plain));
            }
            ScaleType::Double => {
                parts.push(part(suffix, DType::U8, plain));
                parts.push(part(nested, DType::F32, vec![scales.div_ceil(NESTED_BLOCK)]));
                parts.push(part(offset, DType::F32, vec![1]));
            }
        }
        parts
    }

    /// Whether files may have this grid with scales of this type: those of version 1 have what their makers gave them.
    const fn scale_is_known(self) -> bool {
        match (self.grid, self.group, self.scale) {
            (grid, group, ScaleType::Affine) => grid.is_whole() && matches!(group, Group::Values(_)),
            (Grid::Int8, Group::Values(_), scale) => matches!(scale, ScaleType::Fp16 | ScaleType::Fp32),
            (Grid::Int8, _, scale) => matches!(scale, ScaleType::Fp32 | ScaleType::Log8),
            (Grid::Nf4, _, scale) => !matches!(scale, ScaleType::Log8),
            (Grid::Int4, _, scale) => matches!(scale, ScaleType::Fp16 | ScaleType::Fp32),
            (_, _, scale) => !matches!(scale, ScaleType::Double),
        }
    }

    /// Why a tensor of `shape` cannot take this coding, if it cannot.
    fn refusal(self, shape: &[usize]) -> Option<String> {
        let (rows, cols) = shape::matrix(shape);
        let whole = |group: usize| {
            let within = cols.is_multiple_of(group);
            within
                || (group.is_multiple_of(cols)
                    && (rows * cols).is_multiple_of(group)
                    && cols.is_multiple_of(2))
        };
        match (self.grid, self.group) {
            _ if shape.len() < 2 => Some(format!("a vector is not quantized (shape {shape:?})")),
            _ if shape.contains(&0) => Some(format!("the tensor is empty (shape {shape:?})")),
            _ if !self.scale_is_known() => {
                Some(format!("{} has no such scales in {}", self.grid.name(), self.scale.name()))
            }
            (_, Group::Values(0)) => Some("a group of 0 values holds nothing".into()),
            // Whose codes have a byte for two of a row.
            (Grid::Int4, Group::Values(group)) if group < 2 || !group.is_multiple_of(2) || !whole(group) => {
                Some(format!("rows of {cols} and groups of {group} do not divide"))
            }
            (Grid::Int4, Group::Row | Group::Tensor) if !cols.is_multiple_of(2) => {
                Some(format!("rows of {cols} are not of whole bytes"))
            }
            _ => None,
        }
    }
}

impl Encoding {
    /// INT8 with scales in binary32.
    pub const fn int8(granularity: Granularity) -> Self {
        let group = match granularity {
            Granularity::Row => Group::Row,
            Granularity::Tensor => Group::Tensor,
        };
        Self::Codes(Coding { grid: Grid::Int8, group, scale: ScaleType::Fp32 })
    }

    /// INT8 whose rows have steps that somebody has chosen, stored in a byte each.
    pub const fn stepped() -> Self {
        Self::Codes(Coding::STEPPED)
    }

    /// INT4 in groups of so many values.
    pub const fn int4(group: usize, scale: ScaleType) -> Self {
        Self::grouped(Grid::Int4, group, scale)
    }

    /// NF4 in blocks of so many values; bitsandbytes' word for its scales is absmax.
    pub const fn nf4(block: usize, absmax: ScaleType) -> Self {
        Self::grouped(Grid::Nf4, block, absmax)
    }

    /// Codes of a grid in groups of so many values.
    pub const fn grouped(grid: Grid, group: usize, scale: ScaleType) -> Self {
        Self::Codes(Coding { grid, group: Group::Values(group), scale })
    }

    /// The precision this is an encoding of; where classes of rows have several, that of most rows.
    pub const fn precision(self) -> Precision {
        match self {
            Self::Fp32 => Precision::Fp32,
            Self::Fp16 => Precision::Fp16,
            Self::Bf16 => Precision::Bf16,
            Self::Codes(coding) => Precision::Codes(coding.grid),
            Self::Rows(classes) => match classes.largest().plain {
                Plain::Fp32 => Precision::Fp32,
                Plain::Fp16 => Precision::Fp16,
                Plain::Bf16 => Precision::Bf16,
                Plain::Codes(coding) => Precision::Codes(coding.grid),
            },
        }
    }

    /// The name of its precision, or those of the classes of its rows: `int6+nf4`.
    pub fn name(&self) -> String {
        let Self::Rows(classes) = self else { return self.precision().name().into() };
        let mut names: Vec<_> =
            classes.all().iter().map(|class| class.encoding().precision().name()).collect();
        names.dedup();
        names.join("+")
    }

    /// The classes of its rows, where there are any.
    pub const fn classes(&self) -> Option<&RowClasses> {
        match self {
            Self::Rows(classes) => Some(classes),
            _ => None,
        }
    }

    /// Whether files say of a tensor how it is coded, and not its dtype alone.
    pub const fn is_described(self) -> bool {
        matches!(self, Self::Codes(_) | Self::Rows(_))
    }

    /// The codes and scales, where all rows have the same and it is not one of plain numbers.
    pub const fn coding(self) -> Option<Coding> {
        match self {
            Self::Codes(coding) => Some(coding),
            Self::Fp32 | Self::Fp16 | Self::Bf16 | Self::Rows(_) => None,
        }
    }

    /// The arrays that a tensor of `shape` consists of, codes first, in file order.
    ///
    /// The caller has checked that the shape does not overflow and that [`Self::refusal`] has
    /// nothing against it.
    pub fn parts(self, shape: &[usize]) -> Vec<Part> {
        let plain = |dtype| vec![Part::new("", dtype, shape.to_vec())];
        match self {
            Self::Fp32 => plain(DType::F32),
            Self::Fp16 => plain(DType::F16),
            Self::Bf16 => plain(DType::Bf16),
            Self::Codes(coding) => coding.parts(shape),
            Self::Rows(classes) => classes.parts(shape),
        }
    }

    /// Bytes of all parts of a tensor of `shape`.
    pub fn bytes(self, shape: &[usize]) -> u64 {
        self.parts(shape).iter().map(Part::bytes).sum()
    }

    /// Why a tensor of `shape` cannot take this encoding, if it cannot.
    pub fn refusal(self, shape: &[usize]) -> Option<String> {
        match self {
            Self::Fp32 | Self::Fp16 | Self::Bf16 => None,
            Self::Codes(coding) => coding.refusal(shape),
            Self::Rows(classes) => classes.refusal(shape),
        }
    }
}

impl Form {
    /// The encoding; none of what is kept.
    pub const fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Coded(encoding) => Some(encoding),
            Self::Kept(_) => None,
        }
    }

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
            Self::Kept(dtype) => vec![Part::new("", dtype, shape.to_vec())],
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
        assert_eq!(bits(Encoding::nf4(64, ScaleType::Fp32)), 4.5);
        let double = bits(Encoding::nf4(64, ScaleType::Double));
        assert!((double - 4.127).abs() < 1e-3, "{double}");
        assert_eq!(bits(Encoding::int4(32, ScaleType::Fp16)), 4.5);
        assert_eq!(bits(Encoding::grouped(Grid::Lm3, 64, ScaleType::Fp16)), 3.25);
        let log8 = bits(Encoding::grouped(Grid::Int2, 64, ScaleType::Log8));
        assert!((log8 - 2.125).abs() < 1e-4, "{log8}");
    }

    #[test]
    fn shapes_that_cannot_be_coded_are_refused_with_the_reason() {
        let int4 = Encoding::int4(32, ScaleType::Fp16);
        assert_eq!(int4.refusal(&[8, 48]).unwrap(), "rows of 48 and groups of 32 do not divide");
        assert!(int4.refusal(&[64]).unwrap().contains("vector"));
        assert!(int4.refusal(&[8, 64]).is_none());
        assert!(int4.refusal(&[256, 8]).is_none(), "a group covers four whole rows");
        assert!(int4.refusal(&[3, 8]).is_some(), "the last group would be short");
        assert!(Encoding::nf4(64, ScaleType::Fp32).refusal(&[3, 5]).is_none());
        assert!(Encoding::grouped(Grid::Int3, 64, ScaleType::Log8).refusal(&[3, 5]).is_none());
    }
}

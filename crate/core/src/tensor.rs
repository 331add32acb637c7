//! A tensor in memory: a shape and the packed numbers of one precision.

use crate::encoding::{Coding, Group, RowClass, RowClasses, ScaleType};
use crate::{Encoding, Grid, shape};

/// A tensor as it is stored and as models run from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, row-major.
    pub data: Packed,
}

/// The numbers of a tensor in one precision. 16-bit floats are bit patterns.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Packed {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    Codes(Codes),
    Rows(ClassedRows),
}

/// Rows in classes, each coded for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassedRows {
    classes: Box<RowClasses>,
    places: Vec<u32>,
    parts: Vec<Tensor>,
}

/// Codes of a grid and scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// What codes stand for.
    pub grid: Grid,
    /// What shares a scale.
    pub group: Group,
    /// The codes of the flattened tensor: a stream of bits, the first code in the highest bits of the first byte.
    pub codes: Vec<u8>,
    /// One for each group.
    pub scales: Scales,
}

/// Scales in the type they are stored in.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// binary32.
    F32(Vec<f32>),
    /// binary16, bit patterns.
    F16(Vec<u16>),
    /// `unit * 2^(-code / 8)`, or zero for code 255.
    Log8 {
        /// One byte each.
        codes: Vec<u8>,
        /// A power of two.
        unit: f32,
    },
    /// Double quantization: `dynamic_table[codes[i]] * nested[i / 256] + offset`.
    Double {
        /// One byte each.
        codes: Vec<u8>,
        /// Second-level maxima.
        nested: Vec<f32>,
        /// What is added.
        offset: f32,
    },
    /// Scales, and what the least code of each group stands for.
    Affine {
        /// binary32.
        scales: Vec<f32>,
        /// One for each scale.
        minimums: Vec<f32>,
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
            Packed::Codes(codes) => Encoding::Codes(codes.coding()),
            Packed::Rows(rows) => Encoding::Rows(*rows.classes),
        }
    }

    /// Bytes of codes, scales and tables.
    pub fn bytes(&self) -> u64 {
        self.encoding().bytes(&self.shape)
    }
}

impl ClassedRows {
    /// The rows of each class as a matrix of its own, and which class each row is of. In a class rows are in order.
    ///
    /// # Errors
    /// Where the rows of a class have classes themselves, and where classes and parts are not of as many rows.
    pub fn new(parts: Vec<Tensor>, of_rows: &[u8]) -> Result<Self, String> {
        let classes = Box::new(classes(&parts)?);
        Ok(Self { places: classes.placed(of_rows.iter().map(|&class| class.into()))?, classes, parts })
    }

    /// The same by the indexes of classes as files have them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn stored(parts: Vec<Tensor>, indexes: &[u8]) -> Result<Self, String> {
        let classes = Box::new(classes(&parts)?);
        Ok(Self { places: classes.places(indexes)?, classes, parts })
    }

    /// The indexes of classes as files have them.
    pub fn indexes(&self) -> Vec<u8> {
        self.classes.indexes(&self.places)
    }

    /// Which class each row is of.
    pub fn of_rows(&self) -> Vec<u8> {
        self.places.iter().map(|&place| self.classes.find(place as usize).0 as u8).collect()
    }

    /// The rows of each class.
    pub fn parts(&self) -> &[Tensor] {
        &self.parts
    }

    /// The same, and where each row is, with the rows of all classes one class after the other.
    pub fn into_parts(self) -> (Vec<Tensor>, Vec<u32>) {
        (self.parts, self.places)
    }

    /// The class of a row, and which of its rows it is.
    pub fn find(&self, row: usize) -> (&Tensor, usize) {
        let (class, row) = self.classes.find(self.places[row] as usize);
        (&self.parts[class], row)
    }
}

/// The classes of rows that are coded so.
fn classes(parts: &[Tensor]) -> Result<RowClasses, String> {
    let class = |part: &Tensor| {
        let plain = part.encoding().plain().ok_or("a class of rows has classes itself")?;
        Ok(RowClass { rows: part.matrix().0, plain })
    };
    RowClasses::new(&parts.iter().map(class).collect::<Result<Vec<_>, String>>()?)
}

impl Codes {
    /// What it is a coding of.
    pub fn coding(&self) -> Coding {
        Coding { grid: self.grid, group: self.group, scale: self.scales.kind() }
    }
}

impl Scales {
    /// The type they are stored in.
    pub fn kind(&self) -> ScaleType {
        match self {
            Self::F32(_) => ScaleType::Fp32,
            Self::F16(_) => ScaleType::Fp16,
            Self::Log8 { .. } => ScaleType::Log8,
            Self::Double { .. } => ScaleType::Double,
            Self::Affine { .. } => ScaleType::Affine,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) | Self::Affine { scales: values, .. } => values.len(),
            Self::F16(bits) => bits.len(),
            Self::Log8 { codes, .. } | Self::Double { codes, .. } => codes.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

//! How weights lie in the file: floats, or the codes that they are, as the operators take them that multiply codes.
//!
//! Sources: `docs/ContribOperators.md` of onnxruntime, `MatMulNBits` and `MatMulBnb4`.

use std::borrow::Cow;

use statepress_core::encoding::{Coding, Encoding, ScaleType};
use statepress_core::index::Stored;
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::{Codes, DType, Entry, Grid, Packed, Tensor};
use statepress_formats::export::onnx::OnnxTensor;
use statepress_kernels::codecs::{self, scales, stream};
use statepress_kernels::program::{Layout, Matrix, VectorForm};

use crate::models::formed;

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Numbers.
    Floats(DType),
    /// `MatMulNBits`: whole numbers of 4 or 8 bits, counted from half of all they can be, with a float32 scale for every block of a row.
    Whole {
        /// Of a code.
        bits: usize,
        /// Numbers of a row that share a scale; a row is filled up to whole blocks.
        block: usize,
    },
    /// `MatMulBnb4`: NF4 as bitsandbytes packs it, with a float32 absmax for every block.
    Nf4 {
        /// Numbers that share an absmax, all of one row.
        block: usize,
    },
}

/// A weight, and what is written of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weight {
    /// The position of its tensor in the index.
    pub position: usize,
    /// What of the tensor, and what is made of it.
    pub what: What,
    pub storage: Storage,
    /// What is written of it: numbers, or codes and scales.
    pub arrays: Vec<OnnxTensor>,
}

/// What of a tensor is a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Matrix(Layout),
    Vector(VectorForm),
}

impl Storage {
    /// How a matrix is stored; and why as floats, where it has codes.
    pub fn of(entry: &Entry, matrix: &Matrix) -> (Self, Option<String>) {
        let floats = |why: String| (Self::Floats(DType::F32), Some(why));
        let encoding = match &entry.stored {
            Stored::Strided(view) => match view.dtype {
                DType::F32 => Some(Encoding::Fp32),
                DType::F16 => Some(Encoding::Fp16),
                DType::Bf16 => Some(Encoding::Bf16),
                _ => None,
            },
            _ => entry.encoding(),
        };
        match encoding {
            Some(Encoding::Fp32) => (Self::Floats(DType::F32), None),
            Some(Encoding::Fp16) => (Self::Floats(DType::F16), None),
            Some(Encoding::Bf16) => (Self::Floats(DType::Bf16), None),
            Some(Encoding::Codes(_)) if matrix.layout == Layout::Transposed => floats(
                "codes of a matrix that lies the other way round (`[in, out]`) have no operator".into(),
            ),
            Some(Encoding::Codes(coding)) => match Self::of_codes(coding, matrix) {
                Ok(storage) => (storage, None),
                Err(why) => floats(why),
            },
            Some(Encoding::Rows(_)) => floats("rows of several precisions have no operator".into()),
            None => floats(format!("{} has no operator", entry.dtype_name())),
        }
    }

    fn of_codes(
        Coding { grid, group, scale }: Coding,
        &Matrix { rows, cols, .. }: &Matrix,
    ) -> Result<Self, String> {
        let is_nf4 = grid == Grid::Nf4;
        if !grid.is_whole() && !is_nf4 {
            return Err(format!("codes of the table {} have no operator", grid.name()));
        }
        if scale == ScaleType::Affine {
            return Err("codes whose groups have minimums have no operator".into());
        }
        let size = group.size(&[rows, cols]);
        // A block is of one row and of one group.
        let fits = |block: &usize| cols.is_multiple_of(*block) && size.is_multiple_of(*block);
        let block = [256, 128, 64, 32, 16].into_iter().find(fits);
        let bits = if grid.bits() > 4 { 8 } else { 4 };
        match block {
            Some(block) if is_nf4 => Ok(Self::Nf4 { block }),
            Some(block) => Ok(Self::Whole { bits, block }),
            // A row with one scale can be filled up.
            None if !is_nf4 && size.is_multiple_of(cols.max(1)) => Ok(Self::Whole { bits, block: 32 }),
            None => Err("rows and groups of theirs are no blocks of 16 or more".into()),
        }
    }

    /// What it is called in reports.
    pub fn name(self) -> String {
        match self {
            Self::Floats(dtype) => dtype.name().into(),
            Self::Whole { bits, block } => format!("MatMulNBits {bits} bits, blocks of {block}"),
            Self::Nf4 { block } => format!("MatMulBnb4 NF4, blocks of {block}"),
        }
    }

    /// What is written of a matrix that is stored so.
    pub fn arrays(self, name: &str, &Matrix { rows, cols, layout, .. }: &Matrix) -> Vec<OnnxTensor> {
        let array = |suffix: &str, dtype, shape| OnnxTensor { name: format!("{name}{suffix}"), dtype, shape };
        match self {
            Self::Floats(dtype) => {
                let shape = if layout == Layout::Transposed { vec![cols, rows] } else { vec![rows, cols] };
                vec![array("", dtype, shape)]
            }
            Self::Whole { bits, block } => {
                let blocks = cols.div_ceil(block);
                vec![
                    array(".codes", DType::U8, vec![rows, blocks, block * bits / 8]),
                    array(".scales", DType::F32, vec![rows * blocks]),
                ]
            }
            Self::Nf4 { block } => vec![
                array(".codes", DType::U8, vec![rows * cols / 2]),
                array(".absmax", DType::F32, vec![rows * cols / block]),
            ],
        }
    }
}

/// The numbers of an array that is written.
pub(super) enum Numbers<'a> {
    Floats(Cow<'a, [f32]>),
    Halves(Cow<'a, [u16]>),
    Bytes(Cow<'a, [u8]>),
}

/// Numbers of which bytes are made at once.
const AT_ONCE: usize = CHUNK_BYTES / 4;

impl Numbers<'_> {
    /// The same, whatever becomes of the tensor.
    fn into_owned<'a>(self) -> Numbers<'a> {
        match self {
            Self::Floats(values) => Numbers::Floats(values.into_owned().into()),
            Self::Halves(bits) => Numbers::Halves(bits.into_owned().into()),
            Self::Bytes(bytes) => Numbers::Bytes(bytes.into_owned().into()),
        }
    }

    /// Their bytes, some at a time.
    pub fn chunks(&self) -> Box<dyn Iterator<Item = Cow<'_, [u8]>> + '_> {
        match self {
            Self::Floats(values) => Box::new(values.chunks(AT_ONCE).map(|values| floats(values).into())),
            Self::Halves(bits) => Box::new(bits.chunks(AT_ONCE).map(|bits| {
                let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
                bytes.into()
            })),
            Self::Bytes(bytes) => Box::new([Cow::Borrowed(&**bytes)].into_iter()),
        }
    }
}

impl Weight {
    /// The numbers of its arrays, by its tensor as it is read.
    ///
    /// # Errors
    /// Where the tensor is not what the index says.
    pub fn numbers<'a>(&self, tensor: &'a Tensor) -> Result<Vec<Numbers<'a>>, String> {
        match self.what {
            What::Vector(form) => Ok(vec![Numbers::Floats(formed(codecs::decode(tensor), form).into())]),
            What::Matrix(Layout::Part { index, count }) => {
                let part = codecs::part(tensor, index, count).map_err(|error| error.to_string())?;
                Ok(self.of_matrix(&part)?.into_iter().map(Numbers::into_owned).collect())
            }
            What::Matrix(Layout::Plain | Layout::Transposed) => self.of_matrix(tensor),
        }
    }

    fn of_matrix<'a>(&self, tensor: &'a Tensor) -> Result<Vec<Numbers<'a>>, String> {
        let (rows, cols) = tensor.matrix();
        match (self.storage, &tensor.data) {
            (Storage::Floats(DType::F32), Packed::F32(values)) => {
                Ok(vec![Numbers::Floats(values.as_slice().into())])
            }
            (Storage::Floats(DType::F32), _) => Ok(vec![Numbers::Floats(codecs::decode(tensor).into())]),
            (Storage::Floats(DType::F16), Packed::F16(bits))
            | (Storage::Floats(DType::Bf16), Packed::Bf16(bits)) => {
                Ok(vec![Numbers::Halves(bits.as_slice().into())])
            }
            (Storage::Whole { bits, block }, Packed::Codes(codes)) => {
                let packed: Vec<u8> =
                    (0..rows).flat_map(|row| whole_row(codes, row, cols, bits, block)).collect();
                Ok(vec![Numbers::Bytes(packed.into()), scales_of(codes, rows, cols, block)])
            }
            (Storage::Nf4 { block }, Packed::Codes(codes)) => {
                let absmax = scales_of(codes, rows, cols, block);
                Ok(vec![Numbers::Bytes(codes.codes.as_slice().into()), absmax])
            }
            (storage, _) => {
                Err(format!("it is {}, where the graph has {}", tensor.encoding().name(), storage.name()))
            }
        }
    }
}

/// A row of whole numbers in so many bits, the first in the low ones, filled up with zeros to whole blocks.
fn whole_row(codes: &Codes, row: usize, cols: usize, bits: usize, block: usize) -> Vec<u8> {
    let zero = 1i32 << (bits - 1);
    let number = |col: usize| {
        if col >= cols {
            return zero as u8;
        }
        let code = stream::get(&codes.codes, codes.grid.bits(), row * cols + col);
        (codes.grid.level(code) as i32 + zero) as u8
    };
    let padded = 0..cols.next_multiple_of(block);
    match bits {
        4 => padded.step_by(2).map(|col| number(col) | number(col + 1) << 4).collect(),
        _ => padded.map(number).collect(),
    }
}

/// The scale of every block of every row.
fn scales_of(codes: &Codes, rows: usize, cols: usize, block: usize) -> Numbers<'static> {
    let (all, size) = (scales::all(&codes.scales), codes.group.size(&[rows, cols]));
    let groups = (0..rows).flat_map(|row| (0..cols).step_by(block).map(move |col| (row * cols + col) / size));
    Numbers::Floats(groups.map(|group| all[group]).collect())
}

/// Numbers as ONNX stores them.
pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

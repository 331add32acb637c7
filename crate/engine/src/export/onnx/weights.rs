//! How weights lie in the file: floats, or the codes that they are, as the operators take them that multiply codes.
//!
//! Sources: `docs/ContribOperators.md` of onnxruntime, `MatMulNBits` and `MatMulBnb4`.

use statepress_core::encoding::{Coding, Encoding};
use statepress_core::index::Stored;
use statepress_core::{DType, Entry, Grid, Packed, Tensor};
use statepress_formats::export::onnx::{ElementType, OnnxTensor};
use statepress_kernels::codecs::{self, scales, stream};
use statepress_kernels::program::{Layout, Matrix, VectorForm};

use crate::models::formed;

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Numbers.
    Floats(ElementType),
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
        let floats = |why: String| (Self::Floats(ElementType::F32), Some(why));
        let encoding = match &entry.stored {
            Stored::Strided(view) => {
                let kind = match view.dtype {
                    DType::F16 => ElementType::F16,
                    DType::Bf16 => ElementType::Bf16,
                    _ => ElementType::F32,
                };
                return (Self::Floats(kind), None);
            }
            _ => entry.encoding(),
        };
        match encoding {
            Some(Encoding::Fp32) => (Self::Floats(ElementType::F32), None),
            Some(Encoding::Fp16) => (Self::Floats(ElementType::F16), None),
            Some(Encoding::Bf16) => (Self::Floats(ElementType::Bf16), None),
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
        Coding { grid, group, .. }: Coding,
        &Matrix { rows, cols, .. }: &Matrix,
    ) -> Result<Self, String> {
        if !grid.is_whole() && grid != Grid::Nf4 {
            return Err(format!("codes of the table {} have no operator", grid.name()));
        }
        let size = group.size(&[rows, cols]);
        let fits = |block: usize| match size % cols.max(1) {
            // Scales of whole rows.
            0 => cols.is_multiple_of(block),
            _ => cols.is_multiple_of(size) && size.is_multiple_of(block),
        };
        let block = [256, 128, 64, 32, 16].into_iter().find(|&block| fits(block));
        match block {
            Some(block) if grid == Grid::Nf4 => Ok(Self::Nf4 { block }),
            Some(block) => Ok(Self::Whole { bits: if grid.bits() > 4 { 8 } else { 4 }, block }),
            // A row with one scale can be filled up.
            None if grid.is_whole() && size.is_multiple_of(cols.max(1)) => {
                Ok(Self::Whole { bits: if grid.bits() > 4 { 8 } else { 4 }, block: 32 })
            }
            None => Err(format!("rows of {cols} in groups of {size} are no blocks of 16 to 256")),
        }
    }

    /// What it is called in reports.
    pub fn name(self) -> String {
        match self {
            Self::Floats(kind) => kind.name().into(),
            Self::Whole { bits, block } => format!("MatMulNBits {bits} bits, blocks of {block}"),
            Self::Nf4 { block } => format!("MatMulBnb4 NF4, blocks of {block}"),
        }
    }

    /// What is written of a matrix that is stored so.
    pub fn arrays(self, name: &str, &Matrix { rows, cols, layout, .. }: &Matrix) -> Vec<OnnxTensor> {
        let array = |suffix: &str, kind, shape| OnnxTensor { name: format!("{name}{suffix}"), kind, shape };
        match self {
            Self::Floats(kind) => {
                let shape = if layout == Layout::Transposed { vec![cols, rows] } else { vec![rows, cols] };
                vec![array("", kind, shape)]
            }
            Self::Whole { bits, block } => {
                let blocks = cols.div_ceil(block);
                vec![
                    array(".codes", ElementType::U8, vec![rows, blocks, block * bits / 8]),
                    array(".scales", ElementType::F32, vec![rows * blocks]),
                ]
            }
            Self::Nf4 { block } => vec![
                array(".codes", ElementType::U8, vec![rows * cols / 2]),
                array(".absmax", ElementType::F32, vec![rows * cols / block]),
            ],
        }
    }
}

impl Weight {
    /// The bytes of its arrays.
    ///
    /// # Errors
    /// Where the tensor is not what the index says.
    pub fn bytes(&self, tensor: Tensor) -> Result<Vec<Vec<u8>>, String> {
        let layout = match self.what {
            What::Vector(form) => return Ok(vec![floats(&formed(codecs::decode(&tensor), form))]),
            What::Matrix(layout) => layout,
        };
        let tensor = match layout {
            Layout::Part { index, count } => {
                codecs::part(&tensor, index, count).map_err(|error| error.to_string())?
            }
            Layout::Plain | Layout::Transposed => tensor,
        };
        match (self.storage, &tensor.data) {
            (Storage::Floats(ElementType::F32), _) => Ok(vec![floats(&codecs::decode(&tensor))]),
            (Storage::Floats(ElementType::F16), Packed::F16(bits))
            | (Storage::Floats(ElementType::Bf16), Packed::Bf16(bits)) => {
                Ok(vec![bits.iter().flat_map(|bits| bits.to_le_bytes()).collect()])
            }
            (Storage::Whole { bits, block }, Packed::Codes(codes)) => {
                let (rows, cols) = tensor.matrix();
                let (all, size) = (scales::all(&codes.scales), codes.group.size(&[rows, cols]));
                let zero = 1i32 << (bits - 1);
                let padded = cols.next_multiple_of(block);
                let number = |row: usize, col: usize| {
                    if col >= cols {
                        return zero as u8;
                    }
                    let code = stream::get(&codes.codes, codes.grid.bits(), row * cols + col);
                    (codes.grid.level(code) as i32 + zero) as u8
                };
                let packed = |row: usize| {
                    let pair = move |at: usize| number(row, at) | number(row, at + 1) << 4;
                    let one = move |at: usize| number(row, at);
                    let bytes: Vec<u8> = match bits {
                        4 => (0..padded).step_by(2).map(pair).collect(),
                        _ => (0..padded).map(one).collect(),
                    };
                    bytes
                };
                let of_blocks = (0..rows)
                    .flat_map(|row| (0..cols).step_by(block).map(move |col| (row * cols + col) / size));
                let scales: Vec<f32> = of_blocks.map(|group| all[group]).collect();
                Ok(vec![(0..rows).flat_map(packed).collect(), floats(&scales)])
            }
            (Storage::Nf4 { block }, Packed::Codes(codes)) => {
                let (rows, cols) = tensor.matrix();
                let (all, size) = (scales::all(&codes.scales), codes.group.size(&[rows, cols]));
                let absmax: Vec<f32> = (0..rows * cols).step_by(block).map(|at| all[at / size]).collect();
                Ok(vec![codes.codes.clone(), floats(&absmax)])
            }
            _ => Err(format!("it is {}, and was to be {}", tensor.encoding().name(), self.storage.name())),
        }
    }
}

/// Numbers as ONNX stores them.
pub(super) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

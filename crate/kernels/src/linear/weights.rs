//! A matrix in the layout it runs from.

use statepress_core::{Encoding, Packed, Tensor};

use super::PANEL;
use super::classes::Classes;
use super::panels::{self, Brain, Floats, Half, Panels};
use crate::KernelError;
use crate::codecs;

/// How the rows of a matrix are kept.
pub(super) enum Layout {
    /// All alike.
    Panels(Box<dyn Panels>),
    /// In classes.
    Classes(Box<Classes>),
}

/// A matrix `[rows, cols]` that stays packed.
pub struct Weights {
    rows: usize,
    cols: usize,
    encoding: Encoding,
    layout: Layout,
    /// The rows that are kept are those of inputs: the product adds them up.
    transposed: bool,
}

impl Weights {
    /// Rearranges a tensor's packed numbers; the tensor is gone afterwards.
    ///
    /// A binary16 matrix with infinities or NaN, which only damaged files have, is kept as f32:
    /// the fast way of widening 16 bits has none, and the damage must show in the results.
    ///
    /// # Errors
    /// If codes or scales do not have the lengths that the shape needs.
    pub fn new(tensor: Tensor) -> Result<Self, KernelError> {
        codecs::check(&tensor)?;
        let (rows, cols) = tensor.matrix();
        let encoding = tensor.encoding();
        let panels: Box<dyn Panels> = match tensor.data {
            Packed::F32(values) => Box::new(Floats::<[f32; PANEL]>::new(&values, rows, cols)),
            Packed::F16(bits) if bits.iter().any(|bits| bits & 0x7c00 == 0x7c00) => {
                let mut values = vec![0.0; bits.len()];
                codecs::half16::decode_f16(&bits, &mut values);
                Box::new(Floats::<[f32; PANEL]>::new(&values, rows, cols))
            }
            Packed::F16(bits) => Box::new(Floats::<Half>::new(&bits, rows, cols)),
            Packed::Bf16(bits) => Box::new(Floats::<Brain>::new(&bits, rows, cols)),
            Packed::Codes(codes) => panels::of_codes(&codes, rows, cols),
            Packed::Rows(classed) => {
                let layout = Layout::Classes(Box::new(Classes::new(classed, Self::new)?));
                return Ok(Self { rows, cols, encoding, layout, transposed: false });
            }
        };
        Ok(Self { rows, cols, encoding, layout: Layout::Panels(panels), transposed: false })
    }

    /// The same of a tensor that is stored as `[in, out]`. Floats are turned round once and for all;
    /// codes, whose scales belong to their rows, stay as they are, and the product adds their rows up.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn transposed(mut tensor: Tensor) -> Result<Self, KernelError> {
        codecs::check(&tensor)?;
        let (rows, cols) = tensor.matrix();
        let encoding = tensor.encoding();
        tensor.data = match tensor.data {
            Packed::F32(values) => Packed::F32(turned(&values, rows, cols)),
            Packed::F16(bits) => Packed::F16(turned(&bits, rows, cols)),
            Packed::Bf16(bits) => Packed::Bf16(turned(&bits, rows, cols)),
            Packed::Rows(classed) => {
                let layout = Layout::Classes(Box::new(Classes::new(classed, Self::transposed)?));
                return Ok(Self { rows: cols, cols: rows, encoding, layout, transposed: true });
            }
            codes @ Packed::Codes(_) => {
                let stored = Self::new(Tensor { shape: tensor.shape, data: codes })?;
                return Ok(Self { rows: cols, cols: rows, transposed: true, ..stored });
            }
        };
        tensor.shape = vec![cols, rows];
        Self::new(tensor)
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the numbers are coded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match &self.layout {
            Layout::Panels(panels) => panels.bytes(),
            Layout::Classes(classes) => classes.bytes(),
        }
    }

    /// The numbers of one row, such as an embedding; `row < rows`, and `out` is `[cols]`. Not of a
    /// transposed matrix, which nobody looks rows up in.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        match &self.layout {
            Layout::Panels(panels) => panels.row(row, out),
            Layout::Classes(classes) => classes.row(row, out),
        }
    }

    /// Whether the rows that are kept are those of inputs.
    pub(super) fn is_transposed(&self) -> bool {
        self.transposed
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// Columns as rows.
fn turned<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
}

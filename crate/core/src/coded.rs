//! Weights that another tool quantized, in that tool's layout: where its arrays lie and how they make numbers.
//!
//! Three rules cover the tools: a table of sixteen values times the largest magnitude of a block (bitsandbytes),
//! whole numbers or small floats on a grid (GPTQ, AWQ, compressed-tensors and others), and blocks that have everything of
//! their numbers together (ggml). Which arrays of a file belong
//! together is for its reader to find out; the numbers are made when a tensor is read.

use std::ops::Range;

use crate::index::{Extent, Strided};
use crate::{DType, Encoding, GgmlType};

/// A weight in the layout of another tool.
#[derive(Clone, Debug)]
pub struct Coded {
    /// What it is called: `nf4 (bitsandbytes)`.
    pub scheme: String,
    /// What reading gives: the same codes where one of our encodings has them, else numbers.
    pub encoding: Encoding,
    /// How its arrays make numbers.
    pub rule: Rule,
    /// Bytes of all its arrays.
    pub bytes: u64,
}

/// How arrays make numbers.
#[derive(Clone, Debug)]
pub enum Rule {
    /// A table and block maxima.
    Table(Table),
    /// A grid.
    Grid(Grid),
    /// ggml's blocks.
    Blocks(Blocks),
}

/// `value = table[code] * absmax[index / block]` of the flattened tensor; two codes a byte, the first in its high half.
#[derive(Clone, Debug)]
pub struct Table {
    /// The codes.
    pub codes: Extent,
    /// What they stand for.
    pub table: [f32; 16],
    /// Values that share an absmax.
    pub block: usize,
    /// The largest magnitudes.
    pub absmax: BlockMax,
}

/// Block maxima, perhaps quantized themselves.
#[derive(Clone, Debug)]
pub enum BlockMax {
    /// As numbers.
    Plain(Array),
    /// `absmax[i] = table[codes[i]] * nested[i / block] + offset`.
    Double {
        /// One byte each.
        codes: Array,
        /// What bytes stand for.
        table: Vec<f32>,
        /// Second-level maxima.
        nested: Array,
        /// Codes that share one.
        block: usize,
        /// What is added.
        offset: f32,
    },
}

/// `value = (code - zero) * scale * unit` of a matrix `[out, in]`.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Codes, scales and zero points are stored as `[in, out]`.
    pub transposed: bool,
    /// The codes.
    pub codes: Codes,
    /// The scales.
    pub scales: Array,
    /// What a scale of 1 stands for.
    pub unit: f32,
    /// Outputs and inputs that share a scale.
    pub per: [usize; 2],
    /// The zero points.
    pub zeros: Zeros,
    /// Which group each input belongs to, where groups are not of neighbours.
    pub groups: Option<Array>,
}

/// Blocks of neighbours in a row, in ggml's types.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Where the rows lie: those of several parts one after the other.
    pub parts: Vec<(GgmlType, Extent)>,
    /// What was done to the numbers for llama.cpp, which is undone.
    pub undo: Option<Undo>,
}

/// What llama.cpp's files do to numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// They are `-exp(x)`.
    NegExp,
    /// Of the first `rotary` rows of every head those that turn together, `i` with `i + rotary / 2`, were made neighbours.
    Pairs {
        /// Rows of a head.
        head: usize,
        /// How many of them turn.
        rotary: usize,
    },
    /// Rows and columns were exchanged.
    Transpose,
}

/// A matrix of codes: one to an element, or packed.
#[derive(Clone, Debug)]
pub struct Codes {
    /// As it is stored.
    pub array: Array,
    /// How several codes share a word of 32 bits.
    pub packed: Option<Packed>,
}

/// Codes in words of 32 bits: a stream of bits along one dimension, the lowest first.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    /// Bits of a code, 1 to 8.
    pub bits: u32,
    /// The dimension along which words hold several.
    pub axis: usize,
    /// Where each eight neighbours stand among themselves.
    pub order: [u8; 8],
}

/// Zero points.
#[derive(Clone, Debug)]
pub enum Zeros {
    /// All the same.
    Same(i32),
    /// One for each scale, stored like codes, and what is added to them.
    Each(Codes, i32),
}

/// A stored array.
#[derive(Clone, Debug)]
pub struct Array {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Where its elements lie.
    pub view: Strided,
}

impl Grid {
    /// What makes codes as they are stored ones that are counted from the least: packed ones are, others have a sign.
    pub fn from_least(&self) -> i32 {
        if self.codes.packed.is_some() { 0 } else { 128 }
    }

    /// The type that scales have as they multiply codes.
    pub fn scale_type(&self) -> DType {
        match self.scales.dtype() {
            half @ (DType::F16 | DType::Bf16) if self.unit == 1.0 => half,
            _ => DType::F32,
        }
    }
}

impl Coded {
    /// Whether it is plain floats, of which nothing but their order, or a function of them, was changed.
    pub fn is_plain(&self) -> bool {
        matches!(&self.rule, Rule::Blocks(blocks) if blocks.parts.iter().all(|(kind, _)| kind.block().0 == 1))
    }

    /// Some rows of `count`, where each lies by itself.
    pub(crate) fn rows(&self, rows: Range<usize>, count: usize) -> Option<Self> {
        let Rule::Blocks(Blocks { parts, undo: undo @ (None | Some(Undo::NegExp)) }) = &self.rule else {
            return None;
        };
        let &[(kind, extent)] = &parts[..] else { return None };
        // Of a vector, whose rows have one number each, a block has several.
        let (count, block) = (count.max(1) as u64, kind.block().1 as u64);
        let row = extent.len / count;
        if row * count != extent.len || !row.is_multiple_of(block) {
            return None;
        }
        let (offset, bytes) = (extent.offset + rows.start as u64 * row, rows.len() as u64 * row);
        let rule = Rule::Blocks(Blocks { parts: vec![(kind, Extent { offset, len: bytes })], undo: *undo });
        Some(Self { rule, bytes, scheme: self.scheme.clone(), encoding: self.encoding })
    }

    /// Every range of the file that it names.
    pub(crate) fn extents_mut(&mut self) -> Vec<&mut Extent> {
        let arrays = match &mut self.rule {
            Rule::Table(Table { codes, absmax: BlockMax::Plain(absmax), .. }) => {
                return vec![codes, &mut absmax.view.storage];
            }
            Rule::Table(Table { codes, absmax: BlockMax::Double { codes: absmax, nested, .. }, .. }) => {
                return vec![codes, &mut absmax.view.storage, &mut nested.view.storage];
            }
            Rule::Grid(Grid { codes, scales, zeros, groups, .. }) => {
                let zeros = match zeros {
                    Zeros::Same(_) => None,
                    Zeros::Each(zeros, _) => Some(&mut zeros.array),
                };
                [Some(&mut codes.array), Some(scales), zeros, groups.as_mut()]
            }
            Rule::Blocks(blocks) => return blocks.parts.iter_mut().map(|(_, extent)| extent).collect(),
        };
        arrays.into_iter().flatten().map(|array| &mut array.view.storage).collect()
    }
}

impl Array {
    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.view.dtype
    }
}

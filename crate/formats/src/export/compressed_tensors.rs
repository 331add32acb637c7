//! Weights in the layout `pack-quantized` of compressed-tensors (0.20.0, `compressors/pack_quantized/base.py` and `helpers.py`): whole
//! numbers of 1 to 8 bits with a scale for each row or for each group of a row, and perhaps a zero point beside it. Codes, scales and
//! zero points stay bit for bit what they are here. `quantized::scaled` reads them.
//!
//! | key | type and shape | what it holds |
//! | --- | --- | --- |
//! | `P.weight_packed` | I32 `[out, ceil(in * bits / 32)]` | codes counted from the least one, a stream for each row, the first in the lowest bits |
//! | `P.weight_scale` | F32, F16 or BF16 `[out, in / group]` | scales |
//! | `P.weight_shape` | I64 `[2]` | out and in |
//! | `P.weight_zero_point` | I32 `[ceil(out * bits / 32), in / group]` | zero points like codes, a stream for each column; none where all are the middle |

use serde_json::{Value, json};
use statepress_core::coded::{Grid, Rule, Zeros};
use statepress_core::encoding::{Coding, ScaleType};
use statepress_core::index::Stored;
use statepress_core::{Codes, DType, Encoding, Entry, Form, Packed, Scales, Source, shape};

use crate::coded::{Whole, middle, whole};
use crate::{FormatError, TensorSpec, read_tensor, streamed};

/// What `config.json` calls the layout.
pub const FORMAT: &str = "pack-quantized";

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// What a scheme of `config_groups` says of it.
    pub scheme: Scheme,
    /// The type of its scales.
    pub scale: DType,
}

/// What weights that are in one of the `config_groups` have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheme {
    /// Bits of a code.
    pub bits: u32,
    /// Inputs that share a scale; none where a row has one.
    pub group: Option<usize>,
    /// Without zero points: all are the middle.
    pub symmetric: bool,
}

impl Scheme {
    /// The arguments of `weights` (`quantization/quant_args.py`, `QuantizationArgs`).
    pub fn weights(self) -> Value {
        let strategy = if self.group.is_some() { "group" } else { "channel" };
        json!({
            "num_bits": self.bits, "type": "int", "symmetric": self.symmetric, "strategy": strategy,
            "group_size": self.group, "dynamic": false,
        })
    }
}

impl Packing {
    /// How a weight is stored with the codes that it has.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn of(entry: &Entry) -> Result<Self, String> {
        let of_table = |name: &str| Err(format!("{name} is codes of a table, and whole numbers are packed"));
        match &entry.stored {
            _ if entry.shape.len() != 2 => Err(format!("{:?} is no matrix", entry.shape)),
            Stored::Packed { encoding: Encoding::Codes(coding), .. } if !coding.grid.is_whole() => {
                of_table(coding.grid.name())
            }
            Stored::Packed { encoding: Encoding::Codes(coding), .. } => {
                Self::of_coding(*coding, &entry.shape)
            }
            Stored::Packed { encoding: encoding @ Encoding::Rows(_), .. } => Err(format!(
                "rows of {} are of several precisions, and a weight has one there",
                encoding.name()
            )),
            Stored::Coded(coded) => match &coded.rule {
                Rule::Grid(grid) => Self::of_grid(grid, &entry.shape),
                Rule::Table(_) | Rule::Blocks(_) => of_table(&coded.scheme),
            },
            _ => Err(format!("{} is none of the codes that are packed", entry.dtype_name())),
        }
    }

    fn of_coding(coding: Coding, shape: &[usize]) -> Result<Self, String> {
        let Coding { grid, group, scale: scale_type } = coding;
        let (bits, cols) = (grid.bits() as u32, shape::matrix(shape).1);
        let scale = if scale_type == ScaleType::Fp16 { DType::F16 } else { DType::F32 };
        let size = group.size(shape);
        // Groups of whole rows have a scale for each row: the same.
        let group = Some(size).filter(|&size| size < cols);
        if scale_type == ScaleType::Affine {
            return Err("its groups have minimums, and zero points are whole numbers".into());
        }
        if !cols.is_multiple_of(size) && !size.is_multiple_of(cols.max(1)) {
            return Err(format!("its groups of {size} run across the ends of rows of {cols}"));
        }
        Ok(Self { scheme: Scheme { bits, group, symmetric: true }, scale })
    }

    fn of_grid(grid: &Grid, shape: &[usize]) -> Result<Self, String> {
        let ((rows, cols), [per_row, group]) = (shape::matrix(shape), grid.per);
        let bits = match (grid.codes.packed, grid.codes.array.dtype()) {
            (Some(packed), _) => packed.bits,
            (None, DType::I8) => 8,
            (None, dtype) => return Err(format!("{} is no whole number", dtype.name())),
        };
        let middle = middle(bits);
        let within = match &grid.zeros {
            Zeros::Same(zero) => (0..1 << bits).contains(&(zero + grid.from_least())),
            Zeros::Each(zeros, plus) => {
                let from_least = if zeros.packed.is_some() { 0 } else { middle };
                zeros.packed.is_none_or(|packed| packed.bits == bits)
                    && plus + grid.from_least() == from_least
            }
        };
        let why = match () {
            () if grid.groups.is_some() => {
                "its groups are of inputs in an order of their own (`g_idx`)".into()
            }
            () if per_row != 1 && per_row < rows => format!("blocks of {per_row} rows share a scale"),
            () if group < cols && !cols.is_multiple_of(group) => {
                format!("rows of {cols} are no whole number of groups of {group}")
            }
            () if !within => "its zero points may be none of its codes".into(),
            () => {
                let symmetric = matches!(grid.zeros, Zeros::Same(zero) if zero + grid.from_least() == middle);
                let group = Some(group).filter(|&group| group < cols);
                return Ok(Self { scheme: Scheme { bits, group, symmetric }, scale: grid.scale_type() });
            }
        };
        Err(why)
    }

    /// The arrays of a weight, in the order of [`Self::bytes`].
    pub fn specs(self, name: &str, shape: &[usize]) -> Vec<TensorSpec> {
        let Scheme { bits, group, symmetric } = self.scheme;
        let (rows, cols) = shape::matrix(shape);
        let groups = group.map_or(1, |group| cols / group);
        let words = |n: usize| (n * bits as usize).div_ceil(32);
        let mut arrays = vec![
            ("packed", DType::I32, vec![rows, words(cols)]),
            ("scale", self.scale, vec![rows, groups]),
            ("shape", DType::I64, vec![2]),
        ];
        if !symmetric {
            arrays.push(("zero_point", DType::I32, vec![words(rows), groups]));
        }
        let named = |(suffix, dtype, shape)| TensorSpec {
            name: format!("{name}_{suffix}"),
            shape,
            form: Form::Kept(dtype),
            coded: false,
        };
        arrays.into_iter().map(named).collect()
    }

    /// The bytes of the arrays of a weight that is stored as this is [`Self::of`]; `widened` are the numbers of its scales.
    ///
    /// # Errors
    /// Where it cannot be read, and for a weight of another encoding.
    pub fn bytes(
        self,
        source: &dyn Source,
        entry: &Entry,
        widened: impl Fn(&Scales) -> Vec<f32>,
    ) -> Result<Vec<Vec<u8>>, FormatError> {
        let Scheme { bits, group, .. } = self.scheme;
        let (rows, cols) = shape::matrix(&entry.shape);
        let groups = group.map_or(1, |group| cols / group);
        let Whole { codes, scales, zeros } = match &entry.stored {
            Stored::Coded(coded) if let Rule::Grid(grid) = &coded.rule => whole(source, entry, grid)?,
            _ => match read_tensor(source, entry)?.data {
                Packed::Codes(codes) => self.ours(&codes, &entry.shape, &widened(&codes.scales)),
                _ => return Err(FormatError::write(&entry.name, "it has no codes")),
            },
        };
        let mut packed = Vec::with_capacity(rows * (cols * bits as usize).div_ceil(32) * 4);
        codes.chunks(cols.max(1)).for_each(|row| stream(row.iter().copied(), bits, &mut packed));
        let shape = [rows, cols].iter().flat_map(|&dim| (dim as u64).to_le_bytes()).collect();
        let mut arrays = vec![packed, scales, shape];
        if let Some(zeros) = zeros {
            let columns: Vec<Vec<u8>> = (0..groups)
                .map(|group| {
                    let mut column = Vec::new();
                    stream(zeros.iter().skip(group).step_by(groups).copied(), bits, &mut column);
                    column
                })
                .collect();
            let words = (rows * bits as usize).div_ceil(32);
            let word =
                |at: usize| columns.iter().flat_map(move |column| column[4 * at..4 * at + 4].iter().copied());
            arrays.push((0..words).flat_map(word).collect());
        }
        Ok(arrays)
    }

    /// Our own codes, of which each is counted from zero, and a scale for each group of a row.
    fn ours(self, codes: &Codes, shape: &[usize], widened: &[f32]) -> Whole {
        let Scheme { bits, group, .. } = self.scheme;
        let ((rows, cols), size) = (shape::matrix(shape), codes.group.size(shape));
        let per = group.unwrap_or(cols).max(1);
        let scales =
            (0..rows).flat_map(|row| (0..cols).step_by(per).map(move |col| (row * cols + col) / size));
        let scales = match &codes.scales {
            Scales::F16(halves) => scales.flat_map(|at| halves[at].to_le_bytes()).collect(),
            _ => scales.flat_map(|at| widened[at].to_le_bytes()).collect(),
        };
        let from_least = |number: i16| (i32::from(number) + middle(bits)) as u8;
        Whole { codes: streamed::numbers(codes, rows * cols).map(from_least).collect(), scales, zeros: None }
    }
}

/// Codes as a stream of bits in words of 32, the first in the lowest bits; the last word is filled up with zeros.
fn stream(codes: impl Iterator<Item = u8>, bits: u32, into: &mut Vec<u8>) {
    let (mut pending, mut held) = (0u64, 0);
    for code in codes {
        debug_assert!(u64::from(code) >> bits == 0, "a code of more bits than it has");
        pending |= u64::from(code) << held;
        held += bits;
        if held >= 32 {
            into.extend_from_slice(&(pending as u32).to_le_bytes());
            pending >>= 32;
            held -= 32;
        }
    }
    if held > 0 {
        into.extend_from_slice(&(pending as u32).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_may_lie_in_two_words() {
        let mut words = Vec::new();
        // The eleventh code of three bits begins at bit 30.
        stream((0..12).map(|at| at % 8), 3, &mut words);
        let expected: u64 = (0..12).map(|at| (at % 8) << (3 * at)).sum();
        assert_eq!(words, expected.to_le_bytes());
        words.clear();
        stream([1, 2, 255].into_iter(), 8, &mut words);
        assert_eq!(words, [1, 2, 255, 0]);
    }
}

//! Reading a weight from its blocks: codes and scales where one of our encodings has the same, else numbers.

use statepress_core::coded::{Blocks, Undo};
use statepress_core::encoding::{Coding, Group, ScaleType};
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::{Encoding, Entry, GgmlType, Packed, Scales, Source, shape, tensor};

use super::blocks::{codes as codes_of, decode};
use crate::FormatError;
use crate::cursor::{read as read_bytes, reserve};
use crate::streamed;

/// The numbers of a weight.
pub(crate) fn read(
    source: &dyn Source,
    entry: &Entry,
    blocks: &Blocks,
    encoding: Encoding,
) -> Result<Packed, FormatError> {
    // The rows of a vector have one number each.
    let (rows, columns) = match entry.shape[..] {
        [rows] => (rows, 1),
        _ => shape::matrix(&entry.shape),
    };
    let name = &entry.name;
    if let Encoding::Codes(Coding { grid, group: Group::Values(group), scale }) = encoding {
        let mut codes: Vec<i16> = reserve(name, rows * columns)?;
        let mut scales: Vec<f32> = reserve(name, rows * columns / group)?;
        let mut minimums: Vec<f32> = reserve(name, rows * columns / group)?;
        each(source, name, blocks, |kind, bytes| {
            codes_of(kind, bytes, &mut codes, &mut scales, &mut minimums);
        })?;
        let mut codes = ordered(name, blocks.undo, codes, [rows, columns])?;
        let scales = ordered(name, blocks.undo, scales, [rows, columns / group])?;
        let scales = match scale {
            ScaleType::Affine => {
                // They are counted from zero there.
                codes.iter_mut().for_each(|code| *code += grid.least() as i16);
                let minimums = ordered(name, blocks.undo, minimums, [rows, columns / group])?;
                Scales::Affine { scales, minimums }
            }
            // They were read from binary16, which holds them.
            ScaleType::Fp16 => {
                Scales::F16(scales.iter().map(|&it| half::f16::from_f32(it).to_bits()).collect())
            }
            _ => Scales::F32(scales),
        };
        let codes = streamed::pack(name, grid, &codes)?;
        return Ok(Packed::Codes(tensor::Codes { grid, group: Group::Values(group), codes, scales }));
    }
    if matches!(encoding, Encoding::Fp16 | Encoding::Bf16) {
        let mut bits: Vec<u16> = reserve(name, rows * columns)?;
        each(source, name, blocks, |_, bytes| {
            bits.extend(bytes.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes)));
        })?;
        let bits = ordered(name, blocks.undo, bits, [rows, columns])?;
        return Ok(if encoding == Encoding::Fp16 { Packed::F16(bits) } else { Packed::Bf16(bits) });
    }
    let mut numbers: Vec<f32> = reserve(name, rows * columns)?;
    each(source, name, blocks, |kind, bytes| decode(kind, bytes, &mut numbers))?;
    if blocks.undo == Some(Undo::NegExp) {
        if let Some(number) = numbers.iter().find(|number| number.is_nan() || **number > 0.0) {
            return Err(FormatError::tensor(name, format!("{number} is no -exp(x), as all of it should be")));
        }
        numbers.iter_mut().for_each(|number| *number = (-*number).ln());
    }
    Ok(Packed::F32(ordered(name, blocks.undo, numbers, [rows, columns])?))
}

/// Hands the blocks on, as many at a time as a chunk holds.
fn each(
    source: &dyn Source,
    name: &str,
    blocks: &Blocks,
    mut take: impl FnMut(GgmlType, &[u8]),
) -> Result<(), FormatError> {
    for &(kind, extent) in &blocks.parts {
        let size = kind.block().1;
        let most = (CHUNK_BYTES / size * size) as u64;
        let mut at = 0;
        while at < extent.len {
            let len = most.min(extent.len - at);
            take(kind, &read_bytes(source, name, extent.offset + at, len)?);
            at += len;
        }
    }
    Ok(())
}

/// Numbers in the order that they had: `[rows, columns]` as it becomes.
fn ordered<T: Copy>(
    name: &str,
    undo: Option<Undo>,
    values: Vec<T>,
    [rows, columns]: [usize; 2],
) -> Result<Vec<T>, FormatError> {
    let mut ordered = match undo {
        None | Some(Undo::NegExp) => return Ok(values),
        Some(_) => reserve(name, values.len())?,
    };
    for row in 0..rows {
        match undo {
            Some(Undo::Pairs { head, rotary }) => {
                let (within, half) = (row % head, rotary / 2);
                let from = match within {
                    within if within < half => row + within,
                    within if within < 2 * half => row + within + 1 - 2 * half,
                    _ => row,
                };
                ordered.extend_from_slice(&values[from * columns..][..columns]);
            }
            _ => ordered.extend((0..columns).map(|column| values[column * rows + row])),
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves_and_the_rest_of_a_head_stays() {
        let rows = vec![0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11];
        let halves = ordered("x", Some(Undo::Pairs { head: 6, rotary: 4 }), rows, [12, 1]).unwrap();
        assert_eq!(halves, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn matrices_are_turned_back() {
        // [3, 2] as llama.cpp has it becomes [2, 3].
        let turned = ordered("x", Some(Undo::Transpose), vec![0, 3, 1, 4, 2, 5], [2, 3]).unwrap();
        assert_eq!(turned, [0, 1, 2, 3, 4, 5]);
    }
}

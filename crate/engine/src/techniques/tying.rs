//! Whether `lm_head.weight` is the embedding table.
//!
//! Sharing is visible in the index when both have one storage. safetensors cannot share, and
//! torch's dynamic quantization stores the head as an INT8 copy: those are found by comparing
//! numbers, which reads both tensors, a part at a time.

use statepress_core::index::{Entry, Extent, Index, Stored};
use statepress_core::limits::{BAND_NUMBERS, CHUNK_BYTES};
use statepress_core::{Codes, Finding, Grid, Packed, Scales, Source};
use statepress_kernels::codecs;

use crate::EngineError;
use crate::families::{HEAD, ModelSpec, Names};

/// Head and table are compared in at least so many parts: what is held of both, and of the one decoded, stays
/// below what coding either takes; and parts have no more numbers than a band.
const PARTS: usize = 8;

/// How the head relates to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tying {
    /// The file has no head, or it shares the table's storage.
    Shared,
    /// A copy with the same numbers.
    Copy,
    /// The INT8 rounding of the table, as torch's dynamic quantization leaves it.
    Rounding,
    /// Another matrix, or no head and no table at all.
    Separate,
}

/// Head and table, where their numbers have to be compared: both are there, they share no storage,
/// and nothing of their shapes and types speaks against a copy.
pub(super) fn may_be_copy<'a>(index: &'a Index, names: &Names) -> Option<(&'a Entry, &'a Entry)> {
    let table = names.table(index)?;
    let head = names.get(index, HEAD)?;
    let rounded = matches!(head.stored, Stored::Affine { .. });
    let alike = head.shape == table.shape && (rounded || head.dtype_name() == table.dtype_name());
    (alike && names.shared_head(index).is_none()).then_some((head, table))
}

/// Compares head and table. Reads both only when the index cannot tell, and never the whole of
/// them at once.
pub fn tying(source: &dyn Source, index: &Index, names: &Names) -> Result<Tying, EngineError> {
    if let Some((head, table)) = may_be_copy(index, names) {
        return match (&head.stored, &table.stored) {
            (
                Stored::Packed { encoding, coded, parts },
                Stored::Packed { encoding: other, coded: other_coded, parts: others },
            ) => {
                // The same codes are the same stream.
                let same = (encoding, coded) == (other, other_coded) && same_bytes(source, parts, others)?;
                Ok(if same { Tying::Copy } else { Tying::Separate })
            }
            _ => compare_numbers(source, head, table),
        };
    }
    let shared = !names.has(HEAD) || names.shared_head(index).is_some();
    Ok(if shared && names.table(index).is_some() { Tying::Shared } else { Tying::Separate })
}

/// Compares two tensors of one shape, a part of their rows after the other.
fn compare_numbers(source: &dyn Source, head: &Entry, table: &Entry) -> Result<Tying, EngineError> {
    let rows = head.shape.first().copied().unwrap_or(1);
    let (mut copy, mut rounding) = (true, table.is_plain() && matches!(head.stored, Stored::Affine { .. }));
    let most = BAND_NUMBERS / (head.params() as usize / rows.max(1)).max(1);
    let step = rows.div_ceil(PARTS).min(most).max(1);
    for first in (0..rows).step_by(step) {
        let rows = first..rows.min(first + step);
        let (Some(head), Some(table)) = (head.rows(rows.clone()), table.rows(rows)) else {
            return Ok(Tying::Separate);
        };
        let table = statepress_formats::read_tensor(source, &table)?;
        let head = statepress_formats::read_tensor(source, &head)?;
        copy = copy && table.data == head.data;
        rounding = rounding
            && matches!(&head.data, Packed::Codes(Codes { grid: Grid::Int8, codes, scales: Scales::F32(scales), .. })
                if is_rounding(&codecs::decode(&table), codes, scales));
        if !copy && !rounding {
            return Ok(Tying::Separate);
        }
    }
    Ok(if copy { Tying::Copy } else { Tying::Rounding })
}

/// Whether two lists of extents hold the same bytes.
fn same_bytes(source: &dyn Source, parts: &[Extent], others: &[Extent]) -> Result<bool, EngineError> {
    let (mut a, mut b) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    for (part, other) in parts.iter().zip(others) {
        if part.len != other.len {
            return Ok(false);
        }
        for at in (0..part.len).step_by(CHUNK_BYTES) {
            let len = (part.len - at).min(CHUNK_BYTES as u64) as usize;
            source.read_at(part.offset + at, &mut a[..len])?;
            source.read_at(other.offset + at, &mut b[..len])?;
            if a[..len] != b[..len] {
                return Ok(false);
            }
        }
    }
    Ok(parts.len() == others.len())
}

/// Whether codes are torch's dynamic rounding of `values`: `scale = max|w| / 127.5` over the
/// tensor or a row, half to even.
fn is_rounding(values: &[f32], codes: &[u8], scales: &[f32]) -> bool {
    let row = values.len() / scales.len().max(1);
    row > 0
        && values.chunks(row).zip(codes.chunks(row)).zip(scales).all(|((values, codes), &scale)| {
            let inverse = 1.0 / scale;
            values.iter().zip(codes).all(|(value, &code)| {
                (value * inverse).round_ties_even().clamp(-128.0, 127.0) == f32::from(code as i8)
            })
        })
}

/// Whether the head is not written because readers rebuild it from the table. A file that lacks its head, and is refused for
/// that, does not get the table for one by being compressed.
pub fn leaves_head_out(tying: Tying, spec: &ModelSpec) -> bool {
    let has_head = spec.program.is_some() || spec.names.has(HEAD);
    tying != Tying::Separate && spec.names.rebuilds_head() && has_head
}

/// The finding that explains a tying, if there is something to explain.
pub fn finding(tying: Tying, head: &str, table: &str) -> Option<Finding> {
    let message = match tying {
        Tying::Copy => format!("equal to {table} number for number: one table serves both"),
        Tying::Rounding => {
            format!("the INT8 rounding of {table}, untied by torch's dynamic quantization")
        }
        Tying::Shared | Tying::Separate => return None,
    };
    Some(Finding::info("tied-copy", message).about(head))
}

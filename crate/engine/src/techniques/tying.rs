//! Whether `lm_head.weight` is the embedding table.
//!
//! Sharing is visible in the index when both have one storage. safetensors cannot share, and
//! torch's dynamic quantization stores the head as an INT8 copy: those are found by comparing
//! numbers, which reads both tensors.

use statepress_core::index::{Index, Stored};
use statepress_core::{Finding, Packed, Source};
use statepress_kernels::codecs;

use crate::EngineError;
use crate::spec::Names;

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

/// Compares head and table. Reads both only when the index cannot tell.
pub fn tying(source: &dyn Source, index: &Index, names: &Names) -> Result<Tying, EngineError> {
    let (Some(table), Some(head)) =
        (names.get(index, "embedding.weight"), names.get(index, "lm_head.weight"))
    else {
        return Ok(if names.has("embedding.weight") { Tying::Shared } else { Tying::Separate });
    };
    if names.shared_head(index).is_some() {
        return Ok(Tying::Shared);
    }
    if head.shape != table.shape {
        return Ok(Tying::Separate);
    }
    let (per_tensor, plain) =
        (matches!(head.stored, Stored::Affine { .. }), matches!(table.stored, Stored::Strided(_)));
    if !per_tensor && head.dtype_name() != table.dtype_name() {
        return Ok(Tying::Separate);
    }
    let table = statepress_formats::read_tensor(source, table)?;
    let head = statepress_formats::read_tensor(source, head)?;
    if table.data == head.data {
        return Ok(Tying::Copy);
    }
    if let (true, true, Packed::Int8 { codes, scales }) = (per_tensor, plain, &head.data)
        && is_rounding(&codecs::decode(&table), codes, scales)
    {
        return Ok(Tying::Rounding);
    }
    Ok(Tying::Separate)
}

/// Whether codes are torch's dynamic rounding of `values`: `scale = max|w| / 127.5` over the
/// tensor or a row, half to even.
fn is_rounding(values: &[f32], codes: &[i8], scales: &[f32]) -> bool {
    let row = values.len() / scales.len().max(1);
    row > 0
        && values.chunks(row).zip(codes.chunks(row)).zip(scales).all(|((values, codes), &scale)| {
            let inverse = 1.0 / scale;
            values.iter().zip(codes).all(|(value, &code)| {
                (value * inverse).round_ties_even().clamp(-128.0, 127.0) == f32::from(code)
            })
        })
}

/// The finding that explains a tying, if there is something to explain.
pub fn finding(tying: Tying, head: &str) -> Option<Finding> {
    let message = match tying {
        Tying::Copy => "equal to embedding.weight number for number: one table serves both",
        Tying::Rounding => "the INT8 rounding of embedding.weight, untied by torch's dynamic quantization",
        Tying::Shared | Tying::Separate => return None,
    };
    Some(Finding::info("tied-copy", message).about(head))
}

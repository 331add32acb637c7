//! One tensor into one encoding, and what that did to its numbers.

use statepress_core::index::Stored;
use statepress_core::recipe::{ClipBy, Int8Options};
use statepress_core::report::RoundingError;
use statepress_core::{DType, Encoding, Entry, Finding, Packed, Tensor};
use statepress_kernels::codecs::{self, Clip};

use crate::EngineError;

/// Up to here float32 has every whole number.
const WHOLE: f32 = 16_777_216.0;

/// The error of a tensor that is in its encoding already: it is not decoded and coded again.
pub(crate) const KEPT: RoundingError = RoundingError { mse: 0.0, max_abs: 0.0, cosine: 1.0, clipped: 0 };

/// Codes the numbers of a tensor.
///
/// # Errors
/// NaN and infinities, unless the encoding is one of floats.
pub(crate) fn code(
    entry: &Entry,
    values: &[f32],
    encoding: Encoding,
    clip: Clip,
) -> Result<(Tensor, RoundingError), EngineError> {
    let encoded = codecs::encode(values, &entry.shape, encoding, clip)
        .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
    let error = RoundingError { clipped: encoded.clipped, ..rounding_error(values, &encoded.tensor) };
    Ok((encoded.tensor, error))
}

/// How INT8 clips.
pub(crate) fn clip(options: &Int8Options) -> Clip {
    match options.clip {
        ClipBy::Minmax => Clip::Absmax,
        ClipBy::Percentile => Clip::Percentile(options.percentile),
    }
}

/// Says that values did not fit.
pub(crate) fn clipped(entry: &Entry, encoding: Encoding, error: &RoundingError) -> Option<Finding> {
    let precision = encoding.precision().name();
    let message = format!("{} values do not fit {precision} and were clipped", error.clipped);
    (error.clipped > 0).then(|| Finding::warning("clipped", message).about(&entry.name))
}

/// Says that whole numbers lost digits when they were read.
pub(crate) fn integers_narrowed(entry: &Entry, read: &Tensor) -> Option<Finding> {
    let Stored::Strided(strided) = &entry.stored else { return None };
    let (DType::I64 | DType::I32, Packed::F32(values)) = (strided.dtype, &read.data) else { return None };
    let count = values.iter().filter(|value| value.abs() >= WHOLE).count();
    let dtype = strided.dtype.name();
    let message = format!(
        "{count} whole numbers ({dtype}) are read as float32: of those beyond {WHOLE} the last digits are lost"
    );
    (count > 0).then(|| Finding::warning("integers-narrowed", message).about(&entry.name))
}

/// Compares numbers with what their codes decode to, row by row.
fn rounding_error(values: &[f32], coded: &Tensor) -> RoundingError {
    let (_, cols) = coded.matrix();
    let mut row = vec![0.0; cols];
    let (mut squares, mut max_abs, mut dot, mut norm_a, mut norm_b) =
        (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (r, original) in values.chunks(cols.max(1)).enumerate() {
        codecs::decode_row(coded, r, &mut row);
        for (&a, &b) in original.iter().zip(&row) {
            let (a, b) = (f64::from(a), f64::from(b));
            squares += (a - b) * (a - b);
            max_abs = max_abs.max((a - b).abs());
            dot += a * b;
            norm_a += a * a;
            norm_b += b * b;
        }
    }
    let norms = norm_a.sqrt() * norm_b.sqrt();
    let cosine = if norms > 0.0 { (dot / norms).min(1.0) } else { f64::from(u8::from(norm_a == norm_b)) };
    RoundingError { mse: squares / values.len().max(1) as f64, max_abs, cosine, clipped: 0 }
}

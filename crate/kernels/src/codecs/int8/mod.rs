//! INT8, symmetric: `code = clamp(round_half_even(value / scale), -128, 127)`,
//! `scale = c / 127`, with `c` the largest magnitude of the row or tensor, or a percentile of
//! its magnitudes. A row of zeros has scale 1.

use statepress_core::Packed;
use statepress_core::encoding::Granularity;

use super::Clip;
use crate::lanes::F32x4;

/// Codes a matrix; also counts the values beyond the clipping point.
pub fn encode(
    values: &[f32],
    rows: usize,
    cols: usize,
    granularity: Granularity,
    clip: Clip,
) -> (Packed, u64) {
    let per_scale = match granularity {
        Granularity::Row => cols,
        Granularity::Tensor => rows * cols,
    };
    let mut codes = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / per_scale.max(1));
    let mut clipped = 0;
    let mut sorted = Vec::new();
    for values in values.chunks(per_scale.max(1)) {
        let limit = match clip {
            Clip::Absmax => absmax(values),
            Clip::Percentile(percentile) => quantile(values, percentile, &mut sorted),
        };
        let scale = if limit > 0.0 && limit / 127.0 > 0.0 { limit / 127.0 } else { 1.0 };
        scales.push(scale);
        // With the largest magnitude as the limit nothing lies beyond it.
        if clip != Clip::Absmax {
            clipped += values.iter().filter(|value| value.abs() > limit).count() as u64;
        }
        round(values, scale, &mut codes);
    }
    (Packed::Int8 { codes, scales }, clipped)
}

/// Appends `clamp(round_half_even(value / scale), -128, 127)` of every value.
fn round(values: &[f32], scale: f32, codes: &mut Vec<i8>) {
    let (fours, rest) = values.as_chunks::<4>();
    let (scales, least, most) = (F32x4::splat(scale), F32x4::splat(-128.0), F32x4::splat(127.0));
    for four in fours {
        // Both limits are whole: clamping first gives the same, and is within what rounding takes.
        let rounded = (F32x4::load(four) / scales).max(least).min(most).round();
        codes.extend(rounded.to_array().map(|code| code as i8));
    }
    codes.extend(rest.iter().map(|value| (value / scale).round_ties_even().clamp(-128.0, 127.0) as i8));
}

/// The largest magnitude.
pub(super) fn absmax(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The percentile of the magnitudes as `torch.quantile` interpolates it: the rank and the
/// interpolation are in f32.
fn quantile(values: &[f32], percentile: f64, sorted: &mut Vec<f32>) -> f32 {
    sorted.clear();
    sorted.extend(values.iter().map(|value| value.abs()));
    sorted.sort_unstable_by(f32::total_cmp);
    let (below, weight) = rank(percentile, sorted.len());
    lerp(sorted[below], sorted[(below + 1).min(sorted.len() - 1)], weight)
}

/// The index below the rank of a percentile among `n` values, and how far the rank is above it.
fn rank(percentile: f64, n: usize) -> (usize, f32) {
    let rank = (percentile / 100.0) as f32 * (n - 1) as f32;
    // Above 2^24 values f32 may round the rank up, past the last index.
    ((rank.floor() as usize).min(n - 1), rank - rank.floor())
}

/// `torch.lerp`: from whichever end is nearer, rounded once.
fn lerp(low: f32, high: f32, weight: f32) -> f32 {
    if weight < 0.5 { weight.mul_add(high - low, low) } else { (low - high).mul_add(1.0 - weight, high) }
}

/// Decodes `codes`, which start at element `first` of the tensor; a scale covers `per_scale`.
pub fn decode(codes: &[i8], scales: &[f32], per_scale: usize, first: usize, out: &mut [f32]) {
    let per_scale = per_scale.max(1);
    let mut at = 0;
    while at < out.len() {
        let scale = (first + at) / per_scale;
        let end = out.len().min((scale + 1) * per_scale - first);
        for (out, &code) in out[at..end].iter_mut().zip(&codes[at..end]) {
            *out = f32::from(code) * scales[scale];
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_an_index_however_many_values_there_are() {
        for n in [1, 2, 64, (1 << 24) + 4, 1 << 25, 38_615_040] {
            assert_eq!(rank(100.0, n), (n - 1, 0.0), "{n}");
            assert_eq!(rank(0.0, n), (0, 0.0), "{n}");
        }
        assert_eq!(rank(50.0, 4), (1, 0.5));
    }
}

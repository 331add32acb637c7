//! Causal depthwise convolution over time, a cross-correlation: the last tap multiplies the
//! current input.
//!
//! `out[t, i] = bias[i] + sum_j taps[j, i] * x[t - (k - 1) + j, i]`, where inputs before the first
//! one come from `tail`.

pub mod reference;

use crate::lanes::F32x4;
use crate::rows::Rows;

/// Convolves the rows of `x` `[n, D]` into `out` `[n, D]`.
///
/// `tail` holds the last `k - 1` inputs, `[k - 1, D]`, oldest first, and is brought up to date;
/// `taps` is `[k, D]`; `bias` is `[D]`, or 0 throughout.
pub fn causal(x: Rows, tail: &mut [f32], taps: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    let inner = x.width().max(1);
    let before = tail.len() / inner;
    for (t, out) in out.chunks_exact_mut(inner).enumerate() {
        match bias {
            Some(bias) => out.copy_from_slice(bias),
            None => out.fill(0.0),
        }
        for (j, taps) in taps.chunks_exact(inner).enumerate() {
            // Row t + j of the tail followed by the inputs.
            let row = match (t + j).checked_sub(before) {
                None => &tail[(t + j) * inner..][..inner],
                Some(row) => x.row(row),
            };
            multiply_add(row, taps, out);
        }
    }
    advance(x, tail, before);
}

/// `out += x * y`.
#[inline(always)]
fn multiply_add(x: &[f32], y: &[f32], out: &mut [f32]) {
    let ((x4, x1), (y4, y1)) = (x.as_chunks::<4>(), y.as_chunks::<4>());
    let (out4, out1) = out.as_chunks_mut::<4>();
    for ((out, x), y) in out4.iter_mut().zip(x4).zip(y4) {
        *out = F32x4::load(x).mul_add(F32x4::load(y), F32x4::load(out)).to_array();
    }
    for ((out, x), y) in out1.iter_mut().zip(x1).zip(y1) {
        *out += x * y;
    }
}

/// The tail becomes the last `before` rows of the old tail followed by the inputs.
fn advance(x: Rows, tail: &mut [f32], before: usize) {
    let (inner, n) = (x.width(), x.len());
    for row in 0..before {
        match (row + n).checked_sub(before) {
            None => tail.copy_within((row + n) * inner..(row + n + 1) * inner, row * inner),
            Some(input) => tail[row * inner..][..inner].copy_from_slice(x.row(input)),
        }
    }
}

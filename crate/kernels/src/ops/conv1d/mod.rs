//! Causal depthwise convolution over time, a cross-correlation: the last tap multiplies the
//! current input.
//!
//! `c[t, i] = bias[i] + sum_j taps[j, i] * v[t - (k - 1) + j, i]`, where inputs before the first
//! one come from `tail`.

pub mod reference;

use crate::lanes::F32x4;

/// Convolves `n` rows.
///
/// `v` holds rows of `D` inputs, `stride` apart (they are the first half of a wider projection);
/// `tail` the last `k - 1` inputs, `[k - 1, D]`, oldest first, and is brought up to date; `taps`
/// is `[k, D]`, `bias` `[D]`, `out` `[n, D]`.
pub fn causal(v: &[f32], stride: usize, tail: &mut [f32], taps: &[f32], bias: &[f32], out: &mut [f32]) {
    let inner = bias.len();
    let before = tail.len() / inner.max(1);
    for (t, out) in out.chunks_exact_mut(inner).enumerate() {
        out.copy_from_slice(bias);
        for (j, taps) in taps.chunks_exact(inner).enumerate() {
            // Row t + j of the tail followed by the inputs.
            let row = match (t + j).checked_sub(before) {
                None => &tail[(t + j) * inner..][..inner],
                Some(row) => &v[row * stride..][..inner],
            };
            multiply_add(row, taps, out);
        }
    }
    advance(v, stride, tail, inner, out.len() / inner.max(1));
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

/// The tail becomes the last `k - 1` rows of the old tail followed by the `n` inputs.
fn advance(v: &[f32], stride: usize, tail: &mut [f32], inner: usize, n: usize) {
    let before = tail.len() / inner.max(1);
    for row in 0..before {
        match (row + n).checked_sub(before) {
            None => tail.copy_within((row + n) * inner..(row + n + 1) * inner, row * inner),
            Some(input) => tail[row * inner..][..inner].copy_from_slice(&v[input * stride..][..inner]),
        }
    }
}

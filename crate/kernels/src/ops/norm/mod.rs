//! LayerNorm (Ba et al. 2016, equation 4): `(x - mean) / sqrt(var + eps) * weight + bias`, with
//! the biased variance.

pub mod reference;

use crate::lanes::{F32x4, padded};

/// Normalises every row of `x` `[n, d]` into `out`; `weight` and `bias` are `[d]`.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        let mean = sum(x, |x| x) / d as f32;
        let shift = F32x4::splat(mean);
        // Padding lanes would add mean^2 each.
        let padding = (d.next_multiple_of(4) - d) as f32 * mean * mean;
        let variance = (sum(x, |x| {
            let centred = x - shift;
            centred * centred
        }) - padding)
            / d as f32;
        let inverse = (variance + eps).sqrt().recip();
        for ((out, x), (weight, bias)) in out.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *out = (x - mean) * inverse * weight + bias;
        }
    }
}

#[inline(always)]
fn sum(x: &[f32], f: impl Fn(F32x4) -> F32x4) -> f32 {
    let (chunks, tail) = x.as_chunks::<4>();
    let zero = F32x4::ZERO;
    let total = chunks.iter().fold(zero, |sum, chunk| sum + f(F32x4::load(chunk)));
    let tail = if tail.is_empty() { zero } else { f(F32x4::load(&padded(tail))) };
    (total + tail).sum()
}

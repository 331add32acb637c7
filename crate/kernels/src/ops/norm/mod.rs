//! Normalisations of rows: LayerNorm (Ba et al. 2016, equation 4), RMS norm (Zhang and Sennrich
//! 2019, equation 4), and Mamba-2's RMS norm with a gate (Dao and Gu 2024, section 7.1).

pub mod reference;

use crate::lanes::{F32x4, padded};
use crate::ops::gate::silu_gate;
use crate::rows::Rows;

/// LayerNorm of every row of `x` `[n, d]` into `out` `[n, d]`: `(x - mean) / sqrt(var + eps) *
/// weight + bias`, with the biased variance; `weight` and `bias` are `[d]`.
pub fn layer_norm(x: Rows, weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    for (x, out) in x.iter().zip(out.chunks_exact_mut(d.max(1))) {
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

/// RMS norm of every row of `x` `[n, d]` into `out` `[n, d]`: `x / sqrt(mean(x^2) + eps) * weight`;
/// `weight` is `[d]`, or 1 throughout.
pub fn rms_norm(x: Rows, weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    for (x, out) in x.iter().zip(out.chunks_exact_mut(x.width().max(1))) {
        let inverse = inverse_rms(x, eps);
        scale(x, inverse, weight, out);
    }
}

/// RMS norm and SiLU gate of every row of `x` `[n, d]` by that of `z` `[n, d]`, into `out` `[n, d]`.
///
/// The mean is over each of `groups` equal parts of a row. `norm_before_gate` says which comes
/// first: `rms(x) * weight * SiLU(z)`, or else `rms(x SiLU(z)) * weight`. `weight` is `[d]`, or 1
/// throughout.
pub fn gated_rms_norm(
    x: Rows,
    z: Rows,
    weight: Option<&[f32]>,
    groups: usize,
    eps: f32,
    norm_before_gate: bool,
    out: &mut [f32],
) {
    let d = x.width();
    let group = (d / groups.max(1)).max(1);
    for ((x, z), out) in x.iter().zip(z.iter()).zip(out.chunks_exact_mut(d.max(1))) {
        let parts = x.chunks_exact(group).zip(z.chunks_exact(group)).zip(out.chunks_exact_mut(group));
        for (part, ((x, z), out)) in parts.enumerate() {
            let weight = weight.map(|weight| &weight[part * group..][..group]);
            if norm_before_gate {
                let inverse = inverse_rms(x, eps);
                scale(x, inverse, weight, out);
                silu_gate(out, Rows::whole(z, group), 1.0);
            } else {
                out.copy_from_slice(x);
                silu_gate(out, Rows::whole(z, group), 1.0);
                let inverse = inverse_rms(out, eps);
                match weight {
                    Some(weight) => out.iter_mut().zip(weight).for_each(|(out, w)| *out = *out * inverse * w),
                    None => out.iter_mut().for_each(|out| *out *= inverse),
                }
            }
        }
    }
}

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    (sum(x, |x| x * x) / x.len() as f32 + eps).sqrt().recip()
}

/// `out = x * by * weight`.
#[inline(always)]
fn scale(x: &[f32], by: f32, weight: Option<&[f32]>, out: &mut [f32]) {
    match weight {
        Some(weight) => {
            out.iter_mut().zip(x).zip(weight).for_each(|((out, x), weight)| *out = x * by * weight);
        }
        None => out.iter_mut().zip(x).for_each(|(out, x)| *out = x * by),
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

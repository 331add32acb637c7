//! Elementwise functions: activations, gates and the step size.

pub mod reference;

use crate::lanes::{F32x4, map, math, padded};

/// SiLU in place: `x / (1 + e^-x)`.
pub fn silu(x: &mut [f32]) {
    map(x, |x| x * math::sigmoid(x));
}

/// GELU in place, exact: `x / 2 (1 + erf(x / sqrt 2))` (Hendrycks and Gimpel 2016).
pub fn gelu(x: &mut [f32]) {
    map(x, |x| {
        let erf = math::erf(x * F32x4::splat(std::f32::consts::FRAC_1_SQRT_2));
        let half = x * F32x4::splat(0.5);
        half.mul_add(erf, half)
    });
}

/// The step size: `dt[t] = mean_i softplus(delta[t, i] + bias[i])`. `delta` is `[n, D]` and
/// takes the bias in; `dt` is `[n]`.
pub fn softplus_mean(delta: &mut [f32], bias: &[f32], dt: &mut [f32]) {
    let inner = bias.len();
    for (row, dt) in delta.chunks_exact_mut(inner).zip(dt) {
        let (row4, row1) = row.as_chunks_mut::<4>();
        let (bias4, bias1) = bias.as_chunks::<4>();
        let mut sum = F32x4::ZERO;
        for (x, bias) in row4.iter_mut().zip(bias4) {
            let biased = F32x4::load(x) + F32x4::load(bias);
            *x = biased.to_array();
            sum = sum + math::softplus(biased);
        }
        let mut total = sum.sum();
        for (x, bias) in row1.iter_mut().zip(bias1) {
            *x += bias;
            total += math::softplus(F32x4::splat(*x)).to_array()[0];
        }
        *dt = total / inner as f32;
    }
}

/// `y = y + d a`: the skip connection around the scan. `y` and `a` are `[n, D]`, `d` is `[D]`.
pub fn skip(y: &mut [f32], d: &[f32], a: &[f32]) {
    let inner = d.len();
    for (y, a) in y.chunks_exact_mut(inner).zip(a.chunks_exact(inner)) {
        for ((y, d), a) in y.iter_mut().zip(d).zip(a) {
            *y += d * a;
        }
    }
}

/// `y = y SiLU(g)`. `y` is `[n, D]`; rows of `g` are `stride` apart.
pub fn silu_gate(y: &mut [f32], inner: usize, g: &[f32], stride: usize) {
    let gated = |y: &[f32; 4], g: &[f32; 4]| {
        let g = F32x4::load(g);
        (F32x4::load(y) * g * math::sigmoid(g)).to_array()
    };
    for (y, g) in y.chunks_exact_mut(inner).zip(g.chunks(stride)) {
        let (y4, y1) = y.as_chunks_mut::<4>();
        let (g4, _) = g[..inner].as_chunks::<4>();
        for (y, g) in y4.iter_mut().zip(g4) {
            *y = gated(y, g);
        }
        if !y1.is_empty() {
            let result = gated(&padded(y1), &padded(&g[inner - y1.len()..inner]));
            y1.copy_from_slice(&result[..y1.len()]);
        }
    }
}

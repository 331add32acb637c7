//! Elementwise functions: activations, gates and the step size.

pub mod reference;

use crate::lanes::{F32x4, map, math, padded};
use crate::rows::Rows;

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

/// GELU in place, by its approximation `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` (the
/// same paper, section 2), which GPT-2 has.
pub fn gelu_tanh(x: &mut [f32]) {
    // (1 + tanh u) / 2 is the logistic function of 2 u: nothing cancels where tanh is near -1.
    const TWICE: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    map(x, |x| {
        let linear = x * F32x4::splat(TWICE);
        let cubic = linear * F32x4::splat(0.044715);
        x * math::sigmoid(cubic.mul_add(x * x, linear))
    });
}

/// Step sizes: `softplus(x + bias)`, not below the first of `limits` nor above the second. `x` and
/// `out` are `[n, D]`, `bias` is `[D]`.
pub fn softplus(x: Rows, bias: &[f32], limits: (f32, f32), out: &mut [f32]) {
    let (least, most) = (F32x4::splat(limits.0), F32x4::splat(limits.1));
    let step = |x: &[f32; 4], bias: &[f32; 4]| {
        math::softplus(F32x4::load(x) + F32x4::load(bias)).max(least).min(most).to_array()
    };
    for (x, out) in x.iter().zip(out.chunks_exact_mut(x.width().max(1))) {
        let ((x4, x1), (bias4, bias1)) = (x.as_chunks::<4>(), bias.as_chunks::<4>());
        let (out4, out1) = out.as_chunks_mut::<4>();
        for ((out, x), bias) in out4.iter_mut().zip(x4).zip(bias4) {
            *out = step(x, bias);
        }
        if !out1.is_empty() {
            out1.copy_from_slice(&step(&padded(x1), &padded(bias1))[..out1.len()]);
        }
    }
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
pub fn skip(y: &mut [f32], d: &[f32], a: Rows) {
    for (y, a) in y.chunks_exact_mut(d.len().max(1)).zip(a.iter()) {
        for ((y, d), a) in y.iter_mut().zip(d).zip(a) {
            *y += d * a;
        }
    }
}

/// `y = y SiLU(z_scale z)`. `y` and `z` are `[n, D]`.
pub fn silu_gate(y: &mut [f32], z: Rows, z_scale: f32) {
    let scale = F32x4::splat(z_scale);
    let gated = |y: &[f32; 4], z: &[f32; 4]| {
        let z = F32x4::load(z) * scale;
        (F32x4::load(y) * z * math::sigmoid(z)).to_array()
    };
    for (y, z) in y.chunks_exact_mut(z.width().max(1)).zip(z.iter()) {
        let ((y4, y1), (z4, z1)) = (y.as_chunks_mut::<4>(), z.as_chunks::<4>());
        for (y, z) in y4.iter_mut().zip(z4) {
            *y = gated(y, z);
        }
        if !y1.is_empty() {
            let result = gated(&padded(y1), &padded(z1));
            y1.copy_from_slice(&result[..y1.len()]);
        }
    }
}

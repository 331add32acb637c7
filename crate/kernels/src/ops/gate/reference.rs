//! Elementwise functions, plainly, in f64.

use crate::rows::Rows;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// As [`super::silu`].
pub fn silu(x: &mut [f32]) {
    for x in x {
        *x = (f64::from(*x) * sigmoid(f64::from(*x))) as f32;
    }
}

/// As [`super::softplus_mean`]; `x` itself above 20, as PyTorch does.
pub fn softplus_mean(delta: &mut [f32], bias: &[f32], dt: &mut [f32]) {
    let inner = bias.len();
    for (row, dt) in delta.chunks_mut(inner).zip(dt) {
        let mut sum = 0.0;
        for (x, bias) in row.iter_mut().zip(bias) {
            *x += bias;
            let x = f64::from(*x);
            sum += if x > 20.0 { x } else { x.exp().ln_1p() };
        }
        *dt = (sum / inner as f64) as f32;
    }
}

/// As [`super::softplus`].
pub fn softplus(x: Rows, bias: &[f32], limits: (f32, f32), out: &mut [f32]) {
    for (t, x) in x.iter().enumerate() {
        for (i, x) in x.iter().enumerate() {
            let x = f64::from(*x) + f64::from(bias[i]);
            let step = if x > 20.0 { x } else { x.exp().ln_1p() };
            out[t * bias.len() + i] = step.clamp(f64::from(limits.0), f64::from(limits.1)) as f32;
        }
    }
}

/// As [`super::silu_gate`].
pub fn silu_gate(y: &mut [f32], z: Rows, z_scale: f32) {
    for (i, y) in y.iter_mut().enumerate() {
        let z = f64::from(z_scale) * f64::from(z.row(i / z.width())[i % z.width()]);
        *y = (f64::from(*y) * z * sigmoid(z)) as f32;
    }
}

/// As [`super::skip`].
pub fn skip(y: &mut [f32], d: &[f32], a: Rows) {
    for (i, y) in y.iter_mut().enumerate() {
        let a = a.row(i / d.len())[i % d.len()];
        *y = (f64::from(*y) + f64::from(d[i % d.len()]) * f64::from(a)) as f32;
    }
}

/// As [`super::gelu_tanh`].
pub fn gelu_tanh(x: &mut [f32]) {
    for x in x {
        let value = f64::from(*x);
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (value + 0.044715 * value.powi(3));
        *x = (value / 2.0 * (1.0 + inner.tanh())) as f32;
    }
}

/// As [`super::gelu`].
pub fn gelu(x: &mut [f32]) {
    for x in x {
        let value = f64::from(*x);
        *x = (0.5 * value * (1.0 + erf(value * std::f64::consts::FRAC_1_SQRT_2))) as f32;
    }
}

/// The error function: its series (Abramowitz and Stegun 7.1.6) up to 3, and beyond the
/// continued fraction of its complement (7.1.14).
fn erf(x: f64) -> f64 {
    let square = x * x;
    if square < 9.0 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= 2.0 * square / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-square).exp() * sum
    } else {
        let tail = (1..=60).rev().fold(x.abs(), |rest, n| x.abs() + f64::from(n) / 2.0 / rest);
        (1.0 - (-square).exp() / std::f64::consts::PI.sqrt() / tail).copysign(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_its_tabulated_values() {
        // NIST Digital Library of Mathematical Functions, table 7.23.
        for (x, value) in
            [(0.0, 0.0), (0.5, 0.520_499_877_813), (1.0, 0.842_700_792_950), (2.0, 0.995_322_265_019)]
        {
            assert!((erf(x) - value).abs() < 1e-12, "{x}: {}", erf(x));
        }
        assert!((erf(3.5) + erf(-3.5)).abs() < 1e-16);
        assert!((erf(2.999_999) - erf(3.000_001)).abs() < 1e-9, "the two formulas meet");
    }
}

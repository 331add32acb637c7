//! Elementwise functions, plainly, in f64.

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

/// As [`super::silu_gate`].
pub fn silu_gate(y: &mut [f32], inner: usize, g: &[f32], stride: usize) {
    for (t, y) in y.chunks_mut(inner).enumerate() {
        for (i, y) in y.iter_mut().enumerate() {
            let g = f64::from(g[t * stride + i]);
            *y = (f64::from(*y) * g * sigmoid(g)) as f32;
        }
    }
}

//! LayerNorm, plainly, in f64.

/// As [`super::layer_norm`].
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    for (x, out) in x.chunks(d).zip(out.chunks_mut(d)) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / d as f64;
        for i in 0..d {
            let normed = (f64::from(x[i]) - mean) / (variance + f64::from(eps)).sqrt();
            out[i] = (normed * f64::from(weight[i]) + f64::from(bias[i])) as f32;
        }
    }
}

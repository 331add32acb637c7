//! Normalisations, plainly, in f64.

use crate::rows::Rows;

/// As [`super::layer_norm`].
pub fn layer_norm(x: Rows, weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let d = weight.len();
    for (x, out) in x.iter().zip(out.chunks_mut(d)) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / d as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / d as f64;
        for i in 0..d {
            let normed = (f64::from(x[i]) - mean) / (variance + f64::from(eps)).sqrt();
            out[i] = (normed * f64::from(weight[i]) + f64::from(bias[i])) as f32;
        }
    }
}

/// As [`super::rms_norm`].
pub fn rms_norm(x: Rows, weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let d = x.width();
    for t in 0..x.len() {
        let normed = rms(&wide(x.row(t)), eps);
        for i in 0..d {
            out[t * d + i] = (normed[i] * weight.map_or(1.0, |weight| f64::from(weight[i]))) as f32;
        }
    }
}

/// As [`super::gated_rms_norm`].
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
    for t in 0..x.len() {
        let (x, z) = (wide(x.row(t)), wide(z.row(t)));
        let gate: Vec<f64> = z.iter().map(|z| z / (1.0 + (-z).exp())).collect();
        let gated: Vec<f64> = x.iter().zip(&gate).map(|(x, gate)| x * gate).collect();
        let normed = |x: &[f64]| x.chunks(d / groups).flat_map(|part| rms(part, eps)).collect::<Vec<_>>();
        let (normed_first, gated_first) = (normed(&x), normed(&gated));
        for i in 0..d {
            let value = if norm_before_gate { normed_first[i] * gate[i] } else { gated_first[i] };
            out[t * d + i] = (value * weight.map_or(1.0, |weight| f64::from(weight[i]))) as f32;
        }
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn rms(x: &[f64], eps: f32) -> Vec<f64> {
    let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().map(|x| x / (square + f64::from(eps)).sqrt()).collect()
}

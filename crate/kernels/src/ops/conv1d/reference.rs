//! Causal depthwise convolution, plainly, in f64.

use crate::rows::Rows;

/// As [`super::causal`].
pub fn causal(x: Rows, tail: &mut [f32], taps: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    let inner = x.width();
    let (k, n) = (taps.len() / inner, x.len());
    let mut history = tail.to_vec();
    x.iter().for_each(|row| history.extend_from_slice(row));
    for t in 0..n {
        for i in 0..inner {
            let product = |j: usize| f64::from(taps[j * inner + i]) * f64::from(history[(t + j) * inner + i]);
            let bias = bias.map_or(0.0, |bias| f64::from(bias[i]));
            out[t * inner + i] = (bias + (0..k).map(product).sum::<f64>()) as f32;
        }
    }
    tail.copy_from_slice(&history[n * inner..]);
}

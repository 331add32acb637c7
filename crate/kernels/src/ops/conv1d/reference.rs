//! Causal depthwise convolution, plainly.

/// As [`super::causal`].
pub fn causal(v: &[f32], stride: usize, tail: &mut [f32], taps: &[f32], bias: &[f32], out: &mut [f32]) {
    let inner = bias.len();
    let (k, n) = (taps.len() / inner, out.len() / inner);
    let mut history = tail.to_vec();
    for t in 0..n {
        history.extend_from_slice(&v[t * stride..][..inner]);
    }
    for t in 0..n {
        for i in 0..inner {
            out[t * inner + i] =
                bias[i] + (0..k).map(|j| taps[j * inner + i] * history[(t + j) * inner + i]).sum::<f32>();
        }
    }
    tail.copy_from_slice(&history[n * inner..]);
}

//! Softmax quantities, plainly, in f64.

/// As [`super::log_sum_exp`].
pub fn log_sum_exp(x: &[f32]) -> f64 {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(largest) + x.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).sum::<f64>().ln()
}

/// KL(a || b) of two rows of logits.
pub fn divergence(a: &[f32], b: &[f32]) -> f64 {
    let (lse_a, lse_b) = (log_sum_exp(a), log_sum_exp(b));
    let terms = a.iter().zip(b).map(|(&a, &b)| {
        let (log_p, log_q) = (f64::from(a) - lse_a, f64::from(b) - lse_b);
        log_p.exp() * (log_p - log_q)
    });
    terms.sum()
}

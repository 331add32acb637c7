//! Over a row of logits: log-sum-exp, argmax, and the divergence of two rows.

pub mod reference;

use crate::backend::{Sampled, Sampling};
use crate::lanes::{F32x4, load8, math};

/// `ln sum e^x`, without overflow.
pub fn log_sum_exp(x: &[f32]) -> f32 {
    let (largest, sum) = scaled_sum(x);
    largest + sum.ln()
}

/// The index of the largest value, the first of equals.
pub fn argmax(x: &[f32]) -> usize {
    let largest = largest(x);
    let at = F32x4::splat(largest);
    let before = x.as_chunks::<8>().0.iter().position(|chunk| {
        let [low, high] = load8(chunk);
        low.eq(at).or(high.eq(at)).any()
    });
    let from = before.unwrap_or(x.len() / 8) * 8;
    x[from..].iter().position(|&x| x == largest).map_or(0, |i| from + i)
}

/// Takes a token from a row of logits; `random` is in `[0, 1)`.
///
/// With temperature 0 the likeliest one. Otherwise among values at least the k-th largest, as
/// upstream does (ties are kept), each as likely as `e^(logit / temperature)` says; ids are gone
/// through in their order.
pub fn sample(logits: &[f32], sampling: &Sampling, random: f64) -> Sampled {
    let log_sum_exp = log_sum_exp(logits);
    let allowed = &logits[..sampling.usable.min(logits.len())];
    let likeliest = argmax(allowed);
    let taken =
        |id: usize| Sampled { id: id as u32, probability: f64::from(allowed[id] - log_sum_exp).exp() };
    if sampling.temperature == 0.0 {
        return taken(likeliest);
    }
    let mut threshold = f32::NEG_INFINITY;
    if let Some(k) = sampling.top_k.filter(|&k| k < allowed.len()) {
        let mut sorted = allowed.to_vec();
        let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        threshold = *kth;
    }
    let largest = allowed[likeliest];
    let weight = |logit: f32| {
        if logit >= threshold { f64::from((logit - largest) / sampling.temperature).exp() } else { 0.0 }
    };
    let total: f64 = allowed.iter().map(|&logit| weight(logit)).sum();
    let mut left = random * total;
    let mut id = likeliest;
    for (candidate, &logit) in allowed.iter().enumerate() {
        let weight = weight(logit);
        if weight > 0.0 {
            id = candidate;
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    taken(id)
}

/// What two models say of the same position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// KL(a || b), nats.
    pub kl: f32,
    /// Negative log-likelihood of the label under a.
    pub nll_a: f32,
    /// The same under b.
    pub nll_b: f32,
    /// The likeliest token of a.
    pub argmax_a: usize,
    /// The likeliest token of b.
    pub argmax_b: usize,
}

/// Compares two rows of logits.
///
/// KL(a || b) = sum p (e^x - 1 - x) with `p` the probabilities of a and `x` the difference of
/// log-probabilities: the added terms sum to zero, every summand is positive, and a rounding of
/// the normalisers does not matter to first order, so divergences of 1e-7 are still right. Away
/// from 0, `p e^x` is taken as the probability `q` of b, because `e^x` may be infinite where `p`
/// is 0.
pub fn compare(a: &[f32], b: &[f32], label: usize) -> Pair {
    let (lse_a, lse_b) = (log_sum_exp(a), log_sum_exp(b));
    let (shift_a, shift_b) = (F32x4::splat(lse_a), F32x4::splat(lse_b));
    let shift = F32x4::splat(lse_b - lse_a);
    let term = |a: F32x4, b: F32x4| {
        let (p, q, x) = (math::exp(a - shift_a), math::exp(b - shift_b), b - a - shift);
        let near = x.abs().lt(F32x4::splat(0.5));
        near.select(p * math::exp_m1_mx(x), q - p - p * x)
    };
    let ((a4, a1), (b4, b1)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let pairs = a4.iter().zip(b4).map(|(a, b)| term(F32x4::load(a), F32x4::load(b)));
    let sum = pairs.fold(F32x4::ZERO, |sum, term| sum + term).sum();
    let rest: f32 =
        a1.iter().zip(b1).map(|(&a, &b)| term(F32x4::splat(a), F32x4::splat(b)).to_array()[0]).sum();
    Pair {
        kl: sum + rest,
        nll_a: lse_a - a[label],
        nll_b: lse_b - b[label],
        argmax_a: argmax(a),
        argmax_b: argmax(b),
    }
}

fn largest(x: &[f32]) -> f32 {
    let (chunks, tail) = x.as_chunks::<4>();
    let low = F32x4::splat(f32::NEG_INFINITY);
    let largest = chunks.iter().fold(low, |largest, chunk| largest.max(F32x4::load(chunk))).largest();
    tail.iter().copied().fold(largest, |largest, x| if x > largest { x } else { largest })
}

/// The largest value, and the sum of `e^(x - largest)`. A NaN or an infinity makes the sum NaN, so
/// that a broken model is seen.
fn scaled_sum(x: &[f32]) -> (f32, f32) {
    let largest = largest(x);
    let shift = F32x4::splat(largest);
    let (chunks, tail) = x.as_chunks::<4>();
    let mut sum = F32x4::ZERO;
    for chunk in chunks {
        sum = sum + math::exp(F32x4::load(chunk) - shift);
    }
    let tail: f32 = tail.iter().map(|&x| math::exp(F32x4::splat(x - largest)).to_array()[0]).sum();
    (largest, sum.sum() + tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divergence_of_models_that_contradict_each_other_is_a_number() {
        assert_eq!(compare(&[0.0, 100.0], &[100.0, 0.0], 0).kl, 100.0);
        // Distances around those at which probabilities are 0 and ratios infinite, in vectors and tails.
        for n in 2..14 {
            for step in 1..60 {
                let far = 5.0 * step as f32;
                let a: Vec<f32> = (0..n).map(|i| if i == 0 { far } else { i as f32 }).collect();
                let b: Vec<f32> = (0..n).map(|i| if i == n - 1 { far } else { -(i as f32) }).collect();
                let (found, exact) = (compare(&a, &b, 0).kl, reference::divergence(&a, &b) as f32);
                assert!((found - exact).abs() <= 1e-5 * exact + 1e-6, "{n}, {far}: {found} {exact}");
            }
        }
        assert!(compare(&[0.0, f32::NAN], &[1.0, 0.0], 0).kl.is_nan());
        assert!(compare(&[0.0, 1.0], &[f32::INFINITY, 0.0], 0).kl.is_nan());
    }
}

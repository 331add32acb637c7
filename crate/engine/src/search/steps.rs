//! What a tensor costs when its codes are entropy-coded: any step between its levels will do, so bytes and divergence are
//! curves. Two points of each are measured, and the rest follows.

use statepress_core::report::Cost;
use statepress_core::{Grid, Precision};

/// At which of a tensor's usual step it is measured: at about three bits, and at one and a half.
pub(super) const TIMES: [f64; 2] = [1.0, 2.0 * std::f64::consts::SQRT_2];

/// At which, where the search is to be fast.
pub(super) const FAST_TIMES: [f64; 1] = [1.5];

/// Steps that are offered: so many of an octave, from five octaves below the finest that was measured to three above the coarsest.
const OF_AN_OCTAVE: i32 = 4;
const FINER: i32 = 5;
const COARSER: i32 = 3;

/// A step in four digits, which is the same number however often it is written and read.
pub(super) fn short(step: f64) -> f64 {
    format!("{step:.3e}").parse().unwrap_or(step)
}

/// A measured step.
pub(super) struct Point {
    pub step: f64,
    /// Of codes and scales, as they are stored.
    pub bytes: u64,
    pub kl: f64,
}

/// Costs at all steps, the coarsest first.
///
/// Bytes follow from how a coder spends them on normal numbers, `bits = 1/2 log2(1 + (a / step)^2)`, with `a` from what was
/// measured; divergence is a power of the step between two measurements, and its square beyond them.
pub(super) fn spaced(points: &[Point], params: u64) -> Vec<Cost> {
    let n = params.max(1) as f64;
    let spread = |point: &Point| {
        let bits = (8.0 * point.bytes as f64 / n).max(1e-3);
        (point.step * (4f64.powf(bits) - 1.0).sqrt()).ln()
    };
    let known: Vec<_> =
        points.iter().map(|point| (point.step.ln(), spread(point), point.kl.max(1e-12).ln())).collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return Vec::new() };
    let cost = |at: i32| {
        let log = first.0 - std::f64::consts::LN_2 * f64::from(FINER)
            + std::f64::consts::LN_2 * f64::from(at) / f64::from(OF_AN_OCTAVE);
        let share =
            if last.0 > first.0 { ((log - first.0) / (last.0 - first.0)).clamp(0.0, 1.0) } else { 0.0 };
        let between = |a: f64, b: f64| a + share * (b - a);
        let beyond = 2.0 * ((log - last.0).max(0.0) + (log - first.0).min(0.0));
        let bits = (2.0 * (between(first.1, last.1) - log)).exp().ln_1p() / (2.0 * std::f64::consts::LN_2);
        let measured = points.iter().find(|point| (point.step.ln() - log).abs() < 1e-3);
        Cost {
            precision: Precision::Codes(Grid::Int8),
            step: Some(measured.map_or(short(log.exp()), |point| point.step)),
            bytes: measured.map_or((bits * n / 8.0) as u64, |point| point.bytes),
            kl: (between(first.2, last.2) + beyond).exp(),
            measured: measured.is_some(),
        }
    };
    let octaves = (last.0 - first.0) / std::f64::consts::LN_2;
    let count = ((f64::from(FINER + COARSER) + octaves) * f64::from(OF_AN_OCTAVE)) as i32;
    (0..=count).rev().map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_go_through_what_was_measured_and_are_monotone() {
        let points = [Point { step: 0.1, bytes: 300, kl: 0.001 }, Point { step: 0.4, bytes: 120, kl: 0.012 }];
        let costs = spaced(&points, 800);
        let measured: Vec<_> =
            costs.iter().filter(|cost| cost.measured).map(|cost| (cost.bytes, cost.kl)).collect();
        assert_eq!(measured.len(), 2);
        for ((bytes, kl), point) in measured.iter().zip(points.iter().rev()) {
            assert_eq!(*bytes, point.bytes);
            assert!((kl / point.kl - 1.0).abs() < 1e-9);
        }
        for pair in costs.windows(2) {
            assert!(
                pair[0].step > pair[1].step && pair[0].bytes < pair[1].bytes && pair[0].kl > pair[1].kl,
                "{pair:?}"
            );
        }
        // A bit more for half the step, and a quarter of the divergence.
        let finest: Vec<_> = costs.iter().rev().take(5).collect();
        assert!((finest[0].bytes as i64 - finest[4].bytes as i64 - 100).abs() <= 2);
        assert!((finest[4].kl / finest[0].kl - 4.0).abs() < 1e-6);
    }
}

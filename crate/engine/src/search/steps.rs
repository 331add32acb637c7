//! What a tensor costs when its codes are entropy-coded: any step between its levels will do, so bytes and divergence are
//! curves. Two points of each are measured, and the rest follows.

use std::f64::consts::{LN_2, SQRT_2};

use statepress_core::report::Cost;
use statepress_core::{Grid, Precision};

/// At which of a tensor's usual step it is measured: at about three bits, and at one and a half.
pub(super) const TIMES: [f64; 2] = [1.0, 2.0 * SQRT_2];

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

/// Costs of a tensor of `params` numbers at all steps, the coarsest first, by those that were measured, the finest first.
/// `scales` are the bytes that do not depend on the step.
///
/// Bytes follow from how a coder spends them on normal numbers, `bits = 1/2 log2(1 + (a / step)^2)`, with `a` from what was
/// measured; divergence is a power of the step between two measurements, and its square beyond them.
pub(super) fn spaced(measured: &[Cost], params: u64, scales: u64) -> Vec<Cost> {
    let n = params.max(1) as f64;
    let known = measured.iter().filter_map(|cost| {
        let step = cost.step?;
        let bits = (8.0 * cost.bytes.saturating_sub(scales) as f64 / n).max(1e-3);
        let spread = step * (4f64.powf(bits) - 1.0).sqrt();
        Some((step.ln(), spread.ln(), cost.kl.max(1e-12).ln()))
    });
    let known: Vec<_> = known.collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return Vec::new() };
    let cost = |at: i32| {
        let log = first.0 + LN_2 * (f64::from(at) / f64::from(OF_AN_OCTAVE) - f64::from(FINER));
        let is_here = |cost: &&Cost| cost.step.is_some_and(|step| (step.ln() - log).abs() < 1e-3);
        if let Some(cost) = measured.iter().find(is_here) {
            return *cost;
        }
        let share =
            if last.0 > first.0 { ((log - first.0) / (last.0 - first.0)).clamp(0.0, 1.0) } else { 0.0 };
        let between = |a: f64, b: f64| a + share * (b - a);
        let beyond = 2.0 * ((log - last.0).max(0.0) + (log - first.0).min(0.0));
        let bits = (2.0 * (between(first.1, last.1) - log)).exp().ln_1p() / (2.0 * LN_2);
        Cost {
            precision: Precision::Codes(Grid::Int8),
            step: Some(short(log.exp())),
            bytes: scales + (bits * n / 8.0) as u64,
            kl: (between(first.2, last.2) + beyond).exp(),
            measured: false,
        }
    };
    let octaves = f64::from(FINER + COARSER) + (last.0 - first.0) / LN_2;
    (0..=(octaves * f64::from(OF_AN_OCTAVE)).round() as i32).rev().map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(step: f64, bytes: u64, kl: f64) -> Cost {
        let precision = Precision::Codes(Grid::Int8);
        Cost { precision, step: Some(step), bytes, kl, measured: true }
    }

    #[test]
    fn costs_go_through_what_was_measured_and_are_monotone() {
        let points = [measured(0.1, 310, 0.001), measured(0.4, 130, 0.012)];
        let costs = spaced(&points, 800, 10);
        let found: Vec<_> = costs.iter().rev().filter(|cost| cost.measured).copied().collect();
        assert_eq!(found, points);
        for pair in costs.windows(2) {
            assert!(
                pair[0].step > pair[1].step && pair[0].bytes < pair[1].bytes && pair[0].kl > pair[1].kl,
                "{pair:?}"
            );
        }
        assert!(costs[0].bytes >= 10, "scales are there at any step");
        // A bit more for half the step, and a quarter of the divergence.
        let finest: Vec<_> = costs.iter().rev().take(5).collect();
        assert!((finest[0].bytes as i64 - finest[4].bytes as i64 - 100).abs() <= 2);
        assert!((finest[4].kl / finest[0].kl - 4.0).abs() < 1e-6);
    }

    #[test]
    fn a_step_reads_as_it_was_written() {
        let step = short(0.123456789);
        assert_eq!((step, short(step)), (0.1235, 0.1235));
        assert_eq!(serde_json::from_str::<f64>(&serde_json::to_string(&step).unwrap()).unwrap(), step);
    }
}

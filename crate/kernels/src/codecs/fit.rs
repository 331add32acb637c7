//! Choosing the scale of a group: where its numbers are clipped.

use statepress_core::Levels;
use statepress_core::encoding::Coding;

use super::levels::{Integers, Quantizer, Table};
use crate::KernelError;

/// How the scale of a group of numbers is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The largest magnitude falls on the last level: nothing is clipped.
    Absmax,
    /// So does this percentile of the magnitudes, 0 to 100, interpolated as `torch.quantile` does.
    Percentile(f64),
    /// The scale with the least squared error, of a search.
    Mse,
    /// The scale with the least squared error weighted by the mean square of what meets each weight; where that is not
    /// known, as [`Self::Mse`].
    Weighted,
}

/// The search tries these shares of the absmax scale, evenly spaced, and 1.
const SHARES: (f32, f32) = (0.35, 1.15);
const TRIES: usize = 36;

/// Sums of a search, so that additions are vector code and always in the same order.
const LANES: usize = 8;

/// After so many times as many values the search looks whether it goes on with them.
const LOOK: usize = 2;

impl Clip {
    /// Fails for a percentile that is none.
    pub fn check(self) -> Result<(), KernelError> {
        match self {
            Self::Percentile(percentile) if !(0.0..=100.0).contains(&percentile) => {
                Err(KernelError::Percentile(percentile))
            }
            _ => Ok(()),
        }
    }

    /// The scale of a group, as it is stored. `weights` are those of [`Self::Weighted`], one for each
    /// value. A group of zeros, or one whose scale cannot be stored, has scale 1 and rounds to 0; where no level is 0 it has next to none.
    pub fn scale(self, grid: &impl Quantizer, values: &[f32], weights: &[f32]) -> f32 {
        let stored = |limit: f32| match grid.store(limit / grid.largest()) {
            0.0 => grid.nothing(),
            scale => scale,
        };
        match self {
            Self::Absmax => stored(absmax(values)),
            Self::Percentile(percentile) => stored(quantile(values, percentile, &mut Vec::new())),
            Self::Weighted if weights.iter().any(|&weight| weight != 0.0) => search(grid, values, weights),
            // A group that nothing meets has no better judge than its own error.
            Self::Mse | Self::Weighted => search(grid, values, &vec![1.0; values.len()]),
        }
    }
}

fn search(grid: &impl Quantizer, values: &[f32], weights: &[f32]) -> f32 {
    let whole = absmax(values) / grid.largest();
    let (least, most) = SHARES;
    let share = |i: usize| least + (most - least) * (i as f32 / (TRIES - 1) as f32);
    let (mut best, mut lowest, mut first) = (grid.nothing(), f32::INFINITY, 0);
    // The best scale is mostly one of the largest: with those first, the others are left after a few values. Not where a weight is
    // below 0, which rounding can leave of a statistic that is a difference: more values may then make an error less. Among equal
    // errors the one counts that shares from the least on would meet first.
    let leaves = weights.iter().all(|&weight| weight >= 0.0);
    let shares = (0..TRIES).rev().map(|i| (1 + i, share(i)));
    for (place, share) in [(0, 1.0)].into_iter().chain(shares) {
        for (turn, sign) in [1.0, -1.0].into_iter().enumerate() {
            let scale = grid.store(sign * share * whole);
            if scale == 0.0 || (sign < 0.0 && !grid.is_signed()) {
                continue;
            }
            let (error, place) = (
                error(grid, values, weights, scale, if leaves { lowest } else { f32::INFINITY }),
                2 * place + turn,
            );
            if error < lowest || (error == lowest && place < first) {
                (best, lowest, first) = (scale, error, place);
            }
        }
    }
    best
}

/// `sum_j v_j (x_j - x_hat_j)^2`, or infinity as soon as that is seen to be more than `most`.
fn error(grid: &impl Quantizer, values: &[f32], weights: &[f32], scale: f32, most: f32) -> f32 {
    let inverse = 1.0 / scale;
    let square = |x: f32, weight: f32| {
        let off = x - grid.nearest(x * inverse) * scale;
        weight * (off * off)
    };
    let mut sums = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (of_chunks, of_rest) = weights.as_chunks::<LANES>();
    for (chunks, weights) in chunks.chunks(LOOK).zip(of_chunks.chunks(LOOK)) {
        for (chunk, weights) in chunks.iter().zip(weights) {
            for ((sum, &x), &weight) in sums.iter_mut().zip(chunk).zip(weights) {
                *sum += square(x, weight);
            }
        }
        // A sum of errors is no less than one of fewer.
        if sums.iter().sum::<f32>() > most {
            return f32::INFINITY;
        }
    }
    for ((sum, &x), &weight) in sums.iter_mut().zip(rest).zip(of_rest) {
        *sum += square(x, weight);
    }
    sums.iter().sum()
}

/// The scales of the least squared error, of groups of `size` numbers.
pub(super) fn searched(values: &[f32], Coding { grid, scale, .. }: Coding, size: usize) -> Vec<f32> {
    fn each(values: &[f32], size: usize, grid: &impl Quantizer) -> Vec<f32> {
        values.chunks(size).map(|values| or_zero(values, Clip::Mse.scale(grid, values, &[]))).collect()
    }
    match grid.levels() {
        Levels::Integers => each(values, size, &Integers::new(grid, scale)),
        Levels::Table(table) => each(values, size, &Table::new(table, scale)),
    }
}

/// The scale that was found for a group; 0 for one of zeros, as others may share their 8 bits with its 1.
pub fn or_zero(values: &[f32], scale: f32) -> f32 {
    if absmax(values) == 0.0 { 0.0 } else { scale }
}

/// The largest magnitude.
pub fn absmax(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The percentile of the magnitudes as `torch.quantile` interpolates it: the rank and the
/// interpolation are in f32.
pub(super) fn quantile(values: &[f32], percentile: f64, sorted: &mut Vec<f32>) -> f32 {
    sorted.clear();
    sorted.extend(values.iter().map(|value| value.abs()));
    sorted.sort_unstable_by(f32::total_cmp);
    if sorted.is_empty() {
        return 0.0;
    }
    let (below, weight) = rank(percentile, sorted.len());
    lerp(sorted[below], sorted[(below + 1).min(sorted.len() - 1)], weight)
}

/// The index below the rank of a percentile among `n` values, and how far the rank is above it.
fn rank(percentile: f64, n: usize) -> (usize, f32) {
    let rank = (percentile / 100.0) as f32 * (n - 1) as f32;
    // Above 2^24 values f32 may round the rank up, past the last index.
    ((rank.floor() as usize).min(n - 1), rank - rank.floor())
}

/// `torch.lerp`: from whichever end is nearer, rounded once.
fn lerp(low: f32, high: f32, weight: f32) -> f32 {
    if weight < 0.5 { weight.mul_add(high - low, low) } else { (low - high).mul_add(1.0 - weight, high) }
}

#[cfg(test)]
mod tests {
    use statepress_core::encoding::ScaleType;
    use statepress_core::{Grid, tables};

    use super::*;

    const VALUES: [f32; 11] = [0.1, -0.2, 0.3, 0.05, -0.02, 0.4, 0.11, -0.31, 0.0, 0.07, -3.0];

    #[test]
    fn an_outlier_is_clipped_where_that_costs_less() {
        let grid = Integers::new(Grid::Int3, ScaleType::Fp32);
        assert_eq!(Clip::Absmax.scale(&grid, &VALUES, &[]), 1.0);
        let cost = |scale| error(&grid, &VALUES, &[1.0; 11], scale, f32::INFINITY);
        let found = Clip::Mse.scale(&grid, &VALUES, &[]);
        assert!(cost(found) < cost(1.0) && found < 1.0);
        // Nothing meets the outlier, so it may go.
        let mut weights = [1.0; 11];
        weights[10] = 0.0;
        let weighted = Clip::Weighted.scale(&grid, &VALUES, &weights);
        assert!(weighted <= 0.36 && weighted < found, "{weighted} {found}");
        assert_eq!(Clip::Weighted.scale(&grid, &VALUES, &[0.0; 11]), found);
    }

    #[test]
    fn a_search_finds_the_first_of_the_least_of_all_errors() {
        let mut random = 7u32;
        let mut numbers = |n: usize| -> Vec<f32> {
            let next = |random: &mut u32| {
                *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (*random >> 8) as f32 / 8_388_608.0 - 1.0
            };
            (0..n).map(|_| next(&mut random)).collect()
        };
        // Of coarse numbers many scales have the same error.
        let coarse = |values: Vec<f32>| values.iter().map(|x| (x * 4.0).round() / 4.0).collect::<Vec<_>>();
        let (table, signed) =
            (Table::new(&tables::NF4, ScaleType::Fp16), Integers::new(Grid::Int2, ScaleType::Fp32).signed());
        for n in [1, 7, 16, 40, 64, 100] {
            let positive = |values: Vec<f32>| values.iter().map(|x| x.abs()).collect::<Vec<_>>();
            let (some, others) = (positive(numbers(n)), numbers(n));
            for (values, weights) in
                [(numbers(n), some), (coarse(numbers(n)), vec![1.0; n]), (numbers(n), others)]
            {
                check(&table, &values, &weights);
                check(&signed, &values, &weights);
            }
        }
        fn check(grid: &impl Quantizer, values: &[f32], weights: &[f32]) {
            let whole = absmax(values) / grid.largest();
            let shares =
                (0..TRIES).map(|i| SHARES.0 + (SHARES.1 - SHARES.0) * (i as f32 / (TRIES - 1) as f32));
            let (mut best, mut lowest) = (grid.nothing(), f32::INFINITY);
            for share in [1.0].into_iter().chain(shares) {
                for sign in if grid.is_signed() { &[1.0, -1.0][..] } else { &[1.0] } {
                    let scale = grid.store(sign * share * whole);
                    let error = error(grid, values, weights, scale, f32::INFINITY);
                    if scale != 0.0 && error < lowest {
                        (best, lowest) = (scale, error);
                    }
                }
            }
            assert_eq!(search(grid, values, weights), best, "{values:?}");
        }
    }

    /// `torch.quantile(VALUES.abs(), q)` in float32.
    #[test]
    fn percentiles_are_torchs() {
        for (percentile, exact) in [(0.0, 0.0), (50.0, 0.11), (95.0, 1.7), (99.0, 2.74), (100.0, 3.0)] {
            let found = quantile(&VALUES, percentile, &mut Vec::new());
            assert!((found - exact as f32).abs() < 1e-6, "{percentile}: {found}");
        }
        assert_eq!(
            Clip::Percentile(100.0).scale(&Table::new(&tables::NF4, ScaleType::Fp32), &VALUES, &[]),
            3.0
        );
    }

    #[test]
    fn zeros_and_what_is_too_small_to_be_stored_have_scale_1() {
        for fit in [Clip::Absmax, Clip::Percentile(90.0), Clip::Mse, Clip::Weighted] {
            for tiny in [0.0, 1e-12] {
                assert_eq!(
                    fit.scale(&Integers::new(Grid::Int4, ScaleType::Fp16), &[tiny; 5], &[1.0; 5]),
                    1.0
                );
            }
        }
    }

    #[test]
    fn a_signed_scale_puts_the_lonely_level_where_it_is_needed() {
        let grid = Integers::new(Grid::Int2, ScaleType::Fp32);
        let values = [2.0, 1.0, 0.0, -1.0];
        assert_eq!(Clip::Mse.scale(&grid.signed(), &values, &[]).signum(), -1.0);
    }

    #[test]
    fn the_rank_is_an_index_however_many_values_there_are() {
        for n in [1, 2, 64, (1 << 24) + 4, 1 << 25, 38_615_040] {
            assert_eq!(rank(100.0, n), (n - 1, 0.0), "{n}");
            assert_eq!(rank(0.0, n), (0, 0.0), "{n}");
        }
        assert_eq!(rank(50.0, 4), (1, 0.5));
    }
}

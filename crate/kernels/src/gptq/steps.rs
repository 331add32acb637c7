//! Rounding for an entropy coder: how far apart the levels of a row are decides what it loses, and how few bits its codes take.
//!
//! Where bits can be spent freely, most is kept if every number loses as much as any other (reverse water filling; Cover and
//! Thomas, Elements of Information Theory, 10.3.3). With errors passed on, what is left of the error of column j is weighed by
//! `1 / U_jj^2`, which is how much enters it that the columns behind it do not tell; so one step serves all columns of a row,
//! in units of the matrix's outputs, and rows that matter more have a smaller one.

use statepress_core::Grid;
use statepress_core::encoding::ScaleType;

use super::groups::Groups;
use super::round::forget_nothing;
use super::{Prepared, Rounded};
use crate::codecs::fit::absmax;
use crate::codecs::levels::{Integers, NOTHING, Quantizer};

/// Levels are no closer than what puts the largest number of a row on this one, so that none is clipped.
const LAST: f64 = 120.0;

/// Levels are no farther apart than so many times the largest number of a row: all its codes are 0 by then.
const FARTHEST: f64 = 3.0;

/// Logits of a row that is hardly ever predicted may have noise of this variance: more would make it a rival.
const LOGIT_NOISE: f64 = 0.8;

/// How the levels of rows are spaced.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// In units of what the matrix puts out.
    pub step: f64,
    /// How much each row matters, 1 in the mean; all alike where there are none. Rows beyond are never used.
    pub weights: Option<&'a [f32]>,
    /// No step of a weight is larger; see [`Prepared::most_for_logits`].
    pub most: f64,
}

/// Rounds rows of `cols` numbers that no product goes over, each number to the nearest of levels `step` apart: codes, and a scale
/// for each row.
pub fn round_rows_in_steps(values: &[f32], cols: usize, step: f64) -> (Vec<u8>, Vec<f32>) {
    let grid = Integers::new(Grid::Int8, ScaleType::Log8);
    let (mut codes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
    for row in values.chunks(cols.max(1)) {
        let scale = spacing(&grid, row, step);
        codes.extend(row.iter().map(|x| grid.code(grid.nearest(x / scale))));
        scales.push(scale);
    }
    forget_nothing(&mut scales);
    (codes, scales)
}

/// How far apart the levels of a row are, as a byte stores it, where they are wanted that far apart.
fn spacing(grid: &Integers, row: &[f32], wanted: f64) -> f32 {
    let largest = f64::from(absmax(row));
    match grid.store(wanted.min(FARTHEST * largest).max(largest / LAST) as f32) {
        scale if scale > 0.0 && scale.is_finite() => scale,
        _ => NOTHING,
    }
}

impl Prepared<'_> {
    /// Rounds to 8-bit integers of these steps, with scales as a byte stores them.
    pub fn round_in_steps(&self, values: &[f32], groups: Groups, steps: Steps<'_>, passes: usize) -> Rounded {
        let grid = Integers::new(Grid::Int8, ScaleType::Log8);
        let innovation = self.innovation();
        let scale = |(row, values): (usize, &[f32])| {
            let weight = weight(steps.weights, row);
            spacing(&grid, values, (steps.step / (innovation * weight.sqrt())).min(steps.most))
        };
        let scales = values.chunks(groups.group).enumerate().map(scale).collect();
        let mut rounded = self.round_with(values, &grid, groups, scales, passes);
        forget_nothing(&mut rounded.scales);
        rounded
    }

    /// The step at which codes of rows have about three bits: half of a row's deviation, in the geometric mean over rows.
    pub fn usual_step(&self, values: &[f32], groups: Groups, weights: Option<&[f32]>) -> f64 {
        let rows = values.chunks(groups.group).enumerate().filter_map(|(row, values)| {
            let square =
                values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / values.len() as f64;
            let weight = weight(weights, row);
            (square * weight > 0.0).then(|| (square * weight).ln() / 2.0)
        });
        let (sum, count) = rows.fold((0.0, 0), |(sum, count), log| (sum + log, count + 1));
        0.5 * self.innovation() * (sum / f64::from(count.max(1))).exp()
    }

    /// How much enters a column that the columns behind it do not tell, as a deviation: the geometric mean over columns.
    fn innovation(&self) -> f64 {
        let diagonal = |at: usize| match &self.factor {
            Some(u) => 1.0 / f64::from(u[at * (self.cols + 1)]),
            None => f64::from(self.sorted[at * (self.cols + 1)]).sqrt(),
        };
        let logs = (0..self.cols).map(diagonal).filter(|&x| x > 0.0).map(f64::ln);
        let (sum, count) = logs.fold((0.0, 0), |(sum, count), log| (sum + log, count + 1));
        (sum / f64::from(count.max(1))).exp()
    }

    /// The largest step of a weight for rows that make logits of inputs with `h = mean x x^T` `[cols, cols]`: errors that are
    /// passed on by U are `z U` with z independent and of size `step / U_jj`, so that the noise of a logit is
    /// `step^2 / 12 sum_j (U h U^T)_jj / U_jj^2`.
    pub fn most_for_logits(&self, h: &[f32]) -> f64 {
        let (Some(u), cols) = (&self.factor, self.cols) else { return f64::INFINITY };
        let noise = |(at, row): (usize, &[f32])| {
            let of = |i: usize| {
                let h = &h[self.order[i] * cols..][..cols];
                self.order[at..]
                    .iter()
                    .zip(&row[at..])
                    .map(|(&j, u)| f64::from(h[j]) * f64::from(*u))
                    .sum::<f64>()
            };
            (at..cols).map(|i| f64::from(row[i]) * of(i)).sum::<f64>() / f64::from(row[at]).powi(2)
        };
        let left: f64 = u.chunks_exact(cols.max(1)).enumerate().map(noise).sum();
        (12.0 * LOGIT_NOISE / left).sqrt()
    }
}

fn weight(weights: Option<&[f32]>, row: usize) -> f64 {
    weights.map_or(1.0, |weights| weights.get(row).copied().unwrap_or(0.0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(h: &[f32], cols: usize) -> Prepared<'_> {
        Prepared::new(h, cols, 0.0, "t")
    }

    #[test]
    fn a_step_of_the_output_is_one_of_the_weights_where_inputs_are_independent_and_of_size_1() {
        let h = [1.0, 0.0, 0.0, 1.0];
        let groups = Groups { rows: 2, cols: 2, group: 2, transposed: false };
        let values = [0.5, -0.26, 1.0, 0.1];
        let all = |step, weights| Steps { step, weights, most: f64::INFINITY };
        let rounded = prepared(&h, 2).round_in_steps(&values, groups, all(0.25, None), 0);
        assert_eq!((&*rounded.scales, &*rounded.codes), (&[0.25; 2][..], &[2, 255, 4, 0][..]));
        // So it is where nothing is multiplied by them.
        assert_eq!(round_rows_in_steps(&values, 2, 0.25), (rounded.codes, rounded.scales));
        // A row that matters four times as much has half the step.
        let rounded = prepared(&h, 2).round_in_steps(&values, groups, all(0.25, Some(&[4.0, 1.0])), 0);
        assert_eq!((rounded.scales, rounded.codes), (vec![0.125, 0.25], vec![4, 254, 4, 0]));
        // Inputs of twice the size show an error twice as large.
        let rounded = prepared(&[4.0, 0.0, 0.0, 4.0], 2).round_in_steps(&values, groups, all(0.5, None), 0);
        assert_eq!(rounded.scales, [0.25; 2]);
    }

    #[test]
    fn steps_neither_clip_nor_run_away() {
        let h = [1.0, 0.0, 0.0, 1.0];
        let groups = Groups { rows: 3, cols: 2, group: 2, transposed: false };
        let values = [1.0, -0.5, 0.25, 0.25, 0.0, 0.0];
        let of = |step, most| {
            prepared(&h, 2).round_in_steps(&values, groups, Steps { step, weights: None, most }, 2)
        };
        let close = of(1e-9, f64::INFINITY);
        assert!(close.scales[0] > 1.0 / 127.0 && close.scales[0] < 1.0 / 115.0, "{:?}", close.scales);
        let far = of(1e9, f64::INFINITY);
        assert!(far.scales[0] < 3.3 && far.scales[1] < 0.9, "{:?}", far.scales);
        assert_eq!(far.codes, [0; 6]);
        assert_eq!(
            of(1.0, 0.5).scales,
            [0.5, 0.5, 0.0],
            "scales share a unit, which a row of zeros has no say in"
        );
        assert_eq!(round_rows_in_steps(&[0.0, 0.0, 1e-20, 0.0], 2, 1.0).1[0], 0.0);
    }

    #[test]
    fn the_usual_step_is_half_a_deviation() {
        let h = [1.0, 0.0, 0.0, 1.0];
        let groups = Groups { rows: 2, cols: 2, group: 2, transposed: false };
        let usual = prepared(&h, 2).usual_step(&[1.0, -1.0, 4.0, -4.0], groups, None);
        assert!((usual - 1.0).abs() < 1e-6, "{usual}");
        // Independent inputs of size 1 and 16 rows' worth of noise: 12 * 0.8 / 2 columns.
        assert!((prepared(&h, 2).most_for_logits(&h) - (12.0f64 * 0.8 / 2.0).sqrt()).abs() < 1e-6);
    }
}

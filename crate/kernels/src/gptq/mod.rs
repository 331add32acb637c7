//! Rounding with errors passed on: GPTQ (Frantar et al. 2022), and what improves on it.
//!
//! A matrix W `[rows, cols]` meets inputs of which `H = mean x x^T` is known; a change E of W changes its
//! outputs by `sum_i e_i^T H e_i` in the mean square. Columns are rounded one after the other, those with
//! the largest `H_jj` first, and the error of each is made up for by the columns that are still to come:
//!
//! ```text
//! scales fitted to W beforehand, and fixed
//! for j by descending H_jj:
//!     q_j = nearest(w_j)
//!     w_k -= (w_j - q_j) / U_jj U_jk        for every k that follows
//! as often as asked (GPTQ+ is twice):
//!     refit      the scales that are best for the codes at hand
//!     descend    q_j = nearest(q_j + (E H)_j / H_jj) for every j in order
//! ```
//!
//! Rows are independent but for scales that they share, so as many are worked on at a time as are vector
//! code, and errors reach far columns a block at a time. Memory: `8 cols^2` bytes beside H, twice that while
//! U is made, and about `6 cols` numbers for each of the 256 rows at work, with the square of
//! their groups for refitting, which takes 32 MB or fewer rows. All in f32 and f64 of operations
//! that IEEE 754 rounds correctly, in a fixed order: the same codes on every machine.

mod cholesky;
mod groups;
mod refit;
mod round;
mod steps;

use crate::codecs::Clip;
use crate::codecs::levels::Quantizer;
use crate::linear::outer::{Area, Strided, add, subtract};
pub use cholesky::inverse;
use cholesky::inverse_factor;
pub use groups::Groups;
pub use round::{round, scales};
use statepress_core::Finding;
use statepress_core::recipe::GptqOptions;
pub use steps::{Steps, round_rows_in_steps};

/// Columns whose errors reach the columns beyond together.
const BLOCK: usize = 128;

/// Rows that are worked on together, or a few more where scales are shared.
const ROWS: usize = 256;

/// Numbers that refitting holds at the most: for each bundle of rows the square of its scales.
const REFIT: usize = 4 << 20;

/// How errors are made up for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How scales are found beforehand.
    pub clip: Clip,
    /// Added to the diagonal of H before it is inverted, as a share of the mean of the diagonal.
    pub damping: f64,
    /// How often scales are refitted and codes descend: 0 is GPTQ, 2 is GPTQ+.
    pub passes: usize,
}

impl Default for Options {
    fn default() -> Self {
        let GptqOptions { damping, passes, .. } = GptqOptions::default();
        Self { clip: Clip::Weighted, damping, passes }
    }
}

/// A rounded matrix. Codes and scales are in the order of its tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounded {
    /// One a weight.
    pub codes: Vec<u8>,
    /// One a group, as they are stored.
    pub scales: Vec<f32>,
    /// `sum_i e_i^T H e_i` of what came out.
    pub loss: f64,
    /// What did not go as it should.
    pub findings: Vec<Finding>,
}

impl Rounded {
    /// The numbers that codes and scales stand for, in the order of the tensor.
    pub fn values(&self, grid: &impl Quantizer, group: usize) -> Vec<f32> {
        let level = |(at, code): (usize, &u8)| grid.level(*code) * self.scales[at / group];
        self.codes.iter().enumerate().map(level).collect()
    }
}

/// What was found out about H, for any number of matrices that have the same inputs.
pub struct Prepared<'a> {
    /// `[cols, cols]`, as it was given.
    h: &'a [f32],
    cols: usize,
    /// Columns by descending diagonal.
    order: Vec<usize>,
    /// Where each column stands among those.
    places: Vec<usize>,
    /// H in that order.
    sorted: Vec<f32>,
    /// U in that order; `None`: errors are not passed on.
    factor: Option<Vec<f32>>,
    findings: Vec<Finding>,
}

impl<'a> Prepared<'a> {
    /// Factors H `[cols, cols]`, `tensor` being the name that findings give. Where H is not positive
    /// definite it is damped ten times as much; where it still is not, matrices are rounded without
    /// compensation. Both are findings.
    pub fn new(h: &'a [f32], cols: usize, damping: f64, tensor: &str) -> Self {
        debug_assert_eq!(h.len(), cols * cols);
        let diagonal: Vec<f32> = (0..cols).map(|i| h[i * cols + i]).collect();
        let mut findings = Vec::new();
        let order = descending(&diagonal);
        let mut places = vec![0; cols];
        order.iter().enumerate().for_each(|(at, &col)| places[col] = at);
        let mut sorted = Vec::with_capacity(cols * cols);
        for &i in &order {
            sorted.extend(order.iter().map(|&j| h[i * cols + j]));
        }
        let mean = diagonal.iter().map(|&x| f64::from(x)).sum::<f64>() / cols.max(1) as f64;
        let mut factor = inverse_factor(&sorted, cols, damping * mean);
        if factor.is_none() && mean > 0.0 {
            factor = inverse_factor(&sorted, cols, 10.0 * damping * mean);
            let message = format!(
                "the statistics of what enters it cannot be inverted with a damping of {damping}, and were damped \
                 with {}: more calibration text would help",
                10.0 * damping
            );
            findings.extend(factor.is_some().then(|| Finding::info("damped-again", message).about(tensor)));
        }
        if factor.is_none() {
            let why = if mean == 0.0 {
                "nothing entered it while the calibration text was read"
            } else {
                "the statistics of what enters it cannot be inverted"
            };
            let message = format!("it was rounded without compensation: {why}");
            findings.push(Finding::warning("not-compensated", message).about(tensor));
        } else {
            let dead = diagonal.iter().filter(|&&x| x == 0.0).count();
            let message = format!(
                "{dead} of its {cols} inputs were 0 throughout the calibration text: their weights were rounded \
                 without compensation"
            );
            findings.extend((dead > 0).then(|| Finding::info("dead-inputs", message).about(tensor)));
        }
        Self { h, cols, order, places, sorted, factor, findings }
    }

    /// Where a column stands in the order of H.
    fn at(&self, col: usize) -> usize {
        self.places[col]
    }

    /// Rounds a matrix whose numbers are `values`, in the order of its tensor.
    pub fn round(&self, values: &[f32], grid: &impl Quantizer, groups: Groups, options: &Options) -> Rounded {
        debug_assert!(groups.cols == self.cols && values.len() == groups.rows * groups.cols);
        let scales = fitted(values, grid, &groups, self.h, options.clip);
        self.rounded(values, grid, groups, scales, options.passes, true)
    }

    /// The same with scales that stay as they are.
    pub fn round_with(
        &self,
        values: &[f32],
        grid: &impl Quantizer,
        groups: Groups,
        scales: Vec<f32>,
        passes: usize,
    ) -> Rounded {
        self.rounded(values, grid, groups, scales, passes, false)
    }

    fn rounded(
        &self,
        values: &[f32],
        grid: &impl Quantizer,
        groups: Groups,
        mut scales: Vec<f32>,
        passes: usize,
        refit: bool,
    ) -> Rounded {
        let mut codes = vec![0; values.len()];
        let mut work = Work::default();
        let mut loss = 0.0;
        // A scale of any two rows, or of a great many, is not touched once it is there.
        let (bundle, refit) = match groups.bundle() {
            0 => (1, refit),
            bundle if bundle > ROWS => (1, false),
            bundle => (bundle, refit),
        };
        // Scales of a great many groups are refitted fewer rows at a time.
        let squares = groups.scales_of_bundle().pow(2).max(1);
        let rows = ROWS.min(REFIT / squares * bundle).max(1);
        let step = if refit { rows.next_multiple_of(bundle) } else { ROWS.next_multiple_of(bundle) };
        for first in (0..groups.rows).step_by(step) {
            let rows = step.min(groups.rows - first);
            let mut chunk = Chunk { prepared: self, grid, groups, first, rows, work: &mut work };
            chunk.load(values);
            chunk.compensate(&scales);
            loss += chunk.improve(&mut scales, passes, refit);
            for (at, &col) in self.order.iter().enumerate() {
                for (n, level) in work.levels[at * rows..][..rows].iter().enumerate() {
                    codes[groups.place(first + n, col)] = grid.code(*level);
                }
            }
        }
        Rounded { codes, scales, loss, findings: self.findings.clone() }
    }
}

/// Where numbers stand, the largest first; of equals the first.
pub fn descending(numbers: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&i, &j| numbers[j].total_cmp(&numbers[i]));
    order
}

/// The scales of all groups, each fitted to its own weights.
pub fn fitted(values: &[f32], grid: &impl Quantizer, groups: &Groups, h: &[f32], clip: Clip) -> Vec<f32> {
    let mut weights = Vec::new();
    let scales = values.chunks(groups.group).enumerate().map(|(n, values)| {
        if clip == Clip::Weighted {
            weights.clear();
            let places = n * groups.group..n * groups.group + values.len();
            weights.extend(places.map(|place| h[groups.col(place) * (groups.cols + 1)]));
        }
        clip.scale(grid, values, &weights)
    });
    scales.collect()
}

/// Numbers of some rows, column by column in the order of H: `[cols, rows]` each.
#[derive(Default)]
struct Work {
    /// W.
    pub weights: Vec<f32>,
    /// W while errors are passed on; then E H.
    pub pushed: Vec<f32>,
    /// The levels of codes.
    pub levels: Vec<f32>,
    /// E = W - scale level.
    pub errors: Vec<f32>,
    /// What columns of a block pass on, or by how much they moved, `[BLOCK, rows]`.
    moved: Vec<f32>,
    /// Scales of a column, and what they become.
    scales: Vec<f32>,
    refitted: Vec<f32>,
}

/// Some rows of a matrix at work. What is done with them is not inlined: JavaScript engines change to the optimised code of a wasm
/// function when it is called again, and in one long call a whole matrix would be rounded by the first, slow code.
struct Chunk<'a, 'b, G: Quantizer> {
    pub prepared: &'a Prepared<'b>,
    pub grid: &'a G,
    pub groups: Groups,
    pub first: usize,
    pub rows: usize,
    pub work: &'a mut Work,
}

impl<G: Quantizer> Chunk<'_, '_, G> {
    fn load(&mut self, values: &[f32]) {
        let Work { weights, .. } = &mut *self.work;
        weights.clear();
        for &col in &self.prepared.order {
            weights.extend((0..self.rows).map(|n| values[self.groups.place(self.first + n, col)]));
        }
    }

    /// Scales of a column, of every row.
    fn scales_of(&mut self, col: usize, scales: &[f32]) {
        let groups = self.groups.of_column(self.first, col).take(self.rows);
        self.work.scales.clear();
        self.work.scales.extend(groups.map(|group| scales[group]));
    }

    /// Rounds column by column, passing errors on.
    #[inline(never)]
    fn compensate(&mut self, scales: &[f32]) {
        let (cols, rows, grid) = (self.prepared.cols, self.rows, self.grid);
        self.work.pushed.clone_from(&self.work.weights);
        self.work.levels.resize(cols * rows, 0.0);
        self.work.moved.resize(BLOCK * rows, 0.0);
        for from in (0..cols).step_by(BLOCK) {
            let to = cols.min(from + BLOCK);
            for at in from..to {
                self.scales_of(self.prepared.order[at], scales);
                let Work { pushed, levels, moved, scales, .. } = &mut *self.work;
                let (done, rest) = pushed.split_at_mut((at + 1) * rows);
                let column = &done[at * rows..];
                let levels = &mut levels[at * rows..][..rows];
                let passed = &mut moved[(at - from) * rows..][..rows];
                let u = self.prepared.factor.as_ref().map(|u| &u[at * cols..][..cols]);
                let inverse = u.map_or(0.0, |u| 1.0 / u[at]);
                for (((level, passed), &w), &scale) in
                    levels.iter_mut().zip(&mut *passed).zip(column).zip(&*scales)
                {
                    *level = grid.nearest(w * (1.0 / scale));
                    *passed = (w - *level * scale) * inverse;
                }
                let Some(u) = u else { continue };
                for (&u, column) in u[at + 1..to].iter().zip(rest.chunks_exact_mut(rows)) {
                    column.iter_mut().zip(&*passed).for_each(|(w, passed)| *w -= u * passed);
                }
            }
            if let Some(u) = self.prepared.factor.as_ref().filter(|_| to < cols) {
                let u = Strided { values: &u[from * cols + to..], stride: cols };
                let passed = Strided { values: self.work.moved.as_slice(), stride: rows };
                let out = &mut self.work.pushed[to * rows..];
                subtract((out, rows), u, passed, to - from, [cols - to, rows], Area::Whole);
            }
        }
        self.find_errors(scales);
    }

    /// E of the levels and scales at hand.
    #[inline(never)]
    pub fn find_errors(&mut self, scales: &[f32]) {
        let (cols, rows) = (self.prepared.cols, self.rows);
        self.work.errors.resize(cols * rows, 0.0);
        for at in 0..cols {
            self.scales_of(self.prepared.order[at], scales);
            let Work { weights, levels, errors, scales, .. } = &mut *self.work;
            let column = at * rows..(at + 1) * rows;
            let (weights, levels) = (&weights[column.clone()], &levels[column.clone()]);
            for (((error, w), level), scale) in
                errors[column].iter_mut().zip(weights).zip(levels).zip(&*scales)
            {
                *error = w - level * scale;
            }
        }
    }

    /// `E H` into `pushed`; returns `sum_i e_i^T H e_i`.
    #[inline(never)]
    fn through_h(&mut self) -> f64 {
        let (cols, rows) = (self.prepared.cols, self.rows);
        let mut out = std::mem::take(&mut self.work.pushed);
        out.clear();
        out.resize(cols * rows, 0.0);
        let x = &self.work.errors;
        let h = Strided { values: self.prepared.sorted.as_slice(), stride: cols };
        // A part of H at a time stays in the cache.
        for from in (0..cols).step_by(BLOCK) {
            let count = BLOCK.min(cols - from);
            let h = Strided { values: &h.values[from * cols..], stride: cols };
            let x = Strided { values: &x[from * rows..], stride: rows };
            add((&mut out, rows), h, x, count, [cols, rows], Area::Whole);
        }
        let square = out.iter().zip(x).map(|(&y, &x)| f64::from(y) * f64::from(x)).sum();
        self.work.pushed = out;
        square
    }

    /// Refits and descends; returns the loss.
    fn improve(&mut self, scales: &mut [f32], passes: usize, refit: bool) -> f64 {
        // Nothing is known that could be improved on.
        let passes = if self.prepared.factor.is_some() { passes } else { 0 };
        for pass in 0..passes {
            if refit && !self.groups.transposed {
                refit::refit(self, scales);
                self.find_errors(scales);
            }
            let loss = self.through_h();
            let change = self.descend(scales, refit);
            if pass + 1 == passes {
                return loss + change;
            }
        }
        self.through_h()
    }

    /// The original H, by which scales are refitted.
    pub fn h(&self) -> &[f32] {
        self.prepared.h
    }

    /// Moves every code to the level that is best while all others stay; returns how the loss changes.
    #[inline(never)]
    fn descend(&mut self, scales: &mut [f32], refit: bool) -> f64 {
        let (cols, rows) = (self.prepared.cols, self.rows);
        let mut change = 0.0;
        for from in (0..cols).step_by(BLOCK) {
            let to = cols.min(from + BLOCK);
            for at in from..to {
                change += self.descend_column(at, at - from, scales, refit);
                let h = &self.prepared.sorted[at * cols..][..cols];
                let Work { pushed, moved, .. } = &mut *self.work;
                let moved = &moved[(at - from) * rows..][..rows];
                for (&h, column) in h[at + 1..to].iter().zip(pushed[(at + 1) * rows..].chunks_exact_mut(rows))
                {
                    column.iter_mut().zip(moved).for_each(|(pushed, moved)| *pushed -= h * moved);
                }
            }
            if to < cols {
                let h = Strided { values: &self.prepared.sorted[from * cols + to..], stride: cols };
                let moved = Strided { values: self.work.moved.as_slice(), stride: rows };
                let out = &mut self.work.pushed[to * rows..];
                subtract((out, rows), h, moved, to - from, [cols - to, rows], Area::Whole);
            }
        }
        change
    }

    /// The same of one column; what moved stands in `moved`, row `place` of it.
    #[inline(never)]
    fn descend_column(&mut self, at: usize, place: usize, scales: &mut [f32], refit: bool) -> f64 {
        let (rows, grid, groups) = (self.rows, self.grid, self.groups);
        let (h, col) = (self.prepared.sorted[at * (self.prepared.cols + 1)], self.prepared.order[at]);
        self.work.moved[place * rows..][..rows].fill(0.0);
        // Where nothing enters, one level is as good as another.
        if h <= 0.0 {
            return 0.0;
        }
        self.scales_of(col, scales);
        let Work { pushed, levels, errors, moved, scales: old, refitted, .. } = &mut *self.work;
        let column = at * rows..(at + 1) * rows;
        let (levels, errors) = (&mut levels[column.clone()], &mut errors[column.clone()]);
        let (pushed, moved) = (&pushed[column], &mut moved[place * rows..][..rows]);
        // Where the column would best be.
        for (((best, level), scale), pushed) in moved.iter_mut().zip(&*levels).zip(&*old).zip(pushed) {
            *best = level * scale + pushed * (1.0 / h);
        }
        refitted.clone_from(old);
        if refit && groups.is_by_column() {
            let scales = &mut scales[groups.of(self.first, col)..];
            refit::refit_column(grid, groups.group, moved, levels, scales);
            for (refitted, scale) in refitted.chunks_mut(groups.group).zip(scales) {
                refitted.fill(*scale);
            }
        }
        // By itself, as vector code.
        for (((moved, level), old), new) in moved.iter_mut().zip(levels).zip(&*old).zip(&*refitted) {
            let was = *level * old;
            *level = grid.nearest(*moved * (1.0 / new));
            *moved = *level * new - was;
        }
        errors.iter_mut().zip(&*moved).for_each(|(error, step)| *error -= step);
        let change = |(step, pushed): (&f32, &f32)| f64::from(step * (h * step - 2.0 * pushed));
        moved.iter().zip(pushed).map(change).sum()
    }
}

//! Fewer rows for Itera-Lite's step size: `dt = mean_i softplus(w_i a + b_i)` is one number, so that a few rows, fitted to
//! the step sizes of all, do nearly as well. An approximation, not a cut.
//!
//! Rows begin as the means of equal groups, sorted by their mean pre-activation; then one after the other takes a step down
//! the squared error of dt, again and again. In place of each step's own Gauss-Newton matrix stands one for all, that of
//! `(a, 1)`, times the mean square of the slope: what a step costs is then little more than the tokens it looks at.

use statepress_kernels::gptq::inverse;
use statepress_kernels::linear::outer;

use super::places::ascending;

/// How often every row takes a step, at the most.
const SWEEPS: usize = 60;

/// The share of the error that has to go in a sweep for another to follow.
const WORTH_IT: f64 = 0.01;

/// What is added to the diagonal, as a share of its mean.
const RIDGE: f64 = 1e-3;

/// The rows of a step size's projection.
pub(super) struct Rows {
    /// `[rows, cols]`.
    pub w: Vec<f32>,
    /// `[rows]`.
    pub bias: Vec<f32>,
}

/// Rows that are fitted to those of all over `a [n, cols]`, and the share of the step sizes' squares that is lost; `None` where
/// the text says too little to fit them.
pub(super) fn fit(all: &Rows, a: &[f32], count: usize) -> Option<(Rows, f64)> {
    let cols = all.cols();
    let dt: Vec<f64> = a.chunks_exact(cols).map(|a| all.step_size(a)).collect();
    let whole: f64 = dt.iter().map(|dt| dt * dt).sum();
    let mut rows = start(all, a, count);
    // By row: its pre-activation for every token.
    let mut z: Vec<Vec<f64>> =
        (0..count).map(|row| a.chunks_exact(cols).map(|a| rows.pre_activation(row, a)).collect()).collect();
    let mut errors: Vec<f64> =
        (0..dt.len()).map(|t| dt[t] - z.iter().map(|z| softplus(z[t])).sum::<f64>() / count as f64).collect();
    let metric = metric(a, cols)?;
    let squares = |errors: &[f64]| errors.iter().map(|error| error * error).sum::<f64>();
    let mut error = squares(&errors);
    for _ in 0..SWEEPS {
        let before = error;
        for (row, z) in z.iter_mut().enumerate() {
            let step = step(&metric, a, z, &errors, count);
            let moves: Vec<f64> = a.chunks_exact(cols).map(|a| dot(&step, a)).collect();
            // A step that overshoots is halved, a few times.
            for share in [1.0, 0.5, 0.25, 0.125] {
                let change = |(z, by): (&f64, &f64)| (softplus(*z) - softplus(z + share * by)) / count as f64;
                let changes = z.iter().zip(&moves).map(change);
                let tried: Vec<f64> =
                    errors.iter().zip(changes).map(|(error, change)| error + change).collect();
                let now = squares(&tried);
                if now < error {
                    z.iter_mut().zip(&moves).for_each(|(z, by)| *z += share * by);
                    rows.add(row, &step, share);
                    (errors, error) = (tried, now);
                    break;
                }
            }
        }
        if error > (1.0 - WORTH_IT) * before {
            break;
        }
    }
    Some((rows, if whole > 0.0 { error / whole } else { 0.0 }))
}

/// Means of groups of rows that are alike in how far they move.
fn start(all: &Rows, a: &[f32], count: usize) -> Rows {
    let (rows, cols) = (all.bias.len(), all.cols());
    let mut mean = vec![0.0f64; cols];
    a.chunks_exact(cols).for_each(|a| mean.iter_mut().zip(a).for_each(|(sum, a)| *sum += f64::from(*a)));
    let tokens = (a.len() / cols).max(1) as f64;
    let moves = |row: usize| {
        let w = &all.w[row * cols..][..cols];
        let product: f64 = w.iter().zip(&mean).map(|(w, mean)| f64::from(*w) * mean).sum();
        product / tokens + f64::from(all.bias[row])
    };
    let order = ascending(&(0..rows).map(moves).collect::<Vec<f64>>());
    let (mut w, mut bias) = (Vec::with_capacity(count * cols), Vec::with_capacity(count));
    for group in 0..count {
        let members = &order[group * rows / count..(group + 1) * rows / count];
        let share = 1.0 / members.len().max(1) as f32;
        w.extend(
            (0..cols).map(|col| members.iter().map(|&row| all.w[row * cols + col]).sum::<f32>() * share),
        );
        bias.push(members.iter().map(|&row| all.bias[row]).sum::<f32>() * share);
    }
    Rows { w, bias }
}

/// The inverse of the sum of `(a, 1) (a, 1)^T`.
fn metric(a: &[f32], cols: usize) -> Option<Vec<f64>> {
    let wide: Vec<f32> = a.chunks_exact(cols).flat_map(|a| a.iter().copied().chain([1.0])).collect();
    let mut gram = vec![0.0; (cols + 1) * (cols + 1)];
    outer::add_gram(&mut gram, &wide, cols + 1);
    inverse(&gram, cols + 1, RIDGE)
}

/// The step of one row with these pre-activations, its bias last.
fn step(metric: &[f64], a: &[f32], z: &[f64], errors: &[f64], count: usize) -> Vec<f64> {
    let cols = a.len() / z.len().max(1);
    let (mut right, mut squares) = (vec![0.0f64; cols + 1], 0.0);
    for ((a, z), error) in a.chunks_exact(cols.max(1)).zip(z).zip(errors) {
        let slope = 1.0 / (1.0 + (-z).exp()) / count as f64;
        squares += slope * slope;
        let missing = slope * error;
        right.iter_mut().zip(a.iter().chain(&[1.0])).for_each(|(sum, a)| *sum += missing * f64::from(*a));
    }
    let scale = if squares > 0.0 { z.len() as f64 / squares } else { 0.0 };
    let rows = metric.chunks_exact(cols + 1);
    rows.map(|row| scale * row.iter().zip(&right).map(|(x, y)| x * y).sum::<f64>()).collect()
}

/// A step's `(w, bias)` times `(a, 1)`.
fn dot(step: &[f64], a: &[f32]) -> f64 {
    step.iter().zip(a.iter().chain(&[1.0])).map(|(x, a)| x * f64::from(*a)).sum()
}

impl Rows {
    fn cols(&self) -> usize {
        (self.w.len() / self.bias.len().max(1)).max(1)
    }

    /// Adds a share of a step to one row.
    fn add(&mut self, row: usize, step: &[f64], share: f64) {
        let cols = step.len() - 1;
        let numbers = self.w[row * cols..][..cols].iter_mut().chain(&mut self.bias[row..=row]);
        numbers.zip(step).for_each(|(x, step)| *x = (f64::from(*x) + share * step) as f32);
    }

    fn pre_activation(&self, row: usize, a: &[f32]) -> f64 {
        let w = &self.w[row * a.len()..][..a.len()];
        // Several sums side by side, in a fixed order.
        let mut sums = [0.0f32; 8];
        for (w, a) in w.chunks(8).zip(a.chunks(8)) {
            sums.iter_mut().zip(w.iter().zip(a)).for_each(|(sum, (w, a))| *sum += w * a);
        }
        f64::from(sums.iter().sum::<f32>() + self.bias[row])
    }

    fn step_size(&self, a: &[f32]) -> f64 {
        let rows = self.bias.len();
        (0..rows).map(|row| softplus(self.pre_activation(row, a))).sum::<f64>() / rows.max(1) as f64
    }
}

fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_one_and_unlike_ones_nearly() {
        let (mut random, cols, rows) = (fastrand::Rng::with_seed(5), 7, 6);
        let a: Vec<f32> = (0..200 * cols).map(|_| random.f32() - 0.3).collect();
        let row: Vec<f32> = (0..cols).map(|_| random.f32() - 0.5).collect();
        let equal = Rows { w: row.repeat(rows), bias: vec![0.25; rows] };
        let (fitted, lost) = fit(&equal, &a, 1).unwrap();
        assert!(lost < 1e-9, "{lost}");
        assert!(fitted.w.iter().zip(&row).all(|(x, y)| (x - y).abs() < 1e-4));
        let w = (0..rows * cols).map(|_| 3.0 * random.f32() - 1.5).collect();
        let unlike = Rows { w, bias: (0..rows).map(|_| random.f32() - 1.0).collect() };
        let lost = [1, 2, 6].map(|count| fit(&unlike, &a, count).unwrap().1);
        let dt: Vec<f64> = a.chunks_exact(cols).map(|a| unlike.step_size(a)).collect();
        let started = start(&unlike, &a, 1);
        let errors = a.chunks_exact(cols).zip(&dt).map(|(a, dt)| (dt - started.step_size(a)).powi(2));
        let unfitted = errors.sum::<f64>() / dt.iter().map(|dt| dt * dt).sum::<f64>();
        assert!(
            lost[0] < unfitted / 2.0 && lost[1] < lost[0] && lost[2] < 1e-12,
            "{lost:?}, {unfitted} unfitted"
        );
    }
}

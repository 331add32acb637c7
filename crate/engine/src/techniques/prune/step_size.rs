//! Fewer rows for Itera-Lite's step size: `dt = mean_i softplus(w_i a + b_i)` is one number, so that a few rows, fitted to
//! the step sizes of all, do nearly as well. An approximation, not a cut.
//!
//! Rows begin as the means of equal groups, sorted by their mean pre-activation; then one after the other takes Gauss-Newton
//! steps on the squared error of dt, ridge regressions of what is left over on `(a, 1)` with the slope of softplus as weight.

use statepress_kernels::linear::outer;

use crate::calibrate::inverse;

/// How often every row takes a step.
const SWEEPS: usize = 6;

/// What is added to the diagonal, as a share of its mean.
const RIDGE: f64 = 1e-3;

/// The rows of a step size's projection.
pub(super) struct Rows {
    /// `[rows, cols]`.
    pub w: Vec<f32>,
    /// `[rows]`.
    pub bias: Vec<f32>,
}

/// Rows that are fitted to those of all over `a [n, cols]`, and the share of the step sizes' squares that is lost.
pub(super) fn fit(all: &Rows, a: &[f32], count: usize) -> (Rows, f64) {
    let rows = all.bias.len();
    let cols = all.w.len() / rows.max(1);
    let dt: Vec<f64> = a.chunks_exact(cols).map(|a| all.step_size(a)).collect();
    let mut fitted = start(all, a, count);
    let mut error = fitted.error(a, &dt);
    for at in (0..SWEEPS).flat_map(|_| 0..count) {
        let Some(step) = newton(&fitted, a, &dt, at) else { continue };
        // A step that overshoots is halved, a few times.
        for half in 0..4 {
            let share = f64::from(1 << half).recip();
            let mut tried = Rows { w: fitted.w.clone(), bias: fitted.bias.clone() };
            let row = tried.w[at * cols..][..cols].iter_mut().chain(&mut tried.bias[at..=at]);
            row.zip(&step).for_each(|(x, step)| *x = (f64::from(*x) + share * step) as f32);
            let now = tried.error(a, &dt);
            if now < error {
                (fitted, error) = (tried, now);
                break;
            }
        }
    }
    let whole: f64 = dt.iter().map(|dt| dt * dt).sum();
    (fitted, if whole > 0.0 { error / whole } else { 0.0 })
}

/// Means of groups of rows that are alike in how far they move.
fn start(all: &Rows, a: &[f32], count: usize) -> Rows {
    let rows = all.bias.len();
    let cols = all.w.len() / rows.max(1);
    let mut mean = vec![0.0f64; cols];
    a.chunks_exact(cols).for_each(|a| mean.iter_mut().zip(a).for_each(|(sum, a)| *sum += f64::from(*a)));
    let tokens = (a.len() / cols.max(1)).max(1) as f64;
    let moves = |row: usize| {
        let w = &all.w[row * cols..][..cols];
        let product: f64 = w.iter().zip(&mean).map(|(w, mean)| f64::from(*w) * mean).sum();
        product / tokens + f64::from(all.bias[row])
    };
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|&x, &y| moves(x).total_cmp(&moves(y)));
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

/// The step of one row, its bias last.
fn newton(rows: &Rows, a: &[f32], dt: &[f64], at: usize) -> Option<Vec<f64>> {
    let count = rows.bias.len() as f64;
    let cols = rows.w.len() / rows.bias.len().max(1);
    let wide = cols + 1;
    let mut scaled = Vec::with_capacity(a.len() + dt.len());
    let mut right = vec![0.0f64; wide];
    for (a, dt) in a.chunks_exact(cols).zip(dt) {
        let slope = sigmoid(rows.pre_activation(at, a)) / count;
        let missing = slope * (dt - rows.step_size(a));
        right.iter_mut().zip(a.iter().chain(&[1.0])).for_each(|(sum, a)| *sum += missing * f64::from(*a));
        scaled.extend(a.iter().chain(&[1.0]).map(|a| a * slope as f32));
    }
    let mut gram = vec![0.0; wide * wide];
    outer::add_gram(&mut gram, &scaled, wide);
    let inverse = inverse(&gram, wide, RIDGE)?;
    let step = inverse.chunks_exact(wide);
    Some(step.map(|row| row.iter().zip(&right).map(|(x, y)| x * y).sum()).collect())
}

impl Rows {
    fn pre_activation(&self, row: usize, a: &[f32]) -> f64 {
        let w = &self.w[row * a.len()..][..a.len()];
        let product: f32 = w.iter().zip(a).map(|(w, a)| w * a).sum();
        f64::from(product + self.bias[row])
    }

    fn step_size(&self, a: &[f32]) -> f64 {
        let rows = self.bias.len();
        (0..rows).map(|row| softplus(self.pre_activation(row, a))).sum::<f64>() / rows.max(1) as f64
    }

    fn error(&self, a: &[f32], dt: &[f64]) -> f64 {
        let cols = self.w.len() / self.bias.len().max(1);
        let errors = a.chunks_exact(cols).zip(dt).map(|(a, dt)| dt - self.step_size(a));
        errors.map(|error| error * error).sum()
    }
}

fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

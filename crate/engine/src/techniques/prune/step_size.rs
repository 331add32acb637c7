//! Fewer rows for Itera-Lite's step size: `dt = mean_i softplus(w_i a + b_i)` is one number, so that a few rows, fitted to
//! the step sizes of all, do nearly as well. An approximation, not a cut.
//!
//! Rows begin as the means of equal groups, sorted by their mean pre-activation; then one after the other takes a step down
//! the squared error of dt, again and again. In place of each step's own Gauss-Newton matrix stands one for all, that of
//! `(a, 1)`, times the mean square of the slope: what a step costs is then little more than the tokens it looks at.

use statepress_core::{Packed, Tensor};
use statepress_kernels::KernelError;
use statepress_kernels::gptq::inverse;
use statepress_kernels::linear::{Scratch, Weights, linear, outer};

use super::places::ascending;

/// How often every row takes a step, at the most.
const SWEEPS: usize = 60;

/// The share of the error that has to go in a sweep for another to follow.
const WORTH_IT: f64 = 0.01;

/// What is added to the diagonal, as a share of its mean.
const RIDGE: f64 = 1e-3;

/// Tokens whose pre-activations by all rows are held at a time.
const TOKENS: usize = 512;

/// The rows of a step size's projection.
pub(super) struct Rows {
    /// `[rows, cols]`.
    pub w: Vec<f32>,
    /// `[rows]`.
    pub bias: Vec<f32>,
}

/// Rows that are fitted to those of all over `a [n, cols]`, and the share of the step sizes' squares that is lost; `None` where
/// the text says too little to fit them, or numbers are too large.
pub(super) fn fit(all: &Rows, a: Vec<f32>, count: usize) -> Result<Option<(Rows, f64)>, KernelError> {
    let wide = all.cols() + 1;
    let a = widened(a, all.cols());
    let dt = step_sizes(all, &a)?;
    let whole: f64 = dt.iter().map(|dt| dt * dt).sum();
    let Some(metric) = metric(&a, wide).filter(|_| whole.is_finite()) else { return Ok(None) };
    let inputs = Inputs::new(a, wide)?;
    let mut rows = start(all, &inputs, count);
    // By row: its pre-activation for every token.
    let mut z: Vec<Vec<f64>> = rows.iter().map(|row| inputs.times(row)).collect();
    let mut errors: Vec<f64> =
        (0..dt.len()).map(|t| dt[t] - z.iter().map(|z| softplus(z[t])).sum::<f64>() / count as f64).collect();
    let squares = |errors: &[f64]| errors.iter().map(|error| error * error).sum::<f64>();
    let mut error = squares(&errors);
    for _ in 0..SWEEPS {
        let before = error;
        for (row, z) in rows.iter_mut().zip(&mut z) {
            let step = step(&metric, &inputs, z, &errors, count);
            let moves = inputs.times(&step);
            // A step that overshoots is halved, a few times.
            for share in [1.0, 0.5, 0.25, 0.125] {
                let change = |(z, by): (&f64, &f64)| (softplus(*z) - softplus(z + share * by)) / count as f64;
                let changes = z.iter().zip(&moves).map(change);
                let tried: Vec<f64> =
                    errors.iter().zip(changes).map(|(error, change)| error + change).collect();
                let now = squares(&tried);
                if now < error {
                    z.iter_mut().zip(&moves).for_each(|(z, by)| *z += share * by);
                    row.iter_mut().zip(&step).for_each(|(x, by)| *x += share * by);
                    (errors, error) = (tried, now);
                    break;
                }
            }
        }
        if error > (1.0 - WORTH_IT) * before {
            break;
        }
    }
    Ok(Some((Rows::of(&rows), if whole > 0.0 { error / whole } else { 0.0 })))
}

/// What enters, token by token: each `(a, 1)`.
struct Inputs {
    wide: usize,
    /// `[n, wide]`, for products with a row.
    by_token: Weights,
    /// `[wide, n]`, for products with one number for each token.
    by_input: Weights,
}

impl Inputs {
    fn new(a: Vec<f32>, wide: usize) -> Result<Self, KernelError> {
        let by_token = Weights::new(matrix(a.clone(), wide))?;
        Ok(Self { wide, by_token, by_input: Weights::transposed(matrix(a, wide))? })
    }

    /// `a row` for every token.
    fn times(&self, row: &[f64]) -> Vec<f64> {
        product(&self.by_token, row)
    }

    /// The sum of `a x` over tokens, with a number x for each.
    fn sum(&self, x: &[f64]) -> Vec<f64> {
        product(&self.by_input, x)
    }
}

/// `(a, 1)` of every token.
fn widened(a: Vec<f32>, cols: usize) -> Vec<f32> {
    a.chunks_exact(cols).flat_map(|a| a.iter().copied().chain([1.0])).collect()
}

/// By those rows, for every token.
fn step_sizes(of: &Rows, a: &[f32]) -> Result<Vec<f64>, KernelError> {
    let (count, wide) = (of.bias.len().max(1), of.cols() + 1);
    let w = Weights::new(matrix(of.wide().concat(), wide))?;
    let (mut z, mut scratch) = (Vec::new(), Scratch::default());
    let mut dt = Vec::with_capacity(a.len() / wide);
    for a in a.chunks(TOKENS * wide) {
        z.resize(a.len() / wide * count, 0.0);
        linear(&w, a, &mut z, &mut scratch);
        let mean = |z: &[f32]| z.iter().map(|z| softplus(f64::from(*z))).sum::<f64>() / count as f64;
        dt.extend(z.chunks_exact(count).map(mean));
    }
    Ok(dt)
}

/// The inverse of the sum of `a a^T`.
fn metric(a: &[f32], wide: usize) -> Option<Vec<f64>> {
    let mut gram = vec![0.0; wide * wide];
    outer::add_gram(&mut gram, a, wide);
    inverse(&gram, wide, RIDGE)
}

fn matrix(values: Vec<f32>, cols: usize) -> Tensor {
    Tensor { shape: vec![values.len() / cols, cols], data: Packed::F32(values) }
}

fn product(w: &Weights, x: &[f64]) -> Vec<f64> {
    let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    let mut out = vec![0.0; w.rows()];
    linear(w, &x, &mut out, &mut Scratch::default());
    out.into_iter().map(f64::from).collect()
}

/// Means of groups of rows that are alike in how far they move, their biases last.
fn start(all: &Rows, inputs: &Inputs, count: usize) -> Vec<Vec<f64>> {
    let wide = all.wide();
    let sums = inputs.sum(&vec![1.0; inputs.by_token.rows()]);
    let moves = |row: &Vec<f32>| row.iter().zip(&sums).map(|(w, sum)| f64::from(*w) * sum).sum();
    let order = ascending(&wide.iter().map(moves).collect::<Vec<f64>>());
    let group = |at: usize| {
        let members = &order[at * wide.len() / count..(at + 1) * wide.len() / count];
        let mean = |col: usize| members.iter().map(|&row| f64::from(wide[row][col])).sum::<f64>();
        (0..inputs.wide).map(|col| mean(col) / members.len().max(1) as f64).collect()
    };
    (0..count).map(group).collect()
}

/// The step of one row with these pre-activations.
fn step(metric: &[f64], inputs: &Inputs, z: &[f64], errors: &[f64], count: usize) -> Vec<f64> {
    let slopes: Vec<f64> = z.iter().map(|z| 1.0 / (1.0 + (-z).exp()) / count as f64).collect();
    let squares: f64 = slopes.iter().map(|slope| slope * slope).sum();
    let missing: Vec<f64> = slopes.iter().zip(errors).map(|(slope, error)| slope * error).collect();
    let right = inputs.sum(&missing);
    let scale = if squares > 0.0 { z.len() as f64 / squares } else { 0.0 };
    let rows = metric.chunks_exact(inputs.wide);
    rows.map(|row| scale * row.iter().zip(&right).map(|(x, y)| x * y).sum::<f64>()).collect()
}

impl Rows {
    fn cols(&self) -> usize {
        (self.w.len() / self.bias.len().max(1)).max(1)
    }

    /// Each row with its bias behind it.
    fn wide(&self) -> Vec<Vec<f32>> {
        let rows = self.w.chunks_exact(self.cols()).zip(&self.bias);
        rows.map(|(row, bias)| row.iter().chain([bias]).copied().collect()).collect()
    }

    /// Of such rows.
    fn of(wide: &[Vec<f64>]) -> Self {
        let mut rows = Self { w: Vec::new(), bias: Vec::new() };
        for (bias, w) in wide.iter().filter_map(|row| row.split_last()) {
            rows.w.extend(w.iter().map(|x| *x as f32));
            rows.bias.push(*bias as f32);
        }
        rows
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
        let (fitted, lost) = fit(&equal, a.clone(), 1).unwrap().unwrap();
        assert!(lost < 1e-9, "{lost}");
        assert!(fitted.w.iter().zip(&row).all(|(x, y)| (x - y).abs() < 1e-4));
        let w = (0..rows * cols).map(|_| 3.0 * random.f32() - 1.5).collect();
        let unlike = Rows { w, bias: (0..rows).map(|_| random.f32() - 1.0).collect() };
        let lost = [1, 2, 6].map(|count| fit(&unlike, a.clone(), count).unwrap().unwrap().1);
        let wide = widened(a.clone(), cols);
        let dt = step_sizes(&unlike, &wide).unwrap();
        let inputs = Inputs::new(wide.clone(), cols + 1).unwrap();
        let started = step_sizes(&Rows::of(&start(&unlike, &inputs, 1)), &wide).unwrap();
        let errors = started.iter().zip(&dt).map(|(started, dt)| (dt - started).powi(2));
        let unfitted = errors.sum::<f64>() / dt.iter().map(|dt| dt * dt).sum::<f64>();
        let large = Rows { w: vec![f32::MAX; cols], bias: vec![0.0] };
        assert!(fit(&large, a, 1).unwrap().is_none());
        assert!(
            lost[0] < unfitted / 2.0 && lost[1] < lost[0] && lost[2] < 1e-10,
            "{lost:?}, {unfitted} unfitted"
        );
    }
}

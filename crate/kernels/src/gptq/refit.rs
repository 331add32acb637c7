//! The scales that are best for codes that are there.

use crate::codecs::levels::Quantizer;
use crate::linear::outer::{Area, Strided, add};

use super::Chunk;

/// Added to the diagonal of what is solved for scales, as a share of its mean: groups whose columns
/// always come together have no scales of their own.
const RIDGE: f64 = 1e-6;

/// Refits the scales of every bundle of rows, by the solution of `A s = b` with
/// `A_gh = sum q_g^T H q_h` over the rows of the bundle, and keeps what lowers the loss once it is rounded.
///
/// Not inlined, for the reason that [`Chunk`] gives.
#[inline(never)]
pub(super) fn refit<G: Quantizer>(chunk: &mut Chunk<'_, '_, G>, scales: &mut [f32]) {
    let (groups, grid) = (chunk.groups, chunk.grid);
    let (bundle, count) = (groups.bundle(), groups.scales_of_bundle());
    let bundles = chunk.rows.div_ceil(bundle);
    let (mut a, mut b) = (vec![0.0f64; bundles * count * count], vec![0.0f64; bundles * count]);
    for phase in 0..bundle {
        products(chunk, phase, count, &mut a, &mut b);
    }
    let first = chunk.first / bundle * count;
    for (n, (a, b)) in a.chunks_exact_mut(count * count).zip(b.chunks_exact(count)).enumerate() {
        // The last scales of the tensor may be missing.
        let from = first + n * count;
        let to = scales.len().min(from + count);
        let old = &mut scales[from..to];
        let Some(shift) = solve(a, b) else { continue };
        let new: Vec<f32> =
            old.iter().zip(&shift).map(|(&s, shift)| grid.store((f64::from(s) + shift) as f32)).collect();
        if new.iter().any(|&s| s == 0.0 || !s.is_finite() || (s < 0.0 && !grid.is_signed())) {
            continue;
        }
        let shift: Vec<f64> = new.iter().zip(&*old).map(|(x, y)| f64::from(*x) - f64::from(*y)).collect();
        let row = |g: usize| &a[g * count..][..count];
        let change: f64 = shift
            .iter()
            .enumerate()
            .map(|(g, x)| x * (shift.iter().zip(row(g)).map(|(y, a)| y * a).sum::<f64>() - 2.0 * b[g]))
            .sum();
        if change < 0.0 {
            old.copy_from_slice(&new);
        }
    }
}

/// Adds the rows of one phase, which are cut into groups at the same columns, to A and `b = q_g^T H e`.
#[inline(never)]
fn products<G: Quantizer>(
    chunk: &Chunk<'_, '_, G>,
    phase: usize,
    count: usize,
    a: &mut [f64],
    b: &mut [f64],
) {
    let (groups, cols, rows) = (chunk.groups, chunk.groups.cols, chunk.rows);
    let bundle = groups.bundle();
    let n = rows.saturating_sub(phase).div_ceil(bundle);
    if n == 0 {
        return;
    }
    let every = |all: &[f32], col: usize, out: &mut Vec<f32>| {
        let column = &all[chunk.prepared.at(col) * rows..][..rows];
        out.extend(column[phase..].iter().step_by(bundle));
    };
    let (mut levels, mut errors) = (Vec::with_capacity(cols * n), Vec::with_capacity(cols * n));
    for col in 0..cols {
        every(&chunk.work.levels, col, &mut levels);
        every(&chunk.work.errors, col, &mut errors);
    }
    let parts = groups.parts(phase);
    let (mut through, mut sums) = (vec![0.0; cols * n], vec![0.0; n]);
    for &(g, from, to) in &parts {
        // q_g^T H of every row.
        through.fill(0.0);
        let h = Strided { values: &chunk.h()[from * cols..], stride: cols };
        let q = Strided { values: &levels[from * n..], stride: n };
        add((&mut through, n), h, q, to - from, [cols, n], Area::Whole);
        add_columns(b.iter_mut().skip(g).step_by(count), &through, &errors, &mut sums);
        for &(h, from, to) in &parts {
            let cols = from * n..to * n;
            let a = a.iter_mut().skip(g * count + h).step_by(count * count);
            add_columns(a, &through[cols.clone()], &levels[cols], &mut sums);
        }
    }
}

/// Adds what two lists of columns make together to numbers that are far apart: in the meantime they lie side by side in `sums`.
#[inline(never)]
fn add_columns<'a>(to: impl Iterator<Item = &'a mut f64>, x: &[f32], y: &[f32], sums: &mut [f64]) {
    let mut to: Vec<&mut f64> = to.take(sums.len()).collect();
    sums.iter_mut().zip(&to).for_each(|(sum, to)| *sum = **to);
    for (x, y) in x.chunks_exact(sums.len()).zip(y.chunks_exact(sums.len())) {
        sums.iter_mut().zip(x).zip(y).for_each(|((sum, x), y)| *sum += f64::from(x * y));
    }
    to.iter_mut().zip(sums).for_each(|(to, sum)| **to = *sum);
}

/// Solves `A x = b` for symmetric A, with a little on its diagonal; `None` where that is not positive
/// definite. Groups all of whose codes are 0 have no say.
fn solve(a: &mut [f64], b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    let mean = (0..n).map(|i| a[i * (n + 1)]).sum::<f64>() / n as f64;
    if mean <= 0.0 {
        return None;
    }
    let mut l = a.to_vec();
    for i in 0..n {
        l[i * (n + 1)] += RIDGE * mean;
    }
    let mut x = b.to_vec();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let rest = l[i * n + j] - sum;
            if i == j {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                l[i * n + i] = rest.sqrt();
            } else {
                l[i * n + j] = rest / l[j * n + j];
            }
        }
        let sum: f64 = (0..i).map(|k| l[i * n + k] * x[k]).sum();
        x[i] = (x[i] - sum) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k]).sum();
        x[i] = (x[i] - sum) / l[i * n + i];
    }
    Some(x)
}

/// Refits the scales of a column, each of `group` rows, to where the column would best be; keeps what is
/// nearer once it is rounded.
pub(super) fn refit_column(
    grid: &impl Quantizer,
    group: usize,
    best: &[f32],
    levels: &[f32],
    scales: &mut [f32],
) {
    for ((best, levels), scale) in best.chunks(group).zip(levels.chunks(group)).zip(scales) {
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            best.iter().zip(levels).map(|(&x, &q)| f(f64::from(x), f64::from(q))).sum()
        };
        let square = sum(&|_, q| q * q);
        if square == 0.0 {
            continue;
        }
        let new = grid.store((sum(&|x, q| x * q) / square) as f32);
        if new == 0.0 || !new.is_finite() || (new < 0.0 && !grid.is_signed()) {
            continue;
        }
        let loss = |s: f32| sum(&|x, q| (x - f64::from(s) * q) * (x - f64::from(s) * q));
        if loss(new) < loss(*scale) {
            *scale = new;
        }
    }
}

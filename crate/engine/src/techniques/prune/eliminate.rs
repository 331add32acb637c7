//! The order of removal that costs least: after every removal what is left makes up for it, and the next is chosen by what
//! it then costs.
//!
//! Of a matrix W that reads columns with `H = mean x x^T`, leaving column i out and fitting the others anew costs
//! `w_i^T w_i / (H^-1)_ii`; the fit is `W - w_i (H^-1)_i: / (H^-1)_ii`, and H^-1 changes by a rank. Only `W^T W` is needed for
//! that, not W, so that what is done for a removal does not depend on how many rows there are. This is optimal brain
//! surgery on whole columns; the exact counterpart of taking least squares for every choice.

use statepress_kernels::gptq::inverse;
use statepress_kernels::linear::outer::{self, Area, Strided};
use statepress_kernels::program::Matrix;

use super::places::Place;
use crate::EngineError;

/// What is added to the diagonal of H, as a share of its mean.
pub(super) const DAMPING: f64 = 1e-3;

/// A matrix that multiplies what is removed.
pub(super) struct Reader {
    cols: usize,
    /// `W^T W`, as a share of the whole output's energy: what readers lose then adds up.
    m: Vec<f64>,
    /// `(H + damping)^-1`.
    inverse: Vec<f64>,
    /// The columns of each element.
    columns: Vec<Vec<usize>>,
    /// What enters by itself: the energy of each element's part of the output.
    energies: Vec<f64>,
}

impl Reader {
    pub fn new(matrix: &Matrix, w: &[f32], h: &[f32], place: &Place) -> Result<Self, EngineError> {
        let (rows, cols) = (matrix.rows, matrix.cols);
        let wide: Vec<f64> = w.iter().map(|&x| f64::from(x)).collect();
        let mut m = vec![0.0; cols * cols];
        let x = Strided { values: wide.as_slice(), stride: cols };
        outer::add((&mut m, cols), x, x, rows, [cols, cols], Area::Upper);
        for i in 1..cols {
            for j in 0..i {
                m[i * cols + j] = m[j * cols + i];
            }
        }
        let whole: f64 = m.iter().zip(h).map(|(m, h)| m * f64::from(*h)).sum();
        let share = if whole > 0.0 { 1.0 / whole } else { 0.0 };
        m.iter_mut().for_each(|m| *m *= share);
        let columns = place.indexes(&matrix.dims[1]);
        let energy = |all: &Vec<usize>| -> f64 {
            let pairs = block(&m, cols, all, all).into_iter().zip(block(h, cols, all, all));
            pairs.map(|(m, h)| m * f64::from(h)).sum()
        };
        let energies = columns.iter().map(energy).collect();
        // What nothing entered has no order of its own.
        let inverse = match whole > 0.0 {
            true => inverse(h, cols, DAMPING).ok_or_else(|| singular(matrix))?,
            false => Vec::new(),
        };
        Ok(Self { cols, m, inverse, columns, energies })
    }

    /// Whether the text sent nothing through it.
    pub fn is_silent(&self) -> bool {
        self.inverse.is_empty()
    }

    /// The share of the output that an element makes.
    pub fn energy(&self, element: usize) -> f64 {
        self.energies[element]
    }

    /// What leaving an element out costs, the others fitted anew.
    fn cost(&self, element: usize) -> f64 {
        let columns = &self.columns[element];
        if let [i] = columns[..] {
            return self.m[i * (self.cols + 1)] / self.inverse[i * (self.cols + 1)];
        }
        let Some(a) = self.block(columns) else { return 0.0 };
        a.iter().zip(block(&self.m, self.cols, columns, columns)).map(|(a, m)| a * m).sum()
    }

    /// The inverse of a block of the inverse; `None` where there is nothing in it.
    fn block(&self, columns: &[usize]) -> Option<Vec<f64>> {
        solve(block(&self.inverse, self.cols, columns, columns), columns.len())
    }

    /// Leaves an element out, and fits the others anew.
    fn remove(&mut self, element: usize, alive: &[usize]) {
        let columns = self.columns[element].clone();
        let (b, n) = (columns.len(), self.cols);
        let Some(a) = self.block(&columns) else { return };
        // P = A Hinv_B:, so that W becomes W - W_B P.
        let mut p = vec![0.0; b * n];
        for k in 0..b {
            for l in 0..b {
                let factor = a[k * b + l];
                let row = &self.inverse[columns[l] * n..][..n];
                alive.iter().for_each(|&j| p[k * n + j] += factor * row[j]);
            }
        }
        let all: Vec<usize> = (0..n).collect();
        let of_m = block(&self.m, n, &columns, &all);
        let of_inverse = block(&self.inverse, n, &columns, &all);
        // Q = M_B: - 1/2 M_BB P, so that M becomes M - P^T Q - Q^T P.
        let mut q = of_m.clone();
        for k in 0..b {
            for (l, &column) in columns.iter().enumerate() {
                let half = of_m[k * n + column] / 2.0;
                alive.iter().for_each(|&j| q[k * n + j] -= half * p[l * n + j]);
            }
        }
        for &i in alive {
            for k in 0..b {
                let (p_i, q_i, h_i) = (p[k * n + i], q[k * n + i], of_inverse[k * n + i]);
                let (p, q) = (&p[k * n..][..n], &q[k * n..][..n]);
                let m = &mut self.m[i * n..][..n];
                alive.iter().for_each(|&j| m[j] -= p_i * q[j] + q_i * p[j]);
                let inverse = &mut self.inverse[i * n..][..n];
                alive.iter().for_each(|&j| inverse[j] -= h_i * p[j]);
            }
        }
    }
}

/// What rows and columns of `[_, n]` have in common.
pub(super) fn block<T: Copy>(of: &[T], n: usize, rows: &[usize], cols: &[usize]) -> Vec<T> {
    let mut block = Vec::with_capacity(rows.len() * cols.len());
    for row in rows {
        for col in cols {
            block.push(of[row * n + col]);
        }
    }
    block
}

fn singular(matrix: &Matrix) -> EngineError {
    let message = format!(
        "what enters {} has no inverse: the calibration text is too short or too uniform",
        matrix.key
    );
    EngineError::Evaluation(message)
}

/// The elements that stay when the cheapest goes, again and again.
pub(super) fn eliminate(place: &Place, mut readers: Vec<Reader>) -> Vec<usize> {
    let part = (place.size / place.parts).max(1);
    let mut goes = vec![part - place.after / place.parts; place.parts];
    let mut stays: Vec<usize> = (0..place.size).collect();
    while stays.len() > place.after {
        let costs = stays.iter().filter(|&&at| goes[at / part] > 0);
        let costs = costs.map(|&at| (at, readers.iter().map(|reader| reader.cost(at)).sum::<f64>()));
        let Some((cheapest, _)) = costs.min_by(|(_, a), (_, b)| a.total_cmp(b)) else { break };
        goes[cheapest / part] -= 1;
        stays.retain(|&at| at != cheapest);
        for reader in &mut readers {
            let alive: Vec<usize> = stays.iter().flat_map(|&at| reader.columns[at].clone()).collect();
            reader.remove(cheapest, &alive);
        }
    }
    stays
}

/// The inverse of a symmetric positive definite `[n, n]` by Gauss and Jordan; `None` where it has none.
pub(super) fn solve(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let mut b = vec![0.0; n * n];
    (0..n).for_each(|i| b[i * n + i] = 1.0);
    for i in 0..n {
        let pivot = a[i * n + i];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        for j in 0..n {
            a[i * n + j] /= pivot;
            b[i * n + j] /= pivot;
        }
        for k in (0..n).filter(|&k| k != i) {
            let factor = a[k * n + i];
            if factor != 0.0 {
                for j in 0..n {
                    a[k * n + j] -= factor * a[i * n + j];
                    b[k * n + j] -= factor * b[i * n + j];
                }
            }
        }
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use statepress_core::Role;
    use statepress_kernels::program::{AxisId, Dim, Layout, Segment};

    use super::super::repair;
    use super::*;

    fn random(seed: u64, count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f32() - 0.45).collect()
    }

    /// Least squares for every choice, one after the other, against what is kept up to date by ranks.
    #[test]
    fn the_order_is_that_of_least_squares_for_every_choice() {
        for (size, each, parts, after) in [(9, 1, 1, 4), (6, 2, 1, 3), (8, 1, 2, 4), (3, 4, 1, 1)] {
            let (rows, cols, tokens) = (5, size * each, 200);
            let segment = Segment { axis: AxisId(0), size, outer: 1, inner: each, label: "" };
            let matrix = Matrix {
                key: "w".into(),
                rows,
                cols,
                layout: Layout::Plain,
                role: Role::OutProj,
                dims: [Dim::default(), segment.into()],
                layer: None,
            };
            let place = Place::of(size, parts, after);
            let mut x = random(size as u64, tokens * cols);
            x.chunks_exact_mut(cols).for_each(|x| (1..cols).for_each(|i| x[i] += 0.7 * x[i - 1]));
            let mut h = vec![0.0; cols * cols];
            outer::add_gram(&mut h, &x, cols);
            let w = random(7, rows * cols);
            let reader = Reader::new(&matrix, &w, &h, &place).unwrap();
            let found = eliminate(&place, vec![reader]);
            let mut stays: Vec<usize> = (0..size).collect();
            let part = size / parts;
            while stays.len() > after {
                let lost = |goes: usize| {
                    let left = stays.iter().filter(|&&at| at != goes);
                    let columns: Vec<usize> = left.flat_map(|&at| at * each..(at + 1) * each).collect();
                    repair::fit(&matrix, &w, &h, &columns, true).lost
                };
                let full = |at: usize| stays.iter().filter(|&&other| other / part == at / part).count();
                let can = stays.iter().copied().filter(|&at| full(at) > after / parts);
                let goes = can.min_by(|&a, &b| lost(a).total_cmp(&lost(b))).unwrap();
                stays.retain(|&at| at != goes);
            }
            assert_eq!(found, stays, "{size} {each} {parts}");
        }
    }
}

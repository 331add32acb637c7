//! The factor by which compensation passes an error on: upper triangular U with
//! `U^T U = (H + lambda I)^-1`.
//!
//! H is factored from its last column to its first, `H = M M^T` with M upper triangular, and M is
//! inverted where it lies: `U = M^-1`. That is the inverse's own Cholesky factor without ever making
//! the inverse, at two thirds of the work and with less lost to rounding.
//!
//! Written out rather than taken from a crate: nalgebra's is not blocked and takes minutes at 4096
//! columns, faer's chooses instructions by the processor, so that bytes would differ from machine to
//! machine, and would be the largest part of the module for these two loops. In f64, in a fixed order,
//! of operations that IEEE 754 rounds correctly.

use crate::linear::outer::{Area, Strided, add, subtract};

/// Columns that are factored together.
const BLOCK: usize = 64;

/// U `[n, n]`, row by row, of H `[n, n]` with `lambda` added to its diagonal; `None` where that is not
/// positive definite, or not finite.
pub(super) fn inverse_factor(h: &[f32], n: usize, lambda: f64) -> Option<Vec<f32>> {
    // Last first: what is lower triangular of it is upper triangular of H.
    let mut a: Vec<f64> = h.iter().rev().map(|&x| f64::from(x)).collect();
    for i in 0..n {
        a[i * n + i] += lambda;
    }
    let diagonal = factor(&mut a, n)?;
    invert(&mut a, n, &diagonal);
    let mut u = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            u[i * n + j] = a[(n - 1 - i) * n + (n - 1 - j)] as f32;
        }
    }
    Some(u)
}

/// `(H + lambda I)^-1` of H `[n, n]`, with lambda so large a share of the mean of the diagonal; `None` likewise.
pub fn inverse(h: &[f32], n: usize, share: f64) -> Option<Vec<f64>> {
    let mean = (0..n).map(|i| f64::from(h[i * (n + 1)])).sum::<f64>() / n.max(1) as f64;
    let u: Vec<f64> = inverse_factor(h, n, share * mean)?.into_iter().map(f64::from).collect();
    let mut inverse = vec![0.0; n * n];
    let u = Strided { values: u.as_slice(), stride: n };
    add((&mut inverse, n), u, u, n, [n, n], Area::Upper);
    for i in 1..n {
        for j in 0..i {
            inverse[i * n + j] = inverse[j * n + i];
        }
    }
    Some(inverse)
}

/// `A = R^T R`: R, but for the diagonal that is returned, lies right of the diagonal of `a` afterwards.
fn factor(a: &mut [f64], n: usize) -> Option<Vec<f64>> {
    let mut diagonal = Vec::with_capacity(n);
    let mut panel = Vec::new();
    for from in (0..n).step_by(BLOCK) {
        let to = n.min(from + BLOCK);
        for j in from..to {
            let pivot = a[j * n + j];
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            let root = pivot.sqrt();
            diagonal.push(root);
            let (above, below) = a.split_at_mut((j + 1) * n);
            let row = &mut above[j * n..];
            row[j + 1..].iter_mut().for_each(|x| *x /= root);
            for (k, other) in (j + 1..to).zip(below.chunks_exact_mut(n)) {
                let factor = row[k];
                other[k..].iter_mut().zip(&row[k..]).for_each(|(x, y)| *x -= factor * y);
            }
        }
        if to < n {
            panel.clear();
            a[from * n..to * n].chunks_exact(n).for_each(|row| panel.extend_from_slice(&row[to..]));
            let rest = Strided { values: panel.as_slice(), stride: n - to };
            let out = &mut a[to * n + to..];
            subtract((out, n), rest, rest, to - from, [n - to, n - to], Area::Upper);
        }
    }
    Some(diagonal)
}

/// `(R^T)^-1`, on the diagonal of `a` and left of it.
fn invert(a: &mut [f64], n: usize, diagonal: &[f64]) {
    let mut rows = Vec::new();
    for from in (0..n).step_by(BLOCK) {
        let to = n.min(from + BLOCK);
        for i in from..to {
            a[i * n..i * n + i].fill(0.0);
            a[i * n + i] = 1.0;
        }
        // What lies above, a block at a time, without the part of R that is right of its diagonal.
        let (above, block) = a.split_at_mut(from * n);
        for first in (0..from).step_by(BLOCK) {
            let end = first + BLOCK;
            rows.clear();
            for j in first..end {
                rows.extend_from_slice(&above[j * n..=j * n + j]);
                rows.resize((j + 1 - first) * end, 0.0);
            }
            let r = Strided { values: &above[first * n + from..], stride: n };
            let x = Strided { values: rows.as_slice(), stride: end };
            subtract((&mut *block, n), r, x, BLOCK, [to - from, end], Area::Whole);
        }
        for i in from..to {
            let (above, row) = a.split_at_mut(i * n);
            let row = &mut row[..n];
            for j in from..i {
                let factor = above[j * n + i];
                row[..=j].iter_mut().zip(&above[j * n..=j * n + j]).for_each(|(x, y)| *x -= factor * y);
            }
            row[..=i].iter_mut().for_each(|x| *x /= diagonal[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of whole blocks, of parts of blocks, and of one column.
    #[test]
    fn its_square_times_the_matrix_is_the_identity() {
        for n in [1, 2, 3, 63, 64, 65, 130, 200] {
            let mut random = fastrand::Rng::with_seed(n as u64);
            let rows: Vec<f32> = (0..(n + 5) * n).map(|_| random.f32() - 0.4).collect();
            let mut h = vec![0.0; n * n];
            crate::linear::outer::add_gram(&mut h, &rows, n);
            let u = inverse_factor(&h, n, 0.5).unwrap();
            for i in 0..n {
                assert!(u[i * n..i * n + i].iter().all(|&x| x == 0.0) && u[i * n + i] > 0.0);
            }
            // U H' U^T = I.
            let at = |i: usize, j: usize| f64::from(h[i * n + j]) + if i == j { 0.5 } else { 0.0 };
            for i in (0..n).step_by(7) {
                let uh: Vec<f64> =
                    (0..n).map(|k| (i..n).map(|j| f64::from(u[i * n + j]) * at(j, k)).sum()).collect();
                for l in 0..n {
                    let found: f64 = (l..n).map(|k| uh[k] * f64::from(u[l * n + k])).sum();
                    let exact = f64::from(u8::from(i == l));
                    assert!((found - exact).abs() < 2e-4, "{n} {i} {l}: {found}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_none() {
        assert!(inverse_factor(&[1.0, 2.0, 2.0, 1.0], 2, 0.0).is_none());
        assert!(inverse_factor(&[1.0, 2.0, 2.0, 1.0], 2, 3.0).is_some());
        assert!(inverse_factor(&[f32::NAN, 0.0, 0.0, 1.0], 2, 0.1).is_none());
        assert!(inverse_factor(&[0.0], 1, 0.0).is_none());
    }
}

//! Least squares: the weights that read what was removed are fitted to do without it.
//!
//! `W' = W_K + W_R H_RK (H_KK + damping)^-1`, with K the columns that stay and R those that go, is what comes nearest to the
//! old outputs over the text that `H = mean x x^T` is of; where the text says nothing, weights stay what they were.

use statepress_kernels::program::Matrix;

use super::eliminate::DAMPING;
use super::score::quadratic;
use crate::calibrate::inverse;

/// Weights that read what stays.
pub(super) struct Fitted {
    /// `[rows, kept]`; the old ones where H has no inverse.
    pub w: Vec<f32>,
    /// The share of the outputs' squares that is lost.
    pub lost: f64,
}

/// Fits `w` to the columns that stay, or only says what is lost by leaving the others out.
pub(super) fn fit(matrix: &Matrix, w: &[f32], h: &[f32], stays: &[usize], repairs: bool) -> Fitted {
    let (cols, kept) = (matrix.cols, stays.len());
    let mut is_left = vec![false; cols];
    stays.iter().for_each(|&k| is_left[k] = true);
    let goes: Vec<usize> = (0..cols).filter(|&c| !is_left[c]).collect();
    let block = |rows: &[usize]| -> Vec<f32> {
        rows.iter().flat_map(|&i| stays.iter().map(move |&j| (i, j))).map(|(i, j)| h[i * cols + j]).collect()
    };
    let across = block(&goes);
    let inverse = repairs.then(|| inverse(&block(stays), kept, DAMPING)).flatten();
    let (mut fitted, mut whole, mut lost) = (Vec::with_capacity(matrix.rows * kept), 0.0, 0.0);
    let (mut target, mut row) = (vec![0.0f64; kept], vec![0.0f64; kept]);
    for old in w.chunks_exact(cols.max(1)) {
        row.iter_mut().zip(stays).for_each(|(x, &k)| *x = f64::from(old[k]));
        if let Some(inverse) = &inverse {
            target.fill(0.0);
            for (&c, h) in goes.iter().zip(across.chunks_exact(kept.max(1))) {
                target.iter_mut().zip(h).for_each(|(t, h)| *t += f64::from(old[c]) * f64::from(*h));
            }
            for (t, inverse) in target.iter().zip(inverse.chunks_exact(kept.max(1))) {
                row.iter_mut().zip(inverse).for_each(|(x, inverse)| *x += t * inverse);
            }
        }
        let mut error = old.to_vec();
        stays.iter().zip(&row).for_each(|(&k, &new)| error[k] = (f64::from(error[k]) - new) as f32);
        whole += quadratic(old, h);
        lost += quadratic(&error, h);
        fitted.extend(row.iter().map(|&x| x as f32));
    }
    Fitted { w: fitted, lost: if whole > 0.0 { (lost / whole).max(0.0) } else { 0.0 } }
}

//! Least squares: the weights that read what was removed are fitted to do without it.
//!
//! `W' = W_K + W_R H_RK (H_KK + damping)^-1`, with K the columns that stay and R those that go, is what comes nearest to the
//! old outputs over the text that `H = mean x x^T` is of; where the text says nothing, weights stay what they were.

use statepress_kernels::gptq::inverse;
use statepress_kernels::program::Matrix;

use super::eliminate::{DAMPING, block};
use super::score::quadratic;

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
    let across = block(h, cols, &goes, stays);
    let inverse = repairs.then(|| inverse(&block(h, cols, stays, stays), kept, DAMPING)).flatten();
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

#[cfg(test)]
mod tests {
    use statepress_core::Role;
    use statepress_kernels::program::{Dim, Layout};

    use super::*;

    fn case(rows: usize, cols: usize, tokens: usize) -> (Matrix, Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut random = fastrand::Rng::with_seed((rows * cols + tokens) as u64);
        let mut x: Vec<f32> = (0..tokens * cols).map(|_| random.f32() - 0.4).collect();
        // Columns that say much of one another.
        x.chunks_exact_mut(cols).for_each(|x| (1..cols).for_each(|i| x[i] += 0.6 * x[i - 1]));
        let mut h = vec![0.0; cols * cols];
        statepress_kernels::linear::outer::add_gram(&mut h, &x, cols);
        h.iter_mut().for_each(|h| *h /= tokens as f32);
        let w = (0..rows * cols).map(|_| random.f32() - 0.5).collect();
        let matrix = Matrix {
            key: "w".into(),
            rows,
            cols,
            layout: Layout::Plain,
            role: Role::OutProj,
            dims: [Dim::default(), Dim::default()],
            layer: None,
        };
        (matrix, w, h, x)
    }

    /// The errors of outputs over the text itself, and no weights nearby with smaller ones.
    #[test]
    fn no_other_weights_come_nearer_to_the_old_outputs() {
        let (matrix, w, h, x) = case(3, 8, 60);
        let stays = [0, 2, 3, 6, 7];
        let lost = |new: &[f32]| -> f64 {
            let (mut lost, mut whole) = (0.0, 0.0);
            for x in x.chunks_exact(8) {
                for (old, new) in w.chunks_exact(8).zip(new.chunks_exact(5)) {
                    let was: f32 = old.iter().zip(x).map(|(w, x)| w * x).sum();
                    let is: f32 = new.iter().zip(&stays).map(|(w, &k)| w * x[k]).sum();
                    lost += f64::from(was - is).powi(2);
                    whole += f64::from(was).powi(2);
                }
            }
            lost / whole
        };
        let (cut, fitted) = (fit(&matrix, &w, &h, &stays, false), fit(&matrix, &w, &h, &stays, true));
        assert!((cut.lost - lost(&cut.w)).abs() < 1e-4 && (fitted.lost - lost(&fitted.w)).abs() < 1e-4);
        assert!(fitted.lost < cut.lost / 2.0, "{} {}", fitted.lost, cut.lost);
        for at in 0..fitted.w.len() {
            for step in [-0.05, 0.05] {
                let mut other = fitted.w.clone();
                other[at] += step;
                assert!(lost(&other) > fitted.lost - 1e-6, "{at}");
            }
        }
    }

    #[test]
    fn where_the_text_says_nothing_weights_stay() {
        let (matrix, w, _, _) = case(2, 4, 10);
        let fitted = fit(&matrix, &w, &[0.0; 16], &[0, 3], true);
        assert_eq!(fitted.w, [w[0], w[3], w[4], w[7]]);
        assert_eq!(fitted.lost, 0.0);
    }
}

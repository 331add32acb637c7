//! The directions of the residual stream that stay.

use statepress_kernels::eigen;

use crate::techniques::change::Turn;

/// The share of the largest energy that is none.
const NOTHING: f64 = 1e-9;

/// What is known of a space of d channels; each `[d, d]`, symmetric.
pub(super) struct Known {
    /// Rows of the table, each as much as it is used.
    pub rows: Vec<f64>,
    /// What norms read.
    pub read: Vec<f64>,
    /// What the logits feel.
    pub felt: Vec<f64>,
}

/// What directions have to suit, besides.
#[derive(Clone, Copy)]
pub(super) struct Constraints<'a> {
    /// The mean of what they leave is the mean of what there was, as LayerNorms take it away.
    pub takes_mean: bool,
    /// Weights G `[d]` of a norm that has to keep weights, as what reads it cannot take them in: `P^T G P` is made diagonal, or nearly
    /// so where there is a mean to keep.
    pub weights: Option<&'a [f64]>,
}

/// P `[d, count]`, columns of length 1 and at right angles: the directions that matter most. `None` where numbers are not finite.
pub(super) fn directions(known: &Known, d: usize, count: usize, suits: Constraints) -> Option<Turn> {
    let Constraints { takes_mean, weights } = suits;
    let share = |of: &[f64]| {
        let trace: f64 = (0..d).map(|i| of[i * (d + 1)]).sum();
        if trace > 0.0 { 1.0 / trace } else { 0.0 }
    };
    let felt = within(&known.felt, &known.read, d)?;
    let [of_rows, of_read, of_felt] = [&known.rows, &known.read, &felt].map(|of| share(of));
    let numbers = known.rows.iter().zip(&known.read).zip(&felt);
    let mut m: Vec<f64> = numbers
        .map(|((rows, read), felt)| of_rows * rows + (of_read * read + of_felt * felt) / 2.0)
        .collect();
    if takes_mean {
        first_the_mean(&mut m, d);
    }
    let mut vectors = eigen::symmetric(&m, d)?.vectors;
    vectors.truncate(count * d);
    if let Some(weights) = weights {
        // The mean stays the first.
        along(weights, &mut vectors[usize::from(takes_mean) * d..], d)?;
    }
    let mut numbers: Vec<f64> = (0..d * count).map(|at| vectors[at % count * d + at / count]).collect();
    if takes_mean {
        numbers.chunks_exact_mut(count).for_each(spread);
    }
    Some(Turn { from: d, to: count, numbers })
}

/// F in the directions that norms read anything in: one that nothing has need not be kept, however touchy it is.
fn within(felt: &[f64], read: &[f64], d: usize) -> Option<Vec<f64>> {
    let eigen::Eigen { values, vectors } = eigen::symmetric(read, d)?;
    let least = NOTHING * values.first().copied().unwrap_or_default();
    let mut there = vec![0.0; d * d];
    for (_, vector) in values.iter().zip(vectors.chunks_exact(d)).filter(|(value, _)| **value > least) {
        for (row, x) in there.chunks_exact_mut(d).zip(vector) {
            row.iter_mut().zip(vector).for_each(|(sum, y)| *sum += x * y);
        }
    }
    let times = |a: &[f64], b: &[f64]| -> Vec<f64> {
        a.chunks_exact(d).flat_map(|row| super::fit::product(row, b, d)).collect()
    };
    Some(times(&there, &times(felt, &there)))
}

/// Turns vectors `[n, d]` within their span so that weights of channels become weights of vectors.
fn along(weights: &[f64], vectors: &mut [f64], d: usize) -> Option<()> {
    let n = vectors.len() / d.max(1);
    let weighted: Vec<f64> = vectors.iter().zip(weights.iter().cycle()).map(|(x, by)| x * by).collect();
    let mut square = Vec::with_capacity(n * n);
    for x in vectors.chunks_exact(d) {
        square.extend(weighted.chunks_exact(d).map(|y| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>()));
    }
    let turned = eigen::symmetric(&square, n)?;
    let old = vectors.to_vec();
    for (row, by) in vectors.chunks_exact_mut(d).zip(turned.vectors.chunks_exact(n)) {
        row.copy_from_slice(&super::fit::product(by, &old, d));
    }
    Some(())
}

/// Makes the mean of all channels the largest eigenvector, at right angles to which the others are.
fn first_the_mean(m: &mut [f64], d: usize) {
    let means: Vec<f64> = m.chunks_exact(d).map(|row| row.iter().sum::<f64>() / d as f64).collect();
    let mean = means.iter().sum::<f64>() / d as f64;
    let trace: f64 = (0..d).map(|i| m[i * (d + 1)]).sum();
    let all = 2.0 * trace.max(1.0) / d as f64;
    for (row, own) in m.chunks_exact_mut(d).zip(&means) {
        row.iter_mut().zip(&means).for_each(|(x, other)| *x += mean - own - other + all);
    }
}

/// Reflects coordinates so that the first becomes the mean of all: `I - 2 v v^T / v^T v` with v = e_1 - 1 / sqrt n.
fn spread(x: &mut [f64]) {
    let n = x.len() as f64;
    let each = n.sqrt().recip();
    let square = 2.0 - 2.0 * each;
    if square > 0.0 {
        let along = x[0] - each * x.iter().sum::<f64>();
        let by = 2.0 * along / square;
        x.iter_mut().for_each(|x| *x += by * each);
        x[0] -= by;
    }
}

/// The share of `tr A` that lies in the directions P.
pub(super) fn captured(a: &[f64], p: &Turn) -> f64 {
    let d = p.from;
    let whole: f64 = (0..d).map(|i| a[i * (d + 1)]).sum();
    let mut left = 0.0;
    for (row, p_row) in a.chunks_exact(d).zip(p.numbers.chunks_exact(p.to)) {
        for (x, other) in row.iter().zip(p.numbers.chunks_exact(p.to)) {
            left += x * p_row.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
        }
    }
    if whole > 0.0 { left / whole } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::used_rows;

    fn known(d: usize) -> Known {
        let mut random = fastrand::Rng::with_seed(d as u64);
        let mut gram = |rows: usize| {
            let rows: Vec<f32> = (0..rows * d).map(|_| random.f32() - 0.3).collect();
            let uses: Vec<f32> = (0..rows.len() / d).map(|_| random.f32()).collect();
            used_rows(&rows, &uses, d)
        };
        Known { rows: gram(300), read: gram(20), felt: gram(7) }
    }

    /// Columns have length 1 and stand at right angles, and where means are taken away, taking them away before is taking them
    /// away behind.
    #[test]
    fn directions_are_orthonormal_and_keep_the_mean() {
        for (d, count, takes_mean) in
            [(12, 5, false), (12, 12, false), (12, 5, true), (12, 12, true), (8, 2, true)]
        {
            let weights: Vec<f64> = (0..d).map(|j| (j * 5 % 7) as f64).collect();
            for weights in [None, Some(weights.as_slice())] {
                let p = directions(&known(d), d, count, Constraints { takes_mean, weights }).unwrap();
                for k in 0..count {
                    for l in 0..count {
                        let dot: f64 =
                            (0..d).map(|j| p.numbers[j * count + k] * p.numbers[j * count + l]).sum();
                        assert!(
                            (dot - f64::from(u8::from(k == l))).abs() < 1e-12,
                            "{d} {count} {k} {l}: {dot}"
                        );
                    }
                }
                if let (Some(weights), false) = (weights, takes_mean) {
                    let of = |k: usize, l: usize| -> f64 {
                        (0..d).map(|j| weights[j] * p.numbers[j * count + k] * p.numbers[j * count + l]).sum()
                    };
                    (0..count * count)
                        .filter(|at| at / count != at % count)
                        .for_each(|at| assert!(of(at / count, at % count).abs() < 1e-12));
                }
                if takes_mean {
                    let x: Vec<f32> = (0..d).map(|j| (j * j % 7) as f32).collect();
                    let mean = x.iter().sum::<f32>() / d as f32;
                    let without: Vec<f32> = x.iter().map(|x| x - mean).collect();
                    let [behind, before] = [x, without].map(|x| p.apply(&x, 1));
                    let mean = behind.iter().sum::<f32>() / count as f32;
                    behind.iter().zip(before).for_each(|(x, y)| assert!((x - mean - y).abs() < 1e-5));
                }
            }
        }
    }

    /// Those of the largest eigenvalues have the most, and all have all.
    #[test]
    fn what_is_captured_grows_with_the_directions() {
        let known = known(10);
        let of = |count: usize| {
            captured(
                &known.rows,
                &directions(&known, 10, count, Constraints { takes_mean: false, weights: None }).unwrap(),
            )
        };
        assert!((of(10) - 1.0).abs() < 1e-12);
        assert!((1..10).all(|count| of(count) < of(count + 1)));
    }
}

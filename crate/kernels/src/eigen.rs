//! Eigenvalues and eigenvectors of a symmetric matrix, in f64: which directions of a space matter most.
//!
//! Householder reflections make the matrix tridiagonal, implicit QL steps make that diagonal (Golub and Van Loan, Matrix
//! Computations, 4th edition, sections 8.3.1 and 8.3.3). Written out rather than taken from a crate for the reasons of
//! [`gptq::inverse`](crate::gptq::inverse): in a fixed order, of operations that IEEE 754 rounds correctly, so that the same
//! matrix has the same eigenvectors on every machine; and small. About `9 n^3` operations, over rows as they lie in memory.

/// Steps after which an eigenvalue has long been found; two are usual.
const MOST_STEPS: usize = 60;

/// The square of a length that is none.
const NOTHING: f64 = 1e-200;

/// What a symmetric matrix does: `A = V^T diag(values) V`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// `[n]`, the largest first.
    pub values: Vec<f64>,
    /// V `[n, n]`: a row for each value, of length 1, whose largest number is positive.
    pub vectors: Vec<f64>,
}

/// The eigenvalues and eigenvectors of a symmetric `a` `[n, n]`; `None` where a number in it is not finite.
pub fn symmetric(a: &[f64], n: usize) -> Option<Eigen> {
    let largest = a.iter().fold(0.0f64, |largest, x| if x.abs() > largest { x.abs() } else { largest });
    if !a.iter().all(|x| x.is_finite()) {
        return None;
    }
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let mut a: Vec<f64> = a.iter().map(|x| x / scale).collect();
    let (mut diagonal, mut beside, mut vectors) = tridiagonal(&mut a, n);
    drop(a);
    diagonalise(&mut diagonal, &mut beside, &mut vectors, n)?;
    let mut order: Vec<usize> = (0..n).collect();
    // By selection: little code, and nothing beside the rest.
    for k in 0..n {
        let larger = |best: usize, at: usize| match diagonal[order[at]] > diagonal[order[best]] {
            true => at,
            false => best,
        };
        let largest = (k..n).fold(k, larger);
        order.swap(k, largest);
    }
    let mut sorted = Vec::with_capacity(n * n);
    for &i in &order {
        let row = &vectors[i * n..][..n];
        let first = row.iter().fold(0.0f64, |first, &x| if x.abs() > first.abs() { x } else { first });
        sorted.extend(row.iter().map(|x| if first < 0.0 { -x } else { *x }));
    }
    Some(Eigen { values: order.iter().map(|&i| scale * diagonal[i]).collect(), vectors: sorted })
}

/// `A = Q T Q^T` with T tridiagonal: its diagonal, what lies beside that (and a zero), and `Q^T`.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut beside, mut factors, mut product) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
    for k in 0..n.saturating_sub(1) {
        // The row right of the diagonal is reflected onto its first number: I - factor v v^T, with v in its place.
        let (above, below) = a.split_at_mut((k + 1) * n);
        let v = &mut above[k * n + k + 1..];
        let rest: f64 = v[1..].iter().map(|x| x * x).sum();
        // What is so small is nothing, of a matrix whose largest number is 1; its square has no inverse.
        if rest < NOTHING {
            beside[k] = v[0];
            continue;
        }
        let length = (v[0] * v[0] + rest).sqrt();
        beside[k] = if v[0] > 0.0 { -length } else { length };
        factors[k] = 1.0 / (length * (length + v[0].abs()));
        v[0] -= beside[k];
        // A - v w^T - w v^T, with p = factor A v and w = p - factor / 2 (p v) v.
        let w = &mut product[..v.len()];
        for (p, row) in w.iter_mut().zip(below.chunks_exact(n)) {
            *p = factors[k] * dot(&row[k + 1..], v);
        }
        let half = factors[k] / 2.0 * dot(w, v);
        w.iter_mut().zip(&*v).for_each(|(w, v)| *w -= half * v);
        for (i, row) in below.chunks_exact_mut(n).enumerate() {
            let (v_i, w_i) = (v[i], w[i]);
            let row = row[k + 1..].iter_mut();
            row.zip(v.iter().zip(&*w)).for_each(|(x, (v, w))| *x -= v_i * w + w_i * v);
        }
    }
    let diagonal = (0..n).map(|i| a[i * (n + 1)]).collect();
    let mut q = vec![0.0; n * n];
    (0..n).for_each(|i| q[i * (n + 1)] = 1.0);
    for k in (0..n.saturating_sub(1)).rev().filter(|&k| factors[k] != 0.0) {
        let v = &a[k * n + k + 1..(k + 1) * n];
        for row in q[(k + 1) * n..].chunks_exact_mut(n) {
            let row = &mut row[k + 1..];
            let by = factors[k] * dot(row, v);
            row.iter_mut().zip(v).for_each(|(x, v)| *x -= by * v);
        }
    }
    (diagonal, beside, q)
}

/// Turns a tridiagonal matrix until nothing is left beside its diagonal, and the rows of `vectors` with it; `None` where that
/// does not come to an end.
fn diagonalise(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) -> Option<()> {
    for l in 0..n {
        for step in 0.. {
            let small = |m: &usize| e[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[m + 1].abs());
            let m = (l..n - 1).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == MOST_STEPS {
                return None;
            }
            // Wilkinson's shift.
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let root = (g * g + 1.0).sqrt();
            let mut g = d[m] - d[l] + e[l] / (g + if g < 0.0 { -root } else { root });
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut apart = false;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let r = (f * f + g * g).sqrt();
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    apart = true;
                    break;
                }
                (s, c) = (f / r, g / r);
                let next = d[i + 1] - p;
                let r = (d[i] - next) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = next + p;
                g = c * r - b;
                let (low, high) = vectors[i * n..].split_at_mut(n);
                for (x, y) in low.iter_mut().zip(high) {
                    let old = *y;
                    *y = s * *x + c * old;
                    *x = c * *x - s * old;
                }
            }
            if !apart {
                d[l] -= p;
                e[l] = g;
            }
            e[m] = 0.0;
        }
    }
    Some(())
}

/// In eight sums side by side, in a fixed order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `V A V^T` is diagonal and `V V^T` the identity, of odd matrices too: equal values, none, blocks that are apart.
    #[test]
    fn it_takes_a_matrix_apart() {
        for n in [0, 1, 2, 3, 8, 33, 100] {
            let mut random = fastrand::Rng::with_seed(n as u64);
            let mut full = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..=i {
                    full[i * n + j] = random.f64() - 0.5;
                    full[j * n + i] = full[i * n + j];
                }
            }
            let keep = |of: fn(usize, usize) -> f64| -> Vec<f64> {
                (0..n * n).map(|at| full[at] * of(at / n.max(1), at % n.max(1))).collect()
            };
            let apart = keep(|i, j| if i / 2 == j / 2 { 1e30 } else { 0.0 });
            let low = keep(|i, j| if i < 3 && j < 3 { 1e-30 } else { 0.0 });
            let ones = vec![1.0; n * n];
            for a in [full.clone(), apart, low, ones, vec![0.0; n * n]] {
                let Eigen { values, vectors } = symmetric(&a, n).unwrap();
                let size = a.iter().fold(1e-300f64, |size, x| size.max(x.abs()));
                let rows: Vec<&[f64]> = vectors.chunks_exact(n.max(1)).collect();
                for (i, row) in rows.iter().enumerate() {
                    assert!(i == 0 || values[i] <= values[i - 1]);
                    let turned: Vec<f64> = a.chunks_exact(n).map(|a| dot(a, row)).collect();
                    for (j, other) in rows.iter().enumerate() {
                        let (value, one) = if i == j { (values[i], 1.0) } else { (0.0, 0.0) };
                        assert!((dot(row, other) - one).abs() < 1e-12, "{n} {i} {j}");
                        assert!((dot(&turned, other) - value).abs() < 1e-11 * size * n as f64, "{n} {i} {j}");
                    }
                }
            }
        }
        assert!(symmetric(&[1.0, f64::NAN, f64::NAN, 1.0], 2).is_none());
    }
}

//! What reads the residual stream, fitted to its new directions.
//!
//! A norm left `u = G n + b` of the normed stream n, with G its weights; of the stream in its new directions it leaves `x = n' + b'`,
//! with weights of 1. As n is about `s P n'`, a reader W becomes `W G P s`, and b' is what comes nearest to the means that
//! readers put out before. Least squares then take the text into account: `W' = W E[u x^T] E[x x^T]^-1`, in which what the
//! directions that went have in common with those that stay is made up for.

use statepress_kernels::linear::outer::{self, Area, Strided};
use statepress_kernels::program::{Norm, NormKind};

use crate::calibrate::mirrored;
use crate::techniques::change::Turn;
use crate::techniques::prune::eliminate::{DAMPING, solve};

/// What is added to the diagonal where a bias or a norm's weights are fitted, as a share of its mean.
const LEAST: f64 = 1e-6;

/// Sums over a text of `n n^T`, with n what norms have normed before their weights.
#[derive(Default)]
pub(super) struct Energy {
    sums: Vec<f64>,
    rows: Vec<f64>,
}

impl Energy {
    /// Adds rows `[_, d]` of the stream, as a norm reads them.
    pub fn add(&mut self, norm: &Norm, stream: &[f32], d: usize) {
        self.rows.clear();
        stream.chunks_exact(d).for_each(|x| normed(norm, x, &mut self.rows));
        self.sums.resize(d * d, 0.0);
        let n = Strided { values: self.rows.as_slice(), stride: d };
        outer::add((&mut self.sums, d), n, n, stream.len() / d, [d, d], Area::Upper);
    }

    /// The sums `[d, d]`.
    pub fn finish(&mut self, d: usize) -> Vec<f64> {
        mirrored(std::mem::take(&mut self.sums), d)
    }
}

/// Sums over a text of `z z^T` with `z = (n, n', 1)`: the normed stream, and that in its new directions.
pub(super) struct Moments {
    d: usize,
    to: usize,
    /// `[d + to + 1, d + to + 1]`, right of the diagonal.
    sums: Vec<f64>,
    rows: Vec<f64>,
}

impl Moments {
    pub fn new(d: usize, to: usize) -> Self {
        Self { d, to, sums: vec![0.0; (d + to + 1) * (d + to + 1)], rows: Vec::new() }
    }

    /// Bytes of the sums.
    pub fn bytes(d: usize, to: usize) -> usize {
        8 * (d + to + 1) * (d + to + 1)
    }

    /// Adds rows of the stream `[n, d]`, and what they are in new directions `[n, to]`.
    pub fn add(&mut self, norm: &Norm, stream: &[f32], turned: &[f32]) {
        let (d, to) = (self.d, self.to);
        self.rows.clear();
        for (x, y) in stream.chunks_exact(d).zip(turned.chunks_exact(to)) {
            normed(norm, x, &mut self.rows);
            normed(norm, y, &mut self.rows);
            self.rows.push(1.0);
        }
        let wide = d + to + 1;
        let z = Strided { values: self.rows.as_slice(), stride: wide };
        outer::add((&mut self.sums, wide), z, z, stream.len() / d.max(1), [wide, wide], Area::Upper);
    }

    /// Makes means of the sums.
    pub fn finish(self) -> Option<Means> {
        let (d, to, wide) = (self.d, self.to, self.d + self.to + 1);
        let sums = mirrored(self.sums, wide);
        let share = 1.0 / sums[wide * wide - 1];
        let block = |rows: std::ops::Range<usize>, cols: std::ops::Range<usize>| -> Vec<f64> {
            rows.flat_map(|row| sums[row * wide..][cols.clone()].iter().map(|x| x * share)).collect()
        };
        let (old, new, one) = (0..d, d..d + to, d + to..wide);
        let means = Means {
            d,
            to,
            old: block(old.clone(), old.clone()),
            across: block(old.clone(), new.clone()),
            new: block(new.clone(), new.clone()),
            old_mean: block(one.clone(), old),
            new_mean: block(one, new),
        };
        share.is_finite().then_some(means).filter(|means| means.old.iter().all(|x| x.is_finite()))
    }
}

/// A row with its mean taken away, if that is the norm's way, and of a mean square of 1.
fn normed(norm: &Norm, x: &[f32], out: &mut Vec<f64>) {
    let count = x.len() as f64;
    let mean = match norm.kind {
        NormKind::Layer { .. } => x.iter().map(|&x| f64::from(x)).sum::<f64>() / count,
        NormKind::Rms => 0.0,
    };
    let square = x.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum::<f64>() / count;
    let by = (square + f64::from(norm.eps)).sqrt().recip();
    out.extend(x.iter().map(|&x| (f64::from(x) - mean) * by));
}

/// Means over a text, with n the normed stream and n' that in its new directions.
pub(super) struct Means {
    d: usize,
    to: usize,
    /// Of `n n^T`.
    old: Vec<f64>,
    /// Of `n n'^T`, `[d, to]`.
    across: Vec<f64>,
    /// Of `n' n'^T`.
    new: Vec<f64>,
    old_mean: Vec<f64>,
    new_mean: Vec<f64>,
}

/// Weights and bias of a norm as it was, `[d]`; the bias of an RMS norm is zeros.
pub(super) struct Affine {
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// A product that reads a norm.
pub(super) struct Reader {
    /// Numbers of its matrix, `[rows, d]`.
    w: Vec<f64>,
    /// `W G P s`, `[rows, to]`.
    turned: Vec<f64>,
    /// The mean square of what it put out.
    energy: f64,
}

/// A reader for its new input.
pub(super) struct Fitted {
    /// `[rows, to]`.
    pub w: Vec<f32>,
    /// The share of the outputs' squares that is lost.
    pub lost: f64,
}

impl Means {
    /// s: what n' in the old channels is multiplied by to come nearest to n.
    pub fn scale(&self, p: &Turn) -> f64 {
        let along: f64 = self.across.iter().zip(&p.numbers).map(|(x, p)| x * p).sum();
        let square: f64 = (0..self.to).map(|k| self.new[k * (self.to + 1)]).sum();
        if square > 0.0 { along / square } else { 1.0 }
    }

    /// The share of the normed stream's energy that lies in the directions P.
    pub fn captured(&self, p: &Turn) -> f64 {
        super::basis::captured(&self.old, p)
    }

    /// b': by which the turned readers W' come nearest to the means that they put out before.
    pub fn bias(&self, affine: &Affine, readers: &[Reader], start: &[f64]) -> Option<Vec<f64>> {
        let to = self.to;
        let mean = self.entering_mean(affine);
        let (mut normal, mut right) = (vec![0.0; to * to], vec![0.0; to]);
        for reader in readers {
            let share = if reader.energy > 0.0 { 1.0 / reader.energy } else { 0.0 };
            for (old, new) in reader.w.chunks_exact(self.d).zip(reader.turned.chunks_exact(to)) {
                let missing = share * (dot(old, &mean) - dot(new, &self.new_mean));
                for (k, x) in new.iter().enumerate() {
                    right[k] += x * missing;
                    let row = normal[k * to..][..to].iter_mut();
                    row.zip(new).for_each(|(sum, y)| *sum += share * x * y);
                }
            }
        }
        towards(normal, right, start, LEAST)
    }

    /// A reader of these numbers `[rows, d]`, which the norm's weights and s turn so.
    pub fn reader(&self, affine: &Affine, w: &[f32], turn: &Turn) -> Reader {
        let w: Vec<f64> = w.iter().map(|&x| f64::from(x)).collect();
        let rows = w.chunks_exact(self.d);
        let turned = rows.clone().flat_map(|row| product(row, &turn.numbers, self.to)).collect();
        let energy = rows.map(|row| {
            let scaled: Vec<f64> = row.iter().zip(&affine.weight).map(|(x, by)| x * by).collect();
            let shift = dot(row, &affine.bias);
            let square = dot(&scaled, &product(&scaled, &self.old, self.d));
            square + 2.0 * shift * dot(&scaled, &self.old_mean) + shift * shift
        });
        Reader { energy: energy.sum(), turned, w }
    }

    /// Readers for what enters them now, behind a norm with this new bias; without `repairs` they are the turned ones. `None`
    /// where the text says too little.
    pub fn fit(
        &self,
        affine: &Affine,
        bias: &[f64],
        readers: &[Reader],
        repairs: bool,
    ) -> Option<Vec<Fitted>> {
        let to = self.to;
        // E[x x^T] and E[u x^T].
        let mut square = self.new.clone();
        for (k, row) in square.chunks_exact_mut(to).enumerate() {
            for (l, x) in row.iter_mut().enumerate() {
                *x += self.new_mean[k] * bias[l] + bias[k] * self.new_mean[l] + bias[k] * bias[l];
            }
        }
        let mut across = self.across.clone();
        for (j, row) in across.chunks_exact_mut(to).enumerate() {
            for (l, x) in row.iter_mut().enumerate() {
                let shift = affine.bias[j] * (self.new_mean[l] + bias[l]);
                *x = affine.weight[j] * (*x + self.old_mean[j] * bias[l]) + shift;
            }
        }
        let mean = (0..to).map(|k| square[k * (to + 1)]).sum::<f64>() / to as f64;
        let inverse = match repairs && mean > 0.0 {
            false => None,
            true => {
                let mut damped = square.clone();
                (0..to).for_each(|k| damped[k * (to + 1)] += DAMPING * mean);
                Some(solve(damped, to)?)
            }
        };
        let fitted = readers.iter().map(|reader| {
            let (mut w, mut lost) = (Vec::with_capacity(reader.turned.len()), reader.energy);
            for (old, start) in reader.w.chunks_exact(self.d).zip(reader.turned.chunks_exact(to)) {
                let wanted = product(old, &across, to);
                let mut new = start.to_vec();
                if let Some(inverse) = &inverse {
                    let is = product(start, &square, to);
                    let missing: Vec<f64> = wanted.iter().zip(is).map(|(x, y)| x - y).collect();
                    new.iter_mut().zip(product(&missing, inverse, to)).for_each(|(x, step)| *x += step);
                }
                lost += dot(&new, &product(&new, &square, to)) - 2.0 * dot(&new, &wanted);
                w.extend(new.iter().map(|&x| x as f32));
            }
            let lost = if reader.energy > 0.0 { (lost / reader.energy).max(0.0) } else { 0.0 };
            Fitted { w, lost }
        });
        Some(fitted.collect())
    }

    /// Weights and bias `[to]` of a norm whose reader is the table itself, turned as it is looked up: the two that disturb the
    /// logits least, of which a change e of what enters them feels `e^T felt e`.
    pub fn before_table(
        &self,
        affine: &Affine,
        p: &Turn,
        felt: &[f64],
        has_bias: bool,
        start: &Affine,
    ) -> Option<Affine> {
        let (d, to) = (self.d, self.to);
        let count = if has_bias { 2 * to } else { to };
        // P^T F `[to, d]` and P^T F P.
        let mut left = vec![0.0; to * d];
        for (row, p) in felt.chunks_exact(d).zip(p.numbers.chunks_exact(to)) {
            for (left, by) in left.chunks_exact_mut(d).zip(p) {
                left.iter_mut().zip(row).for_each(|(sum, x)| *sum += by * x);
            }
        }
        let both: Vec<f64> = left.chunks_exact(d).flat_map(|row| product(row, &p.numbers, to)).collect();
        let mean = self.entering_mean(affine);
        let (mut normal, mut right) = (vec![0.0; count * count], vec![0.0; count]);
        for k in 0..to {
            let row = &left[k * d..][..d];
            let across =
                |j: usize| affine.weight[j] * self.across[j * to + k] + affine.bias[j] * self.new_mean[k];
            right[k] = (0..d).map(|j| row[j] * across(j)).sum();
            for l in 0..to {
                normal[k * count + l] = both[k * to + l] * self.new[k * to + l];
                if has_bias {
                    normal[k * count + to + l] = both[k * to + l] * self.new_mean[k];
                    normal[(to + k) * count + l] = both[k * to + l] * self.new_mean[l];
                    normal[(to + k) * count + to + l] = both[k * to + l];
                }
            }
            if has_bias {
                right[to + k] = dot(row, &mean);
            }
        }
        let start: Vec<f64> = start.weight.iter().chain(&start.bias).take(count).copied().collect();
        let mut fitted = towards(normal, right, &start, LEAST)?;
        let bias = if has_bias { fitted.split_off(to) } else { vec![0.0; to] };
        Some(Affine { weight: fitted, bias })
    }

    /// E[u].
    fn entering_mean(&self, affine: &Affine) -> Vec<f64> {
        let all = self.old_mean.iter().zip(&affine.weight).zip(&affine.bias);
        all.map(|((mean, weight), bias)| mean * weight + bias).collect()
    }
}

/// x with `(A + damping) x = y + damping start`.
fn towards(mut a: Vec<f64>, mut y: Vec<f64>, start: &[f64], damping: f64) -> Option<Vec<f64>> {
    let n = y.len();
    let by = damping * (0..n).map(|k| a[k * (n + 1)]).sum::<f64>() / n.max(1) as f64;
    if by == 0.0 {
        return Some(start.to_vec());
    }
    for k in 0..n {
        a[k * (n + 1)] += by;
        y[k] += by * start[k];
    }
    let inverse = solve(a, n)?;
    Some(inverse.chunks_exact(n).map(|row| dot(row, &y)).collect())
}

/// `x A`, of `[n]` and `[n, cols]`.
pub(super) fn product(x: &[f64], a: &[f64], cols: usize) -> Vec<f64> {
    let mut y = vec![0.0; cols];
    for (x, row) in x.iter().zip(a.chunks_exact(cols.max(1))) {
        y.iter_mut().zip(row).for_each(|(sum, a)| *sum += x * a);
    }
    y
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use statepress_kernels::program::VectorId;

    use super::super::basis::{Constraints, Known, directions};
    use super::*;
    use crate::calibrate::used_rows;

    /// What is said to be lost is what is lost over the text itself; fitting loses less, and no weights nearby less still.
    #[test]
    fn no_other_weights_come_nearer_to_the_old_outputs() {
        let (d, to, rows, tokens) = (10, 6, 4, 300);
        for kind in [NormKind::Rms, NormKind::Layer { bias: VectorId(0) }] {
            let mut random = fastrand::Rng::with_seed(11);
            let mut stream: Vec<f32> = (0..tokens * d).map(|_| random.f32() - 0.4).collect();
            stream.chunks_exact_mut(d).for_each(|x| (1..d).for_each(|i| x[i] += 0.8 * x[i - 1]));
            let takes_mean = kind != NormKind::Rms;
            let norm = Norm { kind, weight: None, eps: 1e-5 };
            let all = used_rows(&stream, &vec![1.0; tokens], d);
            let known = Known { rows: all.clone(), read: all.clone(), felt: all };
            let p = directions(&known, d, to, Constraints { takes_mean, weights: None }).unwrap();
            let mut moments = Moments::new(d, to);
            moments.add(&norm, &stream, &p.apply(&stream, 1));
            let means = moments.finish().unwrap();
            let weight: Vec<f64> = (0..d).map(|_| 0.5 + random.f64()).collect();
            let bias = (0..d).map(|_| if takes_mean { random.f64() - 0.5 } else { 0.0 }).collect();
            let (affine, w) = (Affine { weight, bias }, (0..rows * d).map(|_| random.f32() - 0.5));
            let w: Vec<f32> = w.collect();
            let scale = means.scale(&p);
            let readers = [means.reader(&affine, &w, &p.scaled(|j| scale * affine.weight[j]))];
            let new_bias = match takes_mean {
                true => means.bias(&affine, &readers, &vec![0.0; to]).unwrap(),
                false => vec![0.0; to],
            };
            let lost = |new: &[f32]| {
                let (mut lost, mut whole) = (0.0, 0.0);
                for x in stream.chunks_exact(d) {
                    let (mut n, mut turned) = (Vec::new(), Vec::new());
                    normed(&norm, x, &mut n);
                    normed(&norm, &p.apply(x, 1), &mut turned);
                    for (old, new) in w.chunks_exact(d).zip(new.chunks_exact(to)) {
                        let u = n.iter().zip(&affine.weight).zip(&affine.bias).map(|((n, w), b)| n * w + b);
                        let was: f64 = u.zip(old).map(|(u, w)| u * f64::from(*w)).sum();
                        let is: f64 = turned
                            .iter()
                            .zip(&new_bias)
                            .zip(new)
                            .map(|((n, b), w)| (n + b) * f64::from(*w))
                            .sum();
                        lost += (was - is) * (was - is);
                        whole += was * was;
                    }
                }
                lost / whole
            };
            let [cut, fitted] = [false, true].map(|repairs| {
                let fitted = means.fit(&affine, &new_bias, &readers, repairs).unwrap().pop().unwrap();
                assert!((fitted.lost - lost(&fitted.w)).abs() < 1e-5, "{kind:?}: {}", fitted.lost);
                fitted
            });
            assert!(fitted.lost < cut.lost, "{kind:?}: {} {}", fitted.lost, cut.lost);
            for at in 0..fitted.w.len() {
                for step in [-0.05, 0.05] {
                    let mut other = fitted.w.clone();
                    other[at] += step;
                    assert!(lost(&other) > fitted.lost - 1e-6, "{kind:?} {at}");
                }
            }
        }
    }
}

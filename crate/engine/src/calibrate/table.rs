//! What a table is rounded for: as the head by what enters the head, as what ids look up by what the
//! loss feels of it.
//!
//! `H = H_head + F_in`, where `F_in = mean g g^T` with g the gradient at the output of the look-up needs a
//! backward pass. Without one there is a substitute, to be asked for by name and reported as such
//! ([`lookup_substitute`]): the covariance of the softmax, seen through the final norm, says in which
//! directions of the residual stream logits are touchy; how much of a change at the input gets there, one
//! measured divergence says ([`probed`]).

use super::head::HeadStatistics;

/// The sum of what is known of a table: [`HeadStatistics::h`] where it makes the logits, and `F_in`,
/// measured or substituted, times `size`, where ids look it up. `None` where nothing is.
///
/// With `alpha_r` also the share of tokens that are r, both weigh the rows alike, and
/// `1/2 sum_r alpha_r e_r^T H e_r` is the divergence that a change of the table costs.
pub fn table_metric(head: Option<&HeadStatistics>, lookups: Option<(&[f32], f64)>) -> Option<Vec<f32>> {
    match (head, lookups) {
        (Some(head), None) => Some(head.h.clone()),
        (None, Some((f, size))) => Some(f.iter().map(|x| (f64::from(*x) * size) as f32).collect()),
        (Some(head), Some((f, size))) => {
            let pairs = head.h.iter().zip(f);
            Some(pairs.map(|(h, f)| (f64::from(*h) + f64::from(*f) * size) as f32).collect())
        }
        (None, None) => None,
    }
}

/// In place of `F_in`, up to its size: `P G S G P` with S the covariance of the softmax
/// ([`HeadStatistics::covariance`], `[d, d]`), G the weights of the final norm, and P what takes the mean
/// away, as a LayerNorm does; its trace is d. It knows nothing of the layers between.
pub fn lookup_substitute(covariance: &[f32], gain: Option<&[f32]>, takes_mean: bool) -> Vec<f32> {
    let d = covariance.len().isqrt();
    let gain = |i: usize| gain.map_or(1.0, |gain| f64::from(gain[i]));
    let mut f: Vec<f64> =
        (0..d * d).map(|at| f64::from(covariance[at]) * gain(at / d.max(1)) * gain(at % d.max(1))).collect();
    if takes_mean {
        for row in f.chunks_exact_mut(d) {
            let mean = row.iter().sum::<f64>() / d as f64;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        for col in 0..d {
            let mean = (0..d).map(|row| f[row * d + col]).sum::<f64>() / d as f64;
            (0..d).for_each(|row| f[row * d + col] -= mean);
        }
    }
    let trace = (0..d).map(|i| f[i * (d + 1)]).sum::<f64>();
    let size = if trace > 0.0 { d as f64 / trace } else { 0.0 };
    f.into_iter().map(|x| (x * size) as f32).collect()
}

/// The size of `F`, of a probe: a table was changed by E, which cost the divergence `kl`, of which the head
/// explains a part. `None` where the head explains all of it: then the probe says nothing.
pub fn probed(
    kl: f64,
    change: &[f32],
    alpha: &[f32],
    head: Option<&HeadStatistics>,
    f: &[f32],
) -> Option<f64> {
    let explained = head.map_or(0.0, |head| half_square(change, alpha, &head.h));
    let unit = half_square(change, alpha, f);
    (unit > 0.0 && kl > explained).then(|| (kl - explained) / unit)
}

/// `1/2 sum_r alpha_r e_r^T H e_r`.
pub fn half_square(change: &[f32], alpha: &[f32], h: &[f32]) -> f64 {
    let d = h.len().isqrt();
    let rows = change.chunks_exact(d.max(1)).zip(alpha).map(|(e, alpha)| {
        let through = h.chunks_exact(d).zip(e).map(|(h, x)| {
            let y: f32 = h.iter().zip(e).map(|(h, y)| h * y).sum();
            f64::from(*x) * f64::from(y)
        });
        f64::from(*alpha) * through.sum::<f64>()
    });
    rows.sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_substitute_has_the_trace_of_the_identity_and_does_not_see_a_mean() {
        let covariance = [2.0, 0.5, 0.0, 0.5, 1.0, 0.25, 0.0, 0.25, 3.0];
        let f = lookup_substitute(&covariance, Some(&[1.0, 2.0, 0.5]), true);
        assert!((f[0] + f[4] + f[8] - 3.0).abs() < 1e-5);
        for i in 0..3 {
            assert!(f[3 * i..3 * i + 3].iter().sum::<f32>().abs() < 1e-5, "{f:?}");
            (0..3).for_each(|j| assert!((f[3 * i + j] - f[3 * j + i]).abs() < 1e-6));
        }
        let plain = lookup_substitute(&covariance, None, false);
        assert!((plain[1] - 0.25).abs() < 1e-6, "{plain:?}");
    }

    #[test]
    fn a_probe_gives_back_the_size_it_was_made_with() {
        let identity = [1.0, 0.0, 0.0, 1.0];
        let h = vec![0.5, 0.1, 0.1, 0.2];
        let head = HeadStatistics { alpha: Vec::new(), mean: Vec::new(), h, weight: 1.0, covariance: None };
        let (change, alpha) = ([0.1, -0.2, 0.3, 0.05], [0.25, 0.5]);
        let whole = table_metric(Some(&head), Some((&identity, 3.0))).unwrap();
        let kl = half_square(&change, &alpha, &whole);
        let found = probed(kl, &change, &alpha, Some(&head), &identity).unwrap();
        assert!((found - 3.0).abs() < 1e-5, "{found}");
        assert_eq!(probed(1e-9, &change, &alpha, Some(&head), &identity), None);
    }
}

//! What is made small: the distance to a teacher's predictions, and to the text itself (Hinton et al. 2015, section 2).
//!
//! Logits are by far the largest tensors of a pass, and their derivatives are the softmax less what it should be. Both are
//! taken here, row by row while a row is in the cache: burn's operations would each go through the vocabulary of all tokens.

use serde::{Deserialize, Serialize};
use statepress_kernels::lanes::{self, F32x4, math};
use statepress_kernels::ops::softmax::{compare, log_sum_exp};

/// The logarithm of a probability that is zero.
const NEVER: f32 = -1000.0;

/// How much the teacher counts, and the text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mixture {
    /// The share of the teacher, 0 to 1: `alpha T^2 KL(teacher || student) + (1 - alpha) CE`, per token.
    pub alpha: f64,
    /// T: both models' logits are divided by it before they are compared.
    pub temperature: f64,
}

/// A loss, and how it changes with logits.
pub(crate) struct Loss {
    /// The mean over tokens, nats.
    pub value: f64,
    /// Its derivative by every logit, `[n, V]`.
    pub slope: Vec<f32>,
}

/// How far a model is off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Distance {
    /// The sum over tokens of the negative log-likelihood, nats.
    pub nll: f64,
    /// The sum over tokens of the divergence from a teacher, nats; 0 without one.
    pub kl: f64,
}

impl Mixture {
    /// The loss of a student's logits `[n, V]` against a teacher's, which there have to be where it has a share, and against
    /// `n` labels below `V`. What has no share is not computed.
    pub(crate) fn loss(&self, student: Vec<f32>, teacher: Option<Vec<f32>>, labels: &[u32]) -> Loss {
        let (mut slope, teacher) = (student, teacher.filter(|_| self.alpha > 0.0).unwrap_or_default());
        let vocab = slope.len() / labels.len();
        let mut teacher = teacher.chunks_exact(vocab);
        let mut scratch = Scratch::default();
        let sums = slope
            .chunks_exact_mut(vocab)
            .zip(labels)
            .map(|(row, &label)| scratch.of(self, row, teacher.next(), label as usize));
        let sum: f64 = sums.sum();
        let share = 1.0 / labels.len() as f32;
        slope.iter_mut().for_each(|slope| *slope *= share);
        Loss { value: sum / labels.len() as f64, slope }
    }
}

/// Logarithms of probabilities of one row, up to a whole number of vectors.
#[derive(Default)]
struct Scratch {
    /// The student's and the teacher's, of logits that are divided by T.
    soft: Vec<f32>,
    taught: Vec<f32>,
    /// The student's own, where they are others.
    plain: Vec<f32>,
}

impl Scratch {
    /// The loss of a row; its logits become slopes.
    fn of(&mut self, mixture: &Mixture, row: &mut [f32], teacher: Option<&[f32]>, label: usize) -> f64 {
        let Self { soft, taught, plain } = self;
        let temperature = mixture.temperature as f32;
        let alpha = if teacher.is_some() { mixture.alpha as f32 } else { 0.0 };
        let (learnt, text) = (alpha * temperature, 1.0 - alpha);
        let mut value = 0.0;
        log_softmax(row, if teacher.is_some() { temperature } else { 1.0 }, soft);
        // Where T is 1 the two predictions of the student are one.
        let apart = teacher.is_some() && temperature != 1.0 && text > 0.0;
        if apart {
            log_softmax(row, 1.0, plain);
        }
        if text > 0.0 {
            value -= f64::from(text * if apart { plain[label] } else { soft[label] });
        }
        let share = F32x4::splat(if apart { learnt } else { learnt + text });
        match teacher {
            Some(teacher) => {
                log_softmax(teacher, temperature, taught);
                let (learnt, mut kl) = (F32x4::splat(learnt), F32x4::ZERO);
                for (soft, taught) in soft.as_chunks_mut().0.iter_mut().zip(taught.as_chunks().0) {
                    let (log_q, log_p) = (F32x4::load(soft), F32x4::load(taught));
                    let p = math::exp(log_p);
                    kl = kl + p * (log_p - log_q);
                    *soft = (share * math::exp(log_q) - learnt * p).to_array();
                }
                value += f64::from(alpha * temperature * temperature * kl.sum());
            }
            None => lanes::map(soft, |log_q| share * math::exp(log_q)),
        }
        if apart {
            let share = F32x4::splat(text);
            for (soft, plain) in soft.as_chunks_mut().0.iter_mut().zip(plain.as_chunks().0) {
                *soft = share.mul_add(math::exp(F32x4::load(plain)), F32x4::load(soft)).to_array();
            }
        }
        soft[label] -= text;
        row.copy_from_slice(&soft[..row.len()]);
        value
    }
}

/// The logarithms of what logits predict once they are divided.
fn log_softmax(logits: &[f32], by: f32, into: &mut Vec<f32>) {
    into.clear();
    into.extend(logits.iter().map(|logit| logit / by));
    let sum = log_sum_exp(into);
    into.iter_mut().for_each(|logit| *logit -= sum);
    into.resize(logits.len().next_multiple_of(4), NEVER);
}

/// How far logits `[n, V]` are off labels, and off a teacher's: `KL(teacher || student)`.
pub(crate) fn distance(student: &[f32], teacher: Option<&[f32]>, labels: &[u32]) -> Distance {
    let vocab = student.len() / labels.len();
    let mut teacher = teacher.unwrap_or_default().chunks_exact(vocab);
    let mut sum = Distance::default();
    for (row, &label) in student.chunks_exact(vocab).zip(labels) {
        match teacher.next().map(|teacher| compare(teacher, row, label as usize)) {
            Some(pair) => (sum.nll, sum.kl) = (sum.nll + f64::from(pair.nll_b), sum.kl + f64::from(pair.kl)),
            None => sum.nll += f64::from(log_sum_exp(row) - row[label as usize]),
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    /// Logits that have something in common, row by row, predict the same.
    #[test]
    fn what_a_row_has_in_common_is_not_divergence() {
        let (rows, ids) = (64, 2001);
        let mut random = fastrand::Rng::with_seed(3);
        let mut numbers =
            |spread: f32| -> Vec<f32> { (0..rows * ids).map(|_| spread * (random.f32() - 0.5)).collect() };
        let (given, noise) = (numbers(4.0), numbers(0.2));
        let labels = vec![7; rows];
        let kl = |of: &dyn Fn(usize) -> f32| {
            let student: Vec<f32> = given.iter().enumerate().map(|(at, it)| it + of(at)).collect();
            let found = distance(&student, Some(&given), &labels).kl / rows as f64;
            let mixture = Mixture { alpha: 1.0, temperature: 1.0 };
            let loss = mixture.loss(student, Some(given.clone()), &labels).value;
            assert!((loss - found).abs() < 1e-5, "{loss} {found}");
            found
        };
        let common = |at: usize| 60.0 + (at / ids) as f32;
        let (near, shifted) = (kl(&|at| noise[at]), kl(&|at| noise[at] + common(at)));
        assert!((near / shifted - 1.0).abs() < 0.01 && near > 1e-3, "{near} {shifted}");
        assert!(kl(&common).abs() < 1e-5);
    }

    /// Losses and gradients of PyTorch for nine temperatures and shares: two windows of seven positions, 50 ids.
    #[test]
    fn distillation_losses_are_those_of_pytorch() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/misc/losses");
        let bytes = std::fs::read(format!("{folder}.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            let tensor = golden.tensor(name).unwrap();
            tensor.data().as_chunks().0.iter().map(|it| f32::from_le_bytes(*it)).collect()
        };
        let labels = golden.tensor("labels").unwrap();
        let labels: Vec<u32> =
            labels.data().as_chunks().0.iter().map(|it| i64::from_le_bytes(*it) as u32).collect();
        let about = std::fs::read_to_string(format!("{folder}.json")).unwrap();
        let about: serde_json::Value = serde_json::from_str(&about).unwrap();
        let rows = about["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 9);
        let (student, teacher) = (floats("student_logits"), floats("teacher_logits"));
        for row in rows {
            let number = |key: &str| row[key].as_f64().unwrap();
            let mixture = Mixture { alpha: number("alpha"), temperature: number("temperature") };
            let at = |student: Vec<f32>| mixture.loss(student, Some(teacher.clone()), &labels);
            let Loss { value, slope } = at(student.clone());
            let expected = number("total_per_token");
            let off = (value - expected).abs() / (1.0 + expected);
            assert!(off < 1e-5, "{row}: {value}");
            // Along the slope, a loss rises by the square of its length.
            let square: f64 = slope.iter().map(|&it| f64::from(it).powi(2)).sum();
            let moved = |by: f32| at(student.iter().zip(&slope).map(|(x, dx)| x + by * dx).collect()).value;
            let rise = (moved(0.5) - moved(-0.5)) / square;
            assert!((rise - 1.0).abs() < 0.01, "{row}: {rise}");
            // The golden gradient is that of the usual pair.
            if (mixture.alpha, mixture.temperature) == (0.5, 2.0) {
                let expected = floats("grad_total_per_token");
                let worst = slope.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-6, "{worst:e}");
            }
        }
    }
}

//! What is made small: the distance to a teacher's predictions, and to the text itself (Hinton et al. 2015, section 2).
//!
//! Logits are by far the largest tensors of a pass. Their derivatives are written out, as the softmax less what it should
//! be: burn's would go through a vocabulary two dozen times, and keep as many tensors of its size.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

/// How much the teacher counts, and the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// The share of the teacher, 0 to 1: `alpha T^2 KL(teacher || student) + (1 - alpha) CE`, per token.
    pub alpha: f64,
    /// T: both models' logits are divided by it before they are compared.
    pub temperature: f64,
}

/// A loss, and how it changes with logits.
pub(crate) struct Loss {
    /// The mean over tokens, nats.
    pub value: Tensor<1>,
    /// Its derivative by every logit, `[n, V]`.
    pub slope: Tensor<2>,
}

/// Logits, and what they say.
#[derive(Clone)]
struct Predictions {
    logits: Tensor<2>,
    /// Their softmax, `[n, V]`.
    p: Tensor<2>,
    /// The logarithm of what it divides by, `[n, 1]`.
    log_sum: Tensor<2>,
}

impl Mixture {
    /// The loss of a student's logits `[n, V]` against a teacher's, which there has to be where it has a share, and against
    /// labels `[n]`; all without gradients. What has no share is not computed.
    pub(crate) fn loss(
        &self,
        student: Tensor<2>,
        teacher: Option<Tensor<2>>,
        labels: Tensor<1, Int>,
    ) -> Loss {
        let Self { alpha, temperature } = *self;
        let Some(teacher) = teacher.filter(|_| alpha > 0.0) else {
            return Predictions::of(student).text(labels, 1.0);
        };
        let softened = |logits: Tensor<2>| match temperature {
            1.0 => Predictions::of(logits),
            _ => Predictions::of(logits.div_scalar(temperature)),
        };
        let soft = softened(student.clone());
        let kl = soft.clone().divergence(softened(teacher), temperature, alpha);
        if alpha == 1.0 {
            return kl;
        }
        let plain = if temperature == 1.0 { soft } else { Predictions::of(student) };
        let ce = plain.text(labels, 1.0 - alpha);
        Loss { value: kl.value + ce.value, slope: kl.slope + ce.slope }
    }
}

impl Predictions {
    fn of(logits: Tensor<2>) -> Self {
        let largest = logits.clone().max_dim(1);
        let powers = (logits.clone() - largest.clone()).exp();
        let sum = powers.clone().sum_dim(1);
        Self { logits, p: powers / sum.clone(), log_sum: largest + sum.log() }
    }

    /// `T^2 KL(teacher || student)` of logits that are divided by T already, times `share`.
    fn divergence(self, teacher: Self, temperature: f64, share: f64) -> Loss {
        let rows = self.p.dims()[0] as f64;
        // Row by row, as what a row's logits have in common, which of a centered table may be a lot, would be lost in a sum.
        let shift = teacher.log_sum - self.log_sum;
        let value = (teacher.p.clone() * (teacher.logits - self.logits - shift)).sum();
        Loss {
            value: value.mul_scalar(share * temperature * temperature / rows),
            slope: (self.p - teacher.p).mul_scalar(share * temperature / rows),
        }
    }

    /// The negative log-likelihood of a label for each row, times `share`.
    fn text(self, labels: Tensor<1, Int>, share: f64) -> Loss {
        let rows = labels.dims()[0];
        let labels = labels.unsqueeze_dim::<2>(1);
        let value = (self.log_sum - self.logits.gather(1, labels.clone())).mean();
        let hit = Tensor::full([rows, 1], -1.0, &self.p.device());
        let slope = self.p.scatter(1, labels, hit, IndexingUpdateOp::Add);
        Loss { value: value.mul_scalar(share), slope: slope.mul_scalar(share / rows as f64) }
    }
}

/// The mean divergence of predictions from a teacher's, both logits `[n, V]`: `KL(teacher || student)`.
pub(crate) fn divergence(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    Predictions::of(student).divergence(Predictions::of(teacher), 1.0, 1.0).value
}

/// The mean negative log-likelihood of a label for each row.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let Predictions { logits, log_sum, .. } = Predictions::of(logits);
    (log_sum - logits.gather(1, labels.unsqueeze_dim(1))).mean()
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use safetensors::SafeTensors;

    use super::*;
    use crate::Device;

    /// Logits that have something in common, row by row, predict the same.
    #[test]
    fn what_a_row_has_in_common_is_not_divergence() {
        let (rows, ids) = (64, 2000);
        let mut random = fastrand::Rng::with_seed(3);
        let mut numbers = |spread: f32, count: usize| -> Vec<f32> {
            (0..count).map(|_| spread * (random.f32() - 0.5)).collect()
        };
        for &device in Device::ALL {
            let to = device.burn();
            let given = Tensor::<2>::from_data(TensorData::new(numbers(4.0, rows * ids), [rows, ids]), &to);
            let noise = Tensor::from_data(TensorData::new(numbers(0.2, rows * ids), [rows, ids]), &to);
            let common =
                Tensor::from_data(TensorData::new(numbers(100.0, rows), [rows, 1]), &to).add_scalar(60.0);
            let kl = |student| f64::from(divergence(student, given.clone()).into_scalar::<f32>());
            let (near, shifted) =
                (kl(given.clone() + noise.clone()), kl(given.clone() + noise + common.clone()));
            assert!(
                (near / shifted - 1.0).abs() < 0.01 && near > 1e-3,
                "{}: {near} {shifted}",
                device.name()
            );
            assert!(kl(given.clone() + common).abs() < 1e-5, "{}", device.name());
        }
    }

    /// Losses and gradients of PyTorch for nine temperatures and shares: two windows of seven positions, 50 ids.
    #[test]
    fn distillation_losses_are_those_of_pytorch() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/misc/losses");
        let bytes = std::fs::read(format!("{folder}.safetensors")).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            golden
                .tensor(name)
                .unwrap()
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|it| f32::from_le_bytes(*it))
                .collect()
        };
        let labels = golden.tensor("labels").unwrap();
        let labels: Vec<i32> =
            labels.data().as_chunks().0.iter().map(|it| i64::from_le_bytes(*it) as i32).collect();
        let about = std::fs::read_to_string(format!("{folder}.json")).unwrap();
        let about: serde_json::Value = serde_json::from_str(&about).unwrap();
        let rows = about["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 9);
        for &device in Device::ALL {
            let to = device.burn();
            let logits = |name: &str| Tensor::<2>::from_data(TensorData::new(floats(name), [14, 50]), &to);
            let (student, teacher) = (logits("student_logits"), logits("teacher_logits"));
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [14]), &to);
            for row in rows {
                let number = |key: &str| row[key].as_f64().unwrap();
                let mixture = Mixture { alpha: number("alpha"), temperature: number("temperature") };
                let at = |student| mixture.loss(student, Some(teacher.clone()), labels.clone());
                let number_of = |tensor: Tensor<1>| f64::from(tensor.into_scalar::<f32>());
                let loss = at(student.clone());
                let (found, expected) = (number_of(loss.value), number("total_per_token"));
                let off = (found - expected).abs() / (1.0 + expected);
                assert!(off < 1e-5, "{}: {row}: {found}", device.name());
                // Along the slope, a loss rises by the square of its length.
                let square = number_of(loss.slope.clone().square().sum());
                let moved =
                    |by: f64| number_of(at(student.clone() + loss.slope.clone().mul_scalar(by)).value);
                let rise = (moved(0.5) - moved(-0.5)) / square;
                assert!((rise - 1.0).abs() < 0.01, "{}: {row}: {rise}", device.name());
                // The golden gradient is that of the usual pair.
                if (mixture.alpha, mixture.temperature) == (0.5, 2.0) {
                    let gradient: Vec<f32> = loss.slope.into_data().try_into_vec().unwrap();
                    let expected = floats("grad_total_per_token");
                    let worst =
                        gradient.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst < 1e-6, "{}: {worst:e}", device.name());
                }
            }
        }
    }
}

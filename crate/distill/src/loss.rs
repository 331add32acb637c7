//! What is made small: the distance to a teacher's predictions, and to the text itself (Hinton et al. 2015, section 2).

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor};

/// How much the teacher counts, and the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// The share of the teacher, 0 to 1: `alpha T^2 KL(teacher || student) + (1 - alpha) CE`, per token.
    pub alpha: f64,
    /// T: both models' logits are divided by it before they are compared.
    pub temperature: f64,
}

impl Mixture {
    /// The loss, the mean over tokens in nats, of a student's logits `[n, V]` against a teacher's, which there has to be where
    /// it has a share, and against labels `[n]`. What has no share is not computed.
    pub(crate) fn loss(
        &self,
        student: Tensor<2>,
        teacher: Option<Tensor<2>>,
        labels: Tensor<1, Int>,
    ) -> Tensor<1> {
        let Self { alpha, temperature } = *self;
        let Some(teacher) = teacher.filter(|_| alpha > 0.0) else { return cross_entropy(student, labels) };
        let kl = divergence(teacher, student.clone(), temperature).mul_scalar(alpha);
        if alpha == 1.0 {
            return kl;
        }
        kl + cross_entropy(student, labels).mul_scalar(1.0 - alpha)
    }
}

/// `T^2 KL(softmax(teacher / T) || softmax(student / T))`, the mean over rows.
fn divergence(teacher: Tensor<2>, student: Tensor<2>, temperature: f64) -> Tensor<1> {
    let rows = student.dims()[0] as f64;
    let softened = |logits: Tensor<2>| match temperature {
        1.0 => logits,
        _ => logits.div_scalar(temperature),
    };
    let teacher = softened(teacher);
    let p = softmax(teacher.clone(), 1);
    let difference = log_softmax(teacher, 1) - log_softmax(softened(student), 1);
    (p * difference).sum().mul_scalar(temperature * temperature / rows)
}

/// The mean negative log-likelihood of a label for each row.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1)).mean().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use safetensors::SafeTensors;

    use super::*;
    use crate::Device;

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
        for device in Device::ALL {
            let tracked = device.burn().autodiff();
            let logits =
                |name: &str| Tensor::<2>::from_data(TensorData::new(floats(name), [14, 50]), &tracked);
            let teacher = logits("teacher_logits");
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [14]), &tracked);
            for row in rows {
                let number = |key: &str| row[key].as_f64().unwrap();
                let mixture = Mixture { alpha: number("alpha"), temperature: number("temperature") };
                let student = logits("student_logits").require_grad();
                let loss = mixture.loss(student.clone(), Some(teacher.clone()), labels.clone());
                let (found, expected) = (loss.clone().into_scalar::<f32>(), number("total_per_token"));
                let off = (f64::from(found) - expected).abs() / (1.0 + expected);
                assert!(off < 1e-5, "{}: {row}: {found}", device.name());
                // The golden gradient is that of the usual pair.
                if (mixture.alpha, mixture.temperature) == (0.5, 2.0) {
                    let gradient = student.grad(&loss.backward()).unwrap().into_data();
                    let gradient: Vec<f32> = gradient.try_into_vec().unwrap();
                    let expected = floats("grad_total_per_token");
                    let worst =
                        gradient.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst < 1e-6, "{}: {worst:e}", device.name());
                }
            }
        }
    }
}

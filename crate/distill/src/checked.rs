//! Whether a GPU computes what the CPU does: its gradients are believed once they are the CPU's.

use statepress_engine::EngineError;
use statepress_kernels::backend::BackendError;

use crate::gradients::{Labelled, Objective};
use crate::loss::Mixture;
use crate::model::read_back;
use crate::{Device, Trainable, Trains};

/// How far the gradient of a tensor may be off, as a share of its length. Exponents and roots are less exact on GPUs, and sums have
/// another order, which comes to a hundredth of this; what is wrong is wrong by far more.
const MOST: f64 = 1e-3;

/// And as a share of the length of all gradients together: what is next to nothing has no digits that could agree.
const MOST_OF_ALL: f64 = 1e-5;

impl Trainable {
    /// Compares the gradients of an update with those that the CPU computes; nothing where it is the CPU that trains, or where what the CPU
    /// computes is no number, which training says. The text alone is what is learned: of a teacher that is hardly another model there
    /// would be next to nothing to learn, and so no digits that could agree.
    ///
    /// # Errors
    /// [`BackendError::SelfCheck`] where they are others.
    pub(crate) async fn check_device(
        &self,
        examples: &Labelled,
        balance: f64,
        trains: Trains,
    ) -> Result<(), EngineError> {
        if self.device.is_cpu() {
            return Ok(());
        }
        let objective = &Objective { mixture: Mixture { alpha: 0.0, temperature: 1.0 }, balance };
        let cpu = self.on(Device::Flex).await?;
        let right = cpu.gradients(examples, None, objective, trains).await?;
        let least = MOST_OF_ALL * f64::from(right.norm(&cpu).await?);
        if !right.loss.is_finite() || !least.is_finite() {
            return Ok(());
        }
        let found = self.gradients(examples, None, objective, trains).await?;
        let refused =
            |reason: String| Err(BackendError::SelfCheck { adapter: self.device.called(), reason }.into());
        let off = (found.loss - right.loss).abs();
        if off.is_nan() || off > MOST * right.loss.abs() {
            return refused(format!("a loss of {} instead of {}", found.loss, right.loss));
        }
        for (parameter, (found, right)) in self.parameters.iter().zip(found.of.iter().zip(&right.of)) {
            let key = &parameter.key;
            let (found, right) = match (found, right) {
                (Some(found), Some(right)) => (found, right),
                (None, None) => continue,
                _ => return refused(format!("a gradient of {key} is on one side only")),
            };
            let found = read_back(self.device, found.clone()).await?;
            let right = read_back(cpu.device, right.clone()).await?;
            let length = |of: &dyn Fn((&f32, &f32)) -> f32| {
                found.iter().zip(&right).map(|pair| f64::from(of(pair)).powi(2)).sum::<f64>().sqrt()
            };
            let (off, whole) = (length(&|(a, b)| a - b), length(&|(_, b)| *b));
            if off.is_nan() || off > MOST * whole + least {
                return refused(format!("the gradient of {key} is off by {off:.1e} of {whole:.1e}"));
            }
        }
        Ok(())
    }
}

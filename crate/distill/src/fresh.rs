//! The numbers that a model begins with when it learns from nothing.

use statepress_core::Role;

use crate::Trainable;
use crate::model::{Parameter, tensor};

/// The deviation of a table's numbers (Radford et al. 2019, as GPT-2 and Mamba begin).
const TABLE: f32 = 0.02;

impl Trainable {
    /// Draws every weight anew, as PyTorch's layers begin: rows of tables from a normal variable, projections and taps evenly
    /// within one over the root of what they read, norms at one and biases at nothing. How states decay, skip and step stays, as
    /// every family has its own way to begin with that.
    pub fn begin_anew(&mut self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let device = self.device;
        for parameter in &mut self.parameters {
            let Parameter { key, shape, role, reads, .. } = &*parameter;
            let count: usize = shape.iter().product();
            let is_bias = *role == Role::Bias || key.ends_with("bias");
            let values = match role {
                Role::Dynamics => continue,
                Role::Table | Role::Positions => (0..count).map(|_| TABLE * normal(&mut random)).collect(),
                _ if is_bias => vec![0.0; count],
                Role::Norm => vec![1.0; count],
                _ => {
                    let most = (*reads.max(&1) as f32).sqrt().recip();
                    (0..count).map(|_| most * (2.0 * random.f32() - 1.0)).collect()
                }
            };
            let values = tensor(device, values, &parameter.shape);
            (parameter.values, parameter.rounded) = (values, None);
        }
    }
}

/// A normal variable (Box and Muller 1958).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let (radius, angle) = (1.0 - random.f64(), std::f64::consts::TAU * random.f64());
    ((-2.0 * radius.ln()).sqrt() * angle.cos()) as f32
}

//! One update of the weights after the other: Adam over clipped gradients, and a learning rate that rises and falls.

use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::sequential::SequentialLrSchedulerConfig;
use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer as _};
use burn::tensor::Tensor;
use statepress_engine::EngineError;

use super::options::{Adam, TrainOptions};
use crate::Trainable;
use crate::gradients::Gradients;

/// Updates the weights of a model; it remembers means of their gradients.
pub struct Optimizer {
    adam: AdamW,
    clip: f64,
    /// One for each parameter.
    pub(super) states: Vec<Option<AdamWState<2>>>,
}

impl Optimizer {
    /// Of a model, of whose gradients nothing is known yet.
    pub fn new(model: &Trainable, adam: &Adam) -> Self {
        let config = AdamWConfig::new()
            .with_beta_1(adam.betas[0])
            .with_beta_2(adam.betas[1])
            .with_epsilon(adam.eps)
            .with_weight_decay(adam.weight_decay);
        let states = model.parameters.iter().map(|_| None).collect();
        Self { adam: config.build(), clip: adam.clip, states }
    }

    /// Updates every weight that has a gradient.
    pub fn apply(&mut self, model: &mut Trainable, gradients: Gradients, learning_rate: f64) {
        // As torch's clip_grad_norm_: by one factor for all, on the device.
        let factor = gradients.norm.add_scalar(1e-6).recip().mul_scalar(self.clip).clamp_max(1.0);
        let factor: Tensor<2> = factor.unsqueeze_dim(0);
        let parameters = model.parameters.iter_mut().zip(&mut self.states);
        for ((parameter, state), gradient) in parameters.zip(gradients.of) {
            let Some(gradient) = gradient else { continue };
            let values = parameter.values.clone();
            let (values, next) =
                self.adam.step(learning_rate, values, gradient * factor.clone(), state.take());
            (parameter.values, *state) = (values, next);
        }
    }
}

/// The learning rate of every step after those that were done: a line up, then a cosine down.
pub(super) fn schedule(options: &TrainOptions, done: usize) -> Result<ModuleLrScheduler, EngineError> {
    let TrainOptions { steps, warm_up, learning_rate, last_rate, .. } = *options;
    let cosine = CosineAnnealingLrSchedulerConfig::new(learning_rate, steps - warm_up)
        .with_min_lr(learning_rate * last_rate);
    let made = match warm_up {
        0 => cosine.init(),
        _ => {
            let first = learning_rate / warm_up as f64;
            let line = LinearLrSchedulerConfig::new(first, learning_rate, warm_up);
            SequentialLrSchedulerConfig::new(vec![line.into(), cosine.into()], vec![warm_up]).init()
        }
    };
    let mut schedule = made.map_err(|allowed| {
        let (option, value) = ("learningRate".into(), learning_rate.to_string());
        EngineError::Option { option, value, allowed }
    })?;
    (0..done).for_each(|_| {
        schedule.step();
    });
    Ok(schedule)
}

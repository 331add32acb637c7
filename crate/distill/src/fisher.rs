//! Statistics for the compressor that take gradients: what the loss feels of look-ups and of the outputs of products.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use statepress_core::job::{Job, Progress};
use statepress_core::report::{Fisher, OutputFisher};
use statepress_engine::EngineError;
use statepress_engine::calibrate::{Sample, part, spaced};
use statepress_kernels::program::{MatrixId, Program};

use crate::Trainable;
use crate::interpret::{self, Batch};
use crate::loss::Mixture;
use crate::model::read_back;
use crate::sense::Place;

/// Windows that go through the model together.
const BATCH: usize = 2;

/// The loss: that of labels alone.
const DRAWN: Mixture = Mixture { alpha: 0.0, temperature: 1.0 };

/// How the Fisher information is taken.
#[derive(Clone, Copy, Debug)]
pub struct FisherOptions {
    /// Of how many windows, evenly spaced, and of how many tokens: a shorter text has fewer, and a model with fewer positions
    /// shorter ones.
    pub sample: Sample,
    /// What draws the labels.
    pub seed: u64,
}

impl Default for FisherOptions {
    fn default() -> Self {
        Self { sample: Sample { windows: 64, window: 256 }, seed: 0 }
    }
}

/// The Fisher information being taken; a step is a few windows forth and back.
pub struct TakeFisher {
    model: Trainable,
    windows: Vec<Vec<u32>>,
    next: usize,
    random: fastrand::Rng,
    /// `sum g g^T` at the look-ups, and `sum g_i^2` at the outputs, `[1, rows]`.
    looked_up: Option<Tensor<2>>,
    outputs: BTreeMap<MatrixId, Option<Tensor<2>>>,
    taken: Fisher,
}

impl TakeFisher {
    /// Prepares to read windows of a text.
    ///
    /// # Errors
    /// For texts that fill no window, and ids outside the vocabulary.
    pub fn new(model: Trainable, ids: &[u32], options: &FisherOptions) -> Result<Self, EngineError> {
        let windows = spaced(ids, &options.sample, model.program.max_tokens)?;
        model.check(&Batch::new(&windows)?)?;
        Ok(Self {
            model,
            windows,
            next: 0,
            random: fastrand::Rng::with_seed(options.seed),
            looked_up: None,
            outputs: BTreeMap::new(),
            taken: Fisher::default(),
        })
    }

    /// Adds the windows of a batch.
    async fn add(&mut self, batch: Batch) -> Result<(), EngineError> {
        let pass = self.model.sense();
        let hidden = pass.forward(&batch)?.hidden;
        let head = interpret::head(&pass).inner();
        let logits = hidden.clone().inner().matmul(head.clone().transpose());
        let rows = read_back(self.model.device, logits).await?;
        let vocab = self.model.program.vocab_size;
        let labels: Vec<u32> = rows.chunks_exact(vocab).map(|row| drawn(row, self.random.f64())).collect();
        let tokens = labels.len();
        // Of the sum over tokens; the loss is a mean.
        let slope = TensorData::new(DRAWN.loss(rows, None, &labels).slope, [tokens, vocab]);
        let slope = Tensor::<2>::from_data(slope, &self.model.device.burn()).mul_scalar(tokens as f64);
        let gradients = (slope.matmul(head).autodiff() * hidden).sum().backward();
        let program = &self.model.program;
        for (place, gradient) in pass.sensed(gradients) {
            let (sum, square) = match place {
                // Of rows in a basis: those that they stand for.
                Place::LookUp if program.end().1.is_some() => continue,
                Place::LookUp => (&mut self.looked_up, outer(gradient)),
                Place::Output(id) if program.matrix(id).is_look_up() => {
                    (&mut self.looked_up, outer(gradient.mul_scalar(program.table_scale())))
                }
                Place::Output(id) => (self.outputs.entry(id).or_default(), gradient.square().sum_dim(0)),
            };
            *sum = Some(match sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
        self.taken.tokens += tokens as u64;
        Ok(())
    }

    /// Reads the sums back, as means.
    async fn read(&mut self) -> Result<(), EngineError> {
        let share = 1.0 / self.taken.tokens.max(1) as f64;
        let device = self.model.device;
        let means = async |sum: Tensor<2>, what: &str| {
            let numbers = read_back(device, sum.mul_scalar(share)).await?;
            if numbers.iter().all(|x| x.is_finite()) {
                return Ok(numbers);
            }
            let message = format!("the gradient at {what} is not a number somewhere in the calibration text");
            Err(EngineError::Evaluation(message))
        };
        let program: &Program = &self.model.program;
        if let Some(sum) = self.looked_up.take() {
            self.taken.looked_up = means(sum, &program.matrix(program.table).key).await?;
        }
        let outputs = std::mem::take(&mut self.outputs);
        for (id, sum) in outputs.into_iter().filter_map(|(id, sum)| Some((id, sum?))) {
            let matrix = program.matrix(id);
            let rows = means(sum, &matrix.key).await?;
            self.taken.outputs.push(OutputFisher {
                key: matrix.key.clone(),
                part: part(&matrix.layout),
                rows,
            });
        }
        Ok(())
    }
}

/// `sum g g^T`.
fn outer(gradient: Tensor<2>) -> Tensor<2> {
    gradient.clone().transpose().matmul(gradient)
}

impl Job for TakeFisher {
    type Output = Fisher;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if self.next == self.windows.len() {
            return Ok(None);
        }
        let end = self.windows.len().min(self.next + BATCH);
        let batch = Batch::new(&self.windows[self.next..end])?;
        self.add(batch).await?;
        self.next = end;
        if end == self.windows.len() {
            self.read().await?;
        }
        let window = self.windows[0].len();
        Ok(Some(Progress {
            stage: "gradients".into(),
            done: (end * window) as f64,
            total: (self.windows.len() * window) as f64,
            unit: "tokens".into(),
            item: None,
        }))
    }

    fn finish(self) -> Result<Fisher, EngineError> {
        if self.next < self.windows.len() {
            return Err(EngineError::Evaluation("gradients were finished before the text was read".into()));
        }
        Ok(self.taken)
    }
}

/// The id that a number in `[0, 1)` draws from the softmax of logits.
fn drawn(logits: &[f32], at: f64) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |x: &f32| f64::from(x - largest).exp();
    let mut left = at * logits.iter().map(power).sum::<f64>();
    let found = logits.iter().position(|x| {
        left -= power(x);
        left < 0.0
    });
    found.unwrap_or(logits.len() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_drawn_as_often_as_is_predicted() {
        let logits = [0.25_f32, 0.5, 0.25].map(f32::ln);
        let count = 1000;
        let mut found = [0_u32; 3];
        (0..count).for_each(|at| found[drawn(&logits, f64::from(at) / f64::from(count)) as usize] += 1);
        assert!(found[0].abs_diff(250) <= 1 && found[1].abs_diff(500) <= 1, "{found:?}");
        assert_eq!(drawn(&[f32::NAN, 1.0], 0.5), 1);
    }
}

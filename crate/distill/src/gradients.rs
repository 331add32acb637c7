//! The gradient of a loss: how a model would have to change to predict a text, or a teacher, better.

use burn::tensor::{Int, Tensor, TensorData};
use statepress_engine::EngineError;

use crate::interpret;
use crate::loss::{Loss, Mixture};
use crate::model::{Pass, read_back};
use crate::{Batch, Trainable, Trains};

/// Windows, and what is to be predicted in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    pub(crate) batch: Batch,
    /// Of each window those of its first positions.
    pub(crate) labels: Vec<u32>,
}

/// What is made small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// How much the teacher counts, and the text.
    pub mixture: Mixture,
    /// What the imbalance of experts is multiplied by before it is added. Itera-Lite was trained with 0.01.
    pub balance: f64,
}

/// A gradient for each weight that has one, and what they are the gradients of.
pub struct Gradients {
    pub(crate) of: Vec<Option<Tensor<2>>>,
    /// The loss.
    pub(crate) loss: Tensor<1>,
    /// The imbalance of experts, before it is multiplied; `None` without any.
    pub(crate) imbalance: Option<Tensor<1>>,
    /// The root of the sum of all squares.
    pub(crate) norm: Tensor<1>,
}

impl Labelled {
    /// The labels of the first positions of each window, one window after the other.
    ///
    /// # Errors
    /// For labels that are no equal share of every window, or more than it has positions.
    pub fn new(batch: Batch, labels: Vec<u32>) -> Result<Self, EngineError> {
        let most = batch.tokens();
        if labels.is_empty() || labels.len() > most || !labels.len().is_multiple_of(batch.windows) {
            let message = format!(
                "{} labels for {} windows of {} tokens: each has as many, and no more than tokens",
                labels.len(),
                batch.windows,
                batch.len
            );
            return Err(EngineError::Ids(message));
        }
        Ok(Self { batch, labels })
    }

    /// Positions of each window that have labels.
    pub(crate) fn positions(&self) -> usize {
        self.labels.len() / self.batch.windows
    }
}

impl Trainable {
    /// The gradients of an objective. `teacher` are logits `[n, V]` of the positions that have labels, where the teacher has a
    /// share.
    ///
    /// # Errors
    /// For ids outside the vocabulary, windows longer than the model's positions, and a teacher's logits that are not there or
    /// of another shape.
    pub fn gradients(
        &self,
        examples: &Labelled,
        teacher: Option<Vec<f32>>,
        objective: &Objective,
        trains: Trains,
    ) -> Result<Gradients, EngineError> {
        let (rows, vocab) = (examples.labels.len(), self.program.vocab_size);
        let wanted = if objective.mixture.alpha > 0.0 { rows * vocab } else { 0 };
        let given = teacher.as_ref().map_or(0, Vec::len);
        if given != wanted {
            let (option, value) = ("teacher".into(), format!("{given} logits"));
            let allowed = format!("{wanted}, for {rows} labels and a share of {}", objective.mixture.alpha);
            return Err(EngineError::Option { option, value, allowed });
        }
        let teacher = teacher
            .filter(|_| wanted > 0)
            .map(|logits| Tensor::from_data(TensorData::new(logits, [rows, vocab]), &self.device.burn()));
        self.graded(examples, teacher, objective, trains)
    }

    /// The same, of a teacher's logits where the student's are.
    pub(crate) fn graded(
        &self,
        examples: &Labelled,
        teacher: Option<Tensor<2>>,
        objective: &Objective,
        trains: Trains,
    ) -> Result<Gradients, EngineError> {
        let pass = self.train(trains);
        let labels = self.labels(examples)?;
        let (hidden, imbalance) = pass.hidden(examples)?;
        let head = interpret::head(&pass);
        let logits = hidden.clone().inner().matmul(head.clone().inner().transpose());
        let Loss { value, slope } = objective.mixture.loss(logits, teacher, labels);
        // A sum that has the slopes of the loss, and no tensor of logits in it.
        let mut slopes = (slope.transpose().autodiff().matmul(hidden) * head).sum();
        let mut loss = value;
        if let Some(imbalance) = imbalance.clone().filter(|_| objective.balance > 0.0) {
            let imbalance = imbalance.mul_scalar(objective.balance);
            loss = loss + imbalance.clone().inner();
            slopes = slopes + imbalance;
        }
        let of = pass.gradients(slopes.backward());
        let squares = of.iter().flatten().map(|gradient| gradient.clone().square().sum());
        let sum = squares.reduce(|sum, more| sum + more);
        let norm = sum.unwrap_or_else(|| Tensor::zeros([1], &self.device.burn())).sqrt();
        Ok(Gradients { of, loss, imbalance: imbalance.map(Tensor::inner), norm })
    }
}

impl Gradients {
    /// The loss, and the norm of all gradients together.
    pub async fn summary(&self, model: &Trainable) -> Result<[f32; 2], EngineError> {
        let both = Tensor::cat(vec![self.loss.clone(), self.norm.clone()], 0);
        let numbers = read_back(model.device, both).await?;
        Ok([numbers[0], numbers[1]])
    }

    /// How unevenly tokens are spread over experts; `None` without any.
    pub async fn imbalance(&self, model: &Trainable) -> Result<Option<f32>, EngineError> {
        match &self.imbalance {
            Some(imbalance) => Ok(Some(read_back(model.device, imbalance.clone()).await?[0])),
            None => Ok(None),
        }
    }

    /// The gradient of a tensor, row-major, by its usual key; `None` where the loss does not depend on it, or it is not trained.
    ///
    /// # Errors
    /// For keys that the model does not have.
    pub async fn of(&self, model: &Trainable, key: &str) -> Result<Option<Vec<f32>>, EngineError> {
        match &self.of[model.position(key)?] {
            Some(gradient) => Ok(Some(read_back(model.device, gradient.clone()).await?)),
            None => Ok(None),
        }
    }
}

impl Trainable {
    /// The labels, which have to be ids.
    pub(crate) fn labels(&self, examples: &Labelled) -> Result<Tensor<1, Int>, EngineError> {
        let vocab_size = self.program.vocab_size;
        if let Some(label) = examples.labels.iter().find(|label| **label as usize >= vocab_size) {
            return Err(EngineError::Ids(format!("label {label} is outside the vocabulary of {vocab_size}")));
        }
        let labels: Vec<i32> = examples.labels.iter().map(|&id| id as i32).collect();
        let shape = [labels.len()];
        Ok(Tensor::from_data(TensorData::new(labels, shape), &self.device.burn()))
    }
}

impl Pass<'_> {
    /// What enters the head at the positions that have labels, `[n, d]`, and the imbalance of experts.
    pub(crate) fn hidden(&self, examples: &Labelled) -> Result<(Tensor<2>, Option<Tensor<1>>), EngineError> {
        let output = self.forward(&examples.batch)?;
        let positions = examples.positions();
        let Batch { windows, len, .. } = examples.batch;
        let hidden = match positions == len {
            true => output.hidden,
            false => {
                let width = output.hidden.dims()[1];
                let all: Tensor<3> = output.hidden.reshape([windows, len, width]);
                all.narrow(1, 0, positions).reshape([windows * positions, width])
            }
        };
        Ok((hidden, output.imbalance))
    }
}

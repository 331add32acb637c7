//! The gradient of a loss: how a model would have to change to predict a text, or a teacher, better.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    pub loss: f64,
    /// How unevenly tokens are spread over experts, before it is multiplied; `None` without any.
    pub imbalance: Option<f32>,
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
    /// For ids and labels outside the vocabulary, windows longer than the model's positions, and a teacher's logits that are
    /// not there or of another shape.
    pub async fn gradients(
        &self,
        examples: &Labelled,
        teacher: Option<Vec<f32>>,
        objective: &Objective,
        trains: Trains,
    ) -> Result<Gradients, EngineError> {
        let Labelled { labels, .. } = examples;
        let vocab = self.program.vocab_size;
        let wanted = if objective.mixture.alpha > 0.0 { labels.len() * vocab } else { 0 };
        let given = teacher.as_ref().map_or(0, Vec::len);
        if given != wanted {
            let (option, value) = ("teacher".into(), format!("{given} logits"));
            let allowed =
                format!("{wanted}, for {} labels and a share of {}", labels.len(), objective.mixture.alpha);
            return Err(EngineError::Option { option, value, allowed });
        }
        if let Some(label) = labels.iter().find(|label| **label as usize >= vocab) {
            return Err(EngineError::Ids(format!("label {label} is outside the vocabulary of {vocab}")));
        }
        let pass = self.train(trains);
        let (hidden, imbalance) = pass.hidden(examples)?;
        let head = interpret::head(&pass);
        let logits = hidden.clone().inner().matmul(head.clone().inner().transpose());
        let logits = read_back(self.device, logits).await?;
        let Loss { value, slope } = objective.mixture.loss(logits, teacher, labels);
        let slope = TensorData::new(slope, [labels.len(), vocab]);
        let slope = Tensor::<2>::from_data(slope, &self.device.burn()).autodiff();
        // A sum that has the slopes of the loss, and no tensor of logits in it.
        let mut slopes = (slope.transpose().matmul(hidden) * head).sum();
        let mut loss = value;
        let mut uneven = None;
        if let Some(imbalance) = imbalance {
            let found = read_back(self.device, imbalance.clone().inner()).await?[0];
            uneven = Some(found);
            if objective.balance > 0.0 {
                loss += objective.balance * f64::from(found);
                slopes = slopes + imbalance.mul_scalar(objective.balance);
            }
        }
        let of = pass.gradients(slopes.backward());
        let squares = of.iter().flatten().map(|gradient| gradient.clone().square().sum());
        let sum = squares.reduce(|sum, more| sum + more);
        let norm = sum.unwrap_or_else(|| Tensor::zeros([1], &self.device.burn())).sqrt();
        Ok(Gradients { of, loss, imbalance: uneven, norm })
    }
}

impl Gradients {
    /// The norm of all gradients together.
    ///
    /// # Errors
    /// For numbers that cannot be read back.
    pub async fn norm(&self, model: &Trainable) -> Result<f32, EngineError> {
        Ok(read_back(model.device, self.norm.clone()).await?[0])
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

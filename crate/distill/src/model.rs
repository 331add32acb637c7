//! A model that can be trained: a program, and its weights as tensors that keep the checkpoint's keys and layout.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{Gradients, Tensor, TensorData};
use statepress_core::{Encoding, Index, Role, Source, Tensor as Stored};
use statepress_engine::EngineError;
use statepress_engine::families::ModelSpec;
use statepress_engine::techniques::tying::{Tying, tying};
use statepress_kernels::codecs;
use statepress_kernels::program::{Layout, MatrixId, Program, VectorForm, VectorId, VectorSource};

use crate::interpret::{self, Batch, Output};
use crate::sense::Zeros;
use crate::{Device, Trains};

/// A model that can be trained.
pub struct Trainable {
    pub(crate) program: Rc<Program>,
    pub(crate) device: Device,
    pub(crate) parameters: Vec<Parameter>,
    /// By [`MatrixId`]: the parameter that has it.
    matrices: Vec<Option<usize>>,
    /// By [`VectorId`].
    vectors: Vec<Place>,
}

/// A tensor of the checkpoint.
#[derive(Clone)]
pub(crate) struct Parameter {
    /// Its usual key.
    pub key: String,
    /// Its shape in the checkpoint.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// How many numbers each of its outputs is a sum over.
    pub reads: usize,
    /// How its numbers are stored there.
    pub encoding: Encoding,
    /// Its codes and scales as they are stored, where it has any.
    pub codes: Option<Stored>,
    /// Its numbers, without gradients: the first dimension by all others.
    pub values: Tensor<2>,
    /// What passes compute with in their place, where they are rounded.
    pub rounded: Option<Tensor<2>>,
}

impl Parameter {
    /// What passes compute with.
    pub fn computed(&self) -> Tensor<2> {
        self.rounded.as_ref().unwrap_or(&self.values).clone()
    }
}

/// Where the numbers of a vector are.
#[derive(Clone)]
enum Place {
    Parameter(usize),
    Constant(Vec<f32>),
}

/// The weights of one pass, and what they give.
pub struct Pass<'a> {
    model: &'a Trainable,
    /// One for each parameter; with gradients where they are trained.
    tensors: Vec<Tensor<2>>,
    pub(crate) device: burn::tensor::Device,
    /// Where gradients inside are wanted.
    pub(crate) zeros: Option<Zeros>,
}

impl Trainable {
    /// Reads the weights of a checkpoint, whatever they are stored as, as numbers.
    ///
    /// # Errors
    /// For a checkpoint that does not run, and for tensors that cannot be read.
    pub fn load(
        source: &dyn Source,
        index: &Index,
        spec: &ModelSpec,
        device: Device,
    ) -> Result<Self, EngineError> {
        let Some(program) = &spec.program else {
            let reason = spec.refusal.clone().unwrap_or_else(|| "the model is not known".into());
            return Err(EngineError::UnknownModel { reason });
        };
        let mut program = (**program).clone();
        if program.reduced.is_some() {
            let reason = "a model that has rows for some ids only can be compressed and run, but neither trained nor asked for gradients: do \
                          so first, and prune its vocabulary last";
            return Err(EngineError::UnknownModel { reason: reason.into() });
        }
        if matches!(tying(source, index, &spec.names)?, Tying::Shared | Tying::Copy) {
            program.tie_head();
        }
        let mut read =
            Reader { source, index, spec, device, parameters: Vec::new(), by_key: BTreeMap::new() };
        let mut matrices = vec![None; program.matrices.len()];
        for id in program.used_matrices() {
            let matrix = program.matrix(id);
            matrices[id.0] = Some(read.parameter(&matrix.key, matrix.role, matrix.cols)?);
        }
        let mut vectors = Vec::with_capacity(program.vectors.len());
        for vector in &program.vectors {
            vectors.push(match &vector.source {
                VectorSource::Key(key) => {
                    let reads = if let VectorForm::Taps { k } = vector.form { k } else { 1 };
                    Place::Parameter(read.parameter(key, vector.role, reads)?)
                }
                VectorSource::Constant(values) => Place::Constant(values.clone()),
            });
        }
        Ok(Self { device, parameters: read.parameters, matrices, vectors, program: Rc::new(program) })
    }

    /// The program that runs, with head and table tied where they are one.
    pub fn program(&self) -> &Rc<Program> {
        &self.program
    }

    /// What computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The same model, as passes compute with it, on another device.
    ///
    /// # Errors
    /// For numbers that cannot be read back.
    pub(crate) async fn on(&self, device: Device) -> Result<Self, EngineError> {
        let mut parameters = self.parameters.clone();
        for it in &mut parameters {
            let values = read_back(self.device, it.computed()).await?;
            (it.values, it.rounded) = (tensor(device, values, &it.shape), None);
        }
        let Self { program, matrices, vectors, .. } = self;
        let (program, matrices, vectors) = (program.clone(), matrices.clone(), vectors.clone());
        Ok(Self { program, device, parameters, matrices, vectors })
    }

    /// The usual key and shape of every tensor.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.parameters.iter().map(|it| (it.key.as_str(), it.shape.as_slice()))
    }

    /// The numbers of a tensor, row-major, by its usual key.
    ///
    /// # Errors
    /// For keys that the model does not have.
    pub async fn values(&self, key: &str) -> Result<Vec<f32>, EngineError> {
        read_back(self.device, self.parameters[self.position(key)?].values.clone()).await
    }

    /// Puts other numbers in place of those of a tensor.
    ///
    /// # Errors
    /// For keys that the model does not have, and for more or fewer numbers than there are.
    pub fn set(&mut self, key: &str, values: Vec<f32>) -> Result<(), EngineError> {
        let at = self.position(key)?;
        let Parameter { shape, .. } = &self.parameters[at];
        if values.len() != shape.iter().product::<usize>() {
            let expected = format!("{shape:?}");
            return Err(EngineError::Shape { tensor: key.into(), found: vec![values.len()], expected });
        }
        let values = tensor(self.device, values, shape);
        (self.parameters[at].values, self.parameters[at].rounded) = (values, None);
        Ok(())
    }

    pub(crate) fn position(&self, key: &str) -> Result<usize, EngineError> {
        let missing = || EngineError::UnknownTensor { name: key.into(), near: Vec::new() };
        self.parameters.iter().position(|it| it.key == key).ok_or_else(missing)
    }

    /// Weights for a pass without gradients.
    pub fn evaluate(&self) -> Pass<'_> {
        let tensors = self.parameters.iter().map(Parameter::computed).collect();
        Pass { model: self, tensors, device: self.device.burn(), zeros: None }
    }

    /// Weights for a pass of which gradients are wanted.
    pub fn train(&self, trains: Trains) -> Pass<'_> {
        let leaf = |it: &Parameter| {
            let values = it.computed().autodiff();
            if trains.has(it) { values.require_grad() } else { values }
        };
        self.pass(leaf)
    }

    /// A pass with gradients, of these leaves.
    pub(crate) fn pass(&self, leaf: impl Fn(&Parameter) -> Tensor<2>) -> Pass<'_> {
        let tensors = self.parameters.iter().map(leaf).collect();
        Pass { model: self, tensors, device: self.device.burn().autodiff(), zeros: None }
    }

    /// Refuses ids outside the vocabulary and windows longer than the model's positions.
    pub(crate) fn check(&self, batch: &Batch) -> Result<(), EngineError> {
        let vocab_size = self.program.vocab_size;
        if let Some((at, id)) = batch.ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            let message = format!("token {id} at position {at} is outside the vocabulary of {vocab_size}");
            return Err(EngineError::Ids(message));
        }
        match self.program.max_tokens {
            Some(most) if batch.len > most => {
                let message = format!("windows of {} tokens; the model has {most} positions", batch.len);
                Err(EngineError::Ids(message))
            }
            _ => Ok(()),
        }
    }
}

impl Pass<'_> {
    /// Logits `[windows * len, V]` of windows that each begin with an empty state, row-major.
    ///
    /// # Errors
    /// For ids outside the vocabulary and windows longer than the model's positions.
    pub async fn logits(&self, batch: &Batch) -> Result<Vec<f32>, EngineError> {
        let output = self.forward(batch)?;
        read_back(self.model.device, output.hidden.matmul(interpret::head(self).transpose())).await
    }

    pub(crate) fn forward(&self, batch: &Batch) -> Result<Output, EngineError> {
        self.model.check(batch)?;
        Ok(interpret::forward(self, batch))
    }

    pub(crate) fn program(&self) -> &Program {
        &self.model.program
    }

    /// A matrix `[rows, cols]`.
    pub(crate) fn matrix(&self, id: MatrixId) -> Tensor<2> {
        let about = self.program().matrix(id);
        let Some(at) = self.model.matrices[id.0] else {
            unreachable!("matrix {} is used by no op of the program", about.key)
        };
        let values = self.tensors[at].clone();
        match about.layout {
            Layout::Plain => values,
            Layout::Transposed => values.transpose(),
            Layout::Part { index, count } => {
                values.reshape([count, about.rows, about.cols]).narrow(0, index, 1).squeeze_dim(0)
            }
        }
    }

    /// A vector, in the form that the program wants.
    pub(crate) fn vector(&self, id: VectorId) -> Tensor<1> {
        let about = self.program().vector(id);
        let values = match &self.model.vectors[id.0] {
            Place::Parameter(at) => self.tensors[*at].clone(),
            Place::Constant(values) => return self.constant(values.clone(), [values.len()]),
        };
        match about.form {
            VectorForm::Plain => values.reshape([about.len]),
            VectorForm::NegExp => values.reshape([about.len]).exp().neg(),
            VectorForm::Taps { k } => values.reshape([about.len / k, k]).transpose().reshape([about.len]),
        }
    }

    /// The numbers of a vector that is part of the program; none of one that is in the checkpoint.
    pub(crate) fn constants(&self, id: VectorId) -> &[f32] {
        match &self.model.vectors[id.0] {
            Place::Constant(values) => values,
            Place::Parameter(_) => &[],
        }
    }

    /// Numbers that are not trained.
    pub(crate) fn constant<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// Takes the gradient of every parameter out; `None` of those that are not trained, or that the loss does not depend on.
    pub(crate) fn gradients(&self, mut gradients: Gradients) -> Vec<Option<Tensor<2>>> {
        self.tensors.iter().map(|tensor| tensor.grad_remove(&mut gradients)).collect()
    }
}

/// Reads tensors, each once.
struct Reader<'a> {
    source: &'a dyn Source,
    index: &'a Index,
    spec: &'a ModelSpec,
    device: Device,
    parameters: Vec<Parameter>,
    by_key: BTreeMap<String, usize>,
}

impl Reader<'_> {
    fn parameter(&mut self, key: &str, role: Role, reads: usize) -> Result<usize, EngineError> {
        if let Some(&at) = self.by_key.get(key) {
            return Ok(at);
        }
        let missing = || EngineError::Keys { missing: vec![key.into()], unexpected: Vec::new() };
        let entry = self.spec.names.get(self.index, key).ok_or_else(missing)?;
        let stored = statepress_formats::read_tensor(self.source, entry)?;
        let values = tensor(self.device, codecs::decode(&stored), &entry.shape);
        let (shape, encoding) = (entry.shape.clone(), stored.encoding());
        let codes = encoding.is_described().then_some(stored);
        let at = self.parameters.len();
        let key = key.to_string();
        self.by_key.insert(key.clone(), at);
        let rounded = None;
        self.parameters.push(Parameter { key, shape, role, reads, encoding, codes, values, rounded });
        Ok(at)
    }
}

/// Numbers as a tensor of the first dimension by all others.
pub(crate) fn tensor(device: Device, values: Vec<f32>, shape: &[usize]) -> Tensor<2> {
    let rows = if shape.len() > 1 { shape[0] } else { 1 };
    let cols = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, cols]), &device.burn())
}

/// The numbers of a tensor.
pub(crate) async fn read_back<const D: usize>(
    device: Device,
    tensor: Tensor<D>,
) -> Result<Vec<f32>, EngineError> {
    let data = tensor.into_data_async().await.map_err(|error| device.failed(&error.to_string()))?;
    if let Some(fault) = device.fault() {
        return Err(fault);
    }
    data.try_into_vec().map_err(|error| EngineError::Evaluation(format!("{}: {error}", device.name())))
}

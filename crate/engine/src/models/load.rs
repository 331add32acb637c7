//! Reading a model's weights, one tensor at a time, straight into the layout they run from.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::{Index, Source, Tensor};
use statepress_kernels::codecs;
use statepress_kernels::linear::Weights;
use statepress_kernels::ops::norm;

use super::itera_lite::IteraLite;
use super::transformer::Transformer;
use super::{Info, Model, Network};
use crate::EngineError;
use crate::spec::{ModelSpec, TypedSpec};
use crate::techniques::tying::{self, Tying};

/// A model being loaded.
pub struct Load {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    spec: ModelSpec,
    typed: TypedSpec,
    keys: Vec<String>,
    parts: Parts,
    next: usize,
    info: Info,
}

impl Load {
    /// Prepares to load; refuses checkpoints that cannot be run, with the reason.
    pub fn new(source: Rc<dyn Source>, index: Rc<Index>, spec: ModelSpec) -> Result<Self, EngineError> {
        let Some(typed) = spec.model.clone() else {
            let reason = spec.refusal.clone().unwrap_or_else(|| "the model is not known".into());
            return Err(EngineError::UnknownModel { reason });
        };
        let mut keys: Vec<String> = typed.expected_keys().into_iter().collect();
        let tying = tying::tying(&*source, &index, &spec.names)?;
        let head = "lm_head.weight";
        if matches!(tying, Tying::Shared | Tying::Copy) {
            keys.retain(|key| key != head);
        }
        let (vocab_size, max_tokens) = match &typed {
            TypedSpec::IteraLite(spec) => (spec.vocab_size, spec.max_seq_length),
            TypedSpec::Transformer(spec) => (spec.vocab_size, spec.max_seq_length),
        };
        let info = Info {
            bytes: 0,
            file_bytes: source.len(),
            vocab_size,
            max_tokens,
            offset: typed.offset(),
            findings: tying::finding(tying, head).into_iter().collect(),
        };
        Ok(Self { source, index, spec, typed, keys, parts: Parts::default(), next: 0, info })
    }
}

impl Job for Load {
    type Output = Model;
    type Error = EngineError;

    fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(key) = self.keys.get(self.next) else { return Ok(None) };
        let entry = self.spec.names.get(&self.index, key).ok_or_else(|| missing(key))?;
        let tensor = statepress_formats::read_tensor(&*self.source, entry)?;
        self.info.bytes += tensor.bytes();
        self.parts.put(key, tensor)?;
        self.next += 1;
        Ok(Some(Progress {
            stage: "load".into(),
            done: self.next as f64,
            total: self.keys.len() as f64,
            unit: "tensors".into(),
            item: Some(key.clone()),
        }))
    }

    fn finish(mut self) -> Result<Model, EngineError> {
        let network = match self.typed {
            TypedSpec::IteraLite(spec) => Network::IteraLite(IteraLite::new(&spec, &mut self.parts)?),
            TypedSpec::Transformer(spec) => Network::Transformer(Transformer::new(&spec, &mut self.parts)?),
        };
        Ok(Model { network: Rc::new(network), info: Rc::new(self.info) })
    }
}

/// Weights by canonical key. Matrices keep their packed bytes; vectors and the few taps of a
/// convolution, which no kernel multiplies as a matrix, are numbers.
#[derive(Default)]
pub(super) struct Parts {
    matrices: BTreeMap<String, Weights>,
    vectors: BTreeMap<String, Vec<f32>>,
}

impl Parts {
    fn put(&mut self, key: &str, tensor: Tensor) -> Result<(), EngineError> {
        if tensor.shape.len() == 2 {
            let weights =
                Weights::new(tensor).map_err(|error| EngineError::Codec { tensor: key.into(), error })?;
            self.matrices.insert(key.into(), weights);
        } else {
            self.vectors.insert(key.into(), codecs::decode(&tensor));
        }
        Ok(())
    }

    /// Takes a matrix that [`Load`] has read.
    pub fn matrix(&mut self, key: &str) -> Result<Weights, EngineError> {
        self.matrices.remove(key).ok_or_else(|| missing(key))
    }

    /// Takes a matrix if it is not tied away.
    pub fn optional_matrix(&mut self, key: &str) -> Option<Weights> {
        self.matrices.remove(key)
    }

    /// Takes a vector that [`Load`] has read.
    pub fn vector(&mut self, key: &str) -> Result<Vec<f32>, EngineError> {
        self.vectors.remove(key).ok_or_else(|| missing(key))
    }

    /// Takes `PREFIX.weight` and `PREFIX.bias` of a LayerNorm.
    pub fn norm(&mut self, prefix: &str, eps: f64) -> Result<Norm, EngineError> {
        let (weight, bias) = (format!("{prefix}.weight"), format!("{prefix}.bias"));
        Ok(Norm { weight: self.vector(&weight)?, bias: self.vector(&bias)?, eps: eps as f32 })
    }
}

fn missing(key: &str) -> EngineError {
    EngineError::Keys { missing: vec![key.into()], unexpected: Vec::new() }
}

/// The weights of a LayerNorm.
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    /// Normalises every row of `x` into `out`.
    pub fn apply(&self, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        norm::layer_norm(x, &self.weight, &self.bias, self.eps, out);
    }
}

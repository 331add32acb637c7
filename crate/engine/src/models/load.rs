//! Reading a model's weights, one tensor at a time, straight into the layout they run from.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::{Encoding, Index, Source, Tensor};
use statepress_kernels::backend::{Backend, BackendError};
use statepress_kernels::codecs;
use statepress_kernels::network::Network;
use statepress_kernels::program::{Layout, MatrixId, Program, VectorForm, VectorId, VectorSource};

use super::{Cpu, Info, Model, Vocabulary};
use crate::EngineError;
use crate::calibrate::Marks;
use crate::check::self_check;
use crate::families::{ModelSpec, is_buffer};
use crate::techniques::tying::{self, Tying};

/// A model being loaded into a backend.
pub struct Load<B: Backend = Cpu> {
    backend: B,
    source: Rc<dyn Source>,
    index: Rc<Index>,
    spec: ModelSpec,
    program: Rc<Program>,
    /// Every tensor that is read, with what is made of it.
    keys: Vec<(String, Vec<Use>)>,
    next: usize,
    matrices: Vec<Option<B::Matrix>>,
    /// Of every matrix that is there.
    encodings: Vec<Option<Encoding>>,
    vectors: Vec<Vec<f32>>,
    /// Once everything is read.
    network: Option<Rc<B::Network>>,
    /// Layers that are to be held against the CPU before anybody runs the network.
    to_check: Option<Vec<usize>>,
    info: Info,
}

/// What is made of a tensor.
#[derive(Clone, Copy, Debug)]
enum Use {
    Matrix(MatrixId),
    Vector(VectorId),
}

impl<B: Backend> Load<B> {
    /// Prepares to load; refuses checkpoints that cannot be run, with the reason.
    pub fn new(
        backend: B,
        source: Rc<dyn Source>,
        index: Rc<Index>,
        spec: ModelSpec,
    ) -> Result<Self, EngineError> {
        let mut program = (**spec.runs()?).clone();
        let tying = tying::tying(&*source, &index, &spec.names)?;
        let head = &program.matrix(program.head.matrix).key;
        let findings = tying::finding(tying, head, &program.matrix(program.table).key).into_iter().collect();
        if matches!(tying, Tying::Shared | Tying::Copy) {
            program.tie_head();
        }
        let program = Rc::new(program);
        let info = Info {
            program: program.clone(),
            bytes: 0,
            file_bytes: source.len(),
            vocab_size: program.reduced.map_or(program.vocab_size, |it| it.size),
            vocabulary: None,
            max_tokens: program.max_tokens,
            offset: spec.offset,
            findings,
            calibration: Marks::read(&index.metadata),
        };
        let mut uses: BTreeMap<&str, Vec<Use>> = BTreeMap::new();
        for id in program.used_matrices() {
            uses.entry(&program.matrix(id).key).or_default().push(Use::Matrix(id));
        }
        let mut vectors = vec![Vec::new(); program.vectors.len()];
        for (n, vector) in program.vectors.iter().enumerate() {
            match &vector.source {
                VectorSource::Key(key) => uses.entry(key).or_default().push(Use::Vector(VectorId(n))),
                VectorSource::Constant(values) => vectors[n] = values.clone(),
            }
        }
        let keys = uses.into_iter().map(|(key, uses)| (key.to_string(), uses)).collect();
        let matrices = (0..program.matrices.len()).map(|_| None).collect();
        let encodings = vec![None; program.matrices.len()];
        Ok(Self {
            backend,
            source,
            index,
            spec,
            program,
            keys,
            next: 0,
            matrices,
            encodings,
            vectors,
            network: None,
            to_check: None,
            info,
        })
    }

    /// Matrices keep their packed bytes; vectors and the few taps of a convolution, which no kernel
    /// multiplies as a matrix, are numbers.
    fn put(&mut self, key: &str, uses: &[Use], tensor: Tensor) -> Result<(), EngineError> {
        let failed = |error: BackendError| match error {
            BackendError::Tensor(error) => EngineError::Codec { tensor: key.into(), error },
            other => other.into(),
        };
        let mut whole = Some(tensor);
        for (n, used) in uses.iter().enumerate() {
            match *used {
                Use::Vector(id) => {
                    if let Some(tensor) = &whole {
                        let form = self.program.vector(id).form;
                        self.vectors[id.0] = formed(codecs::decode(tensor), form);
                    }
                }
                Use::Matrix(id) => {
                    let tensor = match self.program.matrix(id).layout {
                        Layout::Part { index, count } => whole
                            .as_ref()
                            .map(|tensor| codecs::part(tensor, index, count))
                            .transpose()
                            .map_err(|error| failed(error.into()))?,
                        // A basis is read from either side, all others once.
                        Layout::Plain | Layout::Transposed if n + 1 < uses.len() => whole.clone(),
                        Layout::Plain | Layout::Transposed => whole.take(),
                    };
                    let transposed = self.program.matrix(id).layout == Layout::Transposed;
                    if let Some(tensor) = tensor {
                        self.encodings[id.0] = Some(tensor.encoding());
                        self.matrices[id.0] =
                            Some(self.backend.matrix(key, tensor, transposed).map_err(failed)?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts together what was read; then holds what it needs of its backend against the CPU.
    async fn make_ready(&mut self) -> Result<Option<Progress>, EngineError> {
        if self.network.is_none() {
            if let Some(reduced) = &self.program.reduced {
                let key = self.program.vector(reduced.ids).key().unwrap_or_default();
                self.info.vocabulary =
                    Some(Rc::new(Vocabulary::new(reduced, key, &self.vectors[reduced.ids.0])?));
            }
            let (matrices, vectors) = (std::mem::take(&mut self.matrices), std::mem::take(&mut self.vectors));
            let network = Network { program: self.program.clone(), matrices, vectors };
            let network = self.backend.network(network)?;
            self.to_check = self.backend.unchecked(&network);
            self.network = Some(Rc::new(network));
        } else if let Some(layers) = &self.to_check {
            self_check(&self.backend, &self.program, &self.encodings, layers).await?;
            self.to_check = None;
        }
        Ok(self.to_check.as_ref().map(|_| Progress {
            stage: "check".into(),
            done: 0.0,
            total: 1.0,
            unit: "steps".into(),
            item: None,
        }))
    }
}

impl<B: Backend> Job for Load<B> {
    type Output = Model<B>;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some((key, uses)) = self.keys.get(self.next).cloned() else { return self.make_ready().await };
        let entry = self
            .spec
            .names
            .get(&self.index, &key)
            .ok_or_else(|| EngineError::Keys { missing: vec![key.clone()], unexpected: Vec::new() })?;
        let tensor = statepress_formats::read_tensor(&*self.source, entry)?;
        // Ids of rows are no weights.
        if !is_buffer(entry) {
            self.info.bytes += tensor.bytes();
        }
        self.put(&key, &uses, tensor)?;
        self.next += 1;
        Ok(Some(Progress {
            stage: "load".into(),
            done: self.next as f64,
            total: self.keys.len() as f64,
            unit: "tensors".into(),
            item: Some(key),
        }))
    }

    fn finish(self) -> Result<Model<B>, EngineError> {
        match self.network {
            Some(network) if self.to_check.is_none() => {
                Ok(Model { backend: self.backend, network, info: Rc::new(self.info) })
            }
            _ => Err(BackendError::Validation("the model is not yet loaded and checked".into()).into()),
        }
    }
}

/// Numbers as a program wants them.
pub(crate) fn formed(values: Vec<f32>, form: VectorForm) -> Vec<f32> {
    match form {
        VectorForm::Plain => values,
        VectorForm::NegExp => values.into_iter().map(|value| -value.exp()).collect(),
        VectorForm::Taps { k } => {
            let channels = values.len() / k.max(1);
            (0..k).flat_map(|j| (0..channels).map(move |i| (i, j))).map(|(i, j)| values[i * k + j]).collect()
        }
    }
}

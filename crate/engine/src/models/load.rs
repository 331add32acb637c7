//! Reading a model's weights, one tensor at a time, straight into the layout they run from.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::{Index, Source, Tensor};
use statepress_kernels::backend::{Backend, BackendError};
use statepress_kernels::codecs;
use statepress_kernels::network::{Block, Ffn, Layer, Mixer, Network, Norm, Ssm, Sublayer};

use super::{Cpu, Info, Model};
use crate::EngineError;
use crate::spec::{self, IteraLiteLayer, IteraLiteSpec, ModelSpec, NORM_EPS, TransformerSpec, TypedSpec};
use crate::techniques::tying::{self, Tying};

/// A model being loaded into a backend.
pub struct Load<B: Backend = Cpu> {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    spec: ModelSpec,
    typed: TypedSpec,
    keys: Vec<String>,
    parts: Parts<B>,
    next: usize,
    info: Info,
}

impl<B: Backend> Load<B> {
    /// Prepares to load; refuses checkpoints that cannot be run, with the reason.
    pub fn new(
        backend: B,
        source: Rc<dyn Source>,
        index: Rc<Index>,
        spec: ModelSpec,
    ) -> Result<Self, EngineError> {
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
        Ok(Self { source, index, spec, typed, keys, parts: Parts::new(backend), next: 0, info })
    }
}

impl<B: Backend> Job for Load<B> {
    type Output = Model<B>;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
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

    fn finish(mut self) -> Result<Model<B>, EngineError> {
        let network = match &self.typed {
            TypedSpec::IteraLite(spec) => self.parts.itera_lite(spec)?,
            TypedSpec::Transformer(spec) => self.parts.transformer(spec)?,
        };
        let network = self.parts.backend.network(network)?;
        Ok(Model { backend: self.parts.backend, network: Rc::new(network), info: Rc::new(self.info) })
    }
}

/// Weights by canonical key. Matrices keep their packed bytes; vectors and the few taps of a
/// convolution, which no kernel multiplies as a matrix, are numbers.
struct Parts<B: Backend> {
    backend: B,
    matrices: BTreeMap<String, B::Matrix>,
    vectors: BTreeMap<String, Vec<f32>>,
}

impl<B: Backend> Parts<B> {
    fn new(backend: B) -> Self {
        Self { backend, matrices: BTreeMap::new(), vectors: BTreeMap::new() }
    }

    fn put(&mut self, key: &str, tensor: Tensor) -> Result<(), EngineError> {
        if tensor.shape.len() == 2 {
            let matrix = self.backend.matrix(key, tensor).map_err(|error| match error {
                BackendError::Tensor(error) => EngineError::Codec { tensor: key.into(), error },
                other => other.into(),
            });
            self.matrices.insert(key.into(), matrix?);
        } else {
            self.vectors.insert(key.into(), codecs::decode(&tensor));
        }
        Ok(())
    }

    fn matrix(&mut self, key: &str) -> Result<B::Matrix, EngineError> {
        self.matrices.remove(key).ok_or_else(|| missing(key))
    }

    fn vector(&mut self, key: &str) -> Result<Vec<f32>, EngineError> {
        self.vectors.remove(key).ok_or_else(|| missing(key))
    }

    /// `PREFIX.weight` and `PREFIX.bias` of a LayerNorm.
    fn norm(&mut self, prefix: &str, eps: f64) -> Result<Norm, EngineError> {
        let (weight, bias) = (format!("{prefix}.weight"), format!("{prefix}.bias"));
        Ok(Norm { weight: self.vector(&weight)?, bias: self.vector(&bias)?, eps: eps as f32 })
    }

    fn ffn(&mut self, prefix: &str) -> Result<Ffn<B::Matrix>, EngineError> {
        let w1 = self.matrix(&format!("{prefix}.w1.weight"))?;
        Ok(Ffn { w1, w2: self.matrix(&format!("{prefix}.w2.weight"))? })
    }

    fn itera_lite(&mut self, spec: &IteraLiteSpec) -> Result<Network<B::Matrix>, EngineError> {
        let layers = spec.layers.iter().enumerate().map(|(n, layer)| {
            let ssm = self.ssm(n, layer)?;
            Ok(Layer::IteraLite { ssm, sublayer: self.sublayer(n, &layer.sublayer)? })
        });
        let layers = layers.collect::<Result<_, EngineError>>()?;
        self.network(layers, spec.layer_norm_eps)
    }

    fn transformer(&mut self, spec: &TransformerSpec) -> Result<Network<B::Matrix>, EngineError> {
        let layers = (0..spec.ffn_sizes.len()).map(|n| {
            let key = |suffix: &str| format!("blocks.{n}.{suffix}");
            Ok(Layer::Transformer(Block {
                ln1: self.norm(&key("ln1"), spec.layer_norm_eps)?,
                qkv: self.matrix(&key("attention.qkv.weight"))?,
                out_proj: self.matrix(&key("attention.out_proj.weight"))?,
                ln2: self.norm(&key("ln2"), spec.layer_norm_eps)?,
                ffn: self.ffn(&key("ffn"))?,
                n_heads: spec.n_heads,
            }))
        });
        let layers = layers.collect::<Result<_, EngineError>>()?;
        self.network(layers, spec.layer_norm_eps)
    }

    fn network(
        &mut self,
        layers: Vec<Layer<B::Matrix>>,
        eps: f64,
    ) -> Result<Network<B::Matrix>, EngineError> {
        Ok(Network {
            embedding: self.matrix("embedding.weight")?,
            positions: self.matrix("position_embedding.weight")?,
            layers,
            norm: self.norm("norm", eps)?,
            // Absent when it is tied away.
            head: self.matrices.remove("lm_head.weight"),
        })
    }

    fn ssm(&mut self, n: usize, spec: &IteraLiteLayer) -> Result<Ssm<B::Matrix>, EngineError> {
        let key = |suffix: &str| format!("layers.{n}.ssm.{suffix}");
        let taps = self.vector(&key("conv1d.weight"))?;
        let (inner, k) = (spec.inner_size, spec.conv_kernel);
        let conv_taps =
            (0..k).flat_map(|j| (0..inner).map(move |i| (i, j))).map(|(i, j)| taps[i * k + j]).collect();
        Ok(Ssm {
            norm: self.norm(&key("norm"), NORM_EPS)?,
            in_proj: self.matrix(&key("in_proj.weight"))?,
            conv_taps,
            conv_bias: self.vector(&key("conv1d.bias"))?,
            a: self.vector(&key("ssm.A_log"))?.into_iter().map(|a_log| -a_log.exp()).collect(),
            b: self.matrix(&key("ssm.B"))?,
            c: self.matrix(&key("ssm.C"))?,
            d: self.vector(&key("ssm.D"))?,
            delta_proj: self.matrix(&key("ssm.delta_proj.weight"))?,
            delta_bias: self.vector(&key("ssm.delta_proj.bias"))?,
            out_proj: self.matrix(&key("out_proj.weight"))?,
        })
    }

    fn sublayer(
        &mut self,
        n: usize,
        spec: &spec::Sublayer,
    ) -> Result<Option<Sublayer<B::Matrix>>, EngineError> {
        Ok(match spec {
            spec::Sublayer::None => None,
            spec::Sublayer::Ffn { .. } => {
                let norm = self.norm(&format!("layers.{n}.moe.norm"), NORM_EPS)?;
                Some(Sublayer { norm, mixer: Mixer::Ffn(self.ffn(&format!("layers.{n}.moe.ffn"))?) })
            }
            // Experts were lost: the sublayer is the identity, as the findings say.
            spec::Sublayer::Moe { sizes, .. } if sizes.is_empty() => None,
            spec::Sublayer::Moe { sizes, top_k } => {
                let prefix = format!("layers.{n}.moe.layer");
                let experts = (0..sizes.len()).map(|m| self.ffn(&format!("{prefix}.experts.{m}")));
                let experts = experts.collect::<Result<_, _>>()?;
                let gate = self.matrix(&format!("{prefix}.router.gate.weight"))?;
                let norm = self.norm(&format!("{prefix}.norm"), NORM_EPS)?;
                Some(Sublayer { norm, mixer: Mixer::Experts { gate, experts, top_k: *top_k } })
            }
        })
    }
}

fn missing(key: &str) -> EngineError {
    EngineError::Keys { missing: vec![key.into()], unexpected: Vec::new() }
}

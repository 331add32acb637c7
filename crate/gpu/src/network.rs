//! A network on the GPU: its matrices, and a place among the constants for everything that is no matrix.

use std::rc::Rc;

use statepress_kernels::backend::BackendError;
use statepress_kernels::network::{Ffn, Layer, Mixer, Network, Norm, Sublayer};
use statepress_kernels::shaders as wgsl;
use wgpu::BufferUsages;

use crate::{Gpu, GpuMatrix};

/// A network on the GPU.
pub struct GpuNetwork {
    pub(crate) gpu: Gpu,
    pub(crate) constants: wgpu::Buffer,
    pub(crate) embedding: Rc<Placed>,
    pub(crate) positions: Rc<Placed>,
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) norm: wgsl::Norm,
    /// `None`: the embedding serves.
    head: Option<Rc<Placed>>,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) max_tokens: usize,
}

/// A matrix whose scales have their place among the constants.
pub(crate) struct Placed {
    pub matrix: GpuMatrix,
    pub block: wgsl::Matrix,
}

pub(crate) enum LayerPlan {
    IteraLite { ssm: Box<SsmPlan>, mixer: Option<MixerPlan> },
    Transformer(Box<BlockPlan>),
}

pub(crate) struct SsmPlan {
    pub norm: wgsl::Norm,
    pub in_proj: Rc<Placed>,
    pub taps: u32,
    pub conv_bias: u32,
    pub a: u32,
    pub b: Rc<Placed>,
    pub c: Rc<Placed>,
    pub d: u32,
    pub delta: Rc<Placed>,
    pub delta_bias: u32,
    pub proj: Rc<Placed>,
    pub inner: usize,
    pub n_states: usize,
    pub k: usize,
}

pub(crate) enum MixerPlan {
    Ffn { norm: wgsl::Norm, ffn: FfnPlan },
    Experts { norm: wgsl::Norm, gate: Rc<Placed>, banks: Vec<Bank>, top_k: usize },
}

pub(crate) struct FfnPlan {
    pub w1: Rc<Placed>,
    pub w2: Rc<Placed>,
}

/// Experts of one shape and precision, one after the other.
pub(crate) struct Bank {
    pub first: usize,
    pub count: usize,
    pub ffn: FfnPlan,
}

pub(crate) struct BlockPlan {
    pub ln1: wgsl::Norm,
    pub qkv: Rc<Placed>,
    pub out_proj: Rc<Placed>,
    pub ln2: wgsl::Norm,
    pub ffn: FfnPlan,
    pub n_heads: usize,
}

impl GpuNetwork {
    pub(crate) fn new(gpu: &Gpu, network: Network<GpuMatrix>) -> Result<Self, BackendError> {
        let mut constants = Vec::new();
        let (vocab_size, hidden_size) = (network.embedding.rows, network.embedding.cols);
        let max_tokens = network.positions.rows;
        let embedding = place(network.embedding, &mut constants);
        let positions = place(network.positions, &mut constants);
        let layers = network.layers.into_iter().map(|layer| plan_layer(gpu, layer, &mut constants));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = place_norm(&network.norm, &mut constants);
        let head = network.head.map(|head| place(head, &mut constants));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = gpu.own_buffer("scales and vectors", 4 * constants.len() as u64, usage)?;
        gpu.0.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&constants));
        Ok(Self {
            gpu: gpu.clone(),
            constants: buffer,
            embedding,
            positions,
            layers,
            norm,
            head,
            vocab_size,
            hidden_size,
            max_tokens,
        })
    }

    /// What makes logits of the hidden state.
    pub(crate) fn head(&self) -> &Rc<Placed> {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl Drop for GpuNetwork {
    fn drop(&mut self) {
        self.constants.destroy();
    }
}

impl FfnPlan {
    /// f.
    pub fn width(&self) -> usize {
        self.w1.block.rows as usize
    }
}

fn place(matrix: GpuMatrix, constants: &mut Vec<u32>) -> Rc<Placed> {
    let block = matrix.block(constants);
    Rc::new(Placed { matrix, block })
}

fn place_vector(values: &[f32], constants: &mut Vec<u32>) -> u32 {
    let at = constants.len() as u32;
    constants.extend(values.iter().map(|value| value.to_bits()));
    at
}

fn place_norm(norm: &Norm, constants: &mut Vec<u32>) -> wgsl::Norm {
    wgsl::Norm {
        weight: place_vector(&norm.weight, constants),
        bias: place_vector(&norm.bias, constants),
        eps: norm.eps,
        d: norm.weight.len() as u32,
    }
}

fn place_ffn(ffn: Ffn<GpuMatrix>, constants: &mut Vec<u32>) -> FfnPlan {
    FfnPlan { w1: place(ffn.w1, constants), w2: place(ffn.w2, constants) }
}

fn plan_layer(
    gpu: &Gpu,
    layer: Layer<GpuMatrix>,
    constants: &mut Vec<u32>,
) -> Result<LayerPlan, BackendError> {
    match layer {
        Layer::IteraLite { ssm, sublayer } => {
            let (inner, n_states, k) = (ssm.inner_size(), ssm.a.len(), ssm.taps_before() + 1);
            let ssm = SsmPlan {
                norm: place_norm(&ssm.norm, constants),
                taps: place_vector(&ssm.conv_taps, constants),
                conv_bias: place_vector(&ssm.conv_bias, constants),
                a: place_vector(&ssm.a, constants),
                d: place_vector(&ssm.d, constants),
                delta_bias: place_vector(&ssm.delta_bias, constants),
                in_proj: place(ssm.in_proj, constants),
                b: place(ssm.b, constants),
                c: place(ssm.c, constants),
                delta: place(ssm.delta_proj, constants),
                proj: place(ssm.out_proj, constants),
                inner,
                n_states,
                k,
            };
            let mixer = match sublayer {
                None => None,
                Some(Sublayer { norm, mixer: Mixer::Ffn(ffn) }) => {
                    let norm = place_norm(&norm, constants);
                    Some(MixerPlan::Ffn { norm, ffn: place_ffn(ffn, constants) })
                }
                Some(Sublayer { norm, mixer: Mixer::Experts { gate, experts, top_k } }) => {
                    Some(MixerPlan::Experts {
                        norm: place_norm(&norm, constants),
                        gate: place(gate, constants),
                        banks: plan_banks(gpu, experts, constants)?,
                        top_k,
                    })
                }
            };
            Ok(LayerPlan::IteraLite { ssm: Box::new(ssm), mixer })
        }
        Layer::Transformer(block) => {
            let width = block.qkv.cols / block.n_heads.max(1);
            if width > wgsl::MAX_HEAD as usize {
                return Err(BackendError::Limit {
                    what: "a head of attention (channels)".into(),
                    needed: width as u64,
                    allowed: u64::from(wgsl::MAX_HEAD),
                    adapter: gpu.0.adapter.name.clone(),
                });
            }
            Ok(LayerPlan::Transformer(Box::new(BlockPlan {
                ln1: place_norm(&block.ln1, constants),
                qkv: place(block.qkv, constants),
                out_proj: place(block.out_proj, constants),
                ln2: place_norm(&block.ln2, constants),
                ffn: place_ffn(block.ffn, constants),
                n_heads: block.n_heads,
            })))
        }
    }
}

/// Neighbours that are alike share a bank.
fn plan_banks(
    gpu: &Gpu,
    experts: Vec<Ffn<GpuMatrix>>,
    constants: &mut Vec<u32>,
) -> Result<Vec<Bank>, BackendError> {
    let mut runs: Vec<Vec<Ffn<GpuMatrix>>> = Vec::new();
    for expert in experts {
        match runs.last_mut() {
            Some(run) if run[0].w1.alike(&expert.w1) && run[0].w2.alike(&expert.w2) => run.push(expert),
            _ => runs.push(vec![expert]),
        }
    }
    let mut first = 0;
    let banks = runs.into_iter().map(|run| {
        let count = run.len();
        let (w1, w2) = run.into_iter().map(|expert| (expert.w1, expert.w2)).unzip();
        let ffn = Ffn { w1: GpuMatrix::bank(gpu, w1)?, w2: GpuMatrix::bank(gpu, w2)? };
        let bank = Bank { first, count, ffn: place_ffn(ffn, constants) };
        first += count;
        Ok(bank)
    });
    banks.collect()
}

//! The CPU backend: packed panels, SIMD where the build has it, one thread.
//!
//! A whole sequence is a forward pass of `n` tokens from an empty state, recurrent generation one
//! of a single token from the state the last one left.

mod itera_lite;
mod runner;
mod transformer;

use std::rc::Rc;

use statepress_core::Tensor;
use statepress_kernels::Rows;
use statepress_kernels::backend::{Backend, BackendError};
use statepress_kernels::linear::{Scratch, Weights, linear};
use statepress_kernels::network::{Layer, Network, Norm, Sublayer};
use statepress_kernels::ops::{attention, norm};

pub use runner::CpuRunner;

use super::{Model, check_ids};
use crate::EngineError;

/// The CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    type Matrix = Weights;
    type Network = Network<Weights>;
    type Runner = CpuRunner;

    fn matrix(&self, _: &str, tensor: Tensor) -> Result<Weights, BackendError> {
        Ok(Weights::new(tensor)?)
    }

    fn network(&self, network: Network<Weights>) -> Result<Network<Weights>, BackendError> {
        Ok(network)
    }

    fn runner(&self, network: &Rc<Network<Weights>>, exact: bool) -> Result<CpuRunner, BackendError> {
        Ok(CpuRunner::new(network.clone(), exact))
    }
}

/// What a model remembers of the tokens it has seen.
pub struct State {
    /// Tokens seen.
    pub position: usize,
    /// The memory of each layer.
    pub layers: Vec<LayerState>,
}

/// The memory of one layer.
pub enum LayerState {
    /// Last `k - 1` inputs of the convolution, `[k - 1, D]`, oldest first; and `h`, `[N]`.
    Ssm {
        /// The inputs.
        conv_tail: Vec<f32>,
        /// The state.
        h: Vec<f32>,
    },
    /// Keys and values of every position, `[position, d]` each.
    Attention {
        /// Keys.
        keys: Vec<f32>,
        /// Values.
        values: Vec<f32>,
    },
}

/// Watches intermediate values of a forward pass. `()` watches nothing.
pub trait Trace {
    /// `values` of `quantity` (`ssm.in_proj`, `moe.router_logits`, ...), row-major by token;
    /// `layer` is `None` before the first and after the last one.
    fn record(&mut self, layer: Option<usize>, quantity: &'static str, values: &[f32]);
}

impl Trace for () {
    fn record(&mut self, _: Option<usize>, _: &'static str, _: &[f32]) {}
}

/// Buffers that one forward pass after another reuses.
#[derive(Default)]
pub struct Workspace {
    pub(crate) kernels: Scratch,
    pub(crate) buffers: Buffers,
    /// The residual stream, and after a forward pass the final norm's output, `[n, d]`.
    pub hidden: Vec<f32>,
}

/// Scratch space of the layers; the names are those of the step they hold.
#[derive(Default)]
pub(crate) struct Buffers {
    pub norm: Vec<f32>,
    pub wide: Vec<f32>,
    pub conv: Vec<f32>,
    pub mixed: Vec<f32>,
    pub step: Vec<f32>,
    pub driven: Vec<f32>,
    pub states: Vec<f32>,
    pub out: Vec<f32>,
    pub gathered: Vec<f32>,
    pub expert: Vec<f32>,
    pub attention: attention::Scratch,
}

impl Workspace {
    /// One whose results are those of dequantized weights and f32 activations for single tokens
    /// too, where the fast path rounds activations to 16 bits (or 13, for 4-bit weights).
    pub fn exact() -> Self {
        let mut workspace = Self::default();
        workspace.kernels.exact = true;
        workspace
    }
}

impl Model<Cpu> {
    /// An empty memory.
    pub fn start(&self) -> State {
        start(&self.network)
    }

    /// Takes `ids` in and leaves the final norm's output in [`Workspace::hidden`].
    ///
    /// # Errors
    /// For ids outside the vocabulary and sequences longer than the model's positions; the state
    /// is then unchanged.
    pub fn forward(
        &self,
        ids: &[u32],
        state: &mut State,
        workspace: &mut Workspace,
        trace: &mut impl Trace,
    ) -> Result<(), EngineError> {
        check_ids(&self.info, ids, state.position)?;
        forward(&self.network, ids, state, workspace, trace);
        Ok(())
    }

    /// Logits `[n, V]` of rows of hidden values `[n, d]`.
    pub fn logits(&self, hidden: &[f32], scratch: &mut Workspace, logits: &mut Vec<f32>) {
        project(self.network.head(), hidden, logits, &mut scratch.kernels);
    }
}

fn start(network: &Network<Weights>) -> State {
    let layers = network.layers.iter().map(|layer| match layer {
        Layer::IteraLite { ssm, .. } => LayerState::Ssm {
            conv_tail: vec![0.0; ssm.taps_before() * ssm.inner_size()],
            h: vec![0.0; ssm.a.len()],
        },
        Layer::Transformer(_) => LayerState::Attention { keys: Vec::new(), values: Vec::new() },
    });
    State { position: 0, layers: layers.collect() }
}

fn forward(
    network: &Network<Weights>,
    ids: &[u32],
    state: &mut State,
    ws: &mut Workspace,
    trace: &mut impl Trace,
) {
    embed(&network.embedding, &network.positions, ids, state.position, ws);
    trace.record(None, "embed", &ws.hidden);
    for (n, (layer, memory)) in network.layers.iter().zip(&mut state.layers).enumerate() {
        let mut record = |quantity: &'static str, values: &[f32]| trace.record(Some(n), quantity, values);
        match (layer, memory) {
            (Layer::IteraLite { ssm, sublayer }, LayerState::Ssm { conv_tail, h }) => {
                itera_lite::ssm(ssm, conv_tail, h, ws, &mut record);
                if let Some(Sublayer { norm, mixer }) = sublayer {
                    normalise(norm, &ws.hidden, &mut ws.buffers.norm);
                    itera_lite::mixer(mixer, ws, &mut record);
                }
                record("moe", &ws.hidden);
            }
            (Layer::Transformer(block), LayerState::Attention { keys, values }) => {
                transformer::block(block, keys, values, ws, &mut record);
                record("block", &ws.hidden);
            }
            // `start` has given every layer the memory of its kind.
            _ => unreachable!("a state of another network"),
        }
    }
    normalise(&network.norm, &ws.hidden, &mut ws.buffers.norm);
    std::mem::swap(&mut ws.hidden, &mut ws.buffers.norm);
    trace.record(None, "final_norm", &ws.hidden);
    state.position += ids.len();
}

/// Token plus position embedding of tokens from `position` on, `[n, d]`.
fn embed(tokens: &Weights, positions: &Weights, ids: &[u32], position: usize, ws: &mut Workspace) {
    let d = tokens.cols();
    ws.hidden.resize(ids.len() * d, 0.0);
    ws.buffers.out.resize(d, 0.0);
    for (n, (&id, row)) in ids.iter().zip(ws.hidden.chunks_exact_mut(d)).enumerate() {
        tokens.row(id as usize, row);
        positions.row(position + n, &mut ws.buffers.out);
        add(row, &ws.buffers.out);
    }
}

/// Normalises every row of `x` into `out`.
fn normalise(norm: &Norm, x: &[f32], out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    norm::layer_norm(Rows::whole(x, norm.weight.len()), &norm.weight, &norm.bias, norm.eps, out);
}

/// `out = x W^T` for all rows of `x`, into a buffer of the right size.
fn project(weights: &Weights, x: &[f32], out: &mut Vec<f32>, scratch: &mut Scratch) {
    out.resize(x.len() / weights.cols().max(1) * weights.rows(), 0.0);
    linear(weights, x, out, scratch);
}

/// `x + y` into `x`.
fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

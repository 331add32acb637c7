//! Models that run from packed weights, many tokens or one at a time, with the same function:
//! a whole sequence is a forward pass of `n` tokens from an empty state, recurrent generation
//! one of a single token from the state the last one left.

mod itera_lite;
mod load;
mod transformer;

use std::rc::Rc;

use statepress_core::Finding;
use statepress_kernels::linear::{Scratch, Weights, linear};

use crate::EngineError;
use itera_lite::IteraLite;
pub use load::Load;
use transformer::Transformer;

/// A model in memory. Cloning shares the weights.
#[derive(Clone)]
pub struct Model {
    network: Rc<Network>,
    /// What is worth knowing about it.
    pub info: Rc<Info>,
}

/// What is worth knowing about a loaded model.
#[derive(Clone, Debug)]
pub struct Info {
    /// Bytes of weights, scales and tables; tied once.
    pub bytes: u64,
    /// Bytes of the file it was read from.
    pub file_bytes: u64,
    /// V.
    pub vocab_size: usize,
    /// T: the most tokens of a sequence.
    pub max_tokens: usize,
    /// Position `t` predicts token `t + offset`.
    pub offset: usize,
    /// What reading the weights brought to light.
    pub findings: Vec<Finding>,
}

enum Network {
    IteraLite(IteraLite),
    Transformer(Transformer),
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

impl Model {
    /// An empty memory.
    pub fn start(&self) -> State {
        let layers = match &*self.network {
            Network::IteraLite(network) => network.start(),
            Network::Transformer(network) => network.start(),
        };
        State { position: 0, layers }
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
        let Info { vocab_size, max_tokens, .. } = *self.info;
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            return Err(EngineError::Ids(format!(
                "token {id} at position {at} is outside the vocabulary of {vocab_size}"
            )));
        }
        let end = state.position + ids.len();
        if end > max_tokens {
            return Err(EngineError::Ids(format!("{end} tokens; the model has {max_tokens} positions")));
        }
        match &*self.network {
            Network::IteraLite(network) => network.forward(ids, state, workspace, trace),
            Network::Transformer(network) => network.forward(ids, state, workspace, trace),
        }
        state.position = end;
        Ok(())
    }

    /// Logits `[n, V]` of rows of hidden values `[n, d]`.
    pub fn logits(&self, hidden: &[f32], scratch: &mut Workspace, logits: &mut Vec<f32>) {
        let head = match &*self.network {
            Network::IteraLite(network) => network.head(),
            Network::Transformer(network) => network.head(),
        };
        project(head, hidden, logits, &mut scratch.kernels);
    }

    /// Logits `[n, V]` of a whole sequence from an empty state.
    pub fn sequence_logits(&self, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
        if ids.is_empty() {
            return Err(EngineError::Ids("no token ids were given".into()));
        }
        let (mut workspace, mut logits) = (Workspace::exact(), Vec::new());
        self.forward(ids, &mut self.start(), &mut workspace, &mut ())?;
        let hidden = std::mem::take(&mut workspace.hidden);
        self.logits(&hidden, &mut workspace, &mut logits);
        Ok(logits)
    }

    /// d: numbers in a row of hidden values.
    pub fn hidden_size(&self) -> usize {
        match &*self.network {
            Network::IteraLite(network) => network.head().cols(),
            Network::Transformer(network) => network.head().cols(),
        }
    }
}

/// `out = x W^T` for all rows of `x`, into a buffer of the right size.
pub(crate) fn project(weights: &Weights, x: &[f32], out: &mut Vec<f32>, scratch: &mut Scratch) {
    out.resize(x.len() / weights.cols().max(1) * weights.rows(), 0.0);
    linear(weights, x, out, scratch);
}

/// `x + y` into `x`.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Token plus position embedding of tokens from `position` on, `[n, d]`.
pub(crate) fn embed(tokens: &Weights, positions: &Weights, ids: &[u32], position: usize, ws: &mut Workspace) {
    let d = tokens.cols();
    ws.hidden.resize(ids.len() * d, 0.0);
    ws.buffers.out.resize(d, 0.0);
    for (n, (&id, row)) in ids.iter().zip(ws.hidden.chunks_exact_mut(d)).enumerate() {
        tokens.row(id as usize, row);
        positions.row(position + n, &mut ws.buffers.out);
        add(row, &ws.buffers.out);
    }
}

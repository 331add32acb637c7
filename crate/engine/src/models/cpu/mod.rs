//! The CPU backend: an interpreter over programs, on packed panels, with SIMD where the build has it,
//! in one thread.
//!
//! A whole sequence is a forward pass of `n` tokens from an empty state, recurrent generation one
//! of a single token from the state the last one left.

mod experts;
mod interpret;
mod runner;

use std::ops::Range;
use std::rc::Rc;

use statepress_core::Tensor;
use statepress_kernels::backend::{Backend, BackendError};
use statepress_kernels::codecs;
use statepress_kernels::linear::{Scratch, Weights};
use statepress_kernels::network::Network;
use statepress_kernels::ops::attention;
use statepress_kernels::program::{Layout, MatrixId, Program, StateSize, VectorId};

pub use runner::CpuRunner;

use super::load::formed;
use super::{Model, check_ids};
use crate::EngineError;

/// The CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Backend for Cpu {
    type Matrix = Rc<Weights>;
    type Network = CpuNetwork;
    type Runner = CpuRunner;

    fn matrix(&self, _: &str, tensor: Tensor, transposed: bool) -> Result<Rc<Weights>, BackendError> {
        Ok(Rc::new(if transposed { Weights::transposed(tensor)? } else { Weights::new(tensor)? }))
    }

    fn network(&self, network: CpuNetwork) -> Result<CpuNetwork, BackendError> {
        Ok(network)
    }

    fn runner(&self, network: &Rc<CpuNetwork>, exact: bool) -> Result<CpuRunner, BackendError> {
        Ok(CpuRunner::new(network.clone(), exact))
    }

    /// The CPU is what others are held against.
    fn unchecked(&self, _: &CpuNetwork) -> Option<Vec<usize>> {
        None
    }

    fn passed(&self, _: &CpuNetwork) {}
}

/// A network in memory; networks that differ in a few matrices share the others.
pub type CpuNetwork = Network<Rc<Weights>>;

impl Model<Cpu> {
    /// The same model with another matrix in place of one, whose tensor is stored as the program says; its
    /// [`Info`](super::Info) stays that of the original.
    pub fn with(&self, id: MatrixId, tensor: Tensor) -> Result<Self, BackendError> {
        let Network { program, matrices, vectors } = &*self.network;
        let spec = program.matrix(id);
        let mut matrices = matrices.clone();
        matrices[id.0] = Some(Cpu.matrix(&spec.key, tensor, spec.layout == Layout::Transposed)?);
        let network = Network { program: program.clone(), matrices, vectors: vectors.clone() };
        Ok(Self { network: Rc::new(network), ..self.clone() })
    }

    /// The same model without some runs of nodes, each of which reads nothing but the residual stream and leaves nothing else; ids
    /// stay, and its [`Info`](super::Info) is that of the original.
    pub fn without(&self, gone: &[Range<usize>]) -> Self {
        let Network { program, matrices, vectors } = &*self.network;
        let program = Rc::new(program.without(gone));
        let network = Network { program, matrices: matrices.clone(), vectors: vectors.clone() };
        Self { network: Rc::new(network), ..self.clone() }
    }

    /// The same model with other numbers in place of a vector, as its tensor has them.
    pub fn with_vector(&self, id: VectorId, tensor: &Tensor) -> Self {
        let Network { program, matrices, vectors } = &*self.network;
        let mut vectors = vectors.clone();
        vectors[id.0] = formed(codecs::decode(tensor), program.vector(id).form);
        let network = Network { program: program.clone(), matrices: matrices.clone(), vectors };
        Self { network: Rc::new(network), ..self.clone() }
    }
}

/// What a model remembers of the tokens it has seen.
pub struct State {
    /// Tokens seen.
    pub position: usize,
    /// By [`statepress_kernels::program::StateId`].
    pub numbers: Vec<Vec<f32>>,
}

impl State {
    fn new(program: &Program) -> Self {
        let numbers = program.states.iter().map(|state| match state.size {
            StateSize::Fixed(_) => vec![0.0; state.size.numbers(0)],
            StateSize::PerToken(_) => Vec::new(),
        });
        Self { position: 0, numbers: numbers.collect() }
    }
}

/// Watches a forward pass.
pub trait Observe {
    /// `values` of a quantity (`in_proj`, `scan_in`, ...), row-major by token; `layer` is `None`
    /// before the first and after the last one.
    fn value(&mut self, layer: Option<usize>, quantity: &'static str, values: &[f32]) {
        let _ = (layer, quantity, values);
    }

    /// The rows `[n, in]` that enter the product with a matrix, whose tensor has that usual key. Of
    /// experts, those of the tokens that were sent there. The head comes last.
    fn tap(&mut self, matrix: MatrixId, key: &str, rows: &[f32]) {
        let _ = (matrix, key, rows);
    }

    /// The residual stream `[n, d]` as a norm reads it: that of this node of the program, or the final one.
    fn stream(&mut self, norm: Option<usize>, rows: &[f32]) {
        let _ = (norm, rows);
    }
}

/// Buffers that one forward pass after another reuses.
#[derive(Default)]
pub struct Workspace {
    pub(crate) kernels: Scratch,
    attention: attention::Scratch,
    /// One for each slot of the program.
    slots: Vec<Vec<f32>>,
    /// Rows made contiguous for a product.
    gathered: Vec<f32>,
    /// A product that is to be added.
    product: Vec<f32>,
    /// A product as an observer wants it.
    watched: Vec<f32>,
    experts: experts::Buffers,
    /// After a forward pass, the final norm's output, `[n, d]`.
    pub hidden: Vec<f32>,
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
        State::new(&self.network.program)
    }

    /// The program that runs.
    pub fn program(&self) -> &Program {
        &self.network.program
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
        observer: Option<&mut dyn Observe>,
    ) -> Result<(), EngineError> {
        check_ids(&self.info, ids, state.position)?;
        let rows = self.info.vocabulary.as_ref().map(|it| it.rows(ids).collect::<Vec<_>>());
        interpret::forward(&self.network, rows.as_deref().unwrap_or(ids), state, workspace, observer);
        Ok(())
    }

    /// Logits `[n, V]` of rows of hidden values `[n, d]`: of every row of the head.
    pub fn logits(&self, hidden: &[f32], scratch: &mut Workspace, logits: &mut Vec<f32>) {
        interpret::logits(&self.network, hidden, &mut scratch.kernels, logits);
    }
}

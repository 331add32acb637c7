//! What a backend is: something that holds matrices packed, and runs networks of them.
//!
//! The CPU's lives in the engine, the GPU's in a crate of its own. Only results that have to be
//! fetched may take time, so the methods that give results are async; the CPU's are ready at once.

use std::ops::Range;
use std::rc::Rc;

use statepress_core::Tensor;

use crate::KernelError;
use crate::network::Network;
use crate::program::MatrixId;

/// Why a backend could not do its work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BackendError {
    /// A tensor whose parts contradict its shape.
    #[error(transparent)]
    Tensor(#[from] KernelError),
    /// There is none on this machine, or none that is wanted.
    #[error("no GPU: {0}")]
    NoAdapter(String),
    /// The adapter computes something else than the CPU in what a model needs.
    #[error("the GPU {adapter} was refused: {reason}")]
    SelfCheck {
        /// The adapter's name.
        adapter: String,
        /// What was found, with the numbers.
        reason: String,
    },
    /// Something does not fit the adapter's limits.
    #[error("{what} needs {needed}; the GPU {adapter} allows {allowed}")]
    Limit {
        /// What is too large.
        what: String,
        /// How much it is.
        needed: u64,
        /// The limit.
        allowed: u64,
        /// The adapter's name.
        adapter: String,
    },
    /// A matrix is stored in a way that no kernel of the GPU reads.
    #[error("the GPU cannot run {what}; the CPU can")]
    NoKernel {
        /// The matrix, and what is the matter with it.
        what: String,
    },
    /// The GPU's memory is used up.
    #[error("the GPU is out of memory: {0}")]
    OutOfMemory(String),
    /// The device is gone: a driver was reset, a tab was put to sleep.
    #[error("the GPU was lost: {0}")]
    Lost(String),
    /// The driver refused a shader or a command, which is our mistake or its own.
    #[error("the GPU refused a command: {0}")]
    Validation(String),
}

impl BackendError {
    /// A stable kebab-case word from a closed list.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "bad-tensor",
            Self::NoAdapter(_) => "no-gpu",
            Self::SelfCheck { .. } => "gpu-self-check",
            Self::Limit { .. } => "gpu-limit",
            Self::NoKernel { .. } => "gpu-no-kernel",
            Self::OutOfMemory(_) => "gpu-out-of-memory",
            Self::Lost(_) => "gpu-lost",
            Self::Validation(_) => "gpu-validation",
        }
    }

    /// The facts in the message, as fields for programs.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::SelfCheck { adapter, .. } => vec![("adapter", adapter.clone())],
            Self::Limit { what, needed, allowed, adapter } => vec![
                ("what", what.clone()),
                ("needed", needed.to_string()),
                ("allowed", allowed.to_string()),
                ("adapter", adapter.clone()),
            ],
            Self::Tensor(_)
            | Self::NoAdapter(_)
            | Self::NoKernel { .. }
            | Self::OutOfMemory(_)
            | Self::Lost(_)
            | Self::Validation(_) => Vec::new(),
        }
    }
}

/// Holds matrices and runs networks of them.
pub trait Backend: Clone {
    /// A matrix that stays packed.
    type Matrix;
    /// A network ready to run.
    type Network;
    /// A network at work on one sequence.
    type Runner: Runner;

    /// Takes a matrix in; `name` is for errors. A transposed one is stored as `[in, out]`.
    fn matrix(&self, name: &str, tensor: Tensor, transposed: bool) -> Result<Self::Matrix, BackendError>;

    /// Makes a network ready.
    fn network(&self, network: Network<Self::Matrix>) -> Result<Self::Network, BackendError>;

    /// A runner over a network. `exact` asks for products of dequantized weights with f32
    /// activations for single tokens too, where a faster path may round activations.
    fn runner(&self, network: &Rc<Self::Network>, exact: bool) -> Result<Self::Runner, BackendError>;

    /// Layers of a network that between them use every kernel of it that has not [passed](Self::passed) a
    /// check; `None`: there is nothing to check. Whoever loads a model checks it before it runs.
    fn unchecked(&self, network: &Self::Network) -> Option<Vec<usize>>;

    /// Every kernel of a network has been found to compute what the CPU does.
    fn passed(&self, network: &Self::Network);
}

/// Statistics of the rows that enter a product, by which codes are fitted to what a model really sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// The sum of the squares of every column, `[in]`.
    Squares,
    /// The sum of the products of every two columns, `X^T X`, `[in, in]`.
    Gram,
}

impl Moments {
    /// Numbers for a product of so many inputs.
    pub fn len(self, inputs: usize) -> usize {
        match self {
            Self::Squares => inputs,
            Self::Gram => inputs * inputs,
        }
    }
}

/// A part of a pass, from one [stop](crate::program::Program::stops) to another or to the end, with which come the
/// final norm and the head.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// Nodes of the program.
    pub nodes: Range<usize>,
    /// The residual stream `[n, d]` before them, of which the first node needs nothing; after them, once the
    /// pass is over.
    pub stream: &'a mut Vec<f32>,
}

/// How the next token is taken from logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Sample among this many likeliest tokens; ties with the last of them are kept.
    pub top_k: Option<usize>,
    /// Ids from here on are never taken.
    pub usable: usize,
}

/// A token that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// Its probability among all tokens at temperature 1; NaN where logits are not numbers.
    pub probability: f64,
}

/// The residual stream after the embedding and after each layer, `[n, d]` each.
pub type Residuals = Vec<Vec<f32>>;

/// A network at work on one sequence.
///
/// Callers hold the ids inside the vocabulary and the sequence inside the model's positions. An
/// error other than one of a single call leaves the runner unusable.
#[allow(async_fn_in_trait, reason = "one thread everywhere: nobody needs the futures to be Send")]
pub trait Runner {
    /// What computes: `cpu` or `webgpu`.
    fn name(&self) -> &'static str;

    /// The adapter that computes, where there is one.
    fn adapter(&self) -> Option<String>;

    /// Forgets everything: the next tokens begin a sequence.
    fn restart(&mut self);

    /// Tokens taken in since.
    fn position(&self) -> usize;

    /// Takes tokens in. What the final norm gives for them stays until the next call.
    async fn forward(&mut self, ids: &[u32], residuals: Option<&mut Residuals>) -> Result<(), BackendError>;

    /// Logits `[rows, V]` of rows of the last forward pass.
    async fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError>;

    /// What enters the head for rows of the last forward pass: `[rows, d]` of what the final norm gives.
    async fn hidden(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError>;

    /// What enters products: takes `ids` in from an empty state, through a stretch of the program, and adds
    /// to the sums of every matrix named what [`Moments`] says of the rows `[n, in]` that entered the product
    /// with it there; the head is one of them, and look-ups are none. What the final norm gives stays until
    /// the next call, if the head is among them. Whoever runs a sequence begins it anew afterwards.
    async fn moments(
        &mut self,
        ids: &[u32],
        stretch: Stretch<'_>,
        matrices: &[MatrixId],
        moments: Moments,
        sums: &mut [Vec<f32>],
    ) -> Result<(), BackendError>;

    /// Negative log-likelihoods, nats: for every set of labels one number for each of the first
    /// `labels.len()` rows of the last forward pass. NaN where logits are not numbers.
    async fn nll(&mut self, labels: &[&[u32]]) -> Result<Vec<Vec<f32>>, BackendError>;

    /// Keeps the logits of the last `n` rows of the last forward pass for [`Self::generate`].
    async fn keep(&mut self, n: usize) -> Result<(), BackendError>;

    /// Takes one token per random number in `[0, 1)`, each from the oldest kept logits; the first
    /// `take_in` of them go through the network as well, and their logits are kept.
    async fn generate(
        &mut self,
        sampling: &Sampling,
        random: &[f64],
        take_in: usize,
    ) -> Result<Vec<Sampled>, BackendError>;
}

//! Models in memory: which backend holds the weights, and what is worth knowing about them.

mod cpu;
mod load;
mod vocabulary;

use std::rc::Rc;

use statepress_core::Finding;
use statepress_kernels::backend::{Backend, BackendError, Runner};
use statepress_kernels::program::Program;

use crate::EngineError;
use crate::calibrate::Marks;
pub use cpu::{Cpu, CpuNetwork, CpuRunner, Observe, State, Workspace};
pub use load::Load;
pub(crate) use load::formed;
pub use vocabulary::{Translated, Vocabulary};

/// A model in the memory of a backend. Cloning shares the weights.
pub struct Model<B: Backend = Cpu> {
    backend: B,
    network: Rc<B::Network>,
    /// What is worth knowing about it.
    pub info: Rc<Info>,
}

impl<B: Backend> Clone for Model<B> {
    fn clone(&self) -> Self {
        Self { backend: self.backend.clone(), network: self.network.clone(), info: self.info.clone() }
    }
}

impl<B: Backend> Model<B> {
    /// The network, as its backend holds it.
    pub fn network(&self) -> &B::Network {
        &self.network
    }
}

/// What is worth knowing about a loaded model.
#[derive(Clone, Debug)]
pub struct Info {
    /// What runs.
    pub program: Rc<Program>,
    /// Bytes of weights, scales and tables; tied once.
    pub bytes: u64,
    /// Bytes of the file it was read from.
    pub file_bytes: u64,
    /// V: ids that exist.
    pub vocab_size: usize,
    /// Which of them have rows; `None`: all.
    pub vocabulary: Option<Rc<Vocabulary>>,
    /// T: the most tokens of a sequence; `None`: the model sets no limit.
    pub max_tokens: Option<usize>,
    /// Position `t` predicts token `t + offset`.
    pub offset: usize,
    /// What reading the weights brought to light.
    pub findings: Vec<Finding>,
    /// The text that rounding errors were made up for on, if its file says so.
    pub calibration: Option<Marks>,
}

impl Info {
    /// Refuses the very text that the weights were fitted to, to judge by.
    pub(crate) fn check_other(&self, ids: &[u32]) -> Result<(), EngineError> {
        self.calibration.as_ref().map_or(Ok(()), |marks| marks.check_other(ids))
    }
}

/// A model in memory, whichever backend holds it: what evaluating, comparing and generating ask.
pub trait Loaded {
    /// Runs it.
    type Runner: Runner;

    /// What is worth knowing about it.
    fn info(&self) -> &Rc<Info>;

    /// A runner at the beginning of a sequence; see [`Backend::runner`]. Its ids are those of texts.
    fn runner(&self, exact: bool) -> Result<Self::Runner, BackendError>;

    /// The same, whose logits and labels are those of the head's rows, where not every id has one.
    fn row_runner(&self, exact: bool) -> Result<Self::Runner, BackendError>;
}

impl<B: Backend> Loaded for Model<B> {
    type Runner = Translated<B::Runner>;

    fn info(&self) -> &Rc<Info> {
        &self.info
    }

    fn runner(&self, exact: bool) -> Result<Self::Runner, BackendError> {
        let runner = self.backend.runner(&self.network, exact)?;
        Ok(Translated::new(runner, self.info.vocabulary.clone(), false))
    }

    fn row_runner(&self, exact: bool) -> Result<Self::Runner, BackendError> {
        let runner = self.backend.runner(&self.network, exact)?;
        Ok(Translated::new(runner, self.info.vocabulary.clone(), true))
    }
}

/// Logits `[n, V]` of a whole sequence from an empty state.
///
/// # Errors
/// For no ids, ids outside the vocabulary and sequences longer than the model's positions.
pub async fn sequence_logits(model: &impl Loaded, ids: &[u32]) -> Result<Vec<f32>, EngineError> {
    if ids.is_empty() {
        return Err(EngineError::Ids("no token ids were given".into()));
    }
    check_ids(model.info(), ids, 0)?;
    let mut runner = model.runner(true)?;
    runner.forward(ids, None).await?;
    let mut logits = Vec::new();
    runner.logits(0..ids.len(), &mut logits).await?;
    Ok(logits)
}

/// Refuses ids outside the vocabulary and sequences longer than the model's positions.
pub(crate) fn check_ids(info: &Info, ids: &[u32], position: usize) -> Result<(), EngineError> {
    let Info { vocab_size, max_tokens, .. } = *info;
    if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
        return Err(EngineError::Ids(format!(
            "token {id} at position {at} is outside the vocabulary of {vocab_size}"
        )));
    }
    let end = position + ids.len();
    if let Some(max_tokens) = max_tokens
        && end > max_tokens
    {
        return Err(EngineError::Ids(format!("{end} tokens; the model has {max_tokens} positions")));
    }
    Ok(())
}

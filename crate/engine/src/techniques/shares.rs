//! Compressing by several workers: each rounds a share of the tensors, then one of them writes them all.
//!
//! Making up for errors of rounding is most of the work, and no tensor's codes depend on those of another. A share is a file of its
//! tensors and what is to be told of each; what joins them writes, byte for byte, what one worker would have written.

use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use statepress_core::report::RoundingError;
use statepress_core::{Entry, Finding, Index, Role, Source, Tensor, shape};
use statepress_formats::Choice;
use statepress_kernels::codecs::Clip;

use crate::EngineError;

/// What of a recipe's last step is done here.
#[derive(Default)]
pub enum Work {
    /// All of it.
    #[default]
    Whole,
    /// A share of the rounding: the file has these tensors alone, none of them entropy-coded.
    Share(Share),
    /// What was not rounded elsewhere, and the whole file.
    Join(Box<dyn Elsewhere>),
}

/// One of so many shares of some work.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Which, from 0.
    pub index: usize,
    /// Of how many: 1 or more.
    pub count: usize,
}

/// Tensors that were rounded elsewhere: [`Shares`], behind a trait so that a module without workers is built without them.
pub trait Elsewhere {
    /// Whether that tensor was.
    fn has(&self, tensor: &str) -> bool;

    /// What became of it.
    fn read(&self, tensor: &str) -> Result<Option<Rounded>, EngineError>;
}

/// A tensor that was rounded elsewhere.
pub struct Rounded {
    /// Its codes.
    pub tensor: Tensor,
    /// What is to be told of it.
    pub report: RoundedTensor,
}

/// What came of a share of the rounding, beside the file of its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareReport {
    /// Each of its tensors.
    pub tensors: Vec<RoundedTensor>,
    /// The most bytes that were held.
    pub peak_memory: u64,
}

/// What is to be told of a rounded tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundedTensor {
    /// Its name.
    pub tensor: String,
    /// Of its numbers.
    pub error: RoundingError,
    /// Of the tensor itself.
    pub findings: Vec<Finding>,
    /// How errors were made up for in it, for what is said of all tensors.
    pub outcomes: Vec<Outcome>,
}

/// What came of making up for errors in a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Its name.
    pub tensor: String,
    /// Why it was rounded plainly after all, if it was.
    pub plain: Option<Plain>,
    /// What else there is to know.
    pub findings: Vec<Finding>,
}

/// Why a tensor was rounded plainly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plain {
    /// Why errors cannot be made up for.
    pub reason: String,
    /// And how.
    pub how: Plainly,
}

/// What plain rounding takes for the scales of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Plainly {
    /// Those of any recipe.
    Usually,
    /// The step that the recipe gives it.
    InSteps,
    /// Those of the least squared error.
    BySearch,
}

impl Plainly {
    /// Of a tensor that has a step or not, and whose scales clip somewhere.
    pub fn of(step: Option<f64>, clip: Clip) -> Self {
        match (step, clip) {
            (Some(_), _) => Self::InSteps,
            (None, Clip::Mse | Clip::Weighted) => Self::BySearch,
            (None, Clip::Absmax | Clip::Percentile(_)) => Self::Usually,
        }
    }
}

impl Default for Share {
    /// All of it.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Work {
    /// Which of these matrices are rounded here, by a model that reads so many tokens.
    pub(super) fn here(&self, matrices: &[(&Entry, Option<Role>)], tokens: usize) -> Vec<bool> {
        match self {
            Self::Whole => vec![true; matrices.len()],
            Self::Share(share) => share.of(matrices, tokens),
            Self::Join(elsewhere) => matrices.iter().map(|(entry, _)| !elsewhere.has(&entry.name)).collect(),
        }
    }
}

impl Share {
    /// Which of these matrices are of this share, where a model reads so many tokens for them: the one that takes the most work first,
    /// each goes to the share with the least to do so far. Every share of the same matrices comes to the same answer.
    pub(crate) fn of(self, matrices: &[(&Entry, Option<Role>)], tokens: usize) -> Vec<bool> {
        let params = matrices.iter().map(|(entry, _)| entry.params()).sum();
        // What is hardly any work is dealt out, too.
        let mut left: Vec<u64> =
            matrices.iter().map(|(entry, role)| work(entry, *role, tokens, params).max(1)).collect();
        let mut loads = vec![0u64; self.count.max(1)];
        let mut mine = vec![false; left.len()];
        for _ in 0..left.len() {
            let mut largest = 0;
            for (at, &work) in left.iter().enumerate() {
                if work > left[largest] {
                    largest = at;
                }
            }
            let mut least = 0;
            for (share, &load) in loads.iter().enumerate() {
                if load < loads[least] {
                    least = share;
                }
            }
            loads[least] = loads[least].saturating_add(mem::take(&mut left[largest]));
            mine[largest] = least == self.index;
        }
        mine
    }
}

/// About how much work it is to round a matrix for which a model reads so many tokens, all matrices together having so many
/// parameters: multiplications, more or less. Sums of what enters it are of its columns squared for each token, and its rows are
/// gone over several times. Of a vocabulary it is also seen what logits feel of a change of its rows, token by token, and by a
/// probe, which runs the model twice on a fourth of the tokens. Measured on a Mamba of 130 million parameters.
fn work(entry: &Entry, role: Option<Role>, tokens: usize, params: u64) -> u64 {
    let (rows, cols) = shape::matrix(&entry.shape);
    let (rows, cols, tokens) = (rows as u64, cols as u64, tokens as u64);
    let of_vocabulary = matches!(role, Some(Role::Table | Role::Head));
    let felt = if of_vocabulary { tokens.saturating_mul(3 * rows * cols + params / 2) } else { 0 };
    (cols * cols).saturating_mul(tokens + 8 * rows).saturating_add(felt)
}

/// The files of all shares, and what is to be told of their tensors.
#[derive(Default)]
pub struct Shares {
    files: Vec<(Rc<dyn Source>, Index)>,
    reports: BTreeMap<String, RoundedTensor>,
}

impl Shares {
    /// Takes a share in.
    ///
    /// # Errors
    /// For a file that cannot be read.
    pub fn add(&mut self, source: Rc<dyn Source>, report: ShareReport) -> Result<(), EngineError> {
        // Of few tensors some share has none, and a file without tensors is none.
        if report.tensors.is_empty() {
            return Ok(());
        }
        let index = statepress_formats::open_with(&*source, &Choice::default())?;
        self.files.push((source, index));
        self.reports.extend(report.tensors.into_iter().map(|it| (it.tensor.clone(), it)));
        Ok(())
    }
}

impl Elsewhere for Shares {
    fn has(&self, tensor: &str) -> bool {
        self.reports.contains_key(tensor)
    }

    fn read(&self, tensor: &str) -> Result<Option<Rounded>, EngineError> {
        let Some(report) = self.reports.get(tensor).cloned() else { return Ok(None) };
        let found =
            self.files.iter().find_map(|(source, index)| index.get(tensor).map(|entry| (source, entry)));
        let missing = || EngineError::Evaluation(format!("the share that was to have {tensor} has it not"));
        let (source, entry) = found.ok_or_else(missing)?;
        Ok(Some(Rounded { tensor: statepress_formats::read_tensor(&**source, entry)?, report }))
    }
}

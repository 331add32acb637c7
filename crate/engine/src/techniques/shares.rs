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
    pub of: usize,
}

/// Tensors that were rounded elsewhere.
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
    pub compensated: Vec<Told>,
}

/// How a tensor was rounded whose errors were to be made up for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
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
    /// Whether the recipe gives it a step.
    pub has_step: bool,
}

impl Default for Share {
    /// All of it.
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

impl Work {
    /// Which of these tensors are rounded here, after a text of so many tokens.
    pub(super) fn here(&self, entries: &[(&Entry, Option<Role>)], tokens: usize) -> Vec<bool> {
        match self {
            Self::Whole => vec![true; entries.len()],
            Self::Share(share) => {
                share.chosen(entries.iter().map(|(entry, role)| work(entry, *role, tokens)))
            }
            Self::Join(elsewhere) => entries.iter().map(|(entry, _)| !elsewhere.has(&entry.name)).collect(),
        }
    }
}

impl Share {
    /// Which pieces of work are of this share: the largest first, each piece goes to the share with the least to do so far. Every
    /// share of the same pieces comes to the same answer.
    pub(crate) fn chosen(self, work: impl Iterator<Item = u64>) -> Vec<bool> {
        // What is hardly any work is dealt out, too.
        let mut left: Vec<u64> = work.map(|work| work.max(1)).collect();
        let mut loads = vec![0u64; self.of.max(1)];
        let mut chosen = vec![false; left.len()];
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
            chosen[largest] = least == self.index;
        }
        chosen
    }
}

/// About how much work it is to round a matrix of a model that reads so many tokens for it: multiplications, more or less. Sums of
/// what enters it are of its columns squared for each token, and its rows are gone over several times. Of a vocabulary it is also seen
/// what logits feel of a change of its rows, token by token and by a probe. Measured on a Mamba of 130 million parameters.
pub(crate) fn work(entry: &Entry, role: Option<Role>, tokens: usize) -> u64 {
    let (rows, cols) = shape::matrix(&entry.shape);
    let (rows, cols, tokens) = (rows as u64, cols as u64, tokens as u64);
    let of_vocabulary = matches!(role, Some(Role::Table | Role::Head));
    let felt = if of_vocabulary { 2 * rows * cols * tokens } else { 0 };
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

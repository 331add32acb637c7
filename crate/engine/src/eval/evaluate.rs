//! Perplexity of one model.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use statepress_core::Finding;
use statepress_core::job::{Job, Progress};
use statepress_core::report::Evaluation;
use statepress_core::words::counted;
use statepress_kernels::backend::Runner;

use super::windows::{OfWindow, PerWindow, Sums, Windows};
use crate::models::{Info, Loaded, check_ids};
use crate::techniques::shares::Share;
use crate::{Clock, EngineError};

/// How many tokens ahead the positions predict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offset {
    /// As the model's specification says.
    #[default]
    Model,
    /// This many.
    Given(usize),
    /// Whichever of 0 to 3 has the lowest negative log-likelihood on the text.
    Detect,
}

/// The largest offset that detection tries.
const MAX_OFFSET: usize = 3;

/// How to evaluate.
#[derive(Clone, Debug, Default)]
pub struct EvaluateOptions {
    /// Tokens of a window; the model's positions if absent.
    pub window: Option<usize>,
    /// Use at most this many tokens of the text.
    pub limit: Option<usize>,
    /// Which token a position predicts.
    pub offset: Offset,
}

/// An evaluation under way; a step is a window.
pub struct Evaluate<R: Runner> {
    runner: R,
    info: Rc<Info>,
    windows: Windows,
    offsets: Vec<usize>,
    measured: PerWindow<Evaluated>,
    clock: Clock,
}

/// What a model made of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Negative log-likelihoods, of every position for each offset.
    nll: Vec<Vec<f32>>,
    /// Time spent in the model.
    seconds: f64,
}

/// What came of a share of the windows.
pub type EvaluatedShare = Vec<OfWindow<Evaluated>>;

impl<R: Runner> Evaluate<R> {
    /// Prepares an evaluation of `model` on `ids`.
    pub fn new(
        model: &impl Loaded<Runner = R>,
        ids: &[u32],
        options: &EvaluateOptions,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let offsets = match options.offset {
            Offset::Model => vec![model.info().offset],
            Offset::Given(offset) => vec![offset],
            Offset::Detect => (0..=MAX_OFFSET).collect(),
        };
        model.info().check_other(ids)?;
        let largest = offsets.iter().copied().max().unwrap_or(1);
        let windows = Windows::new(ids, options.window, options.limit, largest, model.info())?;
        Ok(Self {
            runner: model.runner(true)?,
            info: model.info().clone(),
            measured: PerWindow::new(&windows),
            windows,
            offsets,
            clock,
        })
    }

    /// Only the windows of one share are measured here: [`Self::finish_share`] gives what came of them.
    pub fn share(mut self, share: Share) -> Self {
        self.measured.share = share;
        self
    }

    /// Takes what others have measured.
    ///
    /// # Errors
    /// For windows that there are not.
    pub fn join(mut self, others: EvaluatedShare) -> Result<Self, EngineError> {
        self.measured.join(others)?;
        Ok(self)
    }

    /// What came of a share.
    ///
    /// # Errors
    /// Before all of its windows were measured.
    pub fn finish_share(self) -> Result<EvaluatedShare, EngineError> {
        self.measured.shared()
    }

    async fn window(&mut self, n: usize) -> Result<Evaluated, EngineError> {
        let ids = self.windows.get(n);
        check_ids(&self.info, ids, 0)?;
        let started = (self.clock)();
        self.runner.restart();
        self.runner.forward(ids, None).await?;
        let labels: Vec<&[u32]> = self.offsets.iter().map(|&offset| &ids[offset..]).collect();
        let nll = self.runner.nll(&labels).await?;
        Ok(Evaluated { nll, seconds: (self.clock)() - started })
    }
}

impl<R: Runner> Job for Evaluate<R> {
    type Output = Evaluation;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(n) = self.measured.next() else { return Ok(None) };
        let measured = self.window(n).await?;
        self.measured.put(n, measured);
        Ok(Some(self.measured.progress("evaluate", self.windows.window)))
    }

    fn finish(self) -> Result<Evaluation, EngineError> {
        let mut sums = vec![Sums::default(); self.offsets.len()];
        for Evaluated { nll, seconds } in self.measured.all()? {
            for (nll, sums) in nll.into_iter().zip(&mut sums) {
                nll.into_iter().for_each(|nll| sums.add(nll));
                sums.seconds += seconds;
                sums.tokens_in += self.windows.window as u64;
            }
        }
        let means: Vec<f64> = sums.iter().map(Sums::mean).collect();
        let lowest = (0..means.len()).min_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(0);
        // The lowest of four numbers that are all worse than guessing tells nothing.
        let guessing = (self.info.vocab_size as f64).ln();
        let own = self.offsets.iter().position(|&offset| offset == self.info.offset);
        let best = if means[lowest] < guessing { lowest } else { own.unwrap_or(lowest) };
        let offset = self.offsets[best];
        let mut evaluation =
            sums.swap_remove(best).finish(&self.windows, offset, &self.info, &self.runner)?;
        if self.offsets.len() > 1 {
            if offset != self.info.offset {
                let message = format!(
                    "positions predict {} ahead, not {}: set prediction_offset={offset}",
                    counted(offset, "token", "tokens"),
                    self.info.offset
                );
                evaluation.findings.push(Finding::warning("offset", message));
            }
            if means[lowest] >= guessing {
                let message = format!(
                    "at no offset from 0 to {MAX_OFFSET} is this text predicted better than by guessing: {offset} is \
                     taken, for want of a reason for another"
                );
                evaluation.findings.push(Finding::warning("offset-unclear", message));
            }
            evaluation.nll_by_offset = Some(means);
        }
        Ok(evaluation)
    }
}

//! Perplexity of one model.

use statepress_core::Finding;
use statepress_core::job::{Job, Progress};
use statepress_core::report::Evaluation;
use statepress_kernels::ops::softmax;

use super::windows::{LOGIT_ROWS, Sums, Windows};
use crate::models::{Model, Workspace};
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
pub struct Evaluate {
    model: Model,
    windows: Windows,
    offsets: Vec<usize>,
    sums: Vec<Sums>,
    next: usize,
    workspace: Workspace,
    logits: Vec<f32>,
    clock: Clock,
}

impl Evaluate {
    /// Prepares an evaluation of `model` on `ids`.
    pub fn new(
        model: &Model,
        ids: &[u32],
        options: &EvaluateOptions,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let offsets = match options.offset {
            Offset::Model => vec![model.info.offset],
            Offset::Given(offset) => vec![offset],
            Offset::Detect => (0..=MAX_OFFSET).collect(),
        };
        let largest = offsets.iter().copied().max().unwrap_or(1);
        let windows = Windows::new(ids, options.window, options.limit, largest, &model.info)?;
        Ok(Self {
            model: model.clone(),
            windows,
            sums: vec![Sums::default(); offsets.len()],
            offsets,
            next: 0,
            workspace: Workspace::exact(),
            logits: Vec::new(),
            clock,
        })
    }

    fn window(&mut self) -> Result<(), EngineError> {
        let ids = self.windows.get(self.next);
        let mut state = self.model.start();
        self.model.forward(ids, &mut state, &mut self.workspace, &mut ())?;
        let hidden = std::mem::take(&mut self.workspace.hidden);
        let (d, vocab_size) = (self.model.hidden_size(), self.model.info.vocab_size);
        let scored = self.windows.window - self.offsets.iter().copied().min().unwrap_or(0);
        for (block, rows) in hidden[..scored * d].chunks(LOGIT_ROWS * d).enumerate() {
            self.model.logits(rows, &mut self.workspace, &mut self.logits);
            for (row, logits) in self.logits.chunks_exact(vocab_size).enumerate() {
                let t = block * LOGIT_ROWS + row;
                let log_sum_exp = softmax::log_sum_exp(logits);
                for (&offset, sums) in self.offsets.iter().zip(&mut self.sums) {
                    if let Some(&label) = ids.get(t + offset) {
                        sums.add(log_sum_exp - logits[label as usize]);
                    }
                }
            }
        }
        self.workspace.hidden = hidden;
        Ok(())
    }
}

impl Job for Evaluate {
    type Output = Evaluation;
    type Error = EngineError;

    fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if self.next == self.windows.count {
            return Ok(None);
        }
        let started = (self.clock)();
        self.window()?;
        let seconds = (self.clock)() - started;
        for sums in &mut self.sums {
            sums.seconds += seconds;
            sums.tokens_in += self.windows.window as u64;
        }
        self.next += 1;
        Ok(Some(Progress {
            stage: "evaluate".into(),
            done: (self.next * self.windows.window) as f64,
            total: (self.windows.count * self.windows.window) as f64,
            unit: "tokens".into(),
            item: None,
        }))
    }

    fn finish(self) -> Result<Evaluation, EngineError> {
        let means: Vec<f64> = self.sums.iter().map(Sums::mean).collect();
        let best = (0..means.len()).min_by(|&a, &b| means[a].total_cmp(&means[b])).unwrap_or(0);
        let offset = self.offsets[best];
        let mut evaluation = self.sums[best].clone().finish(&self.windows, offset, &self.model.info)?;
        if self.offsets.len() > 1 {
            if offset != self.model.info.offset {
                let message = format!(
                    "positions predict {offset} tokens ahead, not {}: set prediction_offset={offset}",
                    self.model.info.offset
                );
                evaluation.findings.push(Finding::warning("offset", message));
            }
            evaluation.nll_by_offset = Some(means);
        }
        Ok(evaluation)
    }
}

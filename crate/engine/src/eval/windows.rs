//! Cutting a text into windows, and the running sums over them.

use serde::{Deserialize, Serialize};
use statepress_core::Finding;
use statepress_core::job::Progress;
use statepress_core::report::Evaluation;
use statepress_core::words::counted;
use statepress_kernels::backend::Runner;

use crate::EngineError;
use crate::models::Info;
use crate::techniques::shares::Share;

/// The window of a model that sets no limit.
const UNLIMITED_WINDOW: usize = 256;

/// The widest window that is taken unasked: what perplexities of models with long contexts are usually
/// quoted for.
const LARGEST_WINDOW: usize = 2048;

/// A text cut into windows.
pub(super) struct Windows {
    ids: Vec<u32>,
    pub window: usize,
    pub count: usize,
    pub dropped: u64,
}

impl Windows {
    /// Cuts at most `limit` tokens of `ids`.
    pub fn new(
        ids: &[u32],
        window: Option<usize>,
        limit: Option<usize>,
        max_offset: usize,
        info: &Info,
    ) -> Result<Self, EngineError> {
        let most = info.max_tokens.unwrap_or(usize::MAX);
        if max_offset >= most {
            let allowed = format!("less than the model's {most} positions");
            return Err(EngineError::option("offset", max_offset, allowed));
        }
        let window =
            window.unwrap_or(info.max_tokens.map_or(UNLIMITED_WINDOW, |most| most.min(LARGEST_WINDOW)));
        let least = max_offset + 1;
        if !(least..=most).contains(&window) {
            let allowed = match info.max_tokens {
                Some(most) => format!("{least} to {most} (the model's positions)"),
                None => format!("{least} or more"),
            };
            return Err(EngineError::option("window", window, allowed));
        }
        let used = ids.len().min(limit.unwrap_or(usize::MAX));
        let count = used / window;
        if let Some(limit) = limit.filter(|&limit| limit < window) {
            return Err(EngineError::option("limit", limit, format!("{window} (one window) or more")));
        }
        if count == 0 {
            return Err(EngineError::Ids(format!(
                "{} one window of {window}: give a longer text or a smaller window",
                counted(used, "token does not fill", "tokens do not fill")
            )));
        }
        let dropped = (used - count * window) as u64;
        Ok(Self { ids: ids[..count * window].to_vec(), window, count, dropped })
    }

    /// The tokens of window `n`.
    pub fn get(&self, n: usize) -> &[u32] {
        &self.ids[n * self.window..][..self.window]
    }
}

/// What is measured of each window of a text: here, or by others who have a share of them.
pub(super) struct PerWindow<W> {
    measured: Vec<Option<W>>,
    pub share: Share,
}

impl<W> PerWindow<W> {
    pub fn new(windows: &Windows) -> Self {
        Self { measured: (0..windows.count).map(|_| None).collect(), share: Share::default() }
    }

    /// Those that are measured here.
    fn here(&self) -> impl Iterator<Item = usize> {
        (self.share.index..self.measured.len()).step_by(self.share.count)
    }

    /// The next of them.
    pub fn next(&self) -> Option<usize> {
        self.here().find(|&n| self.measured[n].is_none())
    }

    pub fn put(&mut self, n: usize, measured: W) {
        self.measured[n] = Some(measured);
    }

    /// Takes what others have measured of their windows.
    pub fn join(&mut self, others: Vec<OfWindow<W>>) -> Result<(), EngineError> {
        for OfWindow { window, measured } in others {
            let count = self.measured.len();
            let place = self.measured.get_mut(window).ok_or_else(|| {
                EngineError::Evaluation(format!("window {window} was measured elsewhere, of {count}"))
            })?;
            *place = Some(measured);
        }
        Ok(())
    }

    pub fn progress(&self, stage: &str, window: usize) -> Progress {
        let done = self.here().filter(|&n| self.measured[n].is_some()).count();
        let tokens = |windows: usize| (windows * window) as f64;
        Progress {
            stage: stage.into(),
            done: tokens(done),
            total: tokens(self.here().count()),
            unit: "tokens".into(),
            item: None,
        }
    }

    /// What was measured of the share, for whoever has all shares.
    pub fn shared(self) -> Result<Vec<OfWindow<W>>, EngineError> {
        self.check(self.here().collect())?;
        let measured = self.measured.into_iter().enumerate();
        Ok(measured.filter_map(|(window, it)| Some(OfWindow { window, measured: it? })).collect())
    }

    /// What was measured of all windows: a part of a text is not what was asked about.
    pub fn all(self) -> Result<Vec<W>, EngineError> {
        self.check((0..self.measured.len()).collect())?;
        Ok(self.measured.into_iter().flatten().collect())
    }

    /// Fails unless all of these were measured.
    fn check(&self, windows: Vec<usize>) -> Result<(), EngineError> {
        let done = windows.iter().filter(|&&n| self.measured[n].is_some()).count();
        if done == windows.len() {
            return Ok(());
        }
        Err(EngineError::Evaluation(format!("finished after {done} of {} windows", windows.len())))
    }
}

/// What was measured of one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfWindow<W> {
    /// Which, from 0.
    window: usize,
    measured: W,
}

/// Sums of negative log-likelihoods.
#[derive(Clone, Default)]
pub(super) struct Sums {
    tokens: u64,
    nll: f64,
    squares: f64,
    /// Time spent in the model.
    pub seconds: f64,
    /// Tokens put in.
    pub tokens_in: u64,
}

impl Sums {
    pub fn add(&mut self, nll: f32) {
        let nll = f64::from(nll);
        self.tokens += 1;
        self.nll += nll;
        self.squares += nll * nll;
    }

    /// Mean negative log-likelihood.
    pub fn mean(&self) -> f64 {
        self.nll / self.tokens.max(1) as f64
    }

    /// The report. A mean or a perplexity that is no number is an error, never infinity.
    pub fn finish(
        self,
        windows: &Windows,
        offset: usize,
        info: &Info,
        runner: &impl Runner,
    ) -> Result<Evaluation, EngineError> {
        let n = self.tokens as f64;
        let nll = self.mean();
        if self.tokens == 0 || !nll.is_finite() {
            return Err(EngineError::Evaluation(format!(
                "the mean log-likelihood of {} is not a number: a weight or an activation overflowed",
                counted(self.tokens, "token", "tokens")
            )));
        }
        let variance = (self.squares / n - nll * nll).max(0.0);
        let perplexity = nll.exp();
        if !perplexity.is_finite() {
            return Err(EngineError::Evaluation(format!(
                "the mean log-likelihood of {} is -{nll:.0}, whose perplexity is no number: a weight \
                 overflowed, or the weights are not of this model",
                counted(self.tokens, "token", "tokens")
            )));
        }
        let mut findings = info.findings.clone();
        findings.extend(info.calibration.as_ref().and_then(|marks| marks.told(&windows.ids)));
        if perplexity > info.vocab_size as f64 {
            let message = format!(
                "perplexity {perplexity:.0} is worse than guessing uniformly over {} tokens: is the tokenizer, \
                 the prediction offset or an assumed field wrong?",
                info.vocab_size
            );
            findings.push(Finding::warning("worse-than-uniform", message));
        }
        if windows.dropped > 0 {
            let message = match windows.dropped {
                1 => "the last token fills no window and was dropped".into(),
                count => format!("the last {count} tokens fill no window and were dropped"),
            };
            findings.push(Finding::info("dropped", message));
        }
        Ok(Evaluation {
            tokens: self.tokens,
            nll,
            nll_stderr: (variance / n).sqrt(),
            perplexity,
            window: windows.window,
            windows: windows.count,
            dropped: windows.dropped,
            offset,
            backend: runner.name().into(),
            adapter: runner.adapter(),
            seconds: self.seconds,
            tokens_per_second: self.tokens_in as f64 / self.seconds.max(1e-9),
            nll_by_offset: None,
            findings,
        })
    }
}

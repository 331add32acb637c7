//! The quality card: two models on the same tokens.

use std::ops::Range;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use statepress_core::Finding;
use statepress_core::job::{Job, Progress};
use statepress_core::report::{
    ComparedBytes, Comparison, DeltaP, Distribution, LayerDrift, PositionDrift, Verdict,
};
use statepress_core::words::counted;
use statepress_kernels::backend::{Residuals, Runner};
use statepress_kernels::ops::softmax;

use super::windows::{OfWindow, PerWindow, Sums, Windows};
use crate::models::{Info, Loaded, check_ids};
use crate::techniques::shares::Share;
use crate::{Clock, EngineError};

/// Stretches that the window is divided into for the drift by position.
const STRETCHES: usize = 16;

/// Rows of logits that are held of each model at a time: 32 rows of 50,000 are 6 MB.
const LOGIT_ROWS: usize = 32;

/// The most positions on which the noise floor is measured.
const NOISE_POSITIONS: usize = 64;

/// How to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Tokens of a window; the smaller of the models' positions if absent.
    pub window: Option<usize>,
    /// Use at most this many tokens of the text.
    pub limit: Option<usize>,
    /// Which token a position predicts; the base's own if absent.
    pub offset: Option<usize>,
    /// The compression that counts as success: base bytes over compressed bytes.
    pub ratio_target: f64,
    /// The degradation that success allows: perplexity change in percent.
    pub loss_target: f64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            window: None,
            limit: None,
            offset: None,
            ratio_target: Verdict::COMPRESSION,
            loss_target: Verdict::DEGRADATION,
        }
    }
}

/// A comparison under way; a step is a window through both models.
pub struct Compare<A: Runner, B: Runner> {
    a: Side<A>,
    b: Side<B>,
    /// The base token by token, for the noise floor.
    single: A,
    windows: Windows,
    options: CompareOptions,
    offset: usize,
    measured: PerWindow<Compared>,
    clock: Clock,
}

/// What the models made of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// Negative log-likelihoods of every position, by the base.
    nll_a: Vec<f32>,
    /// By the other.
    nll_b: Vec<f32>,
    kl: Vec<f32>,
    /// At how many positions both take the same token for the likeliest.
    agree: u64,
    /// How far the residual streams are apart.
    layers: Vec<LayerSums>,
    /// Of the first window: of the base, token by token.
    noise_floor: f64,
    /// Time spent in the base.
    seconds_a: f64,
    /// In the other.
    seconds_b: f64,
}

/// What came of a share of the windows.
pub type ComparedShare = Vec<OfWindow<Compared>>;

/// One of the two models with its buffers.
struct Side<R> {
    runner: R,
    info: Rc<Info>,
    logits: Vec<f32>,
    residuals: Residuals,
    /// Time spent in the window.
    seconds: f64,
}

#[derive(Clone, Default)]
struct Stretch {
    count: u64,
    kl: f64,
    nll_change: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LayerSums {
    difference: f64,
    norm: f64,
}

impl<R: Runner> Side<R> {
    fn new(model: &impl Loaded<Runner = R>) -> Result<Self, EngineError> {
        Ok(Self {
            runner: model.runner(true)?,
            info: model.info().clone(),
            logits: Vec::new(),
            residuals: Residuals::new(),
            seconds: 0.0,
        })
    }

    async fn forward(&mut self, ids: &[u32], clock: Clock) -> Result<(), EngineError> {
        check_ids(&self.info, ids, 0)?;
        let started = clock();
        self.runner.restart();
        self.runner.forward(ids, Some(&mut self.residuals)).await?;
        self.seconds = clock() - started;
        Ok(())
    }

    async fn logits(&mut self, rows: Range<usize>, clock: Clock) -> Result<(), EngineError> {
        let started = clock();
        self.runner.logits(rows, &mut self.logits).await?;
        self.seconds += clock() - started;
        Ok(())
    }
}

impl<A: Runner, B: Runner> Compare<A, B> {
    /// Prepares a comparison; `a` is the base.
    pub fn new(
        a: &impl Loaded<Runner = A>,
        b: &impl Loaded<Runner = B>,
        ids: &[u32],
        options: CompareOptions,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        for (option, target) in [("ratioTarget", options.ratio_target), ("lossTarget", options.loss_target)] {
            if !target.is_finite() {
                return Err(EngineError::option(option, target, "a finite number"));
            }
        }
        let (info_a, info_b) = (a.info(), b.info());
        if info_a.vocab_size != info_b.vocab_size {
            return Err(EngineError::Ids(format!(
                "the vocabularies differ: {} and {} tokens",
                info_a.vocab_size, info_b.vocab_size
            )));
        }
        [info_a, info_b].iter().try_for_each(|info| info.check_other(ids))?;
        let most = |info: &Info| info.max_tokens.unwrap_or(usize::MAX);
        let smaller = if most(info_a) <= most(info_b) { info_a } else { info_b };
        let offset = options.offset.unwrap_or(info_a.offset);
        let windows = Windows::new(ids, options.window, options.limit, offset, smaller)?;
        Ok(Self {
            a: Side::new(a)?,
            b: Side::new(b)?,
            single: a.runner(false)?,
            measured: PerWindow::new(&windows),
            windows,
            options,
            offset,
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
    pub fn join(mut self, others: ComparedShare) -> Result<Self, EngineError> {
        self.measured.join(others)?;
        Ok(self)
    }

    /// What came of a share.
    ///
    /// # Errors
    /// Before all of its windows were measured.
    pub fn finish_share(self) -> Result<ComparedShare, EngineError> {
        self.measured.shared()
    }

    async fn window(&mut self, n: usize) -> Result<Compared, EngineError> {
        let ids = self.windows.get(n);
        self.a.forward(ids, self.clock).await?;
        self.b.forward(ids, self.clock).await?;
        let layers = drift(&self.a.residuals, &self.b.residuals);
        let mut measured = Compared { layers, ..Compared::default() };
        let (vocab_size, window) = (self.a.info.vocab_size, self.windows.window);
        let scored = window - self.offset;
        for from in (0..scored).step_by(LOGIT_ROWS) {
            let to = scored.min(from + LOGIT_ROWS);
            self.a.logits(from..to, self.clock).await?;
            self.b.logits(from..to, self.clock).await?;
            let rows = self.a.logits.chunks_exact(vocab_size).zip(self.b.logits.chunks_exact(vocab_size));
            for (t, (row_a, row_b)) in (from..to).zip(rows) {
                let label = ids[t + self.offset] as usize;
                let pair = softmax::compare(row_a, row_b, label);
                if !(pair.kl.is_finite() && pair.nll_a.is_finite() && pair.nll_b.is_finite()) {
                    return Err(EngineError::Evaluation(format!(
                        "window {n}, position {t}: the logits are not numbers"
                    )));
                }
                measured.nll_a.push(pair.nll_a);
                measured.nll_b.push(pair.nll_b);
                // Rounding can leave a divergence of equal distributions just below zero.
                measured.kl.push(pair.kl.max(0.0));
                measured.agree += u64::from(pair.argmax_a == pair.argmax_b);
            }
        }
        (measured.seconds_a, measured.seconds_b) = (self.a.seconds, self.b.seconds);
        if n == 0 {
            measured.noise_floor = self.noise_floor().await?;
        }
        Ok(measured)
    }

    /// Runs the base token by token over the start of the first window, and takes the mean KL
    /// to its own whole-window run: what the order of additions and the single-token kernels
    /// alone produce.
    async fn noise_floor(&mut self) -> Result<f64, EngineError> {
        let ids = &self.windows.get(0)[..NOISE_POSITIONS.min(self.windows.window)];
        let (mut whole, mut single) = (Vec::new(), Vec::new());
        let mut sum = 0.0;
        for (t, id) in ids.iter().enumerate() {
            self.single.forward(&[*id], None).await?;
            self.single.logits(0..1, &mut single).await?;
            self.a.runner.logits(t..t + 1, &mut whole).await?;
            let kl = softmax::compare(&whole, &single, 0).kl;
            if !kl.is_finite() {
                return Err(EngineError::Evaluation(format!(
                    "position {t}: the logits of the base, token by token, are not numbers"
                )));
            }
            sum += f64::from(kl.max(0.0));
        }
        Ok(sum / ids.len() as f64)
    }
}

impl<A: Runner, B: Runner> Job for Compare<A, B> {
    type Output = Comparison;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(n) = self.measured.next() else { return Ok(None) };
        let measured = self.window(n).await?;
        self.measured.put(n, measured);
        Ok(Some(self.measured.progress("compare", self.windows.window)))
    }

    fn finish(self) -> Result<Comparison, EngineError> {
        let Self { a, b, windows, options, offset, measured, .. } = self;
        let window = windows.window;
        let (mut sums_a, mut sums_b) = (Sums::default(), Sums::default());
        let (mut kl, mut delta_p) = (Vec::new(), Vec::new());
        let (mut agree, mut noise_floor) = (0, 0.0);
        // Sum and sum of squares of `nll_b - nll_a` over positions.
        let mut difference = (0.0, 0.0);
        let mut stretches = vec![Stretch::default(); STRETCHES.min(window)];
        let mut layers: Vec<LayerSums> = Vec::new();
        for it in measured.all()? {
            let positions = it.nll_a.iter().zip(&it.nll_b).zip(&it.kl);
            for (t, ((&nll_a, &nll_b), &kl)) in positions.enumerate() {
                sums_a.add(nll_a);
                sums_b.add(nll_b);
                delta_p.push((-nll_b).exp() - (-nll_a).exp());
                let change = f64::from(nll_b - nll_a);
                let stretch = &mut stretches[t * STRETCHES.min(window) / window];
                stretch.count += 1;
                stretch.kl += f64::from(kl);
                stretch.nll_change += change;
                difference.0 += change;
                difference.1 += change * change;
            }
            kl.extend(it.kl);
            agree += it.agree;
            noise_floor += it.noise_floor;
            layers.resize(it.layers.len(), LayerSums::default());
            for (sums, of_window) in layers.iter_mut().zip(&it.layers) {
                sums.difference += of_window.difference;
                sums.norm += of_window.norm;
            }
            for (sums, seconds) in [(&mut sums_a, it.seconds_a), (&mut sums_b, it.seconds_b)] {
                sums.seconds += seconds;
                sums.tokens_in += window as u64;
            }
        }
        let (info_a, info_b) = (a.info, b.info);
        let n = kl.len().max(1) as f64;
        let variance = difference.1 / n - (difference.0 / n).powi(2);
        let nll_difference_stderr = (variance.max(0.0) / n).sqrt();
        let a = sums_a.finish(&windows, offset, &info_a, &a.runner)?;
        let mut b = sums_b.finish(&windows, offset, &info_b, &b.runner)?;
        if info_b.offset != info_a.offset {
            let message = format!(
                "its positions predict {} ahead, those of the base {}; both were judged at {offset}",
                counted(info_b.offset, "token", "tokens"),
                info_a.offset
            );
            b.findings.push(Finding::warning("offset", message));
        }
        let perplexity_change = 100.0 * (b.perplexity / a.perplexity - 1.0);
        let perplexity_change_stderr = 100.0 * (b.perplexity / a.perplexity) * nll_difference_stderr;
        if !perplexity_change.is_finite() {
            let (a, b) = (a.perplexity, b.perplexity);
            let message =
                format!("perplexity rises from {a:.3} to {b:e}: the change in percent is no number");
            return Err(EngineError::Evaluation(message));
        }
        let bytes = ComparedBytes {
            a: info_a.bytes,
            b: info_b.bytes,
            ratio: info_a.bytes as f64 / info_b.bytes.max(1) as f64,
            file_a: info_a.file_bytes,
            file_b: info_b.file_bytes,
        };
        let verdict =
            Verdict::of((bytes.ratio, options.ratio_target), (perplexity_change, options.loss_target));
        let n = stretches.len();
        let by_position =
            stretches.iter().enumerate().filter(|(_, stretch)| stretch.count > 0).map(|(i, stretch)| {
                PositionDrift {
                    from: (i * windows.window).div_ceil(n),
                    to: ((i + 1) * windows.window).div_ceil(n).min(windows.window - offset),
                    kl: stretch.kl / stretch.count as f64,
                    nll_change: stretch.nll_change / stretch.count as f64,
                }
            });
        let by_layer = layers.into_iter().enumerate().map(|(n, sums)| LayerDrift {
            layer: if n == 0 { "embedding".into() } else { format!("layers.{}", n - 1) },
            relative_error: (sums.difference / sums.norm.max(f64::MIN_POSITIVE)).sqrt(),
        });
        Ok(Comparison {
            by_position: by_position.collect(),
            by_layer: by_layer.collect(),
            top1_agreement: agree as f64 / kl.len().max(1) as f64,
            kl: distribution(kl),
            delta_p: delta_p_summary(delta_p),
            a,
            b,
            bytes,
            perplexity_change,
            perplexity_change_stderr,
            nll_difference_stderr,
            noise_floor,
            verdict,
        })
    }
}

/// How far the residual streams of a window are apart, after every layer.
fn drift(a: &Residuals, b: &Residuals) -> Vec<LayerSums> {
    // Models of unequal depth or width have no layers to compare.
    let comparable = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len());
    if !comparable {
        return Vec::new();
    }
    let of_layer = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let mut sums = LayerSums::default();
        for (x, y) in a.iter().zip(b) {
            sums.difference += f64::from(y - x) * f64::from(y - x);
            sums.norm += f64::from(*x) * f64::from(*x);
        }
        sums
    };
    a.iter().zip(b).map(of_layer).collect()
}

fn sorted(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_unstable_by(f32::total_cmp);
    values
}

/// The value below which a share `p` of the sorted values lies (nearest rank).
fn quantile(sorted: &[f32], p: f64) -> f64 {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).map_or(0.0, |&value| f64::from(value))
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

fn distribution(kl: Vec<f32>) -> Distribution {
    let mean = mean(&kl);
    let sorted = sorted(kl);
    Distribution {
        mean,
        median: quantile(&sorted, 0.5),
        p99: quantile(&sorted, 0.99),
        max: quantile(&sorted, 1.0),
    }
}

fn delta_p_summary(delta_p: Vec<f32>) -> DeltaP {
    let squares: f64 = delta_p.iter().map(|&d| f64::from(d) * f64::from(d)).sum();
    let rms = (squares / delta_p.len().max(1) as f64).sqrt();
    let sorted = sorted(delta_p);
    DeltaP { rms, p01: quantile(&sorted, 0.01), p99: quantile(&sorted, 0.99) }
}

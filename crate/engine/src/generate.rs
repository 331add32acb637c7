//! Generating text, one token per step.
//!
//! With a prediction offset of `s`, token `n` is read from the logits of position `n - s`: the
//! logits of the last `s` positions are kept.

use std::collections::VecDeque;

use statepress_core::report::GeneratedToken;
use statepress_kernels::ops::softmax;

use crate::EngineError;
use crate::models::{Model, State, Workspace};

/// How to sample.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Sample among this many likeliest tokens; `None`: among all.
    pub top_k: Option<usize>,
    /// Seed of the sampler.
    pub seed: u64,
    /// Ids from here on are never sampled: rows of the table that the tokenizer does not use.
    pub suppress_from: Option<u32>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 64, temperature: 0.0, top_k: None, seed: 0, suppress_from: None }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// As many tokens as asked for.
    MaxTokens,
    /// The model has no more positions.
    ContextFull,
}

/// A generation under way.
pub struct Generate {
    model: Model,
    options: GenerateOptions,
    prompt: Vec<u32>,
    state: State,
    workspace: Workspace,
    /// Logits of the last `offset` positions, oldest first.
    logits: VecDeque<Vec<f32>>,
    generated: usize,
    random: fastrand::Rng,
    stop: Option<Stop>,
}

impl Generate {
    /// Prepares to continue `prompt`.
    pub fn new(model: &Model, prompt: &[u32], options: GenerateOptions) -> Result<Self, EngineError> {
        let offset = model.info.offset;
        if offset == 0 {
            let allowed = "1 or more: a model that predicts the token it is given cannot generate";
            return Err(EngineError::option("prediction_offset", 0, allowed));
        }
        if prompt.len() < offset {
            return Err(EngineError::Ids(format!(
                "the prompt has {} tokens; a model that predicts {offset} tokens ahead needs at least {offset}",
                prompt.len()
            )));
        }
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return Err(EngineError::option("temperature", options.temperature, "0 or more"));
        }
        if options.top_k == Some(0) {
            return Err(EngineError::option("topK", 0, "1 or more"));
        }
        if options.suppress_from == Some(0) {
            return Err(EngineError::option("suppressFrom", 0, "1 or more"));
        }
        Ok(Self {
            model: model.clone(),
            prompt: prompt.to_vec(),
            state: model.start(),
            workspace: Workspace::default(),
            logits: VecDeque::new(),
            generated: 0,
            random: fastrand::Rng::with_seed(options.seed),
            options,
            stop: None,
        })
    }

    /// Takes the prompt in, once. [`Self::step`] does it if the caller has not.
    pub fn prefill(&mut self) -> Result<(), EngineError> {
        let prompt = std::mem::take(&mut self.prompt);
        if prompt.is_empty() {
            return Ok(());
        }
        self.model.forward(&prompt, &mut self.state, &mut self.workspace, &mut ())?;
        let hidden = std::mem::take(&mut self.workspace.hidden);
        let d = self.model.hidden_size();
        for row in hidden[(prompt.len() - self.model.info.offset) * d..].chunks_exact(d) {
            let mut logits = Vec::new();
            self.model.logits(row, &mut self.workspace, &mut logits);
            self.logits.push_back(logits);
        }
        self.workspace.hidden = hidden;
        Ok(())
    }

    /// The next token; `None` at the end, and then [`Self::stop`] says why.
    pub fn step(&mut self) -> Result<Option<GeneratedToken>, EngineError> {
        self.prefill()?;
        if self.generated == self.options.max_tokens {
            self.stop = Some(Stop::MaxTokens);
        }
        if self.stop.is_some() {
            return Ok(None);
        }
        let Some(mut logits) = self.logits.pop_front() else { return Ok(None) };
        let token = self.sample(&mut logits)?;
        self.generated += 1;
        // The last token asked for need not be taken in.
        if self.generated < self.options.max_tokens {
            if self.state.position == self.model.info.max_tokens {
                // Offsets above 1 still have logits for tokens after the last position.
                if self.logits.is_empty() {
                    self.stop = Some(Stop::ContextFull);
                }
            } else {
                self.model.forward(&[token.id], &mut self.state, &mut self.workspace, &mut ())?;
                let hidden = std::mem::take(&mut self.workspace.hidden);
                self.model.logits(&hidden, &mut self.workspace, &mut logits);
                self.workspace.hidden = hidden;
                self.logits.push_back(logits);
            }
        }
        Ok(Some(token))
    }

    /// Why generation ended, once it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    fn sample(&mut self, logits: &mut [f32]) -> Result<GeneratedToken, EngineError> {
        let usable = self.options.suppress_from.map_or(logits.len(), |from| logits.len().min(from as usize));
        let log_sum_exp = softmax::log_sum_exp(logits);
        if !log_sum_exp.is_finite() {
            return Err(EngineError::Evaluation("the logits are not numbers".into()));
        }
        let probability = |logit: f32| f64::from((logit - log_sum_exp).exp());
        let allowed = &logits[..usable];
        if self.options.temperature == 0.0 {
            let id = softmax::argmax(allowed);
            return Ok(GeneratedToken { id: id as u32, probability: probability(allowed[id]) });
        }
        // Keep values at least the k-th largest, as upstream does: ties are kept.
        let mut threshold = f32::NEG_INFINITY;
        if let Some(k) = self.options.top_k.filter(|&k| k < usable) {
            let mut sorted = allowed.to_vec();
            let (_, kth, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            threshold = *kth;
        }
        let largest = allowed[softmax::argmax(allowed)];
        let weight = |logit: f32| {
            if logit >= threshold {
                f64::from((logit - largest) / self.options.temperature).exp()
            } else {
                0.0
            }
        };
        let total: f64 = allowed.iter().map(|&logit| weight(logit)).sum();
        let mut left = self.random.f64() * total;
        let mut id = softmax::argmax(allowed);
        for (candidate, &logit) in allowed.iter().enumerate() {
            let weight = weight(logit);
            if weight > 0.0 {
                id = candidate;
                if left < weight {
                    break;
                }
                left -= weight;
            }
        }
        Ok(GeneratedToken { id: id as u32, probability: probability(allowed[id]) })
    }
}

//! Generating text, as many tokens per step as the caller asks for.
//!
//! With a prediction offset of `s`, token `n` is read from the logits of position `n - s`: the
//! logits of the last `s` positions are kept.

use statepress_core::words::counted;
use std::rc::Rc;

use statepress_core::report::GeneratedToken;
use statepress_kernels::backend::{Runner, Sampling};

use crate::EngineError;
use crate::models::{Info, Loaded, check_ids};

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
pub struct Generate<R: Runner> {
    runner: R,
    info: Rc<Info>,
    prompt: Vec<u32>,
    sampling: Sampling,
    max_tokens: usize,
    /// Rows of logits that the runner keeps.
    kept: usize,
    generated: usize,
    random: fastrand::Rng,
    stop: Option<Stop>,
    failed: bool,
}

impl<R: Runner> Generate<R> {
    /// Prepares to continue `prompt`.
    pub fn new(
        model: &impl Loaded<Runner = R>,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> Result<Self, EngineError> {
        let info = model.info().clone();
        let offset = info.offset;
        if offset == 0 {
            let allowed = "1 or more: a model that predicts the token it is given cannot generate";
            return Err(EngineError::option("prediction_offset", 0, allowed));
        }
        if prompt.len() < offset {
            return Err(EngineError::Ids(format!(
                "the prompt has {}; a model that predicts {} ahead needs at least {offset}",
                counted(prompt.len(), "token", "tokens"),
                counted(offset, "token", "tokens")
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
        check_ids(&info, prompt, 0)?;
        let usable = options.suppress_from.map_or(info.vocab_size, |from| info.vocab_size.min(from as usize));
        Ok(Self {
            runner: model.runner(false)?,
            info,
            prompt: prompt.to_vec(),
            sampling: Sampling { temperature: options.temperature, top_k: options.top_k, usable },
            max_tokens: options.max_tokens,
            kept: 0,
            generated: 0,
            random: fastrand::Rng::with_seed(options.seed),
            stop: None,
            failed: false,
        })
    }

    /// Takes the prompt in, once. [`Self::step`] does it if the caller has not.
    pub async fn prefill(&mut self) -> Result<(), EngineError> {
        let prompt = std::mem::take(&mut self.prompt);
        if !prompt.is_empty() {
            self.runner.forward(&prompt, None).await?;
            self.runner.keep(self.info.offset).await?;
            self.kept = self.info.offset;
        }
        Ok(())
    }

    /// The next tokens, at most `count` and at least one; none at the end, and then
    /// [`Self::stop`] says why.
    pub async fn step(&mut self, count: usize) -> Result<Vec<GeneratedToken>, EngineError> {
        self.prefill().await?;
        let wanted = self.max_tokens - self.generated;
        let places = self.info.max_tokens.map_or(usize::MAX, |most| most - self.runner.position());
        // Every kept row gives a token; every token taken in gives another row.
        let count = count.max(1).min(wanted).min(places.saturating_add(self.kept));
        if count == 0 && self.stop.is_none() {
            self.stop = Some(if wanted == 0 { Stop::MaxTokens } else { Stop::ContextFull });
        }
        if self.failed {
            return Err(not_numbers());
        }
        if self.stop.is_some() {
            return Ok(Vec::new());
        }
        // The last token asked for need not be taken in.
        let take_in = count.min(wanted - 1).min(places);
        let random: Vec<f64> = (0..count).map(|_| self.random.f64()).collect();
        let sampled = self.runner.generate(&self.sampling, &random, take_in).await?;
        self.generated += count;
        self.kept = self.kept + take_in - count;
        // A model that breaks down on the way has said something until then.
        let sound = sampled.iter().take_while(|token| token.probability.is_finite());
        let tokens: Vec<GeneratedToken> =
            sound.map(|token| GeneratedToken { id: token.id, probability: token.probability }).collect();
        self.failed = tokens.len() < count;
        if tokens.is_empty() { Err(not_numbers()) } else { Ok(tokens) }
    }

    /// Why generation ended, once it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }
}

fn not_numbers() -> EngineError {
    EngineError::Evaluation("the logits are not numbers".into())
}

//! Jobs as JavaScript classes: `step()` until it gives `undefined`, then `finish()`.
//!
//! The JavaScript side decides how many steps to take before it lets messages in, so progress
//! and cancelling need no callback. Freeing an unfinished job cancels it.

use statepress::Job;
use wasm_bindgen::prelude::*;

use crate::convert::{fail, to_js};
use crate::{Model, Result};

fn step<J: Job<Error: Into<statepress::Error>>>(job: &mut J) -> Result<JsValue> {
    match job.step().map_err(fail)? {
        Some(progress) => to_js(&progress),
        None => Ok(JsValue::UNDEFINED),
    }
}

macro_rules! job_class {
    ($(#[$docs:meta])* $class:ident($job:ty)) => {
        $(#[$docs])*
        #[wasm_bindgen]
        pub struct $class($job);

        #[wasm_bindgen]
        impl $class {
            /// Does the next piece of work; `undefined` when nothing is left.
            pub fn step(&mut self) -> Result<JsValue> {
                step(&mut self.0)
            }

            /// The report.
            pub fn finish(self) -> Result<JsValue> {
                to_js(&self.0.finish().map_err(fail)?)
            }
        }

        impl $class {
            pub(crate) fn new(job: $job) -> Self {
                Self(job)
            }
        }
    };
}

job_class! {
    /// Writes a compressed checkpoint; a step is a tensor.
    CompressJob(statepress::Compress)
}
job_class! {
    /// Perplexity of a model; a step is a window.
    EvaluateJob(statepress::Evaluate)
}
job_class! {
    /// The quality card; a step is a window.
    CompareJob(statepress::Compare)
}

/// Loads a model; a step is a tensor.
#[wasm_bindgen]
pub struct LoadJob(statepress::Load);

#[wasm_bindgen]
impl LoadJob {
    /// Reads the next tensor; `undefined` when nothing is left.
    pub fn step(&mut self) -> Result<JsValue> {
        step(&mut self.0)
    }

    /// The model.
    pub fn finish(self) -> Result<Model> {
        Ok(Model(self.0.finish().map_err(fail)?))
    }
}

impl LoadJob {
    pub(crate) fn new(job: statepress::Load) -> Self {
        Self(job)
    }
}

/// Generates tokens, one a step.
#[wasm_bindgen]
pub struct Generator(statepress::Generate);

#[wasm_bindgen]
impl Generator {
    /// Takes the prompt in; the first step does it otherwise.
    pub fn prefill(&mut self) -> Result<()> {
        self.0.prefill().map_err(fail)
    }

    /// The next token; `undefined` at the end.
    pub fn step(&mut self) -> Result<JsValue> {
        match self.0.step().map_err(fail)? {
            Some(token) => to_js(&token),
            None => Ok(JsValue::UNDEFINED),
        }
    }

    /// Why generation ended: `max-tokens` or `context-full`; `undefined` before.
    pub fn stop(&self) -> Option<String> {
        let stop = match self.0.stop()? {
            statepress::Stop::MaxTokens => "max-tokens",
            statepress::Stop::ContextFull => "context-full",
        };
        Some(stop.into())
    }
}

impl Generator {
    pub(crate) fn new(generate: statepress::Generate) -> Self {
        Self(generate)
    }
}

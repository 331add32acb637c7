//! Jobs as JavaScript classes: `step()` until it gives `undefined`, or a promise of that, then
//! `finish()`.
//!
//! The JavaScript side decides how many steps to take before it lets messages in, so progress
//! and cancelling need no callback. Freeing an unfinished job cancels it. A step has to end before
//! the next one begins.

use statepress::{AnyModel, AnyRunner, Cpu, Gpu, Job};
use wasm_bindgen::prelude::*;

use crate::convert::{fail, to_js};
use crate::later::Slot;
use crate::{Model, Result};

pub(crate) async fn step<J: Job<Error: Into<statepress::Error>>>(job: &mut J) -> Result<JsValue> {
    match job.step().await.map_err(fail)? {
        Some(progress) => to_js(&progress),
        None => Ok(JsValue::UNDEFINED),
    }
}

macro_rules! job_class {
    ($(#[$docs:meta])* $class:ident($job:ty)) => {
        job_class! { $(#[$docs])* $class($job), finish }
    };
    ($(#[$docs:meta])* $class:ident($job:ty), $finish:ident) => {
        $(#[$docs])*
        #[wasm_bindgen]
        pub struct $class(Slot<$job>);

        #[wasm_bindgen]
        impl $class {
            /// Does the next piece of work; `undefined` when nothing is left.
            pub fn step(&self) -> Result<JsValue> {
                self.0.work(async |job| step(job).await)
            }

            /// The report.
            pub fn finish(self) -> Result<JsValue> {
                to_js(&self.0.take()?.$finish().map_err(fail)?)
            }
        }

        impl $class {
            pub(crate) fn new(job: $job) -> Self {
                Self(Slot::new(job))
            }
        }
    };
}

#[cfg(any(feature = "distill", feature = "export", feature = "shares"))]
pub(crate) use job_class;

job_class! {
    /// Writes a compressed checkpoint; a step is a tensor, or a window of the calibration text.
    CompressJob(statepress::Follow)
}
job_class! {
    /// What each tensor of a model costs; a step is a tensor, or a window of a text.
    SearchCostsJob(statepress::Costs)
}

#[wasm_bindgen]
impl SearchCostsJob {
    /// What is measured so far.
    pub fn costs(&self) -> Result<JsValue> {
        self.0.look(|job| to_js(&job.so_far())).unwrap_or(Ok(JsValue::UNDEFINED))
    }
}

job_class! {
    /// Perplexity of a model; a step is a window.
    EvaluateJob(statepress::Evaluate<AnyRunner>)
}
job_class! {
    /// The quality card; a step is a window.
    CompareJob(statepress::Compare<AnyRunner, AnyRunner>)
}

/// Loads a model; a step is a tensor.
#[wasm_bindgen]
pub struct LoadJob(Slot<AnyLoad>);

enum AnyLoad {
    Cpu(statepress::Load<Cpu>),
    Gpu(statepress::Load<Gpu>),
}

#[wasm_bindgen]
impl LoadJob {
    /// Reads the next tensor; `undefined` when nothing is left.
    pub fn step(&self) -> Result<JsValue> {
        self.0.work(async |job| match job {
            AnyLoad::Cpu(job) => step(job).await,
            AnyLoad::Gpu(job) => step(job).await,
        })
    }

    /// The model.
    pub fn finish(self) -> Result<Model> {
        Ok(Model(match self.0.take()? {
            AnyLoad::Cpu(job) => AnyModel::Cpu(job.finish().map_err(fail)?),
            AnyLoad::Gpu(job) => AnyModel::Gpu(job.finish().map_err(fail)?),
        }))
    }
}

impl LoadJob {
    pub(crate) fn new(checkpoint: &statepress::Checkpoint, gpu: Option<&Gpu>) -> Result<Self> {
        Ok(Self(Slot::new(match gpu {
            None => AnyLoad::Cpu(checkpoint.load().map_err(fail)?),
            Some(gpu) => AnyLoad::Gpu(checkpoint.load_into(gpu.clone()).map_err(fail)?),
        })))
    }
}

/// Generates tokens, several a step.
#[wasm_bindgen]
pub struct Generator(Slot<statepress::Generate<AnyRunner>>);

#[wasm_bindgen]
impl Generator {
    /// Takes the prompt in; the first step does it otherwise.
    pub fn prefill(&self) -> Result<JsValue> {
        self.0.work(async |generate| {
            generate.prefill().await.map_err(fail)?;
            Ok(JsValue::UNDEFINED)
        })
    }

    /// The next tokens, at most `count` and at least one; none at the end.
    pub fn step(&self, count: usize) -> Result<JsValue> {
        self.0.work(async move |generate| to_js(&generate.step(count).await.map_err(fail)?))
    }

    /// Why generation ended: `max-tokens` or `context-full`; `undefined` before.
    pub fn stop(&self) -> Option<String> {
        let stop = match self.0.look(statepress::Generate::stop)?? {
            statepress::Stop::MaxTokens => "max-tokens",
            statepress::Stop::ContextFull => "context-full",
        };
        Some(stop.into())
    }
}

impl Generator {
    pub(crate) fn new(generate: statepress::Generate<AnyRunner>) -> Self {
        Self(Slot::new(generate))
    }
}

//! Which backend computes, and why.

use std::ops::Range;
use std::rc::Rc;

use statepress_core::Finding;
use statepress_engine::models::{Cpu, CpuRunner, Info, Loaded, Model, Translated};
use statepress_gpu::{Gpu, GpuOptions, GpuRunner};
use statepress_kernels::backend::{BackendError, Moments, Residuals, Runner, Sampled, Sampling, Stretch};
use statepress_kernels::program::MatrixId;

/// What a caller wants to compute with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU where there is one that is not itself a program on the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, be it a software one, or an error.
    WebGpu,
}

/// What computes.
#[derive(Clone)]
pub struct Chosen {
    /// A GPU, which every model that is loaded into it checks for what it needs; `None`: the CPU.
    pub gpu: Option<Gpu>,
    /// Why.
    pub reason: String,
    /// What a report should say of it: a caller that left the choice to us got less than it might
    /// have hoped for.
    pub finding: Option<Finding>,
}

/// Chooses a backend.
///
/// # Errors
/// If a GPU is wanted and there is none.
pub async fn choose(wanted: Wanted, options: GpuOptions) -> Result<Chosen, BackendError> {
    if wanted == Wanted::Cpu {
        return Ok(Chosen { gpu: None, reason: "as asked".into(), finding: None });
    }
    let hardware = wanted == Wanted::Auto && !options.software;
    let opened = open(options, hardware).await;
    match (opened, wanted) {
        (Ok(gpu), _) => {
            let reason = match wanted {
                Wanted::Auto => "there is a GPU; it has to agree with the CPU on a small case of every model",
                _ => "as asked; it has to agree with the CPU on a small case of every model",
            };
            Ok(Chosen { gpu: Some(gpu), reason: reason.into(), finding: None })
        }
        (Err(error), Wanted::Auto) => Ok(Chosen::fall_back(&error)),
        (Err(error), _) => Err(error),
    }
}

impl Chosen {
    /// The CPU instead of a GPU that cannot be used: where there is none, or a model could not be loaded into it.
    pub fn fall_back(error: &BackendError) -> Self {
        let message = format!("the CPU computes: {error}");
        let finding = Finding::info("backend-cpu", message.clone());
        Self { gpu: None, reason: message, finding: Some(finding) }
    }
}

async fn open(options: GpuOptions, hardware: bool) -> Result<Gpu, BackendError> {
    let gpu = Gpu::open(options).await?;
    let adapter = gpu.adapter().clone();
    if hardware && adapter.software {
        return Err(BackendError::NoAdapter(format!(
            "the only adapter is emulated on the CPU ({}), slower than the CPU backend",
            adapter.name
        )));
    }
    Ok(gpu)
}

/// A model on whichever backend was chosen.
#[derive(Clone)]
pub enum AnyModel {
    /// On the CPU.
    Cpu(Model<Cpu>),
    /// On a GPU.
    Gpu(Model<Gpu>),
}

/// A model at work on whichever backend was chosen.
#[allow(clippy::large_enum_variant, reason = "there are two or three of them")]
pub enum AnyRunner {
    /// On the CPU.
    Cpu(Translated<CpuRunner>),
    /// On a GPU.
    Gpu(Translated<GpuRunner>),
}

impl Loaded for AnyModel {
    type Runner = AnyRunner;

    fn info(&self) -> &Rc<Info> {
        match self {
            Self::Cpu(model) => model.info(),
            Self::Gpu(model) => model.info(),
        }
    }

    fn runner(&self, exact: bool) -> Result<AnyRunner, BackendError> {
        Ok(match self {
            Self::Cpu(model) => AnyRunner::Cpu(model.runner(exact)?),
            Self::Gpu(model) => AnyRunner::Gpu(model.runner(exact)?),
        })
    }

    fn row_runner(&self, exact: bool) -> Result<AnyRunner, BackendError> {
        Ok(match self {
            Self::Cpu(model) => AnyRunner::Cpu(model.row_runner(exact)?),
            Self::Gpu(model) => AnyRunner::Gpu(model.row_runner(exact)?),
        })
    }
}

/// Forwards to the one that is there.
macro_rules! each {
    ($self:ident, $runner:ident => $call:expr) => {
        match $self {
            Self::Cpu($runner) => $call,
            Self::Gpu($runner) => $call,
        }
    };
}

impl Runner for AnyRunner {
    fn name(&self) -> &'static str {
        each!(self, runner => runner.name())
    }

    fn adapter(&self) -> Option<String> {
        each!(self, runner => runner.adapter())
    }

    fn restart(&mut self) {
        each!(self, runner => runner.restart());
    }

    fn position(&self) -> usize {
        each!(self, runner => runner.position())
    }

    async fn forward(&mut self, ids: &[u32], residuals: Option<&mut Residuals>) -> Result<(), BackendError> {
        each!(self, runner => runner.forward(ids, residuals).await)
    }

    async fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        each!(self, runner => runner.logits(rows, out).await)
    }

    async fn hidden(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        each!(self, runner => runner.hidden(rows, out).await)
    }

    async fn moments(
        &mut self,
        ids: &[u32],
        stretch: Stretch<'_>,
        matrices: &[MatrixId],
        moments: Moments,
        sums: &mut [Vec<f32>],
    ) -> Result<(), BackendError> {
        each!(self, runner => runner.moments(ids, stretch, matrices, moments, sums).await)
    }

    async fn nll(&mut self, labels: &[&[u32]]) -> Result<Vec<Vec<f32>>, BackendError> {
        each!(self, runner => runner.nll(labels).await)
    }

    async fn keep(&mut self, n: usize) -> Result<(), BackendError> {
        each!(self, runner => runner.keep(n).await)
    }

    async fn generate(
        &mut self,
        sampling: &Sampling,
        random: &[f64],
        take_in: usize,
    ) -> Result<Vec<Sampled>, BackendError> {
        each!(self, runner => runner.generate(sampling, random, take_in).await)
    }
}

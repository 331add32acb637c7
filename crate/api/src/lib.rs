//! statepress: compress state-space language models and see honestly what it cost.
//!
//! The one door for Rust, Node, the page and the tests. [`Checkpoint`] is the only stateful
//! object; long work is a [`Job`] whose steps the caller drives.
//!
//! ```no_run
//! use statepress::{Checkpoint, Clock, FileSource, OpenOptions, recipes, run};
//!
//! let source = FileSource::open("model.safetensors")?;
//! let base = Checkpoint::open(source, OpenOptions::default())?;
//! let (job, bytes) = base.compress_to_memory(&recipes::find("mixed")?)?;
//! let report = run(job, |progress| eprintln!("{} / {}", progress.done, progress.total))?;
//! let compressed = Checkpoint::open(bytes.take(), OpenOptions::default())?;
//! println!("{:.2}x", report.plan.bytes.ratio);
//! # Ok::<(), statepress::Error>(())
//! ```

mod checkpoint;
mod choose;
mod clock;
mod config_json;
mod error;
mod files;
mod path;
mod search;

pub use checkpoint::{Checkpoint, OpenOptions};
pub use choose::{AnyModel, AnyRunner, Chosen, Wanted, choose};
pub use clock::Clock;
pub use config_json::{config_as_written, make_whole, read_config};
pub use error::Error;
pub use files::{FileSource, MemorySink};
pub use search::{Found, SearchOptions};
pub use statepress_core::job::{self, Job, Progress};
pub use statepress_core::source::{SourceError, check_range};
pub use statepress_core::{
    Finding, GgmlType, Joined, Level, Precision, Recipe, Sink, Source, StoredAs, recipe, report, spec,
};
pub use statepress_engine::advise::{AdviseOptions, Target, losses};
pub use statepress_engine::calibrate::Calibration;
pub use statepress_engine::eval::{
    Compare, CompareOptions, ComparedShare, Evaluate, EvaluateOptions, EvaluatedShare, Offset,
};
pub use statepress_engine::export::{
    Export, Exported, GgufOptions, Keys, PlainOptions, Target as ExportTarget,
};
pub use statepress_engine::families::{FamilyInfo, families};
pub use statepress_engine::generate::{Generate, GenerateOptions, Stop};
pub use statepress_engine::models::{
    Cpu, Info, Load, Loaded, Model, Observe, State, Workspace, sequence_logits,
};
pub use statepress_engine::search::{Costs, CostsOptions, allocate, check_target, next_try, split_text};
pub use statepress_engine::techniques::follow::Follow;
pub use statepress_engine::techniques::shares::{Share, ShareReport, Shares, Work};
pub use statepress_engine::view::ViewOptions;
pub use statepress_formats::ShardMap;
pub use statepress_gpu::{Adapter, Explained, Gpu, GpuNetwork, GpuOptions, explain};
pub use statepress_kernels::backend::{Backend, BackendError, Moments, Runner, Sampled, Sampling};
pub use statepress_kernels::program;

/// A result with the error every call of this crate gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs a job to its end, showing every step to `watch`; waits for a GPU where there is one.
///
/// For native programs: a page's thread must not be blocked, there [`job::run`] is awaited.
pub fn run<J: Job>(job: J, watch: impl FnMut(&Progress)) -> std::result::Result<J::Output, J::Error> {
    pollster::block_on(job::run(job, watch))
}

/// The built-in recipes.
pub mod recipes {
    pub use statepress_engine::techniques::{builtin, find};
}

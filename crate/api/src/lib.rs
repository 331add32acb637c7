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
mod clock;
mod error;
mod files;

pub use checkpoint::{Checkpoint, OpenOptions};
pub use clock::Clock;
pub use error::Error;
pub use files::{FileSource, MemorySink};
pub use statepress_core::job::{Job, Progress, run};
pub use statepress_core::source::SourceError;
pub use statepress_core::{Finding, Level, Precision, Recipe, Sink, Source, recipe, report, spec};
pub use statepress_engine::advise::{AdviseOptions, Target};
pub use statepress_engine::eval::{Compare, CompareOptions, Evaluate, EvaluateOptions, Offset};
pub use statepress_engine::generate::{Generate, GenerateOptions, Stop};
pub use statepress_engine::models::{Info, LayerState, Load, Model, State, Trace, Workspace};
pub use statepress_engine::techniques::compress::Compress;

/// A result with the error every call of this crate gives.
pub type Result<T> = std::result::Result<T, Error>;

/// The built-in recipes.
pub mod recipes {
    pub use statepress_engine::techniques::{builtin, find};
}

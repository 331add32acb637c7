//! Exits: a checkpoint written as files that other tools load.
//!
//! What is exported is a checkpoint as it was opened, so that what was compared is what is taken away: codes are decoded to
//! numbers, and those become what the target has, unless it has the same codes. Nothing is rounded twice in silence. A step
//! writes one tensor, and one is in memory at a time.

mod gguf;
mod onnx;
mod plain;

use serde::Serialize;
use statepress_core::index::Stored;
use statepress_core::job::{Job, Progress};
use statepress_core::report::ExportReport;
use statepress_core::words::counted;
use statepress_core::{Encoding, Entry, Finding, Sink};

pub use gguf::GgufOptions;
pub use plain::{Keys, PlainOptions};

use crate::EngineError;
use crate::techniques::Checkpoint;

/// What files are written for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// safetensors of floats with a `config.json`, for `transformers` and whatever reads safetensors.
    Plain(PlainOptions),
    /// The same with linear layers as bitsandbytes stores them: NF4, or LLM.int8.
    Bitsandbytes(PlainOptions),
    /// The same with linear layers as compressed-tensors packs them: whole numbers of 2 to 8 bits, each layer as it is.
    CompressedTensors(PlainOptions),
    /// GGUF, for llama.cpp and what is built on it.
    Gguf(GgufOptions),
    /// ONNX, for onnxruntime on any device and in a page: a graph that takes one token.
    Onnx,
}

impl Target {
    /// Its name in options and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "plain",
            Self::Bitsandbytes(_) => "bitsandbytes",
            Self::CompressedTensors(_) => "compressed-tensors",
            Self::Gguf(_) => "gguf",
            Self::Onnx => "onnx",
        }
    }

    /// Whose layout codes keep in a folder for transformers, where they do.
    fn tool(&self) -> Option<&'static dyn plain::Tool> {
        match self {
            Self::Bitsandbytes(_) => Some(&plain::Bitsandbytes),
            Self::CompressedTensors(_) => Some(&plain::CompressedTensors),
            Self::Plain(_) | Self::Gguf(_) | Self::Onnx => None,
        }
    }
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    /// What was written.
    pub report: ExportReport,
    /// The text of the `config.json` that goes beside the weights, where the target has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// An export under way; a step is a tensor.
pub struct Export {
    writing: Writing,
    report: ExportReport,
    config: Option<String>,
}

/// What writes the target's bytes.
enum Writing {
    Plain(plain::Plain),
    Gguf(gguf::Gguf),
    Onnx(onnx::Onnx),
}

impl Export {
    /// Prepares, and writes the header. Nothing is written where the target cannot hold the model.
    ///
    /// # Errors
    /// A family that the target does not know, and tensors that it has no place for.
    pub fn new(checkpoint: &Checkpoint, target: &Target, sink: Box<dyn Sink>) -> Result<Self, EngineError> {
        let mut findings = Vec::new();
        let (writing, config) = match target {
            Target::Plain(options) | Target::Bitsandbytes(options) | Target::CompressedTensors(options) => {
                let (plain, config) =
                    plain::Plain::new(checkpoint, options, target.tool(), sink, &mut findings)?;
                (Writing::Plain(plain), Some(config))
            }
            Target::Gguf(options) => {
                (Writing::Gguf(gguf::Gguf::new(checkpoint, options, sink, &mut findings)?), None)
            }
            Target::Onnx => (Writing::Onnx(onnx::Onnx::new(checkpoint, sink, &mut findings)?), None),
        };
        let report =
            ExportReport { format: target.name().into(), file_bytes: 0, tensors: Vec::new(), findings };
        Ok(Self { writing, report, config })
    }
}

impl Job for Export {
    type Output = Exported;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let at = self.report.tensors.len();
        let (written, total) = match &mut self.writing {
            Writing::Plain(plain) => (plain.write(at)?, plain.len()),
            Writing::Gguf(gguf) => (gguf.write(at)?, gguf.len()),
            Writing::Onnx(onnx) => (onnx.write(at)?, onnx.len()),
        };
        let Some(tensor) = written else { return Ok(None) };
        let item = Some(tensor.name.clone());
        self.report.tensors.push(tensor);
        let (stage, unit) = ("export".into(), "tensors".into());
        Ok(Some(Progress { stage, done: (at + 1) as f64, total: total as f64, unit, item }))
    }

    fn finish(self) -> Result<Exported, EngineError> {
        let file_bytes = match self.writing {
            Writing::Plain(plain) => plain.finish()?,
            Writing::Gguf(gguf) => gguf.finish()?,
            Writing::Onnx(onnx) => onnx.finish()?,
        };
        Ok(Exported { report: ExportReport { file_bytes, ..self.report }, config: self.config })
    }
}

/// Whether a tensor is stored as codes, which are rounded already.
fn is_coded(entry: &Entry) -> bool {
    match &entry.stored {
        Stored::Strided(view) => !view.dtype.is_float(),
        Stored::Affine { .. } => true,
        Stored::Coded(coded) => !coded.is_plain(),
        Stored::Packed { encoding, .. } => matches!(encoding, Encoding::Codes(_) | Encoding::Rows(_)),
        Stored::Opaque { .. } => false,
    }
}

/// Says of how many tensors that their codes were made floats of again, or rounded once more; of which, the first.
fn told_coded(coded: &[impl AsRef<str>], what: &str) -> Option<Finding> {
    let first = coded.first()?;
    let tensors = counted(coded.len(), "tensor is", "tensors are");
    Some(Finding::info("coded-before", format!("{tensors} stored as codes: {what}")).about(first.as_ref()))
}

//! Exports as JavaScript sees them: only in the module that is loaded when somebody asks for one.

use serde::Deserialize;
use statepress::{ExportTarget, GgmlType, GgufOptions, Job, Keys, PlainOptions, config_as_written};
use wasm_bindgen::prelude::*;

use crate::convert::{bad_option, fail, from_js, to_js};
use crate::jobs::{job_class, step};
use crate::later::Slot;
use crate::streams::{JsSink, SinkObject};
use crate::{Checkpoint, Result};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsExportOptions {
    format: String,
    /// The text of the `config.json` that lay beside the model.
    config: Option<String>,
    /// `hf`, or `original`: whose keys floats have.
    layout: Option<String>,
    /// ggml's name of the type of matrices.
    gguf_type: Option<String>,
    /// The text of a `tokenizer.json`.
    tokenizer: Option<String>,
    /// What the model is called.
    name: Option<String>,
}

impl JsExportOptions {
    fn read(self) -> Result<ExportTarget> {
        match self.format.as_str() {
            "plain" => Ok(ExportTarget::Plain(self.plain()?)),
            "bitsandbytes" => Ok(ExportTarget::Bitsandbytes(self.plain()?)),
            "compressed-tensors" => Ok(ExportTarget::CompressedTensors(self.plain()?)),
            "gguf" => {
                let named = |name: &str| {
                    let kind = GgmlType::written().find(|kind| kind.name() == name);
                    kind.ok_or_else(|| bad_option("ggufType", name, &GgmlType::names_of_written()))
                };
                let kind = self.gguf_type.as_deref().map(named).transpose()?;
                let Self { tokenizer, name, .. } = self;
                Ok(ExportTarget::Gguf(GgufOptions { kind, tokenizer, name }))
            }
            "onnx" => Ok(ExportTarget::Onnx),
            other => Err(bad_option("format", other, "plain, bitsandbytes, compressed-tensors, gguf, onnx")),
        }
    }

    fn plain(self) -> Result<PlainOptions> {
        let config = self.config.map(|text| config_as_written(&text)).transpose().map_err(fail)?;
        let keys = match self.layout.as_deref() {
            None | Some("hf") => Keys::Transformers,
            Some("original") => Keys::Original,
            Some(other) => return Err(bad_option("layout", other, "hf, original")),
        };
        Ok(PlainOptions { config, keys })
    }
}

#[wasm_bindgen]
impl Checkpoint {
    /// Writes the checkpoint as it is for another tool into a sink.
    pub fn export(&self, options: JsValue, sink: SinkObject) -> Result<ExportJob> {
        let target = from_js::<JsExportOptions>("export", options)?.read()?;
        let job = self.0.export(&target, Box::new(JsSink(sink))).map_err(fail)?;
        Ok(ExportJob::new(job))
    }
}

job_class! {
    /// Writes a checkpoint for another tool; a step is a tensor.
    ExportJob(statepress::Export)
}

//! safetensors under the keys that `transformers` has, and a `config.json` with which `AutoModelForCausalLM.from_pretrained`
//! loads them: floats, or codes in the layout of a tool that it loads them with. A family that `transformers` does not know keeps the
//! keys it has.

mod bitsandbytes;
mod compressed_tensors;
mod config;
mod pack;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::index::Stored;
use statepress_core::report::ExportedTensor;
use statepress_core::words::counted;
use statepress_core::{Encoding, Entry, Finding, Form, Sink, Source, Tensor};
use statepress_formats::export::Packing;
use statepress_formats::{TensorSpec, Writer};
use statepress_kernels::codecs;

pub(super) use bitsandbytes::Bitsandbytes;
pub(super) use compressed_tensors::CompressedTensors;
pub(super) use pack::Tool;

use super::{is_coded, told_coded};
use crate::EngineError;
use crate::bands::{Band, Bands};
use crate::error::listed;
use crate::techniques::Checkpoint;

/// What is known beside the checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainOptions {
    /// The `config.json` of the model that the checkpoint was made of: what it says beyond what our own fields say is kept.
    pub config: Option<Map<String, Value>>,
    /// Whose keys the weights have.
    pub keys: Keys,
}

/// Whose keys weights have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// Those of `transformers`, where it knows the family.
    #[default]
    Transformers,
    /// Those that the checkpoint has, every tensor of it and its configuration as they are.
    Original,
}

/// The file of weights being written.
pub(super) struct Plain {
    source: Rc<dyn Source>,
    tensors: Vec<Planned>,
    writer: Writer<Box<dyn Sink>>,
}

/// A tensor of the file.
pub(super) struct Planned {
    /// As it is read, under its name in the file.
    entry: Entry,
    /// Its key in the checkpoint.
    key: String,
    /// The linear module that it is the weight of, where a tool may pack some.
    module: Option<String>,
    /// Its codes stay, as the tool stores them.
    packing: Option<Packing>,
    /// Why its codes do not stay, where a tool stores others.
    refused: Option<String>,
}

impl Plain {
    /// Plans every tensor and writes the header; gives the text of the `config.json` as well. Codes that `tool` stores as well stay
    /// codes.
    pub fn new(
        checkpoint: &Checkpoint,
        options: &PlainOptions,
        tool: Option<&dyn Tool>,
        sink: Box<dyn Sink>,
        findings: &mut Vec<Finding>,
    ) -> Result<(Self, String), EngineError> {
        let Checkpoint { source, index, spec } = checkpoint;
        let (model_type, strange) = match options.keys {
            Keys::Transformers => config::model_type(spec),
            Keys::Original => (None, None),
        };
        if let (Some(tool), Some(why)) = (tool, &strange) {
            let reason = format!("{}: transformers is what loads weights of {}", why.message, tool.name());
            return Err(EngineError::UnknownModel { reason });
        }
        findings.extend(strange);
        let (mut tensors, mut renamed) = (Vec::new(), Vec::new());
        for (entry, usual) in index.tensors.iter().zip(spec.names.usual()) {
            let weight = spec.weights.contains_key(&entry.name);
            // What the model does not read is none of its weights, and `transformers` would warn of it.
            let read = spec.names.get(index, usual).is_some_and(|read| read.name == entry.name);
            let stays = model_type.is_none() || (read && weight);
            // Of shared numbers transformers wants one key, and makes the others itself.
            let shared = entry.tied_to.is_some() && options.keys == Keys::Transformers;
            if shared || !stays {
                continue;
            }
            let name = if model_type.is_some() { usual } else { &entry.name };
            if name != entry.name {
                renamed.push(entry.name.as_str());
            }
            let (key, entry) = (entry.name.clone(), Entry { name: name.into(), ..entry.clone() });
            tensors.push(Planned { entry, key, module: None, packing: None, refused: None });
        }
        if let Some(first) = renamed.first() {
            let keys = counted(renamed.len(), "key is", "keys are");
            let message = format!("{keys} spelled as transformers spells them");
            findings.push(Finding::info("renamed", message).about(*first));
        }
        let quantization = match (tool, model_type) {
            (Some(tool), Some((model_type, _))) => {
                Some(pack::pack(tool, &mut tensors, (spec, index, model_type), findings)?)
            }
            _ => None,
        };
        let mut coded: BTreeMap<Option<&str>, Vec<String>> = BTreeMap::new();
        for it in &tensors {
            if it.packing.is_none() && spec.weights.contains_key(&it.key) && is_coded(&it.entry) {
                coded.entry(it.refused.as_deref()).or_default().push(it.key.clone());
            }
        }
        findings.extend(coded.iter().filter_map(|(why, keys)| {
            let floats = "written as the float32 numbers that they stand for, which take more room";
            let why = why.map(|why| format!(", as {why}: {}", listed(keys))).unwrap_or_default();
            told_coded(keys, &format!("{floats}{why}"))
        }));
        let config =
            config::config(spec, (model_type, quantization), options.config.as_ref(), &tensors, findings);
        let specs: Vec<TensorSpec> = tensors.iter().flat_map(Planned::specs).collect();
        let writer = Writer::new(sink, &specs, &BTreeMap::new())?;
        Ok((Self { source: source.clone(), tensors, writer }, config))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Writes the tensor at that position; `None` behind the last.
    pub fn write(&mut self, at: usize) -> Result<Option<ExportedTensor>, EngineError> {
        let Some(planned) = self.tensors.get(at) else { return Ok(None) };
        let Planned { entry, key, packing, .. } = planned;
        let specs = planned.specs();
        match (form(entry), packing) {
            (_, Some(packing)) => {
                let arrays = packing.bytes(&*self.source, entry, codecs::scales::all)?;
                for (spec, bytes) in specs.iter().zip(&arrays) {
                    self.writer.write_bytes(&spec.name, &spec.shape, bytes)?;
                }
            }
            (Form::Kept(_), None) => self.writer.copy(&*self.source, entry)?,
            (Form::Coded(encoding), None) => {
                let mut to = self.writer.begin(&entry.name, &entry.shape)?;
                Bands::new(&*self.source, entry, 1)?.each(&mut |Band { tensor, .. }: Band<'_>| {
                    let tensor = match tensor.encoding() == encoding {
                        true => tensor,
                        false => Tensor::from_f32(tensor.shape.clone(), codecs::into_numbers(tensor)),
                    };
                    Ok(to.floats(&tensor)?)
                })?;
                to.finish()?;
            }
        }
        Ok(Some(ExportedTensor {
            name: entry.name.clone(),
            from: Some(key.clone()),
            shape: entry.shape.clone(),
            dtype: packing.map_or_else(|| dtype(form(entry)).into(), Packing::name),
            bytes: specs.iter().map(|spec| spec.form.bytes(&spec.shape)).sum(),
        }))
    }

    /// Bytes of the file.
    pub fn finish(self) -> Result<u64, EngineError> {
        Ok(self.writer.finish()?.1)
    }
}

impl Planned {
    /// Its arrays.
    fn specs(&self) -> Vec<TensorSpec> {
        let Self { entry, packing, .. } = self;
        let (name, shape) = (entry.name.clone(), entry.shape.clone());
        match packing {
            Some(packing) => packing.specs(&name, &shape),
            None => vec![TensorSpec { name, shape, form: form(entry), coded: false }],
        }
    }
}

/// What a tensor is in the file: as it is, where it is of one type; codes as the float32 that they stand for.
fn form(entry: &Entry) -> Form {
    match &entry.stored {
        Stored::Strided(view) | Stored::Opaque { view, .. } => {
            match is_coded(entry) && !view.dtype.is_whole() {
                false => Form::Kept(view.dtype),
                true => Form::Coded(Encoding::Fp32),
            }
        }
        Stored::Packed { encoding: encoding @ (Encoding::Fp16 | Encoding::Bf16), .. } => {
            Form::Coded(*encoding)
        }
        Stored::Coded(coded) if coded.is_plain() => Form::Coded(coded.encoding),
        Stored::Packed { .. } | Stored::Affine { .. } | Stored::Coded(_) => Form::Coded(Encoding::Fp32),
    }
}

/// What safetensors calls it.
fn dtype(form: Form) -> &'static str {
    match form {
        Form::Kept(dtype) => dtype.name(),
        Form::Coded(Encoding::Fp16) => "F16",
        Form::Coded(Encoding::Bf16) => "BF16",
        Form::Coded(_) => "F32",
    }
}

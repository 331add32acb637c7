//! ONNX: the program as a graph that takes one token (`graph`, by a `builder`), with weights as floats or as the codes
//! that they are (`weights`), and products with them (`matrices`).
//!
//! What a sequence remembers goes in as `past.*`, zeros at first, and comes out as `present.*`. Any program is a graph, so no family
//! is named here.

mod builder;
mod graph;
mod matrices;
mod weights;

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::report::ExportedTensor;
use statepress_core::words::counted;
use statepress_core::{Finding, Index, Sink, Source, Tensor};
use statepress_formats::FormatError;
use statepress_formats::export::onnx::{OnnxTensor, OnnxWriter};

use super::is_coded;
use crate::EngineError;
use crate::techniques::Checkpoint;
use crate::techniques::tying::{self, Tying};
use weights::Weight;

/// The file being written.
pub(super) struct Onnx {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    /// In the order of their tensors.
    weights: Vec<Weight>,
    /// The tensor that was read last, and its position.
    read: Option<(usize, Tensor)>,
    writer: OnnxWriter<Box<dyn Sink>>,
}

impl Onnx {
    /// Builds the graph and writes all but the weights.
    pub fn new(
        checkpoint: &Checkpoint,
        sink: Box<dyn Sink>,
        findings: &mut Vec<Finding>,
    ) -> Result<Self, EngineError> {
        let Checkpoint { source, index, spec } = checkpoint;
        let mut program = (**spec.runs()?).clone();
        if program.reduced.is_some() {
            let reason = "it has rows for some ids only, and a graph has logits for all of them: export one whose vocabulary was not pruned".into();
            return Err(EngineError::UnknownModel { reason });
        }
        if matches!(tying::tying(&**source, index, &spec.names)?, Tying::Shared | Tying::Copy) {
            program.tie_head();
        }
        let builder::Built { mut graph, mut weights, as_floats } = graph::build(&program, spec, index)?;
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, why) in &as_floats {
            let keys = reasons.entry(why).or_default();
            // Experts may be parts of one tensor.
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
        for (why, keys) in reasons {
            let tensors = counted(keys.len(), "tensor is", "tensors are");
            let message = format!("{tensors} written as float32 numbers, which may take more room: {why}");
            findings.push(Finding::info("floats-again", message).about(keys[0]));
        }
        let mut told = vec![("family", spec.family.name().into()), ("predicts", spec.offset.to_string())];
        told.extend(program.max_tokens.map(|most| ("positions", most.to_string())));
        graph.metadata = told.into_iter().map(|(key, value)| (format!("statepress.{key}"), value)).collect();
        // Experts may lie in one tensor, which is read once.
        weights.sort_by_key(|weight| weight.position);
        let tensors: Vec<OnnxTensor> =
            weights.iter().flat_map(|weight| weight.arrays.iter().cloned()).collect();
        let writer = OnnxWriter::new(sink, &graph, tensors)?;
        Ok(Self { source: source.clone(), index: index.clone(), weights, read: None, writer })
    }

    /// How many weights there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Writes the weight at that position; `None` behind the last.
    pub fn write(&mut self, at: usize) -> Result<Option<ExportedTensor>, EngineError> {
        let Some(weight) = self.weights.get(at) else { return Ok(None) };
        let entry = &self.index.tensors[weight.position];
        // What is of no more use goes before the next one is read.
        let held = self.read.take().filter(|(position, _)| *position == weight.position);
        let tensor = match held {
            Some((_, tensor)) => tensor,
            None => statepress_formats::read_tensor(&*self.source, entry)?,
        };
        let arrays =
            weight.numbers(&tensor).map_err(|why| FormatError::Write { tensor: entry.name.clone(), why })?;
        let mut bytes = 0;
        for (array, numbers) in weight.arrays.iter().zip(&arrays) {
            bytes += self.writer.write(&array.name, numbers.chunks())?;
        }
        drop(arrays);
        self.read = Some((weight.position, tensor));
        let [first, ..] = &weight.arrays[..] else { return Ok(None) };
        Ok(Some(ExportedTensor {
            name: first.name.clone(),
            from: Some(entry.name.clone()),
            shape: first.shape.clone(),
            dtype: weight.storage.name(),
            bytes,
        }))
    }

    /// Bytes of the file.
    pub fn finish(self) -> Result<u64, EngineError> {
        Ok(self.writer.finish()?.1)
    }
}

//! ONNX: the program as a graph that takes one token (`graph`), with weights as floats or as the codes that they are (`weights`).
//!
//! What a sequence remembers goes in as `past.*`, zeros at first, and comes out as `present.*`. Any program is a graph, so no family
//! is named here.

mod graph;
mod weights;

use std::rc::Rc;

use statepress_core::report::ExportedTensor;
use statepress_core::words::counted;
use statepress_core::{Finding, Index, Sink, Source};
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
    weights: Vec<Weight>,
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
            let reason = "it has rows for some ids only, and a graph has logits for all of them".into();
            return Err(EngineError::UnknownModel { reason });
        }
        if matches!(tying::tying(&**source, index, &spec.names)?, Tying::Shared | Tying::Copy) {
            program.tie_head();
        }
        let graph::Built { mut graph, weights, widened } = graph::build(&program, spec, index)?;
        if let Some((first, why)) = widened.first() {
            let matrices = counted(widened.len(), "matrix is", "matrices are");
            let message = format!(
                "{matrices} written as the float32 numbers that codes stand for, which take more room: {why}"
            );
            findings.push(Finding::info("floats-again", message).about(first.as_str()));
        }
        let told = [("family", spec.family.name()), ("predicts", &spec.offset.to_string())];
        graph.metadata = told.map(|(key, value)| (format!("statepress.{key}"), value.into())).to_vec();
        let tensors: Vec<OnnxTensor> =
            weights.iter().flat_map(|weight| weight.arrays.iter().cloned()).collect();
        let writer = OnnxWriter::new(sink, &graph, tensors)?;
        Ok(Self { source: source.clone(), index: index.clone(), weights, writer })
    }

    /// How many weights there are.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Writes the weight at that position; `None` behind the last.
    pub fn write(&mut self, at: usize) -> Result<Option<ExportedTensor>, EngineError> {
        let Some(weight) = self.weights.get(at) else { return Ok(None) };
        let entry = &self.index.tensors[weight.position];
        let tensor = statepress_formats::read_tensor(&*self.source, entry)?;
        let arrays =
            weight.bytes(tensor).map_err(|why| FormatError::Write { tensor: entry.name.clone(), why })?;
        for (array, bytes) in weight.arrays.iter().zip(&arrays) {
            self.writer.write(&array.name, bytes)?;
        }
        let [first, ..] = &weight.arrays[..] else { return Ok(None) };
        Ok(Some(ExportedTensor {
            name: first.name.clone(),
            from: Some(entry.name.clone()),
            shape: first.shape.clone(),
            dtype: weight.storage.name(),
            bytes: arrays.iter().map(|bytes| bytes.len() as u64).sum(),
        }))
    }

    /// Bytes of the file.
    pub fn finish(self) -> Result<u64, EngineError> {
        Ok(self.writer.finish()?.1)
    }
}

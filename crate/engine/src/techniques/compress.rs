//! Carrying a plan out: one tensor at a time, from the source to the sink.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::index::{AffineScales, Stored};
use statepress_core::job::{Job, Progress};
use statepress_core::recipe::Calibration;
use statepress_core::report::{CompressReport, RoundingError};
use statepress_core::spec::{Fields, Origin};
use statepress_core::{DType, Entry, Finding, Index, Packed, Recipe, Sink, Source, Tensor};
use statepress_formats::{TensorSpec, Writer};
use statepress_kernels::codecs::{self, Clip};

use super::plan::{Decision, Known, Planned, plan_knowing, quantize_step};
use super::tying::{self, Tying};
use crate::spec::{ASSUMED, ModelSpec, rebuilds_head};
use crate::{Clock, EngineError};

/// Up to here float32 has every whole number.
const WHOLE: f32 = 16_777_216.0;

/// A compression under way. Each step reads, codes, measures and writes one tensor.
pub struct Compress {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    planned: Planned,
    clip: Clip,
    writer: Writer<Box<dyn Sink>>,
    next: usize,
    peak_memory: u64,
    clock: Clock,
    started: f64,
}

impl Compress {
    /// Plans, and writes the header of the produced file.
    pub fn new(
        source: Rc<dyn Source>,
        index: Rc<Index>,
        spec: &ModelSpec,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let started = clock();
        let mut tied = Vec::new();
        let mut findings = Vec::new();
        let tying = tying::tying(&*source, &index, &spec.names)?;
        let no_head = tying != Tying::Separate && rebuilds_head(&spec.names);
        if no_head
            && matches!(tying, Tying::Copy | Tying::Rounding)
            && let Some(head) = spec.names.get(&index, "lm_head.weight")
        {
            findings.extend(tying::finding(tying, &head.name));
            findings.push(
                Finding::info("tied-again", "not written: readers take embedding.weight").about(&head.name),
            );
            tied.push(head.name.clone());
        }
        let shifted = shifted(&*source, &index)?;
        let mut planned = plan_knowing(&index, recipe, &Known { tied: &tied, shifted: &shifted })?;
        planned.plan.findings.extend(findings);
        let specs: Vec<TensorSpec> = planned
            .decisions
            .iter()
            .map(|decision| {
                let entry = &index.tensors[decision.position];
                let (name, shape) = (entry.name.clone(), entry.shape.clone());
                TensorSpec { name, shape, encoding: decision.encoding }
            })
            .collect();
        let clip = match quantize_step(recipe)? {
            Some(quantize) if quantize.int8.calibration == Calibration::Percentile => {
                Clip::Percentile(quantize.int8.percentile)
            }
            _ => Clip::Absmax,
        };
        let writer = Writer::new(sink, &specs, &metadata(recipe, &spec.fields, no_head)?)?;
        Ok(Self { source, index, planned, clip, writer, next: 0, peak_memory: 0, clock, started })
    }

    fn press(&mut self, decision: &Decision) -> Result<(), EngineError> {
        let entry = &self.index.tensors[decision.position];
        let tensor = statepress_formats::read_tensor(&*self.source, entry)?;
        self.planned.plan.findings.extend(integers_narrowed(entry, &tensor));
        let error = if tensor.encoding() == decision.encoding {
            self.peak_memory = self.peak_memory.max(tensor.bytes());
            self.writer.write(&entry.name, &tensor)?;
            RoundingError { cosine: 1.0, ..RoundingError::default() }
        } else {
            let (values, while_decoding) = numbers(tensor);
            let encoded = codecs::encode(&values, &entry.shape, decision.encoding, self.clip)
                .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
            let held = while_decoding.max(4 * values.len() as u64 + encoded.tensor.bytes());
            self.peak_memory = self.peak_memory.max(held);
            self.writer.write(&entry.name, &encoded.tensor)?;
            RoundingError { clipped: encoded.clipped, ..rounding_error(&values, &encoded.tensor) }
        };
        if error.clipped > 0 {
            let message = format!(
                "{} values do not fit {} and were clipped",
                error.clipped,
                decision.encoding.precision().name()
            );
            self.planned.plan.findings.push(Finding::warning("clipped", message).about(&entry.name));
        }
        if decision.counted
            && let Some(report) =
                self.planned.plan.tensors.iter_mut().find(|tensor| tensor.name == entry.name)
        {
            report.error = Some(error);
        }
        Ok(())
    }
}

impl Job for Compress {
    type Output = CompressReport;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(decision) = self.planned.decisions.get(self.next).cloned() else { return Ok(None) };
        self.press(&decision)?;
        self.next += 1;
        Ok(Some(Progress {
            stage: "compress".into(),
            done: self.next as f64,
            total: self.planned.decisions.len() as f64,
            unit: "tensors".into(),
            item: Some(self.index.tensors[decision.position].name.clone()),
        }))
    }

    fn finish(self) -> Result<CompressReport, EngineError> {
        let (_, file_bytes) = self.writer.finish()?;
        Ok(CompressReport {
            plan: self.planned.plan,
            file_bytes,
            seconds: (self.clock)() - self.started,
            peak_memory: self.peak_memory,
        })
    }
}

/// The tensors of torch's INT8 whose rows have zero points other than 0. Only the rows' zero points
/// are read; one for a whole tensor is in the index.
fn shifted(source: &dyn Source, index: &Index) -> Result<Vec<String>, EngineError> {
    let mut names = Vec::new();
    for entry in &index.tensors {
        let Stored::Affine { scales: AffineScales::PerRow { zero_points, .. }, .. } = &entry.stored else {
            continue;
        };
        let zero_points = Entry {
            name: entry.name.clone(),
            shape: entry.shape.first().copied().into_iter().collect(),
            stored: Stored::Strided(zero_points.clone()),
            tied_to: None,
        };
        let zero_points = codecs::decode(&statepress_formats::read_tensor(source, &zero_points)?);
        if zero_points.iter().any(|&zero_point| zero_point != 0.0) {
            names.push(entry.name.clone());
        }
    }
    Ok(names)
}

/// Says that whole numbers lost digits when they were read.
fn integers_narrowed(entry: &Entry, read: &Tensor) -> Option<Finding> {
    let Stored::Strided(strided) = &entry.stored else { return None };
    let (DType::I64 | DType::I32, Packed::F32(values)) = (strided.dtype, &read.data) else { return None };
    let count = values.iter().filter(|value| value.abs() >= WHOLE).count();
    let dtype = strided.dtype.name();
    let message = format!(
        "{count} whole numbers ({dtype}) are read as float32: of those beyond {WHOLE} the last digits are lost"
    );
    (count > 0).then(|| Finding::warning("integers-narrowed", message).about(&entry.name))
}

/// The numbers of a tensor, and the bytes held while they were made.
fn numbers(tensor: Tensor) -> (Vec<f32>, u64) {
    let stored = tensor.bytes();
    match tensor.data {
        Packed::F32(values) => (values, stored),
        _ => {
            let values = codecs::decode(&tensor);
            let held = stored + 4 * values.len() as u64;
            (values, held)
        }
    }
}

/// The recipe and the configuration, so that the produced file explains itself. With `no_head` it
/// is the table that serves as one, whatever the base said of itself.
fn metadata(
    recipe: &Recipe,
    fields: &Fields,
    no_head: bool,
) -> Result<BTreeMap<String, String>, EngineError> {
    let json = |value: &Value| value.to_string();
    let recipe = serde_json::to_value(recipe).map_err(|error| EngineError::Evaluation(error.to_string()))?;
    let mut metadata = BTreeMap::from([("recipe".to_string(), json(&recipe))]);
    if !fields.is_empty() {
        let mut config: Map<String, Value> =
            fields.iter().map(|(name, field)| (name.clone(), field.value.clone())).collect();
        if no_head {
            config.insert("tie_word_embeddings".into(), true.into());
        }
        let assumed = fields.iter().filter(|(_, field)| field.origin == Origin::Assumed);
        let assumed: Vec<Value> = assumed.map(|(name, _)| name.as_str().into()).collect();
        if !assumed.is_empty() {
            config.insert(ASSUMED.into(), assumed.into());
        }
        metadata.insert("config".into(), json(&Value::Object(config)));
    }
    Ok(metadata)
}

/// Compares numbers with what their codes decode to, row by row.
fn rounding_error(values: &[f32], coded: &Tensor) -> RoundingError {
    let (_, cols) = coded.matrix();
    let mut row = vec![0.0; cols];
    let (mut squares, mut max_abs, mut dot, mut norm_a, mut norm_b) =
        (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (r, original) in values.chunks(cols.max(1)).enumerate() {
        codecs::decode_row(coded, r, &mut row);
        for (&a, &b) in original.iter().zip(&row) {
            let (a, b) = (f64::from(a), f64::from(b));
            squares += (a - b) * (a - b);
            max_abs = max_abs.max((a - b).abs());
            dot += a * b;
            norm_a += a * a;
            norm_b += b * b;
        }
    }
    let norms = norm_a.sqrt() * norm_b.sqrt();
    let cosine = if norms > 0.0 { (dot / norms).min(1.0) } else { f64::from(u8::from(norm_a == norm_b)) };
    RoundingError { mse: squares / values.len().max(1) as f64, max_abs, cosine, clipped: 0 }
}

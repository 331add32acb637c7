//! Carrying a plan out: one tensor at a time, from the source to the sink.

use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::index::{AffineScales, Stored};
use statepress_core::job::{Job, Progress};
use statepress_core::limits::BAND_NUMBERS;
use statepress_core::recipe::{Codecs, Quantize};
use statepress_core::report::{CompressReport, FileReport, RoundingError};
use statepress_core::spec::{Fields, Origin};
use statepress_core::{Encoding, Entry, Finding, Form, Index, Recipe, Sink, Source, Tensor};
use statepress_formats::{Survey, TensorSpec, Writer};
use statepress_kernels::codecs::{self, Clip};

use super::Checkpoint;
use super::coding::{self, Clipped};
use super::compensate::{Compensate, How};
use super::large::{Large, Pressed};
use super::measure;
use super::plan::{Decision, Known, Planned, plan_knowing, quantize_step};
use super::rows;
use super::shares::{Rounded, RoundedTensor, ShareReport, Work};
use super::tying::{self, Tying};
use crate::calibrate::{Calibration, Marks};
use crate::families::{ASSUMED, HEAD};
use crate::{Clock, EngineError};

const NO_SHARE: &str = "a share was finished as if it were the whole, or the whole as if it were a share";

/// A compression under way. Each step reads, codes, measures and writes one tensor, or reads a part of the calibration
/// text that the next tensor needs.
pub struct Compress {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    planned: Planned,
    codecs: Codecs,
    compensate: Option<Compensate>,
    work: Work,
    /// Of a share: what is to be told of its tensors.
    shared: Vec<RoundedTensor>,
    /// What was clipped because the recipe asks for it.
    clipped: Vec<Clipped>,
    writer: Writer<Box<dyn Sink>>,
    next: usize,
    peak_memory: u64,
    clock: Clock,
    started: f64,
    /// The shards of the source; empty where it is one file.
    from_files: Vec<FileReport>,
}

impl Compress {
    /// Plans, and writes the header of the produced file. A recipe that asks for error compensation needs a
    /// calibration.
    pub fn new(
        Checkpoint { source, index, spec }: Checkpoint,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        clock: Clock,
        calibration: Option<Calibration<'_>>,
        work: Work,
    ) -> Result<Self, EngineError> {
        let started = clock();
        let mut tied = Vec::new();
        let mut findings = Vec::new();
        let tying = tying::tying(&*source, &index, &spec.names)?;
        let no_head = tying::leaves_head_out(tying, &spec);
        if no_head
            && matches!(tying, Tying::Copy | Tying::Rounding)
            && let Some(head) = spec.names.get(&index, HEAD)
        {
            let table = spec.names.table(&index).map_or("the table", |table| &table.name);
            findings.extend(tying::finding(tying, &head.name, table));
            let message = format!("not written: readers take {table}");
            findings.push(Finding::info("tied-again", message).about(&head.name));
            tied.push(head.name.clone());
        }
        let shifted = shifted(&*source, &index)?;
        let mut planned = plan_knowing(&index, &spec, recipe, &Known { tied: &tied, shifted: &shifted })?;
        planned.plan.findings.extend(findings);
        let quantize = quantize_step(recipe)?;
        let codecs = quantize.map(Quantize::codecs).unwrap_or_default();
        let mut mine = Vec::new();
        let clips_only = quantize.is_some_and(|quantize| quantize.compensation().is_none());
        let read_for = |decision: &&Decision| match decision.form {
            Form::Coded(encoding @ (Encoding::Codes(_) | Encoding::Rows(_))) => {
                // What has these very codes already, as far as its file says, keeps them.
                let is_new =
                    index.tensors[decision.position].encoding() != Some(encoding) || decision.step.is_some();
                is_new && (!clips_only || coding::clip_of(&codecs, encoding) == Clip::Weighted)
            }
            _ => false,
        };
        let role = |entry: &Entry| spec.weights.get(&entry.name).map(|weight| weight.role);
        let entries = planned.decisions.iter().filter(read_for).map(|it| &index.tensors[it.position]);
        let entries: Vec<_> = entries.map(|entry| (entry, role(entry))).collect();
        let reads = quantize.filter(|it| it.needs_calibration());
        let compensate = match (reads, calibration) {
            (None, None) => None,
            // No tensor of this checkpoint has codes whose scales clip by activations.
            (Some(_), calibration) if clips_only && entries.is_empty() => {
                let message =
                    "no scale clips by activations: the recipe says so of codes that no tensor gets anew";
                let unread = calibration.map(|_| Finding::info("text-not-read", message));
                planned.plan.findings.extend(unread);
                None
            }
            (Some(quantize), Some(calibration)) => {
                let options = quantize.gptq.unwrap_or_default();
                let here = work.here(&entries, calibration.ids.len().min(options.windows * options.window));
                let tensors: Vec<_> = entries.iter().map(|(it, _)| it.name.as_str()).zip(here).collect();
                let of = (&spec, &*index);
                let compensate = Compensate::new(calibration, options, of, &tensors, (no_head, clips_only))?;
                mine.extend(tensors.iter().filter(|(_, here)| *here).map(|(name, _)| name.to_string()));
                Some(compensate)
            }
            (Some(_), None) => {
                let allowed = "a text for the model to read, as the recipe says errorCompensation gptq, or clip activation";
                return Err(EngineError::option("calibration", "not given", allowed));
            }
            (None, Some(_)) => {
                let allowed =
                    "none, as the recipe quantizes nothing with errorCompensation gptq, or clip activation";
                return Err(EngineError::option("calibration", "given", allowed));
            }
        };
        if let Work::Share(_) = work {
            planned.keep_share(&mine);
        }
        // What is only converted is what it was made by before.
        let made_by = if recipe.steps.is_empty() { Recipe::recorded(&index.metadata) } else { None };
        let mut metadata = metadata(made_by.as_ref().unwrap_or(recipe), &spec.fields, no_head)?;
        // What was fitted to a text before stays so.
        let marks = match &compensate {
            Some(compensate) => compensate.marks().cloned(),
            None => Marks::read(&index.metadata),
        };
        marks.iter().for_each(|marks| marks.write(&mut metadata));
        let specs: Vec<TensorSpec> = planned
            .decisions
            .iter()
            .map(|decision| {
                let entry = &index.tensors[decision.position];
                let (name, shape) = (entry.name.clone(), entry.shape.clone());
                TensorSpec { name, shape, form: decision.form, coded: decision.coded }
            })
            .collect();
        let writer = Writer::new(sink, &specs, &metadata)?;
        let from_files = Vec::new();
        Ok(Self {
            source,
            index,
            planned,
            codecs,
            compensate,
            work,
            shared: Vec::new(),
            clipped: Vec::new(),
            writer,
            next: 0,
            peak_memory: 0,
            clock,
            started,
            from_files,
        })
    }

    /// Has the report say of which files the source is.
    pub fn made_from(self, from_files: Vec<FileReport>) -> Self {
        Self { from_files, ..self }
    }

    fn press(&mut self, decision: &Decision) -> Result<(), EngineError> {
        let entry = &self.index.tensors[decision.position];
        let findings = &mut self.planned.plan.findings;
        let report = &mut self.planned.plan.tensors[self.next].error;
        let Form::Coded(encoding) = decision.form else {
            self.writer.copy(&*self.source, entry)?;
            self.peak_memory = self.peak_memory.max(self.writer.held());
            let found = statepress_formats::survey(&*self.source, entry)?;
            // As they are kept, numbers out of float32's reach are what they were.
            findings.extend(measure::told(entry, &Survey { first_beyond: None, first_below: None, ..found }));
            *report = Some(RoundingError { non_finite: found.nan + found.infinite, ..measure::KEPT });
            return Ok(());
        };
        if let Work::Join(elsewhere) = &self.work
            && let Some(Rounded { tensor, report: rounded }) = elsewhere.read(&entry.name)?
        {
            *report = Some(rounded.error);
            findings.extend(rounded.findings);
            let (count, clip) = (rounded.error.clipped, coding::clip_of(&self.codecs, encoding));
            if count > 0 && clip != Clip::Absmax {
                self.clipped.push(Clipped { tensor: entry.name.clone(), count, clip });
            }
            if let Some(compensate) = &mut self.compensate {
                compensate.note(rounded.outcomes);
            }
            return self.write(decision, &tensor, 0);
        }
        // What makes up for errors has the model in memory anyway.
        let plainly = self.compensate.is_none() && decision.step.is_none() && !decision.coded;
        if plainly && let Some(large) = Large::of(&*self.source, entry, encoding, BAND_NUMBERS)? {
            let clip = coding::without_text(coding::clip_of(&self.codecs, encoding));
            let Pressed { error, findings: found, stored, memory } = large.press(clip, &mut self.writer)?;
            findings.extend(found);
            findings.extend(note_clipped(&mut self.clipped, entry, encoding, clip, &error));
            *report = Some(error);
            self.peak_memory = self.peak_memory.max(memory + self.writer.held());
            self.planned.stored(self.next, entry, stored);
            return Ok(());
        }
        let tensor = statepress_formats::read_tensor(&*self.source, entry)?;
        let found = measure::survey(&*self.source, entry, &tensor)?;
        findings.extend(measure::told(entry, &found));
        let beside = self.compensate.as_ref().map_or(0, |it| it.bytes(&entry.name));
        // Steps are the recipe's, not those of what has some already.
        if tensor.encoding() == encoding && decision.step.is_none() {
            if let Some(compensate) = &mut self.compensate {
                compensate.forget(&entry.name);
            }
            *report = Some(measure::kept(&found));
            return self.write(decision, &tensor, tensor.bytes() + entry.coded_bytes() + beside);
        }
        let (values, while_decoding) = numbers(tensor);
        // Numbers that are not finite are refused by what rounds plainly.
        let mut clip = coding::clip_of(&self.codecs, encoding);
        let compensate = self.compensate.as_mut().filter(|it| {
            let is_wanted = !it.clips_only() || clip == Clip::Weighted;
            is_wanted && found.nan + found.infinite + found.beyond == 0
        });
        let compensated = match (compensate, encoding) {
            (compensate, Encoding::Rows(classes)) => {
                let work = rows::Work { entry, values: &values, found: &found, how: &self.codecs };
                Some(work.code(&classes, decision.rows.as_ref(), compensate)?)
            }
            (Some(compensate), Encoding::Codes(coding)) => {
                let how = How { clip, step: decision.step };
                compensate.code(entry, &values, coding, how)?
            }
            _ => None,
        };
        let coded = match (compensated, decision.step) {
            (Some(coded), _) => coding::measured(entry, &values, coded, &found),
            (None, Some(step)) => {
                coding::check_finite(entry, encoding, &found)?;
                coding::measured(entry, &values, coding::in_steps(entry, &values, step)?, &found)
            }
            (None, None) => {
                clip = coding::without_text(clip);
                coding::code(entry, &values, encoding, clip, &found)?
            }
        };
        let held = while_decoding.max(4 * values.len() as u64 + coded.tensor.bytes()) + beside;
        drop(values);
        findings.extend(coded.findings);
        findings.extend(note_clipped(&mut self.clipped, entry, encoding, clip, &coded.error));
        *report = Some(coded.error);
        self.write(decision, &coded.tensor, held)
    }

    /// Notes what is to be told of the tensor that was written just now, if it is of a share.
    fn note_share(&mut self) {
        let Work::Share(_) = self.work else { return };
        let plan = &mut self.planned.plan;
        let findings = mem::take(&mut plan.findings);
        let tensor = &plan.tensors[self.next];
        self.shared.push(RoundedTensor {
            tensor: tensor.name.clone(),
            error: tensor.error.unwrap_or_default(),
            findings,
            outcomes: self.compensate.as_mut().map(Compensate::take_outcomes).unwrap_or_default(),
        });
    }

    /// What came of a share, in place of [`Job::finish`].
    pub fn finish_share(self) -> Result<ShareReport, EngineError> {
        let Work::Share(_) = self.work else { return Err(EngineError::Evaluation(NO_SHARE.into())) };
        self.writer.finish()?;
        Ok(ShareReport { tensors: self.shared, peak_memory: self.peak_memory })
    }

    /// Writes a tensor that took so many bytes of buffers to make.
    fn write(&mut self, decision: &Decision, tensor: &Tensor, making: u64) -> Result<(), EngineError> {
        let entry = &self.index.tensors[decision.position];
        let waiting = self.writer.held();
        let stored = self.writer.write(&entry.name, tensor)?;
        // The entropy coder takes codes of 16 bits.
        let numbers = if decision.coded { 2 * entry.params() } else { 0 };
        let writing = tensor.bytes() + numbers + self.writer.held() - waiting;
        let beside = self.compensate.as_ref().map_or(0, |it| it.bytes(&entry.name));
        self.peak_memory = self.peak_memory.max(waiting + making.max(writing + beside));
        self.planned.stored(self.next, entry, stored);
        Ok(())
    }
}

impl Job for Compress {
    type Output = CompressReport;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(decision) = self.planned.decisions.get(self.next).cloned() else { return Ok(None) };
        if let Some(compensate) = &mut self.compensate {
            let name = &self.index.tensors[decision.position].name;
            if let Some(progress) = compensate.prepare(name).await? {
                return Ok(Some(progress));
            }
        }
        self.press(&decision)?;
        self.note_share();
        self.next += 1;
        Ok(Some(Progress {
            stage: "compress".into(),
            done: self.next as f64,
            total: self.planned.decisions.len() as f64,
            unit: "tensors".into(),
            item: Some(self.index.tensors[decision.position].name.clone()),
        }))
    }

    fn finish(mut self) -> Result<CompressReport, EngineError> {
        if let Work::Share(_) = self.work {
            return Err(EngineError::Evaluation(NO_SHARE.into()));
        }
        self.planned.plan.findings.extend(coding::clipped_on_purpose(&self.clipped));
        if let Some(compensate) = &self.compensate {
            self.planned.plan.findings.extend(compensate.findings());
        }
        self.planned.coded(&self.index.tensors);
        let (_, file_bytes) = self.writer.finish()?;
        Ok(CompressReport {
            plan: self.planned.plan,
            file_bytes,
            from_files: self.from_files,
            seconds: (self.clock)() - self.started,
            peak_memory: self.peak_memory,
        })
    }
}

/// Notes what was clipped of a tensor because the recipe asks for it; what nobody asked for is a finding.
fn note_clipped(
    on_purpose: &mut Vec<Clipped>,
    entry: &Entry,
    encoding: Encoding,
    clip: Clip,
    error: &RoundingError,
) -> Option<Finding> {
    let count = error.clipped;
    match clip {
        Clip::Absmax => return coding::clipped(entry, encoding, error),
        _ if count > 0 => on_purpose.push(Clipped { tensor: entry.name.clone(), count, clip }),
        _ => {}
    }
    None
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

/// The numbers of a tensor, and the bytes held while they were made.
pub(super) fn numbers(tensor: Tensor) -> (Vec<f32>, u64) {
    let (stored, is_copied) = (tensor.bytes(), tensor.encoding() != Encoding::Fp32);
    let values = codecs::into_numbers(tensor);
    let copied = if is_copied { 4 * values.len() as u64 } else { 0 };
    (values, stored + copied)
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
    let mut metadata = BTreeMap::from([(Recipe::KEY.to_string(), json(&recipe))]);
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

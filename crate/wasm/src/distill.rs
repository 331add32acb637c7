//! Training as JavaScript sees it: only in the module that has it.

use js_sys::{Uint8Array, Uint32Array};
use serde::{Deserialize, Serialize};
use statepress::report::{CompressReport, Training};
use statepress::{AnyModel, Job};
use statepress_distill::{
    Device, Distill, Distilled, FisherOptions, Init, Mixture, Objective, Snapshot, Student, TakeFisher,
    Teacher, TrainOptions, Trainable, Trains, rounded_rate,
};
use wasm_bindgen::prelude::*;

use crate::convert::{fail, from_js, to_js, whole};
use crate::jobs::{job_class, step};
use crate::later::{Slot, now_or_later};
use crate::streams::{JsSink, SinkObject};
use crate::{Backend, Checkpoint, Model, Result};

/// What a module of 32 bits can have, less what is in it before.
const MOST_BYTES: u64 = (4 << 30) - (256 << 20);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsDistillOptions {
    steps: Option<f64>,
    seconds: Option<f64>,
    batch: Option<f64>,
    window: Option<f64>,
    alpha: Option<f64>,
    temperature: Option<f64>,
    balance: Option<f64>,
    learning_rate: Option<f64>,
    warm_up: Option<f64>,
    validate_every: Option<f64>,
    patience: Option<f64>,
    seed: Option<f64>,
    init: JsInit,
    trains: JsTrains,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JsInit {
    #[default]
    Slice,
    Fresh,
}

impl From<JsInit> for Init {
    fn from(init: JsInit) -> Self {
        match init {
            JsInit::Slice => Self::Given,
            JsInit::Fresh => Self::Fresh,
        }
    }
}

/// What of a run that was written down is not in the snapshot itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JsResumeOptions {
    init: JsInit,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JsTrains {
    #[default]
    All,
    Rounded,
    Vectors,
}

impl JsDistillOptions {
    /// What is left out is as usual for a run of that length, a model with so many positions, and the learning rate of
    /// codes where those are trained.
    fn read(self, max_tokens: Option<usize>, rounded: f64) -> Result<(TrainOptions, Init)> {
        let usual = match self.trains {
            JsTrains::Rounded => {
                TrainOptions { learning_rate: rounded, warm_up: 10, ..TrainOptions::default() }
            }
            JsTrains::All | JsTrains::Vectors => TrainOptions::default(),
        };
        let steps = match (whole("steps", self.steps)?, self.seconds) {
            (Some(steps), _) => steps,
            (None, None) => usual.steps,
            // As many as there is time for.
            (None, Some(_)) => usize::MAX >> 1,
        };
        let window = max_tokens.map_or(usual.window, |most| most.min(usual.window));
        let objective = Objective {
            mixture: Mixture {
                alpha: self.alpha.unwrap_or(usual.objective.mixture.alpha),
                temperature: self.temperature.unwrap_or(usual.objective.mixture.temperature),
            },
            balance: self.balance.unwrap_or(usual.objective.balance),
        };
        let options = TrainOptions {
            steps,
            seconds: self.seconds,
            batch: whole("batch", self.batch)?.unwrap_or(usual.batch),
            window: whole("window", self.window)?.unwrap_or(window),
            objective,
            trains: match self.trains {
                JsTrains::All => Trains::All,
                JsTrains::Rounded => Trains::Rounded,
                JsTrains::Vectors => Trains::Vectors,
            },
            learning_rate: self.learning_rate.unwrap_or(usual.learning_rate),
            warm_up: whole("warmUp", self.warm_up)?.unwrap_or(usual.warm_up.min(steps / 10)),
            validate_every: whole("validateEvery", self.validate_every)?
                .unwrap_or((steps / 10).clamp(1, usual.validate_every)),
            patience: whole("patience", self.patience)?,
            seed: whole("seed", self.seed)?.unwrap_or(usual.seed),
            most_bytes: Some(MOST_BYTES),
            ..usual
        };
        Ok((options, self.init.into()))
    }
}

/// What is written says of itself what compressing says, and of the training what that was.
#[derive(Serialize)]
struct DistillReport {
    #[serde(flatten)]
    written: CompressReport,
    training: Training,
}

#[wasm_bindgen]
impl Checkpoint {
    /// Trains this checkpoint as the student of another, over one text, judged by another, and writes what it becomes into a
    /// sink. `teacher` is the model of the checkpoint `original`, and `uncoded` what the student's codes were rounded from.
    /// `backend` is what trains, for which it was made ready.
    #[allow(clippy::too_many_arguments, reason = "what JavaScript gives has names there")]
    pub fn distill(
        &self,
        teacher: &Model,
        original: &Checkpoint,
        uncoded: &Checkpoint,
        ids: Uint32Array,
        held_out: Uint32Array,
        options: JsValue,
        backend: &Backend,
        sink: SinkObject,
    ) -> Result<DistillJob> {
        let opened = self.0.opened();
        let max_tokens = opened.spec.program.as_ref().and_then(|program| program.max_tokens);
        let (options, init) =
            from_js::<JsDistillOptions>("distill", options)?.read(max_tokens, rounded_rate(&opened.index))?;
        let (ids, held_out) = (ids.to_vec(), held_out.to_vec());
        let student = Student { init, uncoded: Some(uncoded.0.opened()), ..opened.into() };
        let job = Distill::new(
            student,
            (Teacher::Packed(teacher.0.clone()), &original.0.opened()),
            (&ids, &held_out),
            options,
            backend.device(),
            Box::new(JsSink(sink)),
            self.0.clock().seconds(),
        );
        Ok(DistillJob(Slot::new(job.map_err(fail)?)))
    }

    /// Prepares the training that a snapshot is of, which began with this checkpoint as the student: its `goOn` takes it to where
    /// it was, whatever it was computed by.
    #[allow(clippy::too_many_arguments, reason = "what JavaScript gives has names there")]
    pub fn resume(
        &self,
        teacher: &Model,
        original: &Checkpoint,
        uncoded: &Checkpoint,
        snapshot: &TrainingSnapshot,
        options: JsValue,
        backend: &Backend,
        sink: SinkObject,
    ) -> Result<DistillJob> {
        let JsResumeOptions { init } = from_js("resume", options)?;
        let TrainingSnapshot(snapshot) = snapshot;
        let (ids, held_out) = (snapshot.text().map_err(fail)?, snapshot.held_out().map_err(fail)?);
        let job = Distill::new(
            Student { init: init.into(), uncoded: Some(uncoded.0.opened()), ..self.0.opened().into() },
            (Teacher::Packed(teacher.0.clone()), &original.0.opened()),
            (&ids, &held_out),
            TrainOptions { most_bytes: Some(MOST_BYTES), ..snapshot.options().clone() },
            backend.device(),
            Box::new(JsSink(sink)),
            self.0.clock().seconds(),
        );
        Ok(DistillJob(Slot::new(job.map_err(fail)?)))
    }

    /// Takes what the loss of this checkpoint's model feels of look-ups and outputs, by gradients, while it reads a text.
    pub fn gradients(&self, ids: Uint32Array) -> Result<GradientsJob> {
        let opened = self.0.opened();
        let model = Trainable::load(&*opened.source, &opened.index, &opened.spec, Device::Flex);
        let job = TakeFisher::new(model.map_err(fail)?, &ids.to_vec(), &FisherOptions::default());
        Ok(GradientsJob::new(job.map_err(fail)?))
    }
}

#[wasm_bindgen]
impl Backend {
    /// Makes what trains be there: burn opens the GPU for itself.
    #[wasm_bindgen(js_name = readyToTrain)]
    pub fn ready_to_train(&self) -> Result<JsValue> {
        let device = self.device();
        now_or_later(async move {
            device.open().await.map_err(statepress::Error::from).map_err(fail)?;
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Backend {
    /// What trains where this computes.
    fn device(&self) -> Device {
        if self.0.gpu.is_some() { Device::Wgpu } else { Device::Flex }
    }
}

/// A training run that was written down.
#[wasm_bindgen]
pub struct TrainingSnapshot(Snapshot);

#[wasm_bindgen]
impl TrainingSnapshot {
    /// Reads one.
    pub fn open(bytes: Uint8Array) -> Result<TrainingSnapshot> {
        Snapshot::open(bytes.to_vec()).map(Self).map_err(fail)
    }

    /// What makes the student, in the words of whoever trained it.
    pub fn student(&self) -> String {
        self.0.student().into()
    }

    /// Updates that were done.
    #[wasm_bindgen(getter)]
    pub fn at(&self) -> usize {
        self.0.step()
    }

    /// The ids that it trains on.
    pub fn ids(&self) -> Result<Uint32Array> {
        Ok(Uint32Array::from(&self.0.text().map_err(fail)?[..]))
    }

    /// The ids that judge it.
    #[wasm_bindgen(js_name = heldOut)]
    pub fn held_out(&self) -> Result<Uint32Array> {
        Ok(Uint32Array::from(&self.0.held_out().map_err(fail)?[..]))
    }
}

job_class! {
    /// Takes gradients; a step is a few windows.
    GradientsJob(TakeFisher)
}

/// Trains a student and writes it; a step is an update, a look at a part of the held-out text, or a tensor.
#[wasm_bindgen]
pub struct DistillJob(Slot<Distill<AnyModel>>);

#[wasm_bindgen]
impl DistillJob {
    /// Does the next piece of work; `undefined` when nothing is left.
    pub fn step(&self) -> Result<JsValue> {
        self.0.work(async |job| step(job).await)
    }

    /// Every look at the held-out text from the `from`th on.
    pub fn curve(&self, from: usize) -> Result<JsValue> {
        let curve = self.0.look(|job| to_js(&job.curve().get(from..).unwrap_or_default()));
        curve.unwrap_or(Ok(JsValue::UNDEFINED))
    }

    /// Goes to where the run was that was written down: before the first step.
    #[wasm_bindgen(js_name = goOn)]
    pub fn go_on(&self, snapshot: TrainingSnapshot) -> Result<JsValue> {
        self.0.work(async move |job| {
            job.go_on(&snapshot.0).await.map_err(fail)?;
            Ok(JsValue::UNDEFINED)
        })
    }

    /// The run as it is now, with what makes the student; `undefined` once training is over.
    pub fn snapshot(&self, student: String) -> Result<JsValue> {
        self.0.work(async move |job| {
            let bytes = job.snapshot(&student).await.map_err(fail)?;
            Ok(bytes.map_or(JsValue::UNDEFINED, |bytes| Uint8Array::from(&bytes[..]).into()))
        })
    }

    /// The ids that the student goes on with behind a prompt, as it is now; none once training is over.
    pub fn sample(&self, prompt: Uint32Array, count: usize) -> Result<JsValue> {
        self.0.work(async move |job| {
            let ids = job.sample(&prompt.to_vec(), count).await.map_err(fail)?;
            Ok(Uint32Array::from(&ids[..]).into())
        })
    }

    /// Ends the training before its last step: what was best so far is written by the steps that follow.
    pub fn stop(&self) -> Result<JsValue> {
        self.0.work(async |job| {
            job.stop();
            Ok(JsValue::UNDEFINED)
        })
    }

    /// The report.
    pub fn finish(self) -> Result<JsValue> {
        let Distilled { training, written } = self.0.take()?.finish().map_err(fail)?;
        to_js(&DistillReport { written, training })
    }
}

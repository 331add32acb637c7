//! A training run as bytes, from which it goes on as if it had never been interrupted.
//!
//! They are a safetensors file, into which anybody can look: of the parameter at place `N` its `N.values`, the means that the
//! optimizer remembers (`N.moment_1` and `N.moment_2`; none before its first gradient), and `N.best`, what was computed with at
//! the best look; `text` and `held_out` are the ids of both texts, as numbers; everything else is JSON in the metadata.

use std::collections::BTreeMap;

use burn::optim::{AdamWState, AdaptiveMomentumState};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use statepress_core::report::TrainingPoint;
use statepress_core::{Encoding, Form, Index, Tensor as Stored};
use statepress_engine::EngineError;
use statepress_engine::models::Loaded;
use statepress_formats::{Layout, TensorSpec, Writer, open, read_tensor};
use statepress_kernels::codecs;

use super::windows::Order;
use super::{Look, PACED, Train, TrainOptions, optimize};
use crate::model::{read_back, tensor};

/// Where the metadata has what is no tensor.
const KEY: &str = "statepress.training";

/// Version of the layout.
const VERSION: u32 = 2;

/// How many logits of a teacher are written down, and how far those of the same one may be off: another device computes other last digits.
const LOGITS: usize = 16;
const LOGITS_OFF: f32 = 1e-2;

/// The most updates of a run that goes on: they are counted through, for the learning rate.
const MOST_STEPS: usize = 100_000_000;

/// What is written of one tensor.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    Of(&'a Tensor<2>),
    Ids(&'a [u32]),
}

impl Numbers<'_> {
    fn shape(self) -> Vec<usize> {
        match self {
            Self::Of(tensor) => tensor.dims().to_vec(),
            Self::Ids(ids) => vec![ids.len()],
        }
    }
}

/// A training run that was written down.
pub struct Snapshot {
    bytes: Vec<u8>,
    index: Index,
    state: State,
}

/// What every version says.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What is no tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    version: u32,
    /// What makes the student, in the words of whoever trains it.
    student: String,
    /// What has trained it so far, last.
    device: String,
    options: TrainOptions,
    /// What training began with.
    began: Beginning,
    /// Updates done.
    done: usize,
    seconds: f64,
    /// The losses since the last look.
    losses: Vec<f64>,
    /// Whether a look is next.
    looks: bool,
    held_out_tokens: usize,
    curve: Vec<TrainingPoint>,
    /// What the order of windows goes on from, and those that are left of this reading of the text.
    random: u64,
    starts: Vec<usize>,
    /// Updates of each parameter.
    updates: Vec<usize>,
}

/// What a training began with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Beginning {
    /// A digest of the student's numbers (FNV-1a, 64 bits).
    student: u64,
    /// What the teacher says behind the first window of the text that judges: some logits; none without a teacher.
    teacher: Vec<f32>,
}

impl Beginning {
    /// Whether it is that of the same training, whatever has computed it.
    fn is_same(&self, other: &Self) -> bool {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= LOGITS_OFF * (1.0 + b.abs());
        self.student == other.student
            && self.teacher.len() == other.teacher.len()
            && self.teacher.iter().zip(&other.teacher).all(near)
    }
}

impl Snapshot {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// For bytes that are none.
    pub fn open(bytes: Vec<u8>) -> Result<Self, EngineError> {
        let index = open(&bytes)?;
        let Some(state) = index.metadata.get(KEY) else {
            return Err(not_one(format!("a file without {KEY} in its metadata")));
        };
        let unread = |error: serde_json::Error| not_one(error.to_string());
        let Version { version } = serde_json::from_str(state).map_err(unread)?;
        if version != VERSION {
            return Err(not_one(format!("of version {version}, where this one reads {VERSION}")));
        }
        let state = serde_json::from_str(state).map_err(unread)?;
        Ok(Self { bytes, index, state })
    }

    /// What makes the student, in the words of whoever had it written down.
    pub fn student(&self) -> &str {
        &self.state.student
    }

    /// What has trained it.
    pub fn device(&self) -> &str {
        &self.state.device
    }

    /// Updates that were done.
    pub fn step(&self) -> usize {
        self.state.done
    }

    /// How it trains: it goes on as it began.
    pub fn options(&self) -> &TrainOptions {
        &self.state.options
    }

    /// The ids that it trains on.
    ///
    /// # Errors
    /// For a snapshot without them.
    pub fn text(&self) -> Result<Vec<u32>, EngineError> {
        self.ids("text")
    }

    /// The ids that judge it.
    ///
    /// # Errors
    /// For a snapshot without them.
    pub fn held_out(&self) -> Result<Vec<u32>, EngineError> {
        self.ids("held_out")
    }

    fn ids(&self, name: &str) -> Result<Vec<u32>, EngineError> {
        Ok(self.numbers(name)?.into_iter().map(|id| id as u32).collect())
    }

    fn numbers(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        let missing = || EngineError::UnknownTensor { name: name.into(), near: Vec::new() };
        let entry = self.index.get(name).ok_or_else(missing)?;
        Ok(codecs::decode(&read_tensor(&self.bytes, entry)?))
    }
}

impl<L: Loaded> Train<L> {
    /// What it is now, as [`Snapshot::open`] reads it; nothing of a run that has ended. `student` says what makes the student.
    ///
    /// # Errors
    /// For numbers that cannot be read back.
    pub async fn snapshot(&self, student: &str) -> Result<Option<Vec<u8>>, EngineError> {
        if self.stopped.is_some() {
            return Ok(None);
        }
        let (random, starts) = self.order.state();
        let state = State {
            version: VERSION,
            student: student.into(),
            device: self.student.device.name().into(),
            options: self.options.clone(),
            began: match &self.began {
                Some(began) => began.clone(),
                None => self.beginning().await?,
            },
            done: self.done,
            seconds: (self.clock)() - self.started,
            losses: self.losses.clone(),
            looks: self.looking.is_some(),
            held_out_tokens: self.held_out_tokens,
            curve: self.curve.clone(),
            random,
            starts,
            updates: self
                .optimizer
                .states
                .iter()
                .map(|it| it.as_ref().map_or(0, |it| it.momentum.time))
                .collect(),
        };
        let mut tensors: Vec<(String, Numbers)> = Vec::new();
        for (at, parameter) in self.student.parameters.iter().enumerate() {
            let moments = self.optimizer.states[at].as_ref().map(|it| &it.momentum);
            let of = [
                ("values", Some(&parameter.values)),
                ("moment_1", moments.map(|it| &it.moment_1)),
                ("moment_2", moments.map(|it| &it.moment_2)),
                ("best", Some(&self.best[at])),
            ];
            let there = of.into_iter().filter_map(|(what, tensor)| Some((what, tensor?)));
            tensors.extend(there.map(|(what, tensor)| (format!("{at}.{what}"), Numbers::Of(tensor))));
        }
        let texts = [("text", &self.text), ("held_out", &self.held_out)];
        tensors.extend(texts.map(|(name, windows)| (name.to_string(), Numbers::Ids(windows.ids()))));
        let spec = |(name, numbers): &(String, Numbers)| TensorSpec {
            name: name.clone(),
            shape: numbers.shape(),
            form: Form::Coded(Encoding::Fp32),
            coded: false,
        };
        let specs: Vec<_> = tensors.iter().map(spec).collect();
        let state = serde_json::to_string(&state).map_err(|error| not_one(error.to_string()))?;
        let metadata = BTreeMap::from([(KEY.to_string(), state)]);
        let layout = Layout::new(&specs, &metadata)?;
        // A tensor at a time, into room that is there: nothing else is in memory twice.
        let mut writer = Writer::with_layout(Vec::with_capacity(layout.bytes() as usize), layout)?;
        for (name, numbers) in tensors {
            let values = match numbers {
                Numbers::Of(tensor) => read_back(self.student.device, tensor.clone()).await?,
                // Float32 has every whole number below 2^24, which no vocabulary comes near.
                Numbers::Ids(ids) => ids.iter().map(|&id| id as f32).collect(),
            };
            writer.write(&name, &Stored::from_f32(numbers.shape(), values))?;
        }
        Ok(Some(writer.finish()?.0))
    }

    /// Has a run that was prepared as the one was that was written down, and has not begun, go on where that was.
    ///
    /// # Errors
    /// For a snapshot of another run: of another student, or of other texts.
    pub async fn go_on(&mut self, from: &Snapshot) -> Result<(), EngineError> {
        let State {
            began,
            done,
            seconds,
            losses,
            looks,
            held_out_tokens,
            curve,
            random,
            starts,
            updates,
            ..
        } = from.state.clone();
        let device = self.student.device;
        if updates.len() != self.student.parameters.len() || !self.beginning().await?.is_same(&began) {
            return Err(not_one(
                "of a training that began with another model, or with a student that was made otherwise"
                    .into(),
            ));
        }
        let looked = curve.last().map_or(0, |point| point.step as usize);
        let sound = done == looked.saturating_add(losses.len())
            && done <= MOST_STEPS
            && (done < self.options.steps || (done == self.options.steps && looks))
            && updates.iter().all(|&times| times <= done);
        let order = Order::from_state(random, starts);
        if !sound || !order.fits(&self.text) {
            return Err(not_one("damaged: its steps or windows cannot be those of a run".into()));
        }
        for (what, windows, ids) in
            [("text", &self.text, from.text()?), ("held-out text", &self.held_out, from.held_out()?)]
        {
            if windows.ids() != ids {
                return Err(not_one(format!("of another {what}")));
            }
        }
        for (at, parameter) in self.student.parameters.iter_mut().enumerate() {
            let [rows, cols] = parameter.values.dims();
            let numbers = |what: &str| {
                let name = format!("{at}.{what}");
                let values = from.numbers(&name)?;
                if values.len() != rows * cols {
                    let (found, expected) = (vec![values.len()], format!("{:?}", [rows, cols]));
                    return Err(EngineError::Shape { tensor: name, found, expected });
                }
                Ok(tensor(device, values, &[rows, cols]))
            };
            (parameter.values, self.best[at]) = (numbers("values")?, numbers("best")?);
            self.optimizer.states[at] = match updates[at] {
                0 => None,
                time => {
                    let (moment_1, moment_2) = (numbers("moment_1")?, numbers("moment_2")?);
                    let momentum = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2: None };
                    Some(AdamWState { momentum })
                }
            };
        }
        self.order = order;
        self.schedule = optimize::schedule(&self.options, done)?;
        if !curve.is_empty() {
            self.student.round(self.options.trains).await?;
        }
        self.check_device().await?;
        // Another device takes another time for an update, which is then measured once more.
        if done < PACED || from.device() != device.name() {
            self.paced.0 = done;
        }
        (self.began, self.started) = (Some(began), (self.clock)() - seconds);
        (self.done, self.losses, self.held_out_tokens, self.curve) = (done, losses, held_out_tokens, curve);
        self.looking = looks.then(Look::default);
        Ok(())
    }

    /// What the run begins with, which it has not gone on from.
    pub(super) async fn beginning(&self) -> Result<Beginning, EngineError> {
        let mut student = 0xcbf2_9ce4_8422_2325_u64;
        for parameter in &self.student.parameters {
            let values = read_back(self.student.device, parameter.values.clone()).await?;
            for byte in values.iter().flat_map(|it| it.to_le_bytes()) {
                student = (student ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let logits = match &self.teacher {
            Some(teacher) => teacher.logits(&self.held_out.range(0, 1)?.batch).await?,
            None => Vec::new(),
        };
        // Behind the last token, where all that a model remembers matters. JSON has no words for what is no number.
        let last = &logits[logits.len().saturating_sub(self.student.program.vocab_size)..];
        let teacher = last.iter().take(LOGITS).map(|it| if it.is_finite() { *it } else { 0.0 }).collect();
        Ok(Beginning { student, teacher })
    }
}

fn not_one(value: String) -> EngineError {
    let allowed = "the snapshot of a training run of this model, as it was written";
    EngineError::Option { option: "resume".into(), value, allowed: allowed.into() }
}

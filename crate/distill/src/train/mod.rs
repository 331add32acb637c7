//! Training: windows of a text go through the model, and its weights are moved against the gradient of a loss.
//!
//! A run is a sequence of steps that the caller drives; dropping it cancels it. Given a seed it is the same every time.

mod memory;
mod optimize;
mod options;
mod snapshot;
mod teacher;
mod windows;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::tensor::Tensor;
use statepress_core::job::{Job, Progress};
use statepress_core::report::{Training, TrainingPoint, TrainingStop};
use statepress_engine::models::{Loaded, Model};
use statepress_engine::{Clock, EngineError};
use statepress_kernels::KernelError;

pub use optimize::Optimizer;
pub use options::{Adam, TrainOptions, Trains};
use snapshot::Beginning;
pub use snapshot::Snapshot;
pub use teacher::Teacher;
use windows::{Order, Windows};

use crate::Trainable;
use crate::gradients::Gradients;
use crate::loss::{Mixture, distance};
use crate::model::{Parameter, read_back};

/// Steps after which it is known how many fit in a limited time.
const PACED: usize = 8;

/// The most looks at the held-out text in a limited time, and the most that they may take of it.
const LOOKS: f64 = 10.0;
const LOOKS_SHARE: f64 = 0.2;

/// A training run. A step is one update of the weights, or a look at a part of the held-out text.
pub struct Train<L: Loaded = Model> {
    student: Trainable,
    teacher: Option<Teacher<L>>,
    options: TrainOptions,
    text: Windows,
    held_out: Windows,
    order: Order,
    schedule: ModuleLrScheduler,
    optimizer: Optimizer,
    clock: Clock,
    /// Bytes that it takes in memory, about.
    estimated: u64,
    started: f64,
    /// What tells it from another run, once it has begun.
    began: Option<Beginning>,
    /// Updates done.
    done: usize,
    /// From which update on, and when that began, it is measured how long one takes.
    paced: (usize, f64),
    /// The losses since the last look.
    losses: Vec<f64>,
    looking: Option<Look>,
    /// Tokens of a whole look.
    held_out_tokens: usize,
    /// What passes computed with at the best look.
    best: Vec<Tensor<2>>,
    curve: Vec<TrainingPoint>,
    stopped: Option<TrainingStop>,
}

/// A look at the held-out text under way.
#[derive(Default)]
struct Look {
    windows: usize,
    /// Sums over tokens.
    nll: f64,
    kl: f64,
    tokens: usize,
}

/// What a run gives.
pub struct Trained {
    /// The model as it was at its best look.
    pub model: Trainable,
    /// What was done.
    pub report: Training,
}

impl<L: Loaded> Train<L> {
    /// Prepares a run over `text`, judged by `held_out`; both are ids. Position `t` predicts token `t + offset`, which is a
    /// property of the student that no shape tells.
    ///
    /// # Errors
    /// For options that are not allowed, texts that are too short, ids outside the vocabulary, and a teacher with another
    /// vocabulary or fewer positions.
    pub fn new(
        student: Trainable,
        teacher: Option<Teacher<L>>,
        (text, held_out): (&[u32], &[u32]),
        offset: usize,
        options: TrainOptions,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        options.check(&student, teacher.is_some())?;
        let vocab_size = student.program.vocab_size;
        if let Some(teacher) = &teacher {
            teacher.fits(&student, options.window)?;
        }
        for (what, ids) in [("training", text), ("held-out", held_out)] {
            if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
                let message = format!(
                    "token {id} at position {at} of the {what} text is outside the vocabulary of {vocab_size}"
                );
                return Err(EngineError::Ids(message));
            }
        }
        let estimated = memory::estimated(&student, teacher.as_ref().map_or(0, Teacher::bytes), &options);
        memory::fits(estimated, &options)?;
        Ok(Self {
            estimated,
            text: Windows::new(text, options.window, offset, "training")?,
            held_out: Windows::new(held_out, options.window, offset, "held-out")?,
            order: Order::new(options.seed),
            schedule: optimize::schedule(&options, 0)?,
            optimizer: Optimizer::new(&student, &options.adam),
            best: computed(&student),
            student,
            teacher,
            started: clock(),
            clock,
            began: None,
            done: 0,
            paced: (0, f64::INFINITY),
            losses: Vec::new(),
            looking: Some(Look::default()),
            held_out_tokens: 0,
            curve: Vec::new(),
            stopped: None,
            options,
        })
    }

    /// Whether the text counts for nothing.
    fn is_teacher_alone(&self) -> bool {
        self.options.objective.mixture.alpha == 1.0
    }

    /// Ends the run before its last step: it gives what was best so far.
    pub fn stop(&mut self) {
        self.stopped.get_or_insert(TrainingStop::Asked);
    }

    /// Tokens that updates were computed from.
    fn tokens(&self) -> u64 {
        [self.done, self.options.batch, self.options.window].map(|it| it as u64).into_iter().product()
    }

    /// How it is done: the number of steps is that which fits, where time is limited and that is known.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The student as it is now.
    pub fn student(&self) -> &Trainable {
        &self.student
    }

    /// Every look at the held-out text so far.
    pub fn curve(&self) -> &[TrainingPoint] {
        &self.curve
    }

    /// One update.
    async fn update(&mut self) -> Result<(), EngineError> {
        let TrainOptions { batch, objective, trains, .. } = self.options;
        if self.done == self.paced.0 {
            self.paced.1 = (self.clock)();
        }
        let examples = self.text.at(&self.order.next(&self.text, batch))?;
        let teacher = match &self.teacher {
            Some(teacher) if objective.mixture.alpha > 0.0 => Some(teacher.logits(&examples.batch).await?),
            _ => None,
        };
        let gradients = self.student.gradients(&examples, teacher, &objective, trains).await?;
        if !gradients.loss.is_finite() || !gradients.norm(&self.student).await?.is_finite() {
            let what = self.culprit(&gradients).await?;
            self.stopped = Some(TrainingStop::Diverged { step: self.done as u64, what });
            return Ok(());
        }
        let (rate, loss) = (self.schedule.step().base(), gradients.loss);
        self.optimizer.apply(&mut self.student, gradients, rate);
        match self.student.round(trains).await {
            Err(EngineError::Codec { tensor, error: KernelError::NotFinite { .. } }) => {
                self.stopped = Some(TrainingStop::Diverged { step: self.done as u64, what: tensor });
                return Ok(());
            }
            rounded => rounded?,
        }
        self.losses.push(loss);
        self.done += 1;
        self.pace()?;
        if self.done.is_multiple_of(self.options.validate_every) || self.done == self.options.steps {
            self.looking = Some(Look::default());
        }
        Ok(())
    }

    /// Where time is limited: has the run end when it is over, by how long a step takes. Looks count as steps do.
    fn pace(&mut self) -> Result<(), EngineError> {
        let (from, since) = self.paced;
        let Some(seconds) = self.options.seconds.filter(|_| self.done == from + PACED) else {
            return Ok(());
        };
        let now = (self.clock)();
        let look = self.curve.first().map_or(0.0, |point| point.seconds).max(1e-6);
        let step = ((now - since) / PACED as f64).max(1e-6);
        // Looks after this one: ten, or as many as take a fifth of the time.
        let looks = (LOOKS_SHARE * seconds / look).clamp(1.0, LOOKS);
        let left = seconds - (now - self.started) - (1.0 + looks) * look;
        let steps = self.done + (left / step) as usize;
        // Whoever looks on sees early that it learns.
        self.looking = Some(Look::default());
        let options = &mut self.options;
        if steps < options.steps {
            options.steps = steps.max(self.done + 1);
            options.warm_up = options.warm_up.min(options.steps / 10);
            options.validate_every = (options.steps as f64 / looks).ceil() as usize;
            self.schedule = optimize::schedule(options, self.done)?;
        }
        Ok(())
    }

    /// How far it is: of the time that it may take, where that is limited, else of its steps.
    fn progress(&self, stage: &str) -> Progress {
        let (done, total, unit, item) = match self.options.seconds {
            Some(seconds) => {
                let spent = ((self.clock)() - self.started).min(seconds);
                (spent, seconds, "seconds", Some(format!("step {}", self.done)))
            }
            None => (self.done as f64, self.options.steps as f64, "steps", None),
        };
        Progress { stage: stage.into(), done, total, unit: unit.into(), item }
    }

    /// What is no number: a tensor's numbers come before gradients, which they make what they are.
    async fn culprit(&self, gradients: &Gradients) -> Result<String, EngineError> {
        let Trainable { parameters, device, .. } = &self.student;
        let weights = parameters.iter().map(|it| (it.key.clone(), Some(&it.values)));
        let slopes = parameters.iter().zip(&gradients.of);
        let slopes = slopes.map(|(it, gradient)| (format!("the gradient of {}", it.key), gradient.as_ref()));
        for (what, tensor) in weights.chain(slopes) {
            let Some(tensor) = tensor else { continue };
            if !read_back(*device, tensor.clone().square().sum()).await?[0].is_finite() {
                return Ok(what);
            }
        }
        Ok("the loss".into())
    }

    /// Refuses a GPU that computes other gradients than the CPU, of as many windows as an update has.
    async fn check_device(&self) -> Result<(), EngineError> {
        let TrainOptions { batch, objective, trains, .. } = self.options;
        self.student.check_device(&self.text.range(0, batch)?, objective.balance, trains).await
    }

    /// Looks at the next windows of the held-out text.
    async fn look(&mut self, mut look: Look) -> Result<(), EngineError> {
        // What is rounded is judged as it is rounded, and first as it was read.
        if self.curve.is_empty() && look.windows == 0 {
            // Which is no part of how long a look takes.
            let before = (self.clock)();
            self.began = Some(self.beginning().await?);
            self.student.round(self.options.trains).await?;
            self.check_device().await?;
            self.started += (self.clock)() - before;
        }
        let next = look.windows + self.options.batch;
        let examples = self.held_out.range(look.windows, next)?;
        let teacher = match &self.teacher {
            Some(teacher) if self.is_teacher_alone() => Some(teacher.logits(&examples.batch).await?),
            _ => None,
        };
        let logits = self.student.evaluate().logits(&examples.batch).await?;
        let off = distance(&logits, teacher.as_deref(), &examples.labels);
        (look.nll, look.kl) = (look.nll + off.nll, look.kl + off.kl);
        let tokens = examples.labels.len();
        (look.tokens, look.windows) = (look.tokens + tokens, next);
        if next < self.held_out.count() {
            self.looking = Some(look);
            return Ok(());
        }
        let nll = look.nll / look.tokens as f64;
        self.held_out_tokens = look.tokens;
        let losses = std::mem::take(&mut self.losses);
        let point = TrainingPoint {
            step: self.done as u64,
            tokens: self.tokens(),
            seconds: (self.clock)() - self.started,
            loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
            nll,
            perplexity: nll.exp().min(f64::MAX),
            kl: self.is_teacher_alone().then_some(look.kl / look.tokens as f64),
        };
        if !judged(&point).is_finite() {
            let what = "the loss of the held-out text".into();
            self.stopped = Some(TrainingStop::Diverged { step: self.done as u64, what });
            return Ok(());
        }
        if best(&self.curve).is_none_or(|best| judged(&point) < judged(&best)) {
            self.best = computed(&self.student);
        }
        self.curve.push(point);
        let since =
            best(&self.curve).map_or(0, |best| self.curve.iter().filter(|it| it.step > best.step).count());
        if self.done == self.options.steps {
            self.stopped = Some(TrainingStop::Finished);
        } else if self.options.patience.is_some_and(|patience| since >= patience) {
            self.stopped = Some(TrainingStop::NoBetter);
        }
        Ok(())
    }
}

impl<L: Loaded> Job for Train<L> {
    type Output = Trained;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if self.stopped.is_some() {
            return Ok(None);
        }
        let stage = match self.looking.take() {
            Some(look) => {
                self.look(look).await?;
                "validate"
            }
            None => {
                self.update().await?;
                "train"
            }
        };
        Ok(Some(self.progress(stage)))
    }

    fn finish(self) -> Result<Trained, EngineError> {
        let tokens = self.tokens();
        let Self {
            mut student,
            best: computed,
            curve,
            stopped,
            done,
            options,
            held_out_tokens,
            estimated,
            ..
        } = self;
        let failed = |message: String| Err(EngineError::Evaluation(message));
        let (stopped, best) = match (stopped, best(&curve)) {
            (Some(stopped), Some(best)) => (stopped, best),
            (Some(TrainingStop::Diverged { what, .. }), None) => {
                return failed(format!(
                    "{what} is no number before any training: the student does not compute"
                ));
            }
            _ => return failed("training was finished before its last step".into()),
        };
        for (parameter, computed) in student.parameters.iter_mut().zip(computed) {
            (parameter.values, parameter.rounded) = (computed, None);
        }
        let Mixture { alpha, temperature } = options.objective.mixture;
        let count = |it: &Parameter| it.shape.iter().product::<usize>() as u64;
        let report = Training {
            device: student.device.name().into(),
            params: student.parameters.iter().map(count).sum(),
            trained_params: student.parameters.iter().filter(|it| options.trains.has(it)).map(count).sum(),
            steps: done as u64,
            tokens,
            held_out_tokens: held_out_tokens as u64,
            seconds: curve.last().map_or(0.0, |point| point.seconds),
            memory: estimated,
            alpha,
            temperature,
            learning_rate: options.learning_rate,
            seed: options.seed,
            codes_changed: None,
            stopped,
            validation: curve,
            best,
        };
        Ok(Trained { model: student, report })
    }
}

/// What is least at the best point: who learns from a teacher alone is to predict as that does, and not the text.
fn judged(point: &TrainingPoint) -> f64 {
    point.kl.unwrap_or(point.nll)
}

/// The best point; the first of several.
fn best(curve: &[TrainingPoint]) -> Option<TrainingPoint> {
    curve.iter().copied().min_by(|a, b| judged(a).total_cmp(&judged(b)))
}

/// What passes compute with now; numbers are shared until they are replaced.
fn computed(model: &Trainable) -> Vec<Tensor<2>> {
    model.parameters.iter().map(Parameter::computed).collect()
}

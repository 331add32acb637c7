//! A distillation from beginning to end: a student is trained, and written as a checkpoint like any other.

use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::{Recover, RecoverWeights, Step};
use statepress_core::report::{CompressReport, Plan, Training, TrainingPoint, TrainingStop};
use statepress_core::{Finding, Index, Recipe, Sink};
use statepress_engine::calibrate::Marks;
use statepress_engine::models::{Loaded, Model};
use statepress_engine::techniques::compress::Compress;
use statepress_engine::techniques::follow::measured_against;
use statepress_engine::techniques::plan::plan;
use statepress_engine::techniques::shares::Work;
use statepress_engine::techniques::{Checkpoint, find};
use statepress_engine::{Clock, EngineError};

use crate::rounded::untrained;
use crate::{Device, Snapshot, Teacher, Train, TrainOptions, Trainable, Trained, Trains, trained_checkpoint};

/// Where a student's numbers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init {
    /// They are those of the checkpoint: what pruning left of a teacher.
    #[default]
    Given,
    /// They are drawn anew: [`Trainable::begin_anew`].
    Fresh,
}

/// What is trained.
pub struct Student {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Where its numbers come from.
    pub init: Init,
    /// What its codes were rounded from, where they are trained; the teacher's checkpoint where it is not given.
    pub uncoded: Option<Checkpoint>,
}

impl From<Checkpoint> for Student {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, init: Init::Given, uncoded: None }
    }
}

/// A distillation from beginning to end. A step is one of training, or a tensor that is written.
pub struct Distill<L: Loaded = Model> {
    stage: Option<Stage<L>>,
    student: Checkpoint,
    /// What the teacher takes.
    before: Plan,
    trains: Trains,
    marks: Option<Marks>,
    /// What is to be said of the texts, and of what is not trained.
    findings: Vec<Finding>,
    training: Option<Training>,
    sink: Option<Box<dyn Sink>>,
    clock: Clock,
    memory: Memory,
}

/// The memory of a device, once nothing of a run lies in it any longer.
struct Memory(Device);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.clean();
    }
}

/// What is done now.
enum Stage<L: Loaded> {
    Train(Box<Train<L>>),
    Write(Box<Compress>),
}

/// What a distillation did.
pub struct Distilled {
    /// The training.
    pub training: Training,
    /// What was written, against the teacher.
    pub written: CompressReport,
}

impl<L: Loaded> Distill<L> {
    /// Prepares: `student` learns from `teacher`, a model of the checkpoint `original`, over a text, and is judged by another.
    ///
    /// # Errors
    /// As [`Train::new`], and for a held-out text that is the text, as whole or in part.
    pub fn new(
        student: Student,
        (teacher, original): (Teacher<L>, &Checkpoint),
        (text, held_out): (&[u32], &[u32]),
        options: TrainOptions,
        device: Device,
        sink: Box<dyn Sink>,
        clock: Clock,
    ) -> Result<Self, EngineError> {
        let before = plan(&original.index, &original.spec, &find("none")?, &[])?.plan;
        let windows: Vec<Vec<u32>> = text.chunks_exact(options.window.max(1)).map(<[u32]>::to_vec).collect();
        let marks = Marks::of(&windows, text);
        if !held_out.is_empty() && text.windows(held_out.len()).any(|part| part == held_out) {
            let message = "the held-out text is among the text that is trained on, so it would judge nothing: hold out \
                           another one";
            return Err(EngineError::Ids(message.into()));
        }
        let overlap = marks.as_ref().and_then(|marks| marks.told(held_out)).map(|_| {
            let message = "passages of the held-out text are among the text that is trained on: what it says of the student \
                           is too good";
            Finding::warning("held-out-overlap", message)
        });
        let Student { checkpoint: student, init, uncoded } = student;
        let mut model = Trainable::load(&*student.source, &student.index, &student.spec, device)?;
        if init == Init::Fresh {
            model.begin_anew(options.seed);
        }
        let (trains, offset) = (options.trains, student.spec.offset);
        let mut findings: Vec<_> = overlap.into_iter().collect();
        if trains.rounds() {
            model.begin_beside(uncoded.as_ref().unwrap_or(original))?;
            findings.extend(untrained(&model, &student.index, &student.spec));
        }
        let teacher = (options.objective.mixture.alpha > 0.0).then_some(teacher);
        let train = Train::new(model, teacher, (text, held_out), offset, options, clock)?;
        let stage = Some(Stage::Train(Box::new(train)));
        let training = None;
        let (sink, memory) = (Some(sink), Memory(device));
        Ok(Self { stage, student, before, trains, marks, findings, training, sink, clock, memory })
    }

    /// The run as it is now, as [`Snapshot::open`] reads it; nothing once training is over. `student` says what makes the student.
    ///
    /// # Errors
    /// For numbers that cannot be read back.
    pub async fn snapshot(&self, student: &str) -> Result<Option<Vec<u8>>, EngineError> {
        match &self.stage {
            Some(Stage::Train(train)) => train.snapshot(student).await,
            _ => Ok(None),
        }
    }

    /// Has a distillation that was prepared as the one that was written down, and has not begun, go on where that was.
    ///
    /// # Errors
    /// For a snapshot of another run.
    pub async fn go_on(&mut self, from: &Snapshot) -> Result<(), EngineError> {
        if let Some(Stage::Train(train)) = &mut self.stage {
            train.go_on(from).await?;
        }
        let (before, now) = (from.device(), self.memory.0.name());
        if before != now {
            let message = format!("{now} goes on from step {}, up to which {before} trained", from.step());
            self.findings.push(Finding::info("other-device", message));
        }
        Ok(())
    }

    /// Every look at the held-out text so far.
    pub fn curve(&self) -> &[TrainingPoint] {
        match (&self.stage, &self.training) {
            (Some(Stage::Train(train)), _) => train.curve(),
            (_, Some(training)) => &training.validation,
            _ => &[],
        }
    }

    /// What the student goes on with behind a prompt, as it is now: [`Trainable::sample`]. Nothing once training is over.
    ///
    /// # Errors
    /// As there.
    pub async fn sample(&self, prompt: &[u32], count: usize) -> Result<Vec<u32>, EngineError> {
        match &self.stage {
            Some(Stage::Train(train)) => {
                train.student().sample(prompt, count, self.student.spec.offset).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Ends the training before its last step: what was best so far is written.
    pub fn stop(&mut self) {
        if let Some(Stage::Train(train)) = &mut self.stage {
            train.stop();
        }
    }

    /// Begins to write what training gave.
    async fn write(&mut self, train: Train<L>) -> Result<Compress, EngineError> {
        let options = train.options().clone();
        let Trained { model, report } = train.finish()?;
        let recovery = recovery(&options, &report);
        let codes_changed = if self.trains.rounds() { model.codes_changed().await? } else { None };
        let Checkpoint { source, index, spec } = &self.student;
        let of = (source.clone(), &**index, spec);
        let (source, mut index) = trained_checkpoint(&model, self.trains, of).await?;
        self.marks.iter().for_each(|marks| marks.write(&mut index.metadata));
        if let Some(recipe) = recovered_by(&index, recovery) {
            let json =
                serde_json::to_string(&recipe).map_err(|error| EngineError::Evaluation(error.to_string()))?;
            index.metadata.insert(Recipe::KEY.into(), json);
        }
        self.training = Some(Training { codes_changed, ..report });
        let unfinished = || EngineError::Evaluation("a distillation is written once".into());
        let sink = self.sink.take().ok_or_else(unfinished)?;
        let trained = Checkpoint { source, index: Rc::new(index), spec: spec.clone() };
        Compress::new(trained, &find("none")?, sink, self.clock, None, Work::Whole)
    }
}

/// The step of a recipe that a training is; a student has none, as nothing is made up for.
fn recovery(options: &TrainOptions, report: &Training) -> Option<Recover> {
    let weights = match options.trains {
        Trains::All => return None,
        Trains::Rounded => RecoverWeights::All,
        Trains::Vectors => RecoverWeights::Vectors,
    };
    // Where it ends before its last step nobody knows before how many there are.
    let ended = options.seconds.is_some() || report.stopped == TrainingStop::Asked;
    let steps = if ended { report.steps.max(1) as usize } else { options.steps };
    Some(Recover { weights, steps, alpha: report.alpha, learning_rate: Some(report.learning_rate) })
}

/// The recipe that a file names, with what has been done since; nothing where it names none, or was recovered before.
fn recovered_by(index: &Index, recovery: Option<Recover>) -> Option<Recipe> {
    let mut recipe = Recipe::recorded(&index.metadata)?;
    if recipe.steps.is_empty() || recipe.trains() {
        return None;
    }
    recipe.steps.push(Step::Recover(recovery?));
    Some(recipe)
}

impl<L: Loaded> Job for Distill<L> {
    type Output = Distilled;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let progress = match &mut self.stage {
            Some(Stage::Train(train)) => train.step().await?,
            Some(Stage::Write(write)) => return write.step().await,
            None => return Ok(None),
        };
        if progress.is_none()
            && let Some(Stage::Train(train)) = self.stage.take()
        {
            let mut write = Box::new(self.write(*train).await?);
            let progress = write.step().await?;
            self.stage = Some(Stage::Write(write));
            return Ok(progress);
        }
        Ok(progress)
    }

    fn finish(self) -> Result<Distilled, EngineError> {
        let (Some(Stage::Write(write)), Some(training)) = (self.stage, self.training) else {
            return Err(EngineError::Evaluation("a distillation was finished before its last step".into()));
        };
        let mut written = write.finish()?;
        measured_against(&mut written.plan, &self.before);
        written.plan.findings.extend(self.findings);
        Ok(Distilled { training, written })
    }
}

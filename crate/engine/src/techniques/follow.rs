//! Following a recipe from its first step to its last: structure goes, then the rest is compressed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::{Prune, PruneKind, Step};
use statepress_core::report::{CompressReport, FileReport, Fisher, Plan, Pruned};
use statepress_core::{Finding, Index, Recipe, Sink};

use super::basis::{self, Basing};
use super::center;
use super::compress::Compress;
use super::derived::Checkpoint;
use super::plan::{Known, plan_knowing, quantize_step, ratio};
use super::prune::{self, Planned, PrunedCheckpoint, Pruning, Renamed, Shortening, Slicing};
use super::shares::{ShareReport, Work};

use crate::calibrate::Calibration;
use crate::families::ModelSpec;
use crate::models::{Cpu, Load, Model};
use crate::{Clock, EngineError};

/// A recipe being followed. A step prunes in one place, centers, compresses one tensor, or reads a part of the calibration text.
pub struct Follow {
    stage: Option<Stage>,
    /// The checkpoint that it began with.
    of: Rc<Index>,
    recipe: Recipe,
    /// What is done before anything is quantized, and was not begun.
    first: VecDeque<Step>,
    read: Read,
    sink: Option<Box<dyn Sink>>,
    /// What of the last step is done here.
    work: Work,
    clock: Clock,
    started: f64,
    /// What the steps so far are to be told of.
    told: Told,
    /// Where what the first steps leave is kept, and may already be.
    begun: Begun,
    from_files: Vec<FileReport>,
}

/// What the first steps of a recipe have left of a checkpoint, for the next recipe of it that begins with the same steps and reads
/// the same: a search follows several. Only where it is told to [keep](Self::keep), and only the last recipe's: whole matrices may be
/// among what is kept.
#[derive(Clone, Default)]
pub struct Begun(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    keeps: bool,
    left: Option<Left>,
}

/// What is left, and by what.
struct Left {
    /// Of the checkpoint that was begun with.
    of: Rc<Index>,
    steps: Vec<Step>,
    read: Read,
    checkpoint: Checkpoint,
    told: Told,
}

/// What a recipe depends on beside the checkpoint.
#[derive(Clone, Default, PartialEq)]
struct Read {
    ids: Option<Rc<Vec<u32>>>,
    fisher: Option<Rc<Fisher>>,
}

/// What a report tells of first steps, and what later ones have to know.
#[derive(Clone, Default)]
struct Told {
    pruned: Vec<Pruned>,
    findings: Vec<Finding>,
    /// What gradients say, where they were taken, of tensors as they are called now.
    fisher: Option<Rc<Fisher>>,
    /// The plan without the first steps, of tensors as they are called now: what was there before.
    before: Option<Plan>,
    /// How long they took when another recipe began with them, which this one did not have to wait for.
    seconds: f64,
}

/// What is done now.
enum Stage {
    Prune(Box<Pruning>),
    Slice(Box<Slicing>),
    Shorten(Box<Shortening>),
    /// Ids are counted, whose rows go.
    Count(Checkpoint, Prune),
    Center(Checkpoint),
    Basis(Box<Basing>),
    /// What the first steps left is loaded, as errors are made up for by what enters it.
    Load(Box<Load<Cpu>>, Checkpoint),
    Compress(Box<Compress>),
}

impl Follow {
    /// Prepares. A recipe that prunes by what a text sends through the model, or that makes up for errors, needs a
    /// calibration, whose model is that of the checkpoint. In `begun` is what recipes that were followed before have left. The last
    /// step may be done by several, who all do the others.
    pub fn new(
        of: Checkpoint,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        clock: Clock,
        calibration: Option<Calibration<'_>>,
        begun: &Begun,
        work: Work,
    ) -> Result<Self, EngineError> {
        recipe.check()?;
        if recipe.trains() {
            let hint =
                "training is statepress-distill's: follow the steps before, then train what they have made";
            return Err(EngineError::UnsupportedStep { step: "recover".into(), hint: hint.into() });
        }
        let started = clock();
        let first: VecDeque<Step> = recipe.first_steps().cloned().collect();
        let mut follow = Self {
            stage: None,
            of: of.index.clone(),
            recipe: recipe.clone(),
            first,
            read: Read::default(),
            sink: None,
            work: Work::Whole,
            clock,
            started,
            told: Told::default(),
            begun: begun.clone(),
            from_files: Vec::new(),
        };
        if follow.first.is_empty() {
            let job = Compress::new(of, recipe, sink, clock, calibration, work)?;
            follow.stage = Some(Stage::Compress(Box::new(job)));
            return Ok(follow);
        }
        let needs = recipe.needs_calibration();
        if calibration.is_some() && !needs {
            let allowed = "none, as nothing in the recipe depends on what the model reads";
            return Err(EngineError::option("calibration", "given", allowed));
        }
        if calibration.is_none() && needs {
            let allowed = "a text for the model to read, as the recipe depends on what it computes";
            return Err(EngineError::option("calibration", "not given", allowed));
        }
        // What plan refuses is refused before anything is computed.
        let outlined = outline(&of.index, &of.spec, recipe)?;
        plan_knowing(&outlined.index, &outlined.spec, recipe, &Known::default())?;
        follow.told.before = Some(plan_knowing(&of.index, &of.spec, recipe, &Known::default())?.plan);
        follow.read.ids = calibration.as_ref().map(|it| Rc::new(it.ids.to_vec()));
        follow.read.fisher = calibration.as_ref().and_then(|it| it.fisher.clone());
        follow.told.fisher.clone_from(&follow.read.fisher);
        (follow.sink, follow.work) = (Some(sink), work);
        follow.stage = Some(match follow.known() {
            Some((left, told)) => {
                follow.told = told;
                follow.go_on_with(left)?
            }
            None => follow.begin(of, calibration.map(|it| it.model.clone()))?,
        });
        Ok(follow)
    }

    /// Has the report say of which files the source is.
    pub fn made_from(self, from_files: Vec<FileReport>) -> Self {
        Self { from_files, ..self }
    }

    /// What came of a share of the last step, in place of [`Job::finish`].
    pub fn finish_share(self) -> Result<ShareReport, EngineError> {
        compressed(self.stage)?.finish_share()
    }

    /// Begins the next step with what the last one left. `model` is what that loads as, where it is known.
    fn begin(&mut self, left: Checkpoint, model: Option<Model>) -> Result<Stage, EngineError> {
        match self.first.pop_front() {
            Some(Step::Prune(step)) => {
                let ids = self.read.ids.as_ref();
                Ok(match step.kind {
                    PruneKind::Hidden => Stage::Slice(Box::new(Slicing::new(left, &step, ids, model)?)),
                    PruneKind::Layers | PruneKind::Sublayers => {
                        Stage::Shorten(Box::new(Shortening::new(left, &step, ids, model)?))
                    }
                    PruneKind::Vocabulary => Stage::Count(left, step),
                    _ => Stage::Prune(Box::new(Pruning::new(left, &step, ids, model)?)),
                })
            }
            Some(Step::Center(_)) => Ok(Stage::Center(left)),
            Some(Step::Basis(step)) => {
                let basing =
                    Basing::new(left, step, (self.read.ids.as_ref(), self.told.fisher.clone()), model)?;
                Ok(Stage::Basis(Box::new(basing)))
            }
            Some(Step::Quantize(_) | Step::Recover(_)) | None => {
                self.keep(&left);
                self.go_on_with(left)
            }
        }
    }

    /// Begins to compress what the first steps left.
    fn go_on_with(&mut self, left: Checkpoint) -> Result<Stage, EngineError> {
        if !rounds_by_text(&self.recipe)? {
            return self.compress(left, None);
        }
        let load = Load::new(Cpu, left.source.clone(), left.index.clone(), left.spec.clone())?;
        Ok(Stage::Load(Box::new(load), left))
    }

    /// What the same first steps have left before. What others have left goes, before these need room.
    fn known(&self) -> Option<(Checkpoint, Told)> {
        let mut kept = self.begun.0.borrow_mut();
        kept.left = kept.left.take().filter(|left| {
            Rc::ptr_eq(&left.of, &self.of)
                && self.recipe.first_steps().eq(&left.steps)
                && left.read == self.read
        });
        kept.left.as_ref().map(|left| (left.checkpoint.clone(), left.told.clone()))
    }

    fn keep(&self, left: &Checkpoint) {
        let mut kept = self.begun.0.borrow_mut();
        kept.left = kept.keeps.then(|| Left {
            of: self.of.clone(),
            steps: self.recipe.first_steps().cloned().collect(),
            read: self.read.clone(),
            checkpoint: left.clone(),
            told: Told { seconds: (self.clock)() - self.started, ..self.told.clone() },
        });
    }

    fn compress(&mut self, left: Checkpoint, model: Option<&Model>) -> Result<Stage, EngineError> {
        let unfinished = || EngineError::Evaluation("a recipe is followed once".into());
        let sink = self.sink.take().ok_or_else(unfinished)?;
        let calibration = model.zip(self.read.ids.as_ref()).map(|(model, ids)| Calibration {
            fisher: self.told.fisher.clone(),
            ..Calibration::new(model, ids)
        });
        let work = mem::take(&mut self.work);
        let job = Compress::new(left, &self.recipe, sink, self.clock, calibration, work)?;
        Ok(Stage::Compress(Box::new(job)))
    }

    /// Goes on with what pruning left.
    fn pruned(&mut self, by: PrunedCheckpoint) -> Result<Stage, EngineError> {
        let Told { pruned, findings, fisher, before, .. } = &mut self.told;
        pruned.push(by.report);
        findings.extend(by.findings);
        if !by.renamed.is_empty() {
            before.iter_mut().for_each(|plan| rename(&mut plan.tensors, &by.renamed, |it| &mut it.name));
            let fisher = fisher.as_mut().map(Rc::make_mut);
            fisher.into_iter().for_each(|it| rename(&mut it.outputs, &by.renamed, |it| &mut it.key));
        }
        self.begin(by.left, None)
    }

    /// Ends a stage, and begins the next one.
    fn go_on(&mut self, ended: Stage) -> Result<Stage, EngineError> {
        match ended {
            Stage::Prune(job) => self.pruned(job.finish()?),
            Stage::Slice(job) => self.pruned(job.finish()?),
            Stage::Shorten(job) => self.pruned(job.finish()?),
            Stage::Count(left, step) => {
                let ids = self.read.ids.clone();
                self.pruned(prune::fewer_rows(&left, &step, ids.as_ref().map(|ids| ids.as_slice()))?)
            }
            Stage::Center(of) => {
                let (left, findings) = center::center(&of)?;
                self.told.findings.extend(findings);
                self.begin(left, None)
            }
            Stage::Basis(job) => {
                let based = job.finish()?;
                self.told.findings.extend(based.findings);
                self.begin(based.left, None)
            }
            Stage::Load(job, left) => self.compress(left, Some(&job.finish()?)),
            Stage::Compress(_) => Ok(ended),
        }
    }
}

fn compressed(stage: Option<Stage>) -> Result<Compress, EngineError> {
    match stage {
        Some(Stage::Compress(job)) => Ok(*job),
        _ => Err(EngineError::Evaluation("a recipe was finished before its last step".into())),
    }
}

impl Begun {
    /// Keeps from now on what first steps leave; or lets go of it, and keeps nothing, as in the beginning.
    pub fn keep(&self, whether: bool) {
        let mut kept = self.0.borrow_mut();
        kept.keeps = whether;
        if !whether {
            kept.left = None;
        }
    }
}

/// What the first steps of a recipe leave, by arithmetic alone.
pub(super) struct Outline {
    pub index: Index,
    pub spec: ModelSpec,
    pub pruned: Vec<Pruned>,
    pub findings: Vec<Finding>,
}

/// The outline of what is left when all is quantized.
pub(super) fn outline(index: &Index, spec: &ModelSpec, recipe: &Recipe) -> Result<Outline, EngineError> {
    let (pruned, findings) = (Vec::new(), Vec::new());
    let mut left = Outline { index: index.clone(), spec: spec.clone(), pruned, findings };
    for step in recipe.first_steps() {
        (left.index, left.spec) = match step {
            Step::Prune(step) => {
                let Planned { index, spec, report, findings } =
                    prune::planned(&left.index, &left.spec, step)?;
                left.pruned.push(report);
                left.findings.extend(findings);
                (index, spec)
            }
            Step::Center(_) => center::planned(&left.index, &left.spec)?,
            Step::Basis(_) => basis::planned(&left.index, &left.spec)?,
            Step::Quantize(_) | Step::Recover(_) => break,
        };
    }
    Ok(left)
}

impl Job for Follow {
    type Output = CompressReport;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        loop {
            let progress = match &mut self.stage {
                Some(Stage::Prune(job)) => job.step().await?,
                Some(Stage::Slice(job)) => job.step().await?,
                Some(Stage::Shorten(job)) => job.step().await?,
                Some(Stage::Basis(job)) => job.step().await?,
                Some(Stage::Load(job, _)) => job.step().await?,
                Some(Stage::Compress(job)) => return job.step().await,
                Some(Stage::Center(_) | Stage::Count(..)) => None,
                None => return Ok(None),
            };
            if progress.is_some() {
                return Ok(progress);
            }
            self.stage = self.stage.take().map(|ended| self.go_on(ended)).transpose()?;
        }
    }

    fn finish(self) -> Result<CompressReport, EngineError> {
        let Self { from_files, told, clock, started, stage, .. } = self;
        let mut report = compressed(stage)?.made_from(from_files).finish()?;
        if let Some(before) = &told.before {
            report.seconds = clock() - started + told.seconds;
            report.plan.pruned = told.pruned;
            report.plan.findings.extend(told.findings);
            measured_against(&mut report.plan, before);
        }
        Ok(report)
    }
}

/// Whether codes depend on what the model reads.
fn rounds_by_text(recipe: &Recipe) -> Result<bool, EngineError> {
    Ok(quantize_step(recipe)?.is_some_and(|quantize| quantize.needs_calibration()))
}

/// Has what is said of tensors be said under the keys that they have now, and nothing of those that are gone.
fn rename<T>(all: &mut Vec<T>, now: &Renamed, key: impl Fn(&mut T) -> &mut String) {
    all.retain_mut(|it| match now.get(key(it)) {
        Some(Some(name)) => {
            key(it).clone_from(name);
            true
        }
        Some(None) => false,
        None => true,
    });
}

/// Has a plan of what was made of a checkpoint count what was there before.
pub fn measured_against(plan: &mut Plan, before: &Plan) {
    let bytes = &mut plan.bytes;
    (bytes.fp32, bytes.before) = (before.bytes.fp32, before.bytes.before);
    bytes.ratio = ratio(bytes.before, bytes.after);
    plan.nominal.ratio = ratio(bytes.fp32, plan.nominal.bytes);
    for tensor in &mut plan.tensors {
        if let Some(old) = before.tensors.iter().find(|old| old.name == tensor.name) {
            tensor.bytes_before = old.bytes_before;
        }
    }
}

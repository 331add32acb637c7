//! Following a recipe from its first step to its last: structure goes, then the rest is compressed.

use std::collections::VecDeque;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::Prune;
use statepress_core::report::{CompressReport, FileReport, Plan, Pruned};
use statepress_core::{Finding, Index, Recipe, Sink, Source};

use super::compress::Compress;
use super::plan::{Known, plan_knowing, quantize_step, ratio};
use super::prune::{PrunedCheckpoint, Pruning};
use crate::families::ModelSpec;
use crate::models::{Cpu, Load, Model};
use crate::{Clock, EngineError};

/// A recipe being followed. A step prunes in one place, compresses one tensor, or reads a part of the calibration text.
pub struct Follow {
    stage: Option<Stage>,
    recipe: Recipe,
    prunes: VecDeque<Prune>,
    ids: Option<Rc<Vec<u32>>>,
    sink: Option<Box<dyn Sink>>,
    clock: Clock,
    started: f64,
    /// The plan without prune steps: what was there before.
    before: Option<Plan>,
    pruned: Vec<Pruned>,
    findings: Vec<Finding>,
    from_files: Vec<FileReport>,
}

/// What is done now.
enum Stage {
    Prune(Box<Pruning>),
    /// What was pruned is loaded, as errors are made up for by what enters it.
    Load(Box<Load<Cpu>>, Box<PrunedCheckpoint>),
    Compress(Box<Compress>),
}

impl Follow {
    /// Prepares. A recipe that prunes by what a text sends through the model, or that makes up for errors, needs
    /// `calibration`: the model of this very checkpoint, and ids for it to read.
    pub fn new(
        source: Rc<dyn Source>,
        index: Rc<Index>,
        spec: &ModelSpec,
        recipe: &Recipe,
        sink: Box<dyn Sink>,
        clock: Clock,
        calibration: Option<(&Model, &[u32])>,
    ) -> Result<Self, EngineError> {
        recipe.check()?;
        let started = clock();
        let mut prunes: VecDeque<Prune> = recipe.prunes().cloned().collect();
        let mut follow = Self {
            stage: None,
            recipe: recipe.clone(),
            prunes: VecDeque::new(),
            ids: None,
            sink: None,
            clock,
            started,
            before: None,
            pruned: Vec::new(),
            findings: Vec::new(),
            from_files: Vec::new(),
        };
        let Some(first) = prunes.pop_front() else {
            let job = Compress::new(source, index, spec, recipe, sink, clock, calibration)?;
            follow.stage = Some(Stage::Compress(Box::new(job)));
            return Ok(follow);
        };
        let needs = recipe.prunes().any(Prune::needs_calibration) || compensates(recipe)?;
        if calibration.is_some() && !needs {
            let allowed = "none, as nothing in the recipe depends on what the model reads";
            return Err(EngineError::option("calibration", "given", allowed));
        }
        if calibration.is_none() && needs {
            let allowed = "a text for the model to read, as the recipe depends on what it computes";
            return Err(EngineError::option("calibration", "not given", allowed));
        }
        // What plan refuses is refused before anything is computed.
        let (smaller, understood, _) = super::prune::planned(&index, spec, recipe)?;
        plan_knowing(&smaller, &understood, recipe, &Known::default())?;
        follow.before = Some(plan_knowing(&index, spec, recipe, &Known::default())?.plan);
        follow.ids = calibration.map(|(_, ids)| Rc::new(ids.to_vec()));
        let model = calibration.map(|(model, _)| model.clone());
        let job = Pruning::new(source, index, spec.clone(), &first, follow.ids.as_ref(), model)?;
        follow.stage = Some(Stage::Prune(Box::new(job)));
        (follow.prunes, follow.sink) = (prunes, Some(sink));
        Ok(follow)
    }

    /// Has the report say of which files the source is.
    pub fn made_from(self, from_files: Vec<FileReport>) -> Self {
        Self { from_files, ..self }
    }

    /// Goes on with what a prune step left.
    fn go_on(&mut self, pruned: PrunedCheckpoint) -> Result<Stage, EngineError> {
        if let Some(next) = self.prunes.pop_front() {
            let PrunedCheckpoint { source, index, spec, report, findings } = pruned;
            self.keep(report, findings);
            let job = Pruning::new(source, index, spec, &next, self.ids.as_ref(), None)?;
            return Ok(Stage::Prune(Box::new(job)));
        }
        if compensates(&self.recipe)? {
            let (source, index) = (pruned.source.clone(), pruned.index.clone());
            let load = Load::new(Cpu, source, index, pruned.spec.clone())?;
            return Ok(Stage::Load(Box::new(load), Box::new(pruned)));
        }
        self.compress(pruned, None)
    }

    fn compress(&mut self, pruned: PrunedCheckpoint, model: Option<&Model>) -> Result<Stage, EngineError> {
        let PrunedCheckpoint { source, index, spec, report, findings } = pruned;
        self.keep(report, findings);
        let unfinished = || EngineError::Evaluation("a recipe is followed once".into());
        let sink = self.sink.take().ok_or_else(unfinished)?;
        let calibration = model.zip(self.ids.as_ref()).map(|(model, ids)| (model, ids.as_slice()));
        let job = Compress::new(source, index, &spec, &self.recipe, sink, self.clock, calibration)?;
        Ok(Stage::Compress(Box::new(job)))
    }

    fn keep(&mut self, report: Pruned, findings: Vec<Finding>) {
        self.pruned.push(report);
        self.findings.extend(findings);
    }
}

impl Job for Follow {
    type Output = CompressReport;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        loop {
            let progress = match &mut self.stage {
                Some(Stage::Prune(job)) => job.step().await?,
                Some(Stage::Load(job, _)) => job.step().await?,
                Some(Stage::Compress(job)) => return job.step().await,
                None => return Ok(None),
            };
            if progress.is_some() {
                return Ok(progress);
            }
            self.stage = match self.stage.take() {
                Some(Stage::Prune(job)) => Some(self.go_on(job.finish()?)?),
                Some(Stage::Load(job, pruned)) => Some(self.compress(*pruned, Some(&job.finish()?))?),
                other => other,
            };
        }
    }

    fn finish(self) -> Result<CompressReport, EngineError> {
        let Some(Stage::Compress(job)) = self.stage else {
            return Err(EngineError::Evaluation("a recipe was finished before its last step".into()));
        };
        let mut report = job.made_from(self.from_files).finish()?;
        if let Some(before) = &self.before {
            report.seconds = (self.clock)() - self.started;
            report.plan.pruned = self.pruned;
            report.plan.findings.extend(self.findings);
            measured_against(&mut report.plan, before);
        }
        Ok(report)
    }
}

/// Whether errors of rounding are made up for.
fn compensates(recipe: &Recipe) -> Result<bool, EngineError> {
    Ok(quantize_step(recipe)?.is_some_and(|quantize| quantize.compensation().is_some()))
}

/// Has a plan of a pruned checkpoint count what was there before.
pub(super) fn measured_against(plan: &mut Plan, before: &Plan) {
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

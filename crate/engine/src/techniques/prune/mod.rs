//! Pruning: structure is taken out of every weight that has it, and what is left is a smaller model that runs like any other.
//!
//! What can be removed are the [axes](statepress_kernels::program::Axis) that families declare: a group is every slice of
//! every weight that mentions the axis, so that the smaller model computes what the larger one does with those slices
//! zeroed. Which are removed is said by their weights, or by what a calibration text sends through them; forward passes only.
//! What would take a gradient, how much the loss minds each output of a reader, is left out: all outputs of a reader count
//! alike, and all readers by the share of their outputs that is lost. (What stands in for gradients where tables are
//! rounded, the covariance of the softmax, was measured to be no better here than nothing.)

mod cut;
mod eliminate;
mod layers;
mod left;
mod places;
mod repair;
mod score;
mod slice;
mod step_size;
mod vocabulary;
mod weights;

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::{Prune, PruneBy, PruneKind};
use statepress_core::report::{Pruned, PrunedPlace};
use statepress_core::{Finding, Index, Source};
use statepress_kernels::program::{Expert, Layout, Matrix, MatrixId, Op, Program, VectorSource};

use crate::EngineError;
use crate::calibrate::{BUDGET, Marks, Sample, Statistics, StatisticsOptions, windows};
use crate::families::ModelSpec;
use crate::models::{CpuRunner, Model, Observe, Translated, Workspace};
use crate::techniques::derived::{Checkpoint, Fitted, decoded, program, real};
use crate::techniques::keep::tell_once;
use crate::techniques::loading::Loading;
use cut::cuts;
pub(crate) use layers::Shortening;
pub(crate) use left::{Planned, planned};
use left::{idle, report, smaller, told};
pub(crate) use places::prunable;
use places::{Kept, Place, places, select};
use score::{Entering, choose, mixtures, unmeasured};
pub(crate) use slice::Slicing;
use step_size::Rows;
pub(crate) use vocabulary::fewer_rows;
use weights::Weights;

/// Tokens of a window of the calibration text.
const WINDOW: usize = 256;

/// A prune step under way.
pub(crate) struct Pruning {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    spec: ModelSpec,
    program: Rc<Program>,
    step: Prune,
    places: Vec<Place>,
    /// Of each of them, the matrices of which it has to be known what enters them.
    wanted: Vec<Vec<MatrixId>>,
    /// What the text is read by, and what it is.
    reader: Option<TextReader>,
    kept: Kept,
    /// Numbers that were fitted, by key.
    fitted: Fitted,
    /// What enters step sizes' projections.
    seen: Seen,
    done: Vec<PrunedPlace>,
    findings: Vec<Finding>,
}

/// What a prune step left, and what is to be said of it.
pub(crate) struct PrunedCheckpoint {
    pub left: Checkpoint,
    pub report: Pruned,
    pub findings: Vec<Finding>,
    pub renamed: Renamed,
}

/// What tensors whose layer has another number now are called, by what they were called: usual keys, and those of the file.
/// `None`: they are gone.
pub(crate) type Renamed = BTreeMap<String, Option<String>>;

/// What reads the calibration text.
struct TextReader {
    ids: Rc<Vec<u32>>,
    loading: Loading,
    statistics: Option<Statistics<Translated<CpuRunner>>>,
    entering: Entering,
}

impl Pruning {
    /// Prepares a step. What needs a text needs `ids`; without a model for it, the checkpoint is loaded first.
    pub fn new(
        of: Checkpoint,
        step: &Prune,
        ids: Option<&Rc<Vec<u32>>>,
        model: Option<Model>,
    ) -> Result<Self, EngineError> {
        let program = program(&of.spec)?;
        let places = places(&program, step)?;
        let reader = match (step.needs_calibration(), ids) {
            (false, _) => None,
            (true, None) => return Err(no_text()),
            (true, Some(ids)) => {
                let (ids, loading) = (ids.clone(), Loading::new(&of, model)?);
                Some(TextReader { ids, loading, statistics: None, entering: Entering::default() })
            }
        };
        let Checkpoint { source, index, spec } = of;
        let (kept, fitted) = (Kept::default(), Fitted::default());
        let (step, seen, done, findings) = (step.clone(), Seen::default(), Vec::new(), Vec::new());
        let wanted = places.iter().map(|place| wanted(&program, &step, place)).collect();
        Ok(Self {
            source,
            index,
            spec,
            program,
            step,
            places,
            wanted,
            reader,
            kept,
            fitted,
            seen,
            done,
            findings,
        })
    }

    /// Reads on where more has to be known of the next place; `None` when it can be worked on.
    async fn read(&mut self) -> Result<Option<Progress>, EngineError> {
        let sample = self.sample();
        let Some(reader) = &mut self.reader else { return Ok(None) };
        if let Some(progress) = reader.loading.step().await? {
            return Ok(Some(progress));
        }
        let Some(model) = reader.loading.model() else { return Ok(None) };
        let Some(next) = self.wanted.get(self.done.len()) else { return Ok(None) };
        if next.iter().all(|id| reader.entering.has(id)) {
            return Ok(None);
        }
        let statistics = match &mut reader.statistics {
            Some(statistics) => statistics,
            none => {
                let mut order: Vec<MatrixId> = Vec::new();
                for &id in self.wanted.iter().flatten() {
                    if !order.contains(&id) {
                        order.push(id);
                    }
                }
                let how = StatisticsOptions { sample, ..StatisticsOptions::default() };
                none.insert(Statistics::new(model, &reader.ids, &order, &how)?)
            }
        };
        let progress = statistics.step().await?;
        for measured in statistics.take() {
            reader.entering.insert(measured.matrix, measured.h);
        }
        match progress {
            Some(progress) => Ok(Some(Progress { stage: "prune".into(), ..progress })),
            None => Err(EngineError::Evaluation("what enters a matrix was not measured".into())),
        }
    }

    /// Chooses what stays of the next place, and fits what reads it.
    fn work(&mut self, place: &Place) -> Result<(), EngineError> {
        let mut weights = Weights::new(&*self.source, &self.index, &self.spec);
        let nothing = Entering::default();
        let entering = self.reader.as_ref().map_or(&nothing, |it| &it.entering);
        let Prune { kind, by, repair, .. } = self.step;
        let program = &self.program;
        let stays = choose(program, place, (kind, by), &mut weights, entering)?;
        place.keep(&stays, &mut self.kept);
        let mut error: Option<f64> = None;
        let readers = if kind == PruneKind::Experts { Vec::new() } else { place.readers(program) };
        if self.step.needs_calibration() && readers.is_empty() && repair {
            let message = "no product reads what was removed: there was nothing to repair";
            self.findings.push(Finding::info("nothing-to-repair", message).about(self.name(place)));
        }
        for id in readers.iter().filter(|id| entering.has(*id)) {
            let matrix = program.matrix(*id);
            let h = entering.get(id).ok_or_else(|| unmeasured(matrix))?;
            let columns = select(&matrix.dims[1], &self.kept).unwrap_or_default();
            let fitted = repair::fit(matrix, &weights.matrix(matrix)?, h, &columns, repair);
            error = Some(error.unwrap_or(0.0).max(fitted.lost));
            if repair {
                put(&mut self.fitted, matrix, fitted.w, columns.len());
            }
        }
        if by == PruneBy::Loss && readers.is_empty() {
            let message = format!(
                "ranked by activation: of {} it is not known what is lost though the rest makes up for it",
                kind.words()
            );
            let finding = Finding::info("ranked-by-activation", message).about(self.name(place));
            tell_once(&mut self.findings, finding);
        }
        self.tell(place, &stays, error);
        Ok(())
    }

    /// Fits the rows of a step size's projection to the step sizes of all.
    fn work_on_step_size(&mut self, place: &Place) -> Result<(), EngineError> {
        let program = self.program.clone();
        let node = program.nodes.iter().find_map(|node| match &node.op {
            Op::SoftplusMean { bias, .. } if place.is_in(&program.vector(*bias).dims[0]) => Some(*bias),
            _ => None,
        });
        let matrices = place.writers(&program);
        let (Some(bias), [id]) = (node, &matrices[..]) else {
            let message = "a step size without one projection and one bias cannot be fitted";
            return Err(EngineError::Evaluation(message.into()));
        };
        let (matrix, VectorSource::Key(bias)) = (program.matrix(*id), &program.vector(bias).source) else {
            return Err(EngineError::Evaluation("a step size has no bias in the file".into()));
        };
        let mut weights = Weights::new(&*self.source, &self.index, &self.spec);
        let all = Rows { w: weights.matrix(matrix)?, bias: weights.tensor(bias)?.1.to_vec() };
        if !self.seen.0.has(id) {
            self.see(*id)?;
        }
        let seen = self.seen.0.remove(id).ok_or_else(|| unmeasured(matrix))?;
        if let Some((key, _)) = [(&matrix.key, &all.w), (bias, &all.bias)]
            .into_iter()
            .find(|(_, numbers)| !numbers.iter().all(|x| x.is_finite()))
        {
            let message = format!(
                "{} has numbers that are not finite, to which no step size can be fitted: leave out pruning of kind delta",
                real(&self.spec, &self.index, key)
            );
            return Err(EngineError::Evaluation(message));
        }
        if !seen.iter().all(|x| x.is_finite()) {
            let message =
                format!("what enters {} is not a number somewhere in the calibration text", matrix.key);
            return Err(EngineError::Evaluation(message));
        }
        let failed = |error| EngineError::Codec { tensor: self.name(place), error };
        let fitted = step_size::fit(&all, seen, place.after).map_err(failed)?;
        let (fitted, lost) = fitted.ok_or_else(|| unfitted(matrix))?;
        place.keep(&(0..place.after).collect::<Vec<_>>(), &mut self.kept);
        let message =
            "an approximation: step sizes were the mean of more rows, to which those that stay are fitted";
        let finding = Finding::info("fitted", message).about(self.name(place));
        tell_once(&mut self.findings, finding);
        self.fitted.insert(matrix.key.clone(), Rc::new(fitted.w));
        self.fitted.insert(bias.clone(), Rc::new(fitted.bias));
        self.tell(place, &(0..place.size).collect::<Vec<_>>(), Some(lost));
        Ok(())
    }

    /// Takes the rows that enter a step size's projection, and those of the next ones that are to be fitted, as far as
    /// there is room for them.
    fn see(&mut self, first: MatrixId) -> Result<(), EngineError> {
        let program = &self.program;
        let reader = self.reader.as_ref().and_then(|it| Some((it.loading.model()?, &it.ids)));
        let (model, ids) = reader.ok_or_else(|| unmeasured(program.matrix(first)))?;
        let windows = windows(ids, &self.sample(), &model.info)?;
        let tokens: usize = windows.iter().map(Vec::len).sum();
        let mut room = BUDGET;
        for place in &self.places[self.done.len()..] {
            for id in place.writers(program) {
                let bytes = 4 * tokens * program.matrix(id).cols;
                if id == first || bytes <= room {
                    room = room.saturating_sub(bytes);
                    self.seen.0.insert(id, Vec::new());
                }
            }
        }
        for window in windows {
            model.forward(&window, &mut model.start(), &mut Workspace::exact(), Some(&mut self.seen))?;
        }
        Ok(())
    }

    /// By what the text that was read is known again: what is left was fitted to it.
    fn marks(&self) -> Option<Marks> {
        let TextReader { ids, loading, .. } = self.reader.as_ref()?;
        let read = windows(ids, &self.sample(), &loading.model()?.info).ok()?;
        Marks::of(&read, ids)
    }

    /// How much of the text is read.
    fn sample(&self) -> Sample {
        Sample { windows: self.step.windows, window: WINDOW }
    }

    fn name(&self, place: &Place) -> String {
        let keys = place.keys(&self.program);
        keys.first().map(|key| real(&self.spec, &self.index, key)).unwrap_or_default()
    }

    fn tell(&mut self, place: &Place, stays: &[usize], error: Option<f64>) {
        let removed = (0..place.size).filter(|at| stays.binary_search(at).is_err()).collect();
        self.done.push(told(&self.program, &self.spec, &self.index, place, removed, error));
    }
}

impl Job for Pruning {
    type Output = PrunedCheckpoint;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(place) = self.places.get(self.done.len()).cloned() else { return Ok(None) };
        if let Some(progress) = self.read().await? {
            return Ok(Some(progress));
        }
        match self.step.kind {
            PruneKind::Delta => self.work_on_step_size(&place)?,
            _ => self.work(&place)?,
        }
        // What entered is not asked for again, except where a later place has the same readers.
        let later = &self.wanted[self.done.len()..];
        if let Some(reader) = &mut self.reader {
            reader.entering.0.retain(|(id, _)| later.iter().any(|wanted| wanted.contains(id)));
        }
        Ok(Some(Progress {
            stage: "prune".into(),
            done: self.done.len() as f64,
            total: self.places.len() as f64,
            unit: "places".into(),
            item: Some(self.name(&place)),
        }))
    }

    fn finish(self) -> Result<PrunedCheckpoint, EngineError> {
        if self.done.len() < self.places.len() {
            return Err(EngineError::Evaluation("pruning was finished before all was pruned".into()));
        }
        let marks = self.marks();
        let Self { source, index, spec, program, step, kept, mut fitted, done, mut findings, .. } = self;
        findings.extend(decoded(&index, &spec, &cuts(&program, &kept)));
        let len = source.len();
        let mut smaller = smaller((&index, &spec), &program, &step, &kept, len, &mut fitted)?;
        marks.iter().for_each(|marks| marks.write(&mut smaller.index.metadata));
        let report = report(&step, &index, &smaller.index, done);
        findings.extend(idle(&report));
        Ok(PrunedCheckpoint { left: smaller.over(source), report, findings, renamed: Renamed::new() })
    }
}

/// A step that reads a text was given none.
fn no_text() -> EngineError {
    let allowed = "a text for the model to read, as the recipe prunes by what it sends through the model";
    EngineError::option("calibration", "not given", allowed)
}

/// The matrices of a place of which it has to be known what enters them.
fn wanted(program: &Program, step: &Prune, place: &Place) -> Vec<MatrixId> {
    let &Prune { kind, by, .. } = step;
    match kind {
        PruneKind::Delta => Vec::new(),
        PruneKind::Experts => {
            let of = |expert: &Expert| match by {
                PruneBy::Usage => expert.up,
                _ => expert.down,
            };
            mixtures(program, place).flat_map(|op| op.experts.iter().map(of)).collect()
        }
        _ => {
            let readers = place.readers(program);
            let by_writers = readers.is_empty() && !matches!(by, PruneBy::L1 | PruneBy::L2);
            if by_writers { place.writers(program) } else { readers }
        }
    }
}

/// Why no rows can be fitted to a step size.
fn unfitted(matrix: &Matrix) -> EngineError {
    let message = format!(
        "no rows can be fitted to the step size of {}: the calibration text is too short or too uniform, or its numbers are so \
         large that step sizes overflow",
        matrix.key
    );
    EngineError::Evaluation(message)
}

/// Takes the rows that enter some matrices.
#[derive(Default)]
struct Seen(Entering);

impl Observe for Seen {
    fn tap(&mut self, matrix: MatrixId, _: &str, rows: &[f32]) {
        if let Some(seen) = self.0.0.iter_mut().find(|(id, _)| *id == matrix) {
            seen.1.extend_from_slice(rows);
        }
    }
}

/// Puts the fitted numbers of a matrix where its tensor has them.
fn put(fitted: &mut Fitted, matrix: &Matrix, w: Vec<f32>, cols: usize) {
    let rows = matrix.rows;
    let values = match matrix.layout {
        Layout::Plain => w,
        Layout::Transposed => (0..cols)
            .flat_map(|col| (0..rows).map(move |row| (row, col)))
            .map(|(r, c)| w[r * cols + c])
            .collect(),
        Layout::Part { index, count } => {
            let held = fitted.remove(&matrix.key).map(Rc::unwrap_or_clone);
            let mut all = held.unwrap_or_else(|| vec![0.0; count * rows * cols]);
            all[index * rows * cols..][..rows * cols].copy_from_slice(&w);
            all
        }
    };
    fitted.insert(matrix.key.clone(), Rc::new(values));
}

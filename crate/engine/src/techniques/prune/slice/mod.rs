//! Fewer directions of the residual stream: what comes out is narrower in every layer.
//!
//! The stream of width d is replaced by the span of the directions P `[d, d']` that matter most (`basis`): what is looked up
//! and what writes is multiplied by P, what reads by the weights of its norm, P and a scale, and is then fitted to what a text
//! sends through it (`fit`). With all d directions nothing would change but for rounding; with fewer, what is left is an approximation, a
//! good beginning for training with the original as the teacher. After SliceGPT (Ashkboos et al. 2024), with the table and
//! what the logits feel in place of principal components alone, and LayerNorms as they are: the mean that they take
//! away stays a mean.
//!
//! Where the table is the head as well, its rows cannot be multiplied by the weights of the final norm: that keeps weights, those that
//! disturb logits least.

mod basis;
mod fit;
mod narrow;
mod stream;
mod watch;

use std::collections::VecDeque;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::Prune;
use statepress_core::report::Pruned;
use statepress_core::{Finding, Index};
use statepress_kernels::program::Program;

use super::left::{idle, report, told};
use super::places::{Place, places};
use super::score::unmeasured;
use super::weights::Weights;
use super::{PrunedCheckpoint, Renamed, WINDOW, no_text};
use crate::EngineError;
use crate::calibrate::{
    BUDGET, HeadStatistics, Marks, Sample, Statistics, StatisticsOptions, head_rows, lookup_substitute,
    used_rows,
};
use crate::families::ModelSpec;
use crate::models::{CpuRunner, Model, Translated, Workspace};
use crate::techniques::change::Turn;
use crate::techniques::derived::{Changes, Checkpoint, Fitted, decoded, program, real};
use crate::techniques::loading::Loading;
use crate::techniques::pairs::Pairs;
use basis::{Constraints, Known, directions};
use fit::{Energy, Moments};
use narrow::{Narrow, changes, derived};
use stream::{Reading, Stream};
use watch::{Look, Seen};

/// A step that takes directions out of the residual stream, under way.
pub(crate) struct Slicing {
    of: Checkpoint,
    step: Prune,
    /// `None`: all directions stay.
    place: Option<Place>,
    stream: Stream,
    ids: Rc<Vec<u32>>,
    windows: Vec<Vec<u32>>,
    loading: Loading,
    head: Option<Statistics<Translated<CpuRunner>>>,
    /// What the head was seen to do, and what norms read: by these directions are chosen.
    seen: Option<HeadStatistics>,
    energy: Energy,
    narrow: Option<Narrow>,
    /// Norms of which sums are taken together, and which windows were read for the first of them.
    groups: VecDeque<Vec<usize>>,
    moments: Pairs<usize, Moments>,
    read: usize,
}

impl Slicing {
    /// Prepares a step, which needs `ids`; without a model for it, the checkpoint is loaded first.
    pub fn new(
        of: Checkpoint,
        step: &Prune,
        ids: Option<&Rc<Vec<u32>>>,
        model: Option<Model>,
    ) -> Result<Self, EngineError> {
        let program = program(&of.spec)?;
        let (stream, place) = sliced(&program, step)?;
        let ids = ids.ok_or_else(no_text)?.clone();
        let loading = Loading::new(&of, model)?;
        Ok(Self {
            of,
            step: step.clone(),
            place,
            stream,
            ids,
            windows: Vec::new(),
            loading,
            head: None,
            seen: None,
            energy: Energy::default(),
            narrow: None,
            groups: VecDeque::new(),
            moments: Pairs::default(),
            read: 0,
        })
    }

    /// Reads a window for what norms read; after the last one finds the directions that stay.
    fn look(&mut self, model: &Model, place: &Place) -> Result<Option<Progress>, EngineError> {
        if let Some(window) = self.windows.get(self.read) {
            let mut look = Look { norms: &self.stream.norms, d: place.size, energy: &mut self.energy };
            model.forward(window, &mut model.start(), &mut Workspace::exact(), Some(&mut look))?;
            self.read += 1;
        } else if let Some(head) = self.seen.take() {
            self.choose(model, place, head)?;
            self.read = 0;
        }
        Ok(Some(self.progress()))
    }

    /// Finds the directions that stay, by what the head was seen to do.
    fn choose(&mut self, model: &Model, place: &Place, head: HeadStatistics) -> Result<(), EngineError> {
        let program = &model.info.program;
        // Whether the head is the table, only weights tell.
        self.stream = Stream::of(program)?;
        let (d, to) = (place.size, place.after);
        // As the head is it rows count by how touchy they are, as the table alone by how often they are used.
        let is_head = program.head.matrix == program.table;
        let uses = if is_head { &head.alpha } else { &head.mean };
        let rows = table_rows(model);
        let wide = |of: &[f32]| of.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let covariance = head.covariance.ok_or_else(|| unmeasured(program.matrix(program.head.matrix)))?;
        let felt = lookup_substitute(model, &covariance);
        let known = Known { rows: used_rows(&rows, uses, d), read: self.energy.finish(d), felt: wide(&felt) };
        let none = || {
            EngineError::Evaluation(format!(
                "{} has numbers that are not finite: its rows have no directions",
                program.matrix(program.table).key
            ))
        };
        let weights = program
            .head
            .norm
            .and_then(|norm| norm.weight)
            .filter(|_| is_head)
            .map(|id| wide(model.network().vector(id)));
        let suits = Constraints { takes_mean: self.stream.takes_mean, weights: weights.as_deref() };
        let p = directions(&known, d, to, suits).ok_or_else(none)?;
        let of_table = basis::captured(&used_rows(&rows, &vec![1.0; rows.len() / d.max(1)], d), &p);
        self.narrow = Some(Narrow::new(p, wide(&covariance), of_table));
        // Norms are fitted together as far as there is room for their sums.
        let room = (BUDGET / Moments::bytes(d, to)).max(1);
        let norms: Vec<usize> = (0..self.stream.norms.len()).collect();
        self.groups = norms.chunks(room).map(<[usize]>::to_vec).collect();
        Ok(())
    }

    /// Reads a window, or fits what reads the norms of a group once all windows were read. `None` when nothing is left.
    fn work(&mut self, model: &Model) -> Result<Option<Progress>, EngineError> {
        let (Some(narrow), Some(group)) = (&mut self.narrow, self.groups.front()) else { return Ok(None) };
        if self.read == 0 {
            let (d, to) = (narrow.p.from, narrow.p.to);
            self.moments = Pairs(group.iter().map(|&norm| (norm, Moments::new(d, to))).collect());
        }
        if let Some(window) = self.windows.get(self.read) {
            let (norms, p, moments) = (&self.stream.norms, &narrow.p, &mut self.moments);
            let mut seen = Seen { norms, p, moments };
            model.forward(window, &mut model.start(), &mut Workspace::exact(), Some(&mut seen))?;
            self.read += 1;
        }
        if self.read == self.windows.len() {
            let mut weights = Weights::new(&*self.of.source, &self.of.index, &self.of.spec);
            for (norm, moments) in std::mem::take(&mut self.moments.0) {
                let reading = &self.stream.norms[norm];
                let key = || norm_name(model, reading, &self.of);
                let few = || {
                    EngineError::Evaluation(format!(
                        "what enters {} cannot be fitted to: the calibration text is too short, or has numbers that are not finite",
                        key()
                    ))
                };
                let means = moments.finish().ok_or_else(few)?;
                narrow.fit(model, reading, &means, &mut weights, self.step.repair)?.ok_or_else(few)?;
            }
            self.read = 0;
            self.groups.pop_front();
        }
        Ok(Some(self.progress()))
    }

    /// How far it is: every norm is looked at for all windows, once for the directions and once to be fitted.
    fn progress(&self) -> Progress {
        let (norms, windows) = (self.stream.norms.len(), self.windows.len());
        let left: usize = self.groups.iter().map(Vec::len).sum();
        let done = match &self.narrow {
            None => self.read * norms,
            Some(_) => (2 * norms - left) * windows + self.read * self.groups.front().map_or(0, Vec::len),
        };
        let total = (2 * norms * windows) as f64;
        Progress { stage: "prune".into(), done: done as f64, total, unit: "windows".into(), item: None }
    }

    /// The checkpoint with the numbers that are known by now.
    fn left(&self) -> Result<Checkpoint, EngineError> {
        let Checkpoint { source, index, spec } = &self.of;
        let program = program(spec)?;
        let (changes, mut fitted) = match &self.narrow {
            Some(narrow) => (narrow.changes(&program, &self.stream), narrow.fitted()),
            None => (Changes::default(), Fitted::default()),
        };
        let derived = derived((index, spec), &program, &self.step, (&changes, source.len(), &mut fitted))?;
        Ok(derived.over(source.clone()))
    }

    /// Says how much of what there was is left.
    fn summary(&self, narrow: &Narrow) -> Finding {
        let least = narrow.of_norms.iter().copied().fold(1.0, f64::min);
        let message = format!(
            "{} of {} directions of the residual stream stay: they have {:.1} % of the energy of the token table, and at least {:.1} % of \
             that of what norms read. An approximation, in which all channels were combined; train it with the original as the teacher",
            narrow.p.to,
            narrow.p.from,
            100.0 * narrow.of_table,
            100.0 * least
        );
        let table = self.of.spec.program.as_ref().map(|program| &program.matrix(program.table).key);
        let table = table.map_or(String::new(), |key| real(&self.of.spec, &self.of.index, key));
        Finding::info("sliced", message).about(table)
    }
}

/// What a step has to do with a model: its stream, and how many directions of it stay; `None`: all of them.
fn sliced(program: &Program, step: &Prune) -> Result<(Stream, Option<Place>), EngineError> {
    let stream = Stream::of(program)?;
    let place = places(program, step)?.pop();
    if place.as_ref().is_some_and(|place| stream.takes_mean && place.after < 2) {
        let allowed = "what leaves 2 directions or more, as LayerNorms take one of them away";
        return Err(EngineError::option("prune.keep", step.keep, allowed));
    }
    Ok((stream, place))
}

/// What a step leaves, by arithmetic alone.
pub(super) fn planned(
    index: &Index,
    spec: &ModelSpec,
    program: &Program,
    step: &Prune,
) -> Result<(Index, ModelSpec, Pruned), EngineError> {
    let (stream, place) = sliced(program, step)?;
    let mut left = (Changes::default(), Vec::new());
    if let Some(place) = &place {
        let sized = Rc::new(Turn::sized(place.size, place.after));
        left.0 = changes(program, &stream, &sized, &Pairs::default());
        left.1.push(told(program, spec, index, place, Vec::new(), None));
    }
    let (changes, done) = left;
    let derived = derived((index, spec), program, step, (&changes, 0, &mut Fitted::default()))?;
    let report = report(step, index, &derived.index, done);
    Ok((derived.index, derived.spec, report))
}

/// The numbers of the table, as far as its rows are tokens.
fn table_rows(model: &Model) -> Vec<f32> {
    let program = &model.info.program;
    let table = model.network().matrix(program.table);
    let mut rows = vec![0.0; program.vocab_size * table.cols()];
    for (id, row) in rows.chunks_exact_mut(table.cols().max(1)).enumerate() {
        table.row(id, row);
    }
    rows
}

/// What the file calls a norm.
fn norm_name(model: &Model, reading: &Reading, of: &Checkpoint) -> String {
    let key = reading.norm.weight.and_then(|id| model.info.program.vector(id).key());
    key.map_or_else(|| "a norm".into(), |key| real(&of.spec, &of.index, key))
}

impl Job for Slicing {
    type Output = PrunedCheckpoint;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(place) = self.place.clone() else { return Ok(None) };
        if let Some(progress) = self.loading.step().await? {
            return Ok(Some(progress));
        }
        let Some(model) = self.loading.model().cloned() else { return Ok(None) };
        if self.narrow.is_some() {
            return self.work(&model);
        }
        if self.seen.is_some() {
            return self.look(&model, &place);
        }
        let matrix = model.info.program.head.matrix;
        let statistics = match &mut self.head {
            Some(statistics) => statistics,
            none => {
                let sample = Sample { windows: self.step.windows, window: WINDOW };
                let covariance_of = head_rows(&model).map(Rc::new);
                let how = StatisticsOptions { sample, covariance_of, ..StatisticsOptions::default() };
                none.insert(Statistics::new(&model, &self.ids, &[matrix], &how)?)
            }
        };
        let progress = statistics.step().await?;
        self.seen = statistics.take().pop().and_then(|measured| measured.head);
        if self.seen.is_some() {
            self.windows = statistics.windows().to_vec();
            self.head = None;
        }
        Ok(progress)
    }

    fn finish(self) -> Result<PrunedCheckpoint, EngineError> {
        let Self { of, step, place, narrow, .. } = &self;
        if place.is_some() && (narrow.is_none() || !self.groups.is_empty()) {
            return Err(EngineError::Evaluation("pruning was finished before all was pruned".into()));
        }
        let (program, mut left) = (program(&of.spec)?, self.left()?);
        let mut findings: Vec<Finding> = Vec::new();
        let mut done = Vec::new();
        if let (Some(narrow), Some(place)) = (narrow, place) {
            let changes = narrow.changes(&program, &self.stream);
            findings.extend(decoded(&of.index, &of.spec, &changes));
            findings.push(self.summary(narrow));
            done.push(told(&program, &of.spec, &of.index, place, Vec::new(), Some(narrow.lost)));
        }
        let marks = Marks::of(&self.windows, &self.ids);
        if let (Some(marks), Some(index)) = (marks, Rc::get_mut(&mut left.index)) {
            marks.write(&mut index.metadata);
        }
        let report = report(step, &of.index, &left.index, done);
        findings.extend(idle(&report));
        Ok(PrunedCheckpoint { left, report, findings, renamed: Renamed::new() })
    }
}

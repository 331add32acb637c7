//! What rounding each tensor of a model alone costs: measured, as no proxy that does without gradients ranks as well.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::{GptqOptions, Quantize, Step};
use statepress_core::report::{Cost, CostRows, SearchCosts, TensorCosts};
use statepress_core::words::counted;
use statepress_core::{
    Coding, Encoding, Entry, Form, Grid, Index, Precision, Recipe, Role, Source, Tensor, shape,
};
use statepress_formats::Survey;
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::program::VectorId;

use super::chosen::{Chosen, in_places, is_complete, vectors};
use super::rows;
use super::steps::{FAST_TIMES, TIMES, short, spaced};
use crate::EngineError;
use crate::calibrate::{Calibration, Sample, windows};
use crate::eval::{Divergence, STREAMS};
use crate::families::HEAD;
use crate::techniques::Checkpoint;
use crate::techniques::compensate::{Compensate, How};
use crate::techniques::plan::{plan, quantize_step};
use crate::techniques::rows::told_apart;
use crate::techniques::shares::Share;
use crate::techniques::{coding, measure, tying};

/// What is stored how where the search does not choose; it chooses where this says NF4.
const BASE: &str = include_str!("base.json");

/// The grid of the base, in place of which the search puts others.
const CHOSEN: Grid = Grid::Nf4;

/// The first step of numbers that no product goes over, as a share of how far they are from 0. They are felt one by one, so it is an
/// eighth of what a matrix begins with.
const OF_DEVIATION: f64 = 1.0 / 16.0;

/// Precisions that are measured, the coarsest first.
const MEASURED: [Grid; 3] = [Grid::Lm2, Grid::Lm3, Grid::Nf4];

/// Finer ones, whose costs follow: a bit more makes a quarter of the divergence.
const FOLLOWING: [Grid; 3] = [Grid::Int5, Grid::Int6, Grid::Int8];

/// How costs are measured.
#[derive(Clone, Copy, Debug)]
pub struct CostsOptions {
    /// How many windows of the text divergences are measured on: 1 to 64, and no more than the text has.
    pub windows: usize,
    /// On how many tokens of each, from its first on: at least 1, and no more than it has.
    pub tokens: usize,
    /// Measure each tensor once, at about three bits and rounded by GPTQ alone, and let all else follow.
    pub fast: bool,
    /// Whether codes will be entropy-coded: steps are chosen instead of numbers of bits.
    pub coded: bool,
    /// Of the tensors that are not known yet, which are measured here.
    pub share: Share,
}

impl CostsOptions {
    /// On four windows, or, fast, on the beginning of one: what tensors cost beside each other it says nearly as well.
    pub fn new(fast: bool, coded: bool) -> Self {
        let (windows, tokens) = if fast { (1, 64) } else { (4, GptqOptions::default().window) };
        Self { windows, tokens, fast, coded, share: Share::default() }
    }

    /// How errors are made up for while costs are measured: fast, without moving codes once they are rounded, which takes most
    /// of the time. All costs are a little higher for it.
    fn how(&self) -> GptqOptions {
        let how = GptqOptions::default();
        if self.fast { GptqOptions { passes: 0, ..how } } else { how }
    }
}

impl Default for CostsOptions {
    fn default() -> Self {
        Self::new(false, false)
    }
}

/// Costs being measured; a step is a tensor at every precision, or a window of the text that has to be read for it.
pub struct Costs {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    compensate: Compensate,
    base: Recipe,
    quantize: Quantize,
    judge: Divergence,
    /// Tokens of a window of the text.
    window: u64,
    /// Tensors of numbers that no product goes over, and which vectors of the model they are.
    vectors: BTreeMap<String, Vec<VectorId>>,
    chosen: Vec<Chosen>,
    options: CostsOptions,
    bytes_before: u64,
    fixed_bytes: u64,
    /// What is measured, of each that is chosen about.
    measured: Vec<Option<TensorCosts>>,
    /// Which of them are measured here.
    here: Vec<bool>,
}

/// The tensor at work.
struct Subject {
    entry: Entry,
    values: Vec<f32>,
    /// How it is stored.
    stored: Encoding,
    found: Survey,
}

impl Costs {
    /// Prepares to measure the tensors of a model, which is what the checkpoint loads as: errors are made up for by what
    /// enters it while it reads one text, and judged by another, as what was fitted to a text looks better on it than it is. What is
    /// `known` from an earlier measurement by the same texts is not measured again.
    ///
    /// # Errors
    /// Also for known costs that are not of this model.
    pub fn new(
        Checkpoint { source, index, spec }: Checkpoint,
        calibration: Calibration<'_>,
        judged: &[u32],
        options: &CostsOptions,
        known: Vec<TensorCosts>,
    ) -> Result<Self, EngineError> {
        let spec = &spec;
        let Calibration { model, ids: read, .. } = calibration;
        if !(1..=64).contains(&options.windows) {
            return Err(EngineError::option("windows", options.windows, "1 to 64"));
        }
        if options.tokens == 0 {
            return Err(EngineError::option("tokens", options.tokens, "1 and more"));
        }
        let mut base = Recipe::from_json(BASE).map_err(|error| EngineError::Evaluation(error.to_string()))?;
        for step in &mut base.steps {
            if let Step::Quantize(quantize) = step {
                quantize.coded = options.coded;
            }
        }
        let quantize = quantize_step(&base)?.cloned().unwrap_or_default();
        let tied = tying::leaves_head_out(tying::tying(&*source, &index, &spec.names)?, spec);
        let head = spec.names.get(&index, HEAD).filter(|_| tied).map(|head| head.name.clone());
        let planned = plan(&index, spec, &base, head.as_slice())?;
        let program = &model.info.program;
        let is_matrix = |name: &str| {
            program.used_matrices().any(|id| {
                spec.names.get(&index, &program.matrix(id).key).is_some_and(|entry| entry.name == name)
            })
        };
        let encoding = match options.coded {
            true => Encoding::stepped(),
            false => quantize.codecs().encoding(Precision::Codes(CHOSEN)),
        };
        let vectors = vectors(&index, spec, program, encoding);
        let mut chosen = Vec::new();
        let mut fixed_bytes = planned.plan.bytes.after;
        for (decision, report) in planned.decisions.iter().zip(&planned.plan.tensors) {
            let Form::Coded(encoding) = decision.form else { continue };
            let is_chosen = encoding.coding().is_some_and(|coding| coding.grid == CHOSEN);
            if vectors.contains_key(&report.name) || (is_chosen && is_matrix(&report.name)) {
                let (position, role, bytes) = (decision.position, report.role, report.bytes_after);
                fixed_bytes -= bytes;
                let entry = &index.tensors[position];
                let cut =
                    !options.coded && rows::is_cut(entry, role) && told_apart(&entry.name, spec, &index);
                let classes = if cut { rows::classes(entry) } else { Vec::new() };
                let index_bytes = rows::index_bytes(&classes);
                chosen.push(Chosen { position, rows: classes.first().copied(), role, bytes, index_bytes });
                chosen.extend(classes.iter().skip(1).map(|&rows| Chosen {
                    position,
                    rows: Some(rows),
                    role,
                    bytes: 0,
                    index_bytes: 0,
                }));
            }
        }
        if chosen.is_empty() {
            let why = "the model has no matrix that groups of 64 fit, so there is nothing to choose";
            return Err(EngineError::Evaluation(why.into()));
        }
        let measured = in_places(&chosen, &index, known)?;
        let how = options.how();
        let window = how.window.min(model.info.max_tokens.unwrap_or(usize::MAX));
        for (does, ids) in [("is read", read), ("judges", judged)] {
            if ids.len() < window {
                return Err(EngineError::Ids(format!(
                    "the part of the calibration text that {does} has {}, fewer than a window of {window}: give a text of \
                     at least {} tokens, of which the last quarter judges",
                    counted(ids.len() as u64, "token", "tokens"),
                    4 * window
                )));
            }
        }
        let most = Divergence::most(model, options.tokens.min(window));
        let sample = Sample { windows: options.windows.min(most), window: how.window };
        let mut left: Vec<(&Entry, Option<Role>)> = Vec::new();
        for (it, _) in chosen.iter().zip(&measured).filter(|(_, measured)| measured.is_none()) {
            let entry = &index.tensors[it.position];
            // The classes of a tensor are measured together.
            if left.last().is_none_or(|(last, _)| last.name != entry.name) {
                left.push((entry, it.role));
            }
        }
        let tokens = read.len().min(how.windows * how.window);
        let mine = options.share.of(&left, tokens);
        let mine: Vec<&str> =
            left.iter().zip(mine).filter(|(_, mine)| *mine).map(|((it, _), _)| it.name.as_str()).collect();
        let named = chosen.iter().map(|it| index.tensors[it.position].name.as_str());
        let tensors: Vec<_> = named.map(|name| (name, mine.contains(&name))).collect();
        let here = tensors.iter().map(|(_, here)| *here).collect();
        let mut judging = windows(judged, &sample, &model.info)?;
        judging.iter_mut().for_each(|window| window.truncate(options.tokens));
        Ok(Self {
            compensate: Compensate::new(calibration, how, (spec, &index), &tensors, (tied, false))?,
            judge: Divergence::new(model, judging, STREAMS),
            window: window as u64,
            vectors,
            source,
            index,
            base,
            quantize,
            chosen,
            options: *options,
            bytes_before: planned.plan.bytes.before,
            fixed_bytes,
            measured,
            here,
        })
    }

    /// The next that is measured here.
    fn next(&self) -> Option<usize> {
        self.here.iter().zip(&self.measured).position(|(here, measured)| *here && measured.is_none())
    }

    /// Whether all classes of rows are measured of the tensor of one of them: a recipe says something of all its rows.
    fn is_complete(&self, at: usize) -> bool {
        is_complete(&self.chosen, &self.measured, at)
    }

    /// What is measured so far.
    pub fn so_far(&self) -> SearchCosts {
        let mut costs = SearchCosts {
            base: self.base.clone(),
            bytes_before: self.bytes_before,
            fixed_bytes: self.fixed_bytes,
            tensors: Vec::new(),
            unmeasured: 0,
            gradients: self.compensate.is_graded(),
            tokens: self.judge.tokens() as u64,
            window: self.window,
        };
        for (at, (it, measured)) in self.chosen.iter().zip(&self.measured).enumerate() {
            match measured {
                Some(measured) if self.is_complete(at) => {
                    costs.tensors.push(measured.clone());
                    costs.fixed_bytes += it.index_bytes;
                }
                _ => {
                    costs.unmeasured += 1;
                    costs.fixed_bytes += it.bytes;
                }
            }
        }
        costs
    }

    fn progress(&self, item: Option<String>) -> Progress {
        let done = self.measured.iter().flatten().count();
        let left = self.here.iter().zip(&self.measured).filter(|(here, it)| **here && it.is_none()).count();
        let (done, total) = (done as f64, (done + left) as f64);
        Progress { stage: "search".into(), done, total, unit: "tensors".into(), item }
    }

    fn encoding(&self, grid: Grid) -> Encoding {
        self.quantize.codecs().encoding(Precision::Codes(grid))
    }

    fn read(&self, entry: Entry) -> Result<Subject, EngineError> {
        let tensor = statepress_formats::read_tensor(&*self.source, &entry)?;
        let found = measure::survey(&*self.source, &entry, &tensor)?;
        // Said now: whatever recipe is found, compressing would refuse it.
        coding::check_finite(&entry, self.encoding(CHOSEN), &found)?;
        Ok(Subject { values: codecs::decode(&tensor), stored: tensor.encoding(), entry, found })
    }

    /// Rounds a tensor to a grid, as compressing will, and measures.
    async fn measure(&self, subject: &Subject, grid: Grid) -> Result<Cost, EngineError> {
        let Subject { entry, values, found, .. } = subject;
        let encoding = self.encoding(grid);
        let plain = || coding::code(entry, values, encoding, Clip::Absmax, found).map(|coded| coded.tensor);
        let rounded = match encoding.coding() {
            Some(coding) if self.compensate.reason(&entry.name, coding.group).is_none() => {
                let how = How { clip: Clip::Absmax, step: None };
                self.compensate.rounded(entry, values, coding, how)?.tensor
            }
            _ => plain()?,
        };
        self.judged(entry, rounded, Precision::Codes(grid), None).await
    }

    /// Measures what a rounded tensor costs.
    async fn judged(
        &self,
        entry: &Entry,
        rounded: Tensor,
        precision: Precision,
        step: Option<f64>,
    ) -> Result<Cost, EngineError> {
        let bytes = match self.options.coded {
            true => statepress_formats::coded_bytes(&entry.name, &rounded)?,
            false => rounded.bytes(),
        };
        let changed = match self.vectors.get(&entry.name) {
            Some(ids) => {
                ids.iter().fold(self.compensate.model().clone(), |model, &id| model.with_vector(id, &rounded))
            }
            None => self.compensate.replaced(&entry.name, rounded)?,
        };
        let kl = self.judge.of(&changed).await?;
        Ok(Cost { precision, step, bytes, kl, measured: true })
    }

    /// What a tensor costs at every grid.
    async fn grids(&self, subject: &Subject) -> Result<Vec<Cost>, EngineError> {
        let mut measured = Vec::new();
        for &grid in self.measured_grids() {
            if self.encoding(grid) != subject.stored {
                measured.push(self.measure(subject, grid).await?);
            }
        }
        let mut choices = self.choices(subject, &subject.entry.shape, &measured);
        if let Some(unchanged) = self.unchanged(&subject.entry) {
            choices.retain(|cost| cost.bytes < unchanged.bytes);
            choices.push(unchanged);
        }
        Ok(choices)
    }

    fn measured_grids(&self) -> &'static [Grid] {
        if self.options.fast { &[Grid::Lm3] } else { &MEASURED }
    }

    /// What some rows of a tensor cost at every grid, while the others are what they were.
    async fn rows(&self, subject: &Subject, which: CostRows) -> Result<Vec<Cost>, EngineError> {
        let Subject { entry, values, found, .. } = subject;
        let (rows, cols) = shape::matrix(&entry.shape);
        let order = self.compensate.order(&entry.name, rows)?;
        let mut which = order[which.after as usize..][..which.count as usize].to_vec();
        which.sort_unstable();
        let some: Vec<f32> =
            which.iter().flat_map(|&row| &values[row as usize * cols..][..cols]).copied().collect();
        let shape = [which.len(), cols];
        let grids = self.measured_grids().iter().map(|&grid| (grid, self.encoding(grid)));
        let codings = grids.clone().filter_map(|(_, encoding)| encoding.coding());
        let compensated = codings.clone().all(|it| self.compensate.reason(&entry.name, it.group).is_none());
        let rounded = match compensated {
            true => self
                .compensate
                .rounded_rows(entry, codings.map(|coding| (some.as_slice(), coding, Clip::Absmax)))?,
            false => grids
                .clone()
                .map(|(_, encoding)| coding::rounded(entry, &some, &shape, encoding, Clip::Absmax, found))
                .collect::<Result<_, _>>()?,
        };
        let mut measured = Vec::new();
        for ((grid, _), rounded) in grids.zip(rounded) {
            let mut values = values.clone();
            for (&row, numbers) in which.iter().zip(codecs::decode(&rounded.tensor).chunks_exact(cols)) {
                values[row as usize * cols..][..cols].copy_from_slice(numbers);
            }
            let changed =
                self.compensate.replaced(&entry.name, Tensor::from_f32(entry.shape.clone(), values))?;
            let (precision, bytes) = (Precision::Codes(grid), rounded.tensor.bytes());
            measured.push(Cost {
                precision,
                step: None,
                bytes,
                kl: self.judge.of(&changed).await?,
                measured: true,
            });
        }
        Ok(self.choices(subject, &shape, &measured))
    }

    /// What a tensor costs at every step; at every grid, where errors cannot be made up for.
    async fn steps(&self, subject: &Subject) -> Result<Vec<Cost>, EngineError> {
        let Subject { entry, values, stored, .. } = subject;
        let is_vector = self.vectors.contains_key(&entry.name);
        let usual = match is_vector {
            true => Some(OF_DEVIATION * deviation(values)).filter(|&step| step > 0.0),
            false => self.compensate.usual_step(entry, values),
        };
        let Some(usual) = usual else { return self.grids(subject).await };
        let mut measured = Vec::new();
        for &times in if self.options.fast { &FAST_TIMES[..] } else { &TIMES } {
            let step = short(usual * times);
            let how = How { clip: Clip::Absmax, step: Some(step) };
            let rounded = match is_vector {
                true => coding::in_steps(entry, values, step)?,
                false => self.compensate.rounded(entry, values, Coding::STEPPED, how)?,
            };
            let precision = Encoding::stepped().precision();
            measured.push(self.judged(entry, rounded.tensor, precision, Some(step)).await?);
        }
        let scales = Encoding::stepped().bytes(&entry.shape) - entry.params();
        let mut choices = spaced(&measured, entry.params(), scales);
        choices.extend(MEASURED.iter().chain(&FOLLOWING).filter_map(|&grid| self.kept(*stored, grid, entry)));
        Ok(choices)
    }

    /// What a tensor costs at the grid that it is stored in: its codes are kept bit for bit.
    fn kept(&self, stored: Encoding, grid: Grid, entry: &Entry) -> Option<Cost> {
        let (precision, bytes) = (Precision::Codes(grid), stored.bytes(&entry.shape));
        (self.encoding(grid) == stored).then_some(Cost {
            precision,
            step: None,
            bytes,
            kl: 0.0,
            measured: true,
        })
    }

    /// What each precision costs, by those that were measured.
    fn choices(&self, subject: &Subject, shape: &[usize], measured: &[Cost]) -> Vec<Cost> {
        let cost = |&grid: &Grid| {
            let (precision, encoding) = (Precision::Codes(grid), self.encoding(grid));
            if let Some(cost) = measured.iter().find(|cost| cost.precision == precision) {
                return Some(*cost);
            }
            if let Some(cost) = self.kept(subject.stored, grid, &subject.entry) {
                return Some(cost);
            }
            let bytes = encoding.bytes(shape);
            let nearest =
                measured.iter().min_by_key(|cost| cost.precision.bits().abs_diff(grid.bits() as u64))?;
            let finer = grid.bits() as f64 - nearest.precision.bits() as f64;
            Some(Cost { precision, step: None, bytes, kl: nearest.kl / 4f64.powf(finer), measured: false })
        };
        MEASURED.iter().chain(&FOLLOWING).filter_map(cost).collect()
    }

    /// What numbers that no product goes over cost as the base stores them, in sixteen bits: taken for nothing, as it is of all that
    /// is not chosen.
    fn unchanged(&self, entry: &Entry) -> Option<Cost> {
        let (precision, bytes) = (Precision::Fp16, Encoding::Fp16.bytes(&entry.shape));
        let is_vector = self.vectors.contains_key(&entry.name);
        is_vector.then_some(Cost { precision, step: None, bytes, kl: 0.0, measured: false })
    }
}

/// How far numbers are from 0: the root of their mean square.
fn deviation(values: &[f32]) -> f64 {
    let square: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
    (square / values.len().max(1) as f64).sqrt()
}

impl Job for Costs {
    type Output = SearchCosts;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(next) = self.next() else { return Ok(None) };
        if self.judge.prepare().await? {
            return Ok(Some(self.progress(None)));
        }
        let Chosen { position, rows, role, .. } = self.chosen[next];
        let entry = self.index.tensors[position].clone();
        if let Some(progress) = self.compensate.prepare(&entry.name).await? {
            return Ok(Some(progress));
        }
        let subject = self.read(entry)?;
        let mut choices = match (self.options.coded, rows) {
            (true, _) => self.steps(&subject).await?,
            (false, None) => self.grids(&subject).await?,
            (false, Some(rows)) => self.rows(&subject, rows).await?,
        };
        // Of a few numbers the scales alone may take more than another precision takes in all.
        choices.sort_by_key(|cost| cost.bytes);
        let (tensor, shape) = (subject.entry.name.clone(), &subject.entry.shape);
        let params = rows.map_or(subject.entry.params(), |it| it.count * shape::matrix(shape).1 as u64);
        self.measured[next] = Some(TensorCosts { tensor: tensor.clone(), rows, role, params, choices });
        if self.is_complete(next) {
            self.compensate.forget(&tensor);
        }
        Ok(Some(self.progress(Some(tensor))))
    }

    fn finish(self) -> Result<SearchCosts, EngineError> {
        match self.next() {
            Some(_) => Err(EngineError::Evaluation("costs were finished before all were measured".into())),
            None => Ok(self.so_far()),
        }
    }
}

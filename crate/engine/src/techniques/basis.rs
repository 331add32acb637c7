//! A basis of its own for the token table.
//!
//! An error e of a row of the table costs about `alpha e^T H e`, with alpha how much the row is used and H what the logits
//! and look-ups feel. In directions in which H is the identity and the rows, as much as they are used, have nothing in common,
//! rounding every number by itself is the best that an entropy coder can be given (the Karhunen-Loeve transform of a
//! source, Goyal 2001, section 3): the first directions take many bits and the last hardly any. With
//! `C = sum_r alpha_r^0.75 w_r w_r^T` over rows w and S the root of H, the eigenvectors V of `S C S`, as rows, give rows `w S V^T` in the basis
//! `B = V S^-1`. Of a table that is the head as well a look-up is then one product more with B, and so are logits; predictions are
//! what they were, to rounding.
//!
//! The first directions have numbers of many steps, more than codes of 8 bits reach. They stand there twice, once `COARSER` times as
//! large: whoever makes up for rounding errors puts into the second what the first has left, as digits of a number.

use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::job::{Job, Progress};
use statepress_core::recipe::TableBasis;
use statepress_core::report::Fisher;
use statepress_core::{Finding, Index};
use statepress_kernels::eigen::{self, Eigen};
use statepress_kernels::linear::outer;
use statepress_kernels::program::{Op, Program};

use super::change::{Along, Change, Turn};
use super::derived::{Changes, Checkpoint, Derived, Draft, Fitted, decoded, program, real};
use super::loading::Loading;
use super::tying::{Tying, may_be_copy, tying};
use crate::EngineError;
use crate::calibrate::{
    Graded, HeadStatistics, Marks, Probe, Sample, Statistics, StatisticsOptions, head_rows,
    lookup_substitute, used_rows,
};
use crate::families::{HEAD, ModelSpec, beside};
use crate::models::{CpuRunner, Model, Translated};

/// Tokens of a window.
const WINDOW: usize = 256;

/// One in so many directions stands there twice, the first ones.
const TWICE: usize = 32;

/// How many times as large the first of the two is.
const COARSER: f64 = 8.0;

/// What is added to H, as a share of its mean diagonal: directions that nothing feels have to have a length too.
const DAMPING: f64 = 1e-4;

/// A table being given a basis of its own.
pub(super) struct Basing {
    of: Checkpoint,
    step: TableBasis,
    ids: Rc<Vec<u32>>,
    fisher: Option<Rc<Fisher>>,
    loading: Loading,
    statistics: Option<Statistics<Translated<CpuRunner>>>,
    windows: Vec<Vec<u32>>,
    head: Option<HeadStatistics>,
    /// `F_in`, or the shape of what stands in for it.
    looked_up: Option<Vec<f32>>,
    /// How much of what stands in for it is taken, being measured.
    probe: Option<Probe>,
    /// What is to be said of either.
    said: Vec<Finding>,
    found: Option<Directions>,
}

/// A table that was given a basis.
pub(super) struct Based {
    /// The checkpoint with it.
    pub left: Checkpoint,
    /// What is to be said.
    pub findings: Vec<Finding>,
}

/// What a table is written in.
struct Directions {
    /// `[d, k]`, for the rows.
    turn: Turn,
    /// B `[k, d]`.
    basis: Vec<f64>,
    /// The share of what rows put out that is in the first eighth of the directions.
    first: f64,
}

impl Basing {
    /// Prepares; without a model for it, the checkpoint is loaded first.
    pub fn new(
        of: Checkpoint,
        step: TableBasis,
        (ids, fisher): (Option<&Rc<Vec<u32>>>, Option<Rc<Fisher>>),
        model: Option<Model>,
    ) -> Result<Self, EngineError> {
        check(&of.source, &of.index, &of.spec)?;
        let ids = ids.cloned().ok_or_else(|| {
            let allowed =
                "a text for the model to read, as the basis of the table depends on what it computes";
            EngineError::option("calibration", "not given", allowed)
        })?;
        let loading = Loading::new(&of, model)?;
        Ok(Self {
            of,
            step,
            ids,
            fisher,
            loading,
            statistics: None,
            windows: Vec::new(),
            head: None,
            looked_up: None,
            probe: None,
            said: Vec::new(),
            found: None,
        })
    }

    /// Reads a window for how the head is used; `None` after the last one.
    async fn read(&mut self, model: &Model) -> Result<Option<Progress>, EngineError> {
        let program = &model.info.program;
        let statistics = match &mut self.statistics {
            Some(statistics) => statistics,
            none => {
                if let Some(fisher) = &self.fisher {
                    let graded = Graded::new(fisher, program)?;
                    (self.looked_up, self.said) = (graded.looked_up, graded.findings);
                }
                let sample = Sample { windows: self.step.windows, window: WINDOW };
                let covariance_of = self.looked_up.is_none().then(|| head_rows(model)).flatten().map(Rc::new);
                let how = StatisticsOptions { sample, covariance_of, ..StatisticsOptions::default() };
                none.insert(Statistics::new(model, &self.ids, &[program.head.matrix], &how)?)
            }
        };
        let progress = statistics.step().await?;
        if let Some(head) = statistics.take().pop().and_then(|measured| measured.head) {
            self.windows = statistics.windows().to_vec();
            if let (None, Some(covariance)) = (&self.looked_up, &head.covariance) {
                self.looked_up = Some(lookup_substitute(model, covariance));
                self.probe = Some(Probe::new(model, &head.alpha, &self.windows)?);
            }
            self.head = Some(head);
        }
        Ok(progress)
    }

    /// Finds the directions, once everything is known: what stands in for `F_in` is taken so many times.
    fn find(&mut self, model: &Model, times: f64) -> Result<(), EngineError> {
        let program = &model.info.program;
        let (table, d) = (program.matrix(program.table), program.matrix(program.table).cols);
        let unknown = || EngineError::Evaluation(format!("how {} is used was not measured", table.key));
        let (head, looked_up) =
            (self.head.as_ref().ok_or_else(unknown)?, self.looked_up.as_ref().ok_or_else(unknown)?);
        let h: Vec<f64> =
            head.h.iter().zip(looked_up).map(|(h, f)| f64::from(*h) + times * f64::from(*f)).collect();
        let mut rows = vec![0.0; program.vocab_size * d];
        let weights = model.network().matrix(program.table);
        rows.chunks_exact_mut(d).enumerate().for_each(|(id, row)| weights.row(id, row));
        let found = directions(&used_rows(&rows, &head.alpha, d), h, d);
        self.found = Some(found.ok_or_else(|| {
            let message = format!("{} has numbers that are not finite: it has no basis", table.key);
            EngineError::Evaluation(message)
        })?);
        Ok(())
    }
}

impl Job for Basing {
    type Output = Based;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if self.found.is_some() {
            return Ok(None);
        }
        if let Some(progress) = self.loading.step().await? {
            return Ok(Some(progress));
        }
        let Some(model) = self.loading.model().cloned() else { return Ok(None) };
        if self.head.is_none()
            && let Some(progress) = self.read(&model).await?
        {
            return Ok(Some(progress));
        }
        if let Some(probe) = &mut self.probe
            && let Some(progress) = probe.step().await?
        {
            return Ok(Some(progress));
        }
        let times = match (self.probe.take(), &self.head, &self.looked_up) {
            (Some(probe), Some(head), Some(f)) => {
                let probed = probe.finish()?;
                let size = probed.size(&head.h, f);
                self.said.push(probed.told(size));
                size.unwrap_or(0.0)
            }
            _ => 1.0,
        };
        self.find(&model, times)?;
        Ok(None)
    }

    fn finish(self) -> Result<Based, EngineError> {
        let Checkpoint { source, index, spec } = &self.of;
        let unfinished = || EngineError::Evaluation("a basis was asked for before it was found".into());
        let Directions { turn, basis, first } = self.found.ok_or_else(unfinished)?;
        let d = turn.from;
        let numbers = basis.iter().map(|x| *x as f32).collect();
        let (mut derived, changes, table) = derive(index, spec, source.len(), Rc::new(turn), numbers)?;
        if let Some(marks) = Marks::of(&self.windows, &self.ids) {
            marks.write(&mut derived.index.metadata);
        }
        let mut findings: Vec<Finding> = decoded(index, spec, &changes).into_iter().collect();
        let message = format!(
            "its rows are written in a basis of its own, of which the first {} directions have {:.0} % of what rows put out: \
             predictions stay what they were",
            d.div_ceil(8),
            100.0 * first
        );
        findings.push(Finding::info("own-basis", message).about(&table));
        findings.extend(self.said.into_iter().map(|finding| match finding.tensor {
            None => finding.about(&table),
            Some(_) => finding,
        }));
        Ok(Based { left: derived.over(source.clone()), findings })
    }
}

/// `C` of the rows and H, each `[d, d]`: what the rows are written in. `None` where a number is not finite.
fn directions(c: &[f64], mut h: Vec<f64>, d: usize) -> Option<Directions> {
    let trace = |of: &[f64]| (0..d).map(|i| of[i * (d + 1)]).sum::<f64>();
    let mean = trace(&h) / d as f64;
    let added = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    (0..d).for_each(|i| h[i * (d + 1)] += added);
    let Eigen { values, vectors } = eigen::symmetric(&h, d)?;
    // Numbers that rounding has made smaller than what was added are that.
    let root = |power: fn(f64) -> f64| {
        let scaled: Vec<f64> = vectors
            .chunks_exact(d)
            .zip(&values)
            .flat_map(|(row, value)| row.iter().map(move |x| x * power(value.max(added).sqrt())))
            .collect();
        outer::product(&scaled, &vectors, [d, d])
    };
    let (s, inverse) = (root(|x| x), root(f64::recip));
    let Eigen { values, vectors } = eigen::symmetric(&outer::congruent(c, &s, [d, d]), d)?;
    let all: f64 = values.iter().sum();
    let first: f64 = values.iter().take(d.div_ceil(8)).sum();
    // Rows keep their size, so that scales of 16 bits can hold it.
    let size = if all > 0.0 && trace(c) > 0.0 { (trace(c) / all).sqrt() } else { 1.0 };
    let across = outer::transposed(&vectors, d);
    let numbers = outer::product(&s, &across, [d, d]);
    let basis = outer::product(&across, &inverse, [d, d]);
    let k = width(d);
    // Where each direction comes from, how large rows are in it, and how large it is.
    let coarse = (0..k - d).map(|at| (at, size / COARSER, COARSER / size));
    let doubled = (0..k - d).map(|at| (at, 0.0, 1.0 / size));
    let others = (k - d..d).map(|at| (at, size, 1.0 / size));
    let made: Vec<(usize, f64, f64)> = coarse.chain(doubled).chain(others).collect();
    let rows = numbers.chunks_exact(d).flat_map(|row| made.iter().map(|&(at, by, _)| row[at] * by));
    let turn = Turn { from: d, to: k, numbers: rows.collect() };
    let basis =
        made.iter().flat_map(|&(at, _, by)| basis[at * d..][..d].iter().map(move |x| x * by)).collect();
    Some(Directions { turn, basis, first: if all > 0.0 { first / all } else { 1.0 } })
}

/// k: how many directions stand in a basis for rows of d numbers.
fn width(d: usize) -> usize {
    d + d.div_ceil(TWICE)
}

/// What a basis leaves, by arithmetic alone.
pub(super) fn planned(index: &Index, spec: &ModelSpec) -> Result<(Index, ModelSpec), EngineError> {
    let (program, names) = (program(spec)?, &spec.names);
    let d = program.hidden_size();
    // Whether equal shapes are equal numbers, only weights tell.
    if names.get(index, HEAD).is_some()
        && names.shared_head(index).is_none()
        && may_be_copy(index, names).is_none()
    {
        return Err(own_head(index, spec, &program));
    }
    let (derived, ..) = derive(index, spec, 0, Rc::new(Turn::sized(d, width(d))), vec![0.0; width(d) * d])?;
    Ok((derived.index, derived.spec))
}

/// Refuses tables that cannot be written in a basis.
fn check(
    source: &Rc<dyn statepress_core::Source>,
    index: &Index,
    spec: &ModelSpec,
) -> Result<(), EngineError> {
    let program = program(spec)?;
    if program.head.matrix == program.table
        || matches!(tying(&**source, index, &spec.names)?, Tying::Shared | Tying::Copy)
    {
        return Ok(());
    }
    Err(own_head(index, spec, &program))
}

fn own_head(index: &Index, spec: &ModelSpec, program: &Program) -> EngineError {
    let head = real(spec, index, &program.matrix(program.head.matrix).key);
    let allowed = format!("models whose table is the head as well: {head} is a matrix of its own");
    EngineError::option("basis", "asked for", allowed)
}

/// The checkpoint with its table in a basis, what changed in it, and the table's name.
fn derive(
    index: &Index,
    spec: &ModelSpec,
    len: u64,
    turn: Rc<Turn>,
    basis: Vec<f32>,
) -> Result<(Derived, Changes, String), EngineError> {
    let program: Rc<Program> = program(spec)?;
    let refused = |allowed: String| EngineError::option("basis", "asked for", allowed);
    let table = &program.matrix(program.table).key;
    let name = real(spec, index, table);
    if program.end().1.is_some() {
        return Err(refused(format!("tables without one: {name} has a basis of its own")));
    }
    let positions = program.nodes.iter().find_map(|node| match node.op {
        Op::Embed { positions, .. } => positions,
        _ => None,
    });
    let mut changes = Changes::default();
    for key in [Some(table), positions.map(|id| &program.matrix(id).key)].into_iter().flatten() {
        let dims = vec![None, Some(Along::Turned(turn.clone()))];
        changes.insert(key.clone(), Some(Change { dims, ..Change::none(key) }));
    }
    // The table is the head: a copy of it would be one of what it was.
    if spec.names.get(index, HEAD).is_some() {
        changes.insert(HEAD.into(), None);
    }
    let derived = Draft::new(index, spec, len, &changes, &mut Fitted::default())
        .with_config(Map::from_iter([("tie_word_embeddings".to_string(), Value::Bool(true))]))
        .with_tensor(&beside(&name, "basis"), vec![turn.to, turn.from], Rc::new(basis))
        .understood()?;
    match &derived.spec.refusal {
        None => Ok((derived, changes, name)),
        Some(reason) => Err(refused(format!("what leaves a model that runs: {reason}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows come back, H is the identity times a number, and the rows have nothing in common: but for what stands there twice.
    #[test]
    fn in_its_basis_a_table_is_white_and_its_rows_come_back() {
        let (d, n) = (6, 50);
        let mut random = fastrand::Rng::with_seed(3);
        let mut numbers = |count: usize| (0..count).map(|_| random.f32() - 0.3).collect::<Vec<f32>>();
        let (rows, h) = (numbers(n * d), used_rows(&numbers(9 * d), &[1.0; 9], d));
        let uses: Vec<f32> = (0..n).map(|r| 1.0 / (1 + r) as f32).collect();
        let c = used_rows(&rows, &uses, d);
        let Directions { turn, basis, first } = directions(&c, h.clone(), d).unwrap();
        let k = width(d);
        assert_eq!((turn.to, basis.len(), k), (7, 7 * 6, 7));
        let coded = turn.apply(&rows, 1);
        for (coded, row) in coded.chunks_exact(k).zip(rows.chunks_exact(d)) {
            assert_eq!(coded[1], 0.0);
            for (j, x) in row.iter().enumerate() {
                let back: f64 =
                    coded.iter().zip(basis.chunks_exact(d)).map(|(y, b)| f64::from(*y) * b[j]).sum();
                assert!((back - f64::from(*x)).abs() < 1e-5);
            }
        }
        let metric = outer::congruent(&h, &outer::transposed(&basis, d), [d, k]);
        let source = used_rows(&coded, &uses, k);
        let size = |at: usize| if at == 0 { COARSER } else { 1.0 };
        for (i, j) in
            (0..k * k).map(|at| (at / k, at % k)).filter(|(i, j)| i.min(j) > &1 || (i * j == 0 && i + j != 1))
        {
            let found = metric[i * k + j] / (size(i) * size(j));
            let expected = if i == j { metric[k + 1] } else { 0.0 };
            assert!((found - expected).abs() < 1e-2 * metric[k + 1], "{i} {j}: {found}");
            assert!(i == j || source[i * k + j].abs() < 1e-5 * source[0]);
        }
        assert!(first > 1.0 / 6.0 && first <= 1.0);
        assert!(directions(&[f64::NAN; 36], h, d).is_none());
    }
}

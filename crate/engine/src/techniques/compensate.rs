//! Compressing with errors made up for: a calibration text is read as far as the next tensor needs it.
//!
//! What the model computes decides bytes, so it runs on the CPU. Statistics are of one group of matrices at a time and go
//! when their tensor is written: beside the model, which is loaded whole, they take [`BUDGET`](crate::calibrate::BUDGET),
//! and a tensor that is larger by itself what it takes.

mod round;

use std::mem;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::GptqOptions;
use statepress_core::words::counted;
use statepress_core::{Coding, Entry, Finding, Group, Index, Tensor};
use statepress_kernels::codecs;
use statepress_kernels::program::{Layout, MatrixId, Program};

use super::pairs::Pairs;
use super::shares::{Outcome, Plain, Plainly};
use crate::EngineError;
use crate::calibrate::{
    Calibration, Graded, HeadStatistics, Marks, Measured, Probe, RowUse, SUBSTITUTE, Sample, Statistics,
    StatisticsOptions, entered, head_rows, in_basis, lookup_substitute,
};
use crate::error::listed;
use crate::families::ModelSpec;
use crate::models::{CpuRunner, Model, Translated};
pub(crate) use round::{Compensated, How};

/// Rounding with errors made up for, under way.
pub(crate) struct Compensate {
    model: Model,
    statistics: Statistics<Translated<CpuRunner>>,
    options: GptqOptions,
    /// Nothing is made up for: what enters a tensor only says where its scales clip.
    clips_only: bool,
    /// The tensors that are to be coded, by name.
    tensors: Pairs<String, Wanted>,
    /// What is known of those that come next.
    measured: Vec<Measured>,
    /// The text was read as often as it takes.
    read: bool,
    /// What gradients say, where they were taken.
    graded: Option<Graded>,
    /// `F_in`, or what stands in for it once the head was measured.
    lookups: Option<Vec<f32>>,
    /// Which of the two it is.
    by_gradients: bool,
    /// Its size, being measured.
    probe: Option<Probe>,
    /// H of the table that is the head as well, once it is known.
    table: Option<Vec<f32>>,
    /// How much single rows matter, once the head was measured.
    rows: Option<RowUse>,
    /// What the text can be known by.
    marks: Option<Marks>,
    /// How each tensor was rounded that is done with.
    outcomes: Vec<Outcome>,
    /// What there is to know of the tensor at work.
    findings: Vec<Finding>,
}

/// What a tensor that is to be coded is to the model.
struct Wanted {
    matrices: Vec<MatrixId>,
    /// The same numbers read the other way round.
    copies: Vec<MatrixId>,
    use_: Use,
}

/// What a matrix is rounded for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Products with what enters it.
    Multiplied,
    /// Rows that ids look up.
    LookedUp,
    /// Both: a table that is the head as well.
    Both,
}

const NO_MATRIX: &str = "the model neither multiplies by them nor looks them up";
const NO_HEAD: &str =
    "they are looked up, and the rows of the head, which tell what logits feel of that, cannot be read";
const SHARED: &str = "one scale covers parts that meet different inputs";

impl Compensate {
    /// Prepares to code `tensors`, in that order, for a model that reads a text: those that are said to be coded here. `tied`: the
    /// table is written for the head too. `clips_only`: nothing is made up for, but scales clip by what enters.
    ///
    /// # Errors
    /// Where there is no tensor whose errors can be made up for, and for ids that fill no window or are none.
    pub fn new(
        Calibration { model, ids, fisher }: Calibration<'_>,
        options: GptqOptions,
        (spec, index): (&ModelSpec, &Index),
        tensors: &[(&str, bool)],
        (tied, clips_only): (bool, bool),
    ) -> Result<Self, EngineError> {
        let program: &Program = &model.info.program;
        let (head, table) = (program.head.matrix, program.table);
        let inside = |id| Some((spec.names.get(index, &program.matrix(id).key)?.name.as_str(), id));
        let inside: Vec<(&str, MatrixId)> = program.used_matrices().filter_map(inside).collect();
        let entered = entered(program);
        let (mut wanted, mut order, mut any) = (Pairs::default(), Vec::new(), false);
        for &(name, here) in tensors {
            let of_tensor: Vec<MatrixId> =
                inside.iter().filter(|(of, _)| *of == name).map(|(_, id)| *id).collect();
            any |= !of_tensor.is_empty();
            if !here || wanted.has(name) || of_tensor.is_empty() {
                continue;
            }
            // A basis is multiplied by from either side; the head, where errors count more, reads its rows.
            let is_copy = |id: &MatrixId| program.matrix(*id).is_look_up();
            let (copies, matrices): (Vec<MatrixId>, Vec<MatrixId>) = of_tensor.into_iter().partition(is_copy);
            let (matrices, use_) = match matrices[..] {
                [id] if id == table && (tied || head == table) => (vec![head], Use::Both),
                [id] if !entered.contains(&id) => (vec![id], Use::LookedUp),
                _ => (matrices, Use::Multiplied),
            };
            // What is looked up is rounded for what is known once the head was measured.
            let measured = if use_ == Use::Multiplied { matrices.as_slice() } else { &[head] };
            for &id in measured {
                if !order.contains(&id) {
                    order.push(id);
                }
            }
            wanted.insert(name.to_string(), Wanted { matrices, copies, use_ });
        }
        if !any && !clips_only {
            let allowed = "none, as the recipe codes no matrix of the model";
            return Err(EngineError::option("calibration", "given", allowed));
        }
        let looks_up = wanted.0.iter().any(|(_, it): &(String, Wanted)| it.use_ != Use::Multiplied);
        let mut graded = fisher.map(|fisher| Graded::new(&fisher, program)).transpose()?;
        let lookups = graded.as_mut().and_then(|it| it.looked_up.take()).map(|f| in_basis(model, f));
        let by_gradients = lookups.is_some();
        let substituted = looks_up && !by_gradients;
        let covariance_of = substituted.then(|| head_rows(model)).flatten().map(Rc::new);
        let how = StatisticsOptions {
            sample: Sample::from(&options),
            covariance_of,
            ..StatisticsOptions::default()
        };
        let statistics = Statistics::new(model, ids, &order, &how)?;
        Ok(Self {
            model: model.clone(),
            marks: Marks::of(statistics.windows(), ids),
            statistics,
            options,
            clips_only,
            tensors: wanted,
            measured: Vec::new(),
            read: false,
            lookups,
            by_gradients,
            graded,
            probe: None,
            table: None,
            rows: None,
            outcomes: Vec::new(),
            findings: Vec::new(),
        })
    }

    /// Reads on where more has to be known of a tensor; `None` when it can be coded.
    pub async fn prepare(&mut self, tensor: &str) -> Result<Option<Progress>, EngineError> {
        let Some(Wanted { matrices, use_, .. }) = self.tensors.get(tensor) else { return Ok(None) };
        let (head, use_) = (self.model.info.program.head.matrix, *use_);
        let known = match use_ {
            Use::LookedUp => self.lookups.is_some() && self.rows.is_some(),
            _ => matrices.iter().all(|id| of_matrix(&self.measured, *id).is_some()),
        };
        if !self.read && !known {
            let progress = self.statistics.step().await?;
            self.read = progress.is_none();
            for measured in self.statistics.take() {
                if let Some(head) = &measured.head {
                    self.rows = Some(RowUse::new(head, &measured.h));
                }
                let covariance = measured.head.as_ref().and_then(|head| head.covariance.as_ref());
                if let Some(covariance) = covariance {
                    self.lookups = Some(lookup_substitute(&self.model, covariance));
                }
                if self.is_wanted(measured.matrix) {
                    self.measured.push(measured);
                }
            }
            return Ok(progress);
        }
        if use_ == Use::Both && self.table.is_none() {
            return self.both(tensor, head).await;
        }
        Ok(None)
    }

    /// Whether what enters a matrix is of use to a tensor that is still to come.
    fn is_wanted(&self, id: MatrixId) -> bool {
        let head = self.model.info.program.head.matrix;
        let wants = |it: &Wanted| it.matrices.contains(&id) || (id == head && it.use_ != Use::Multiplied);
        self.tensors.0.iter().any(|(_, it)| wants(it))
    }

    /// H of a table that is the head as well: by gradients, or by measuring how much of a change of its rows gets to the logits.
    async fn both(&mut self, tensor: &str, head: MatrixId) -> Result<Option<Progress>, EngineError> {
        let statistics = of_matrix(&self.measured, head).and_then(|measured| measured.head.as_ref());
        let (Some(HeadStatistics { alpha, h, .. }), Some(f)) = (statistics, &self.lookups) else {
            return Ok(None);
        };
        if self.by_gradients {
            self.table = Some(h.iter().zip(f).map(|(h, f)| h + f).collect());
            return Ok(None);
        }
        let probe = match &mut self.probe {
            Some(probe) => probe,
            none => none.insert(Probe::new(&self.model, alpha, self.statistics.windows())?),
        };
        if let Some(progress) = probe.step().await? {
            return Ok(Some(progress));
        }
        let Some(probed) = self.probe.take().map(Probe::finish).transpose()? else { return Ok(None) };
        let size = probed.size(h, f);
        let times = size.unwrap_or(0.0) as f32;
        self.table = Some(h.iter().zip(f).map(|(h, f)| h + times * f).collect());
        self.findings.push(probed.told(size).about(tensor));
        Ok(None)
    }

    /// Bytes that are held while a tensor is rounded: the model, statistics, and two factors of the tensor's own.
    pub fn bytes(&self, tensor: &str) -> u64 {
        let program = &self.model.info.program;
        let of_head = |head: &HeadStatistics| head.h.len() + head.covariance.as_ref().map_or(0, Vec::len);
        let measured =
            self.measured.iter().map(|it| it.h.len() + it.head.as_ref().map_or(0, of_head)).sum::<usize>();
        let looked_up = [&self.lookups, &self.table].into_iter().flatten().map(Vec::len).sum::<usize>();
        let matrices = self.tensors.get(tensor).map_or(&[][..], |wanted| &wanted.matrices);
        let cols = matrices.iter().map(|&id| program.matrix(id).cols).max().unwrap_or(0);
        let numbers = measured + looked_up + 2 * cols * cols;
        self.model.info.bytes + 4 * numbers as u64 + self.statistics.bytes()
    }

    /// Forgets what is known of a tensor.
    pub fn forget(&mut self, tensor: &str) {
        if let Some(wanted) = self.tensors.remove(tensor) {
            self.measured.retain(|it| !wanted.matrices.contains(&it.matrix));
        }
    }

    /// Codes a tensor of finite numbers; `None` where it is to be rounded plainly, which is told at the end.
    pub fn code(
        &mut self,
        entry: &Entry,
        values: &[f32],
        coding: Coding,
        how: How,
    ) -> Result<Option<Compensated>, EngineError> {
        let coded = match self.reason(&entry.name, coding.group) {
            Some(_) => None,
            None => Some(self.rounded(entry, values, coding, how)?),
        };
        self.done_with(&entry.name, coding.group, Plainly::of(how.step, how.clip));
        Ok(coded)
    }

    /// Notes what was done to a tensor that is coded now, and forgets what is known of it.
    pub fn done_with(&mut self, tensor: &str, group: Group, how: Plainly) {
        let plain = self.reason(tensor, group).map(|reason| Plain { reason: reason.into(), how });
        let looked_up = self.tensors.get(tensor).is_some_and(|it| it.use_ == Use::LookedUp);
        if plain.is_none() && looked_up && !self.by_gradients {
            let message = format!("rounded for what ids look up in it: {SUBSTITUTE}");
            self.findings.push(Finding::info("lookup-substitute", message).about(tensor));
        }
        let findings = mem::take(&mut self.findings);
        self.outcomes.push(Outcome { tensor: tensor.into(), plain, findings });
        self.forget(tensor);
    }

    /// Notes what was done to tensors elsewhere.
    pub fn note(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes.extend(outcomes);
    }

    /// Gives away what came of the tensors so far.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        mem::take(&mut self.outcomes)
    }

    /// So many rows of the head or the table, the most used first.
    ///
    /// # Errors
    /// Where the text was not read for the head.
    pub fn order(&self, tensor: &str, rows: usize) -> Result<Vec<u32>, EngineError> {
        let unknown =
            || EngineError::Evaluation(format!("how much the rows of {tensor} are used was not measured"));
        Ok(self.rows.as_ref().ok_or_else(unknown)?.order(rows))
    }

    /// Why errors of a tensor cannot be made up for.
    pub fn reason(&self, tensor: &str, group: Group) -> Option<&'static str> {
        match self.tensors.get(tensor) {
            None => Some(NO_MATRIX),
            Some(it) if it.matrices.len() > 1 && group == Group::Tensor => Some(SHARED),
            Some(it) if it.use_ == Use::LookedUp && self.lookups.is_none() => Some(NO_HEAD),
            Some(_) => None,
        }
    }

    /// Whether nothing is made up for.
    pub fn clips_only(&self) -> bool {
        self.clips_only
    }

    /// The model that reads the text.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model with a tensor in place of its own.
    pub fn replaced(&self, name: &str, tensor: Tensor) -> Result<Model, EngineError> {
        let program = &self.model.info.program;
        let mut model = self.model.clone();
        let Some(Wanted { matrices, copies, use_ }) = self.tensors.get(name) else { return Ok(model) };
        let failed = |error| EngineError::Codec { tensor: name.into(), error };
        for &id in matrices.iter().chain(copies) {
            let part = match program.matrix(id).layout {
                Layout::Part { index, count } => codecs::part(&tensor, index, count).map_err(failed)?,
                Layout::Plain | Layout::Transposed => tensor.clone(),
            };
            model = model.with(id, part)?;
        }
        if *use_ == Use::Both && !matrices.contains(&program.table) {
            model = model.with(program.table, tensor)?;
        }
        Ok(model)
    }

    /// H of a matrix.
    fn h(&self, id: MatrixId, use_: Use) -> Option<&[f32]> {
        let of_products = || {
            let Measured { h, head, .. } = of_matrix(&self.measured, id)?;
            Some(head.as_ref().map_or(h, |head| &head.h).as_slice())
        };
        match use_ {
            Use::LookedUp => self.lookups.as_deref(),
            Use::Both => self.table.as_deref().or_else(of_products),
            Use::Multiplied => of_products(),
        }
    }

    /// Whether gradients have a say.
    pub fn is_graded(&self) -> bool {
        self.graded.is_some()
    }

    /// What the text that is read can be known by, if by anything.
    pub fn marks(&self) -> Option<&Marks> {
        self.marks.as_ref()
    }

    /// What is to be said in the end.
    pub fn findings(&self) -> Vec<Finding> {
        let mut plain: Vec<(&Plain, Vec<String>)> = Vec::new();
        let mut done = 0;
        for Outcome { tensor, plain: why, .. } in &self.outcomes {
            let Some(why) = why else {
                done += 1;
                continue;
            };
            match plain.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(tensor.clone()),
                None => plain.push((why, vec![tensor.clone()])),
            }
        }
        let (tensors, tokens) =
            (counted(done, "tensor", "tensors"), counted(self.statistics.tokens() as u64, "token", "tokens"));
        let (code, message) = match self.clips_only {
            false => (
                "compensated",
                format!(
                    "errors of rounding {tensors} were made up for by what enters them while the model reads {tokens} of the \
                     calibration text; scales are those of the least error there, which may clip"
                ),
            ),
            true => (
                "clipped-by-text",
                format!(
                    "scales of {tensors} clip where the error is least of what enters them while the model reads {tokens} of \
                     the calibration text"
                ),
            ),
        };
        let mut findings = vec![Finding::info(code, message)];
        findings.extend(self.graded.iter().flat_map(|it| it.findings.clone()));
        for (Plain { reason, how }, names) in plain {
            let count = counted(names.len() as u64, "tensor was", "tensors were");
            let how = match how {
                Plainly::Usually => "",
                Plainly::InSteps => ", to levels a step of their own numbers apart",
                Plainly::BySearch => ", with scales of the least squared error",
            };
            let message = format!("{count} rounded plainly{how}: {reason}: {}", listed(&names));
            let code = if self.clips_only { "not-by-text" } else { "not-compensated" };
            findings.push(Finding::info(code, message).about(&names[0]));
        }
        // Of a tensor that was read for and then kept nothing came, but what was found is told.
        let found = self.outcomes.iter().map(|outcome| &outcome.findings).chain([&self.findings]);
        findings.extend(found.flatten().cloned());
        findings
    }
}

/// What enters a matrix, where that is known.
fn of_matrix(measured: &[Measured], id: MatrixId) -> Option<&Measured> {
    measured.iter().find(|it| it.matrix == id)
}

//! Compressing with errors made up for: a calibration text is read as far as the next tensor needs it.
//!
//! Statistics are of one group of matrices at a time and go when their tensor is written: beside the model, which is loaded
//! whole, they take [`BUDGET`](crate::calibrate::BUDGET), and a tensor that is larger by itself what it takes.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::GptqOptions;
use statepress_core::words::counted;
use statepress_core::{Coding, Entry, Finding, Group, Index, Tensor};
use statepress_kernels::backend::Runner;
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::program::{Layout, MatrixId, Program};

use super::keep::tell_once;
use crate::EngineError;
use crate::calibrate::{
    self, Fit, Groups, Measured, Options, Prepared, Sample, Statistics, StatisticsOptions, entered,
};
use crate::error::listed;
use crate::families::ModelSpec;
use crate::models::Loaded;

/// Rounding with errors made up for, under way.
pub(super) struct Compensate<R: Runner> {
    statistics: Statistics<R>,
    program: Rc<Program>,
    options: GptqOptions,
    /// The matrices in each tensor that is to be coded, by its name.
    matrices: BTreeMap<String, Vec<MatrixId>>,
    /// What is known of those that come next.
    measured: BTreeMap<MatrixId, Measured>,
    /// The text was read as often as it takes.
    read: bool,
    /// How many tensors errors were made up for in.
    done: u64,
    /// Tensors that were rounded plainly, by the reason.
    plain: BTreeMap<&'static str, Vec<String>>,
    /// The table that was rounded for the logits, though ids look its rows up as well.
    for_logits: Option<String>,
}

/// A tensor that was coded.
pub(super) struct Compensated {
    pub tensor: Tensor,
    /// Values beyond a percentile that the recipe clips to.
    pub clipped: u64,
    pub findings: Vec<Finding>,
}

const NOT_MULTIPLIED: &str =
    "no product goes over them, and what the loss feels of rows that are looked up takes gradients to know";
const SHARED: &str = "one scale covers parts that meet different inputs";

impl<R: Runner> Compensate<R> {
    /// Prepares to code `tensors`, in that order, for a model that reads `ids`.
    ///
    /// # Errors
    /// Where there is no tensor whose errors can be made up for, and for ids that fill no window or are none.
    pub fn new(
        model: &impl Loaded<Runner = R>,
        ids: &[u32],
        options: GptqOptions,
        (spec, index): (&ModelSpec, &Index),
        tensors: &[&str],
    ) -> Result<Self, EngineError> {
        let program = model.info().program.clone();
        let mut inside: BTreeMap<&str, Vec<MatrixId>> = BTreeMap::new();
        for id in program.used_matrices() {
            if let Some(entry) = spec.names.get(index, &program.matrix(id).key) {
                inside.entry(&entry.name).or_default().push(id);
            }
        }
        let entered = entered(&program);
        let (mut matrices, mut wanted) = (BTreeMap::new(), Vec::new());
        for &name in tensors {
            let Some(mut ids) = inside.remove(name) else { continue };
            // A head that is not written is the table, whatever it was before.
            let head = spec.names.get(index, &program.matrix(program.head.matrix).key);
            if ids == [program.table] && head.is_some_and(|head| !tensors.contains(&head.name.as_str())) {
                ids = vec![program.head.matrix];
            }
            if ids.iter().all(|id| entered.contains(id)) {
                wanted.extend(&ids);
                matrices.insert(name.to_string(), ids);
            }
        }
        if wanted.is_empty() {
            let allowed = "none, as the recipe codes no matrix of the model";
            return Err(EngineError::option("calibration", "given", allowed));
        }
        let how = StatisticsOptions { sample: Sample::from(&options), ..StatisticsOptions::default() };
        let statistics = Statistics::new(model, ids, &wanted, &how)?;
        Ok(Self {
            statistics,
            program,
            options,
            matrices,
            measured: BTreeMap::new(),
            read: false,
            done: 0,
            plain: BTreeMap::new(),
            for_logits: None,
        })
    }

    /// Reads on where more has to be known of a tensor; `None` when it can be coded.
    pub async fn prepare(&mut self, tensor: &str) -> Result<Option<Progress>, EngineError> {
        let Some(ids) = self.matrices.get(tensor) else { return Ok(None) };
        if self.read || ids.iter().all(|id| self.measured.contains_key(id)) {
            return Ok(None);
        }
        let progress = self.statistics.step().await?;
        self.read = progress.is_none();
        self.measured.extend(self.statistics.take().into_iter().map(|it| (it.matrix, it)));
        Ok(progress)
    }

    /// Bytes of the statistics that are held.
    pub fn bytes(&self) -> u64 {
        self.measured.values().map(|it| 4 * it.h.len() as u64).sum()
    }

    /// Forgets what is known of a tensor that is not coded after all.
    pub fn skip(&mut self, tensor: &str) {
        for id in self.matrices.remove(tensor).unwrap_or_default() {
            self.measured.remove(&id);
        }
    }

    /// Codes a tensor of finite numbers; `None` where it is to be rounded plainly, which is told at the end.
    pub fn code(
        &mut self,
        entry: &Entry,
        values: &[f32],
        coding: Coding,
        clip: Clip,
    ) -> Result<Option<Compensated>, EngineError> {
        let ids = self.matrices.remove(&entry.name).unwrap_or_default();
        let measured: Vec<_> = ids.iter().filter_map(|id| self.measured.remove(id)).collect();
        let reason = match (measured.len(), coding.group) {
            (0, _) => Some(NOT_MULTIPLIED),
            (2.., Group::Tensor) => Some(SHARED),
            _ => None,
        };
        if let Some(reason) = reason {
            self.plain.entry(reason).or_default().push(entry.name.clone());
            return Ok(None);
        }
        let numbers: usize = ids.iter().map(|&id| self.program.matrix(id)).map(|it| it.rows * it.cols).sum();
        if numbers != values.len() {
            let message = format!("{} is of another shape in the model that reads the text", entry.name);
            return Err(EngineError::Evaluation(message));
        }
        let fit = match clip {
            Clip::Absmax => Fit::Weighted,
            Clip::Percentile(percentile) => Fit::Percentile(percentile),
        };
        let options = Options { fit, damping: self.options.damping, passes: self.options.passes };
        let (mut codes, mut scales, mut findings) =
            (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
        for (id, measured) in ids.into_iter().zip(measured) {
            let matrix = self.program.matrix(id);
            let (rows, cols) = (matrix.rows, matrix.cols);
            let values = match matrix.layout {
                Layout::Plain | Layout::Transposed => values,
                Layout::Part { index, .. } => &values[index * rows * cols..][..rows * cols],
            };
            let transposed = matrix.layout == Layout::Transposed;
            let shape = if transposed { [cols, rows] } else { [rows, cols] };
            let groups = Groups { rows, cols, group: coding.group.size(&shape), transposed };
            let looked_up = id == self.program.table;
            let h = match measured.head {
                Some(head) => {
                    self.for_logits = looked_up.then(|| entry.name.clone());
                    head.h
                }
                None => measured.h,
            };
            let prepared = Prepared::new(&h, cols, options.damping, &entry.name);
            let rounded = calibrate::round(&prepared, values, coding, groups, &options);
            codes.extend(rounded.codes);
            scales.extend(rounded.scales);
            rounded.findings.into_iter().for_each(|finding| tell_once(&mut findings, finding));
        }
        let clipped = match clip {
            Clip::Absmax => 0,
            Clip::Percentile(_) => {
                beyond(values, coding.group.size(&entry.shape), &scales, coding.grid.most())
            }
        };
        let tensor = codecs::assemble(&entry.shape, coding, codes, scales)
            .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
        self.done += 1;
        Ok(Some(Compensated { tensor, clipped, findings }))
    }

    /// What is to be said in the end.
    pub fn findings(&self) -> Vec<Finding> {
        let message = format!(
            "errors of rounding {} were made up for by what enters them while the model reads {} of the calibration \
             text; scales are those of the least error there, which may clip",
            counted(self.done, "tensor", "tensors"),
            counted(self.statistics.tokens() as u64, "token", "tokens")
        );
        let mut findings = vec![Finding::info("compensated", message)];
        for (reason, names) in &self.plain {
            let count = counted(names.len() as u64, "tensor was", "tensors were");
            let message = format!("{count} rounded plainly: {reason}: {}", listed(names));
            findings.push(Finding::info("not-compensated", message).about(&names[0]));
        }
        if let Some(table) = &self.for_logits {
            let message = "rounded for the logits that it makes; what the model feels of rows that ids look up takes \
                           gradients to know";
            findings.push(Finding::info("compensated-for-logits", message).about(table));
        }
        findings
    }
}

/// How many values the last code of their group does not reach.
fn beyond(values: &[f32], group: usize, scales: &[f32], most: f32) -> u64 {
    let groups = values.chunks(group).zip(scales);
    let of = |(values, scale): (&[f32], &f32)| {
        values.iter().filter(|value| value.abs() > (most + 0.5) * scale).count() as u64
    };
    groups.map(of).sum()
}

//! Compressing with errors made up for: a calibration text is read as far as the next tensor needs it.
//!
//! Statistics are of one group of matrices at a time and go when their tensor is written, so that memory stays within
//! [`BUDGET`](crate::calibrate::BUDGET) and one tensor, however large the model is.

use std::collections::BTreeMap;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_core::recipe::Compensation;
use statepress_core::{Coding, Entry, Finding, Group, Index, Tensor};
use statepress_kernels::backend::Runner;
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::program::{Layout, MatrixId, Program};

use crate::EngineError;
use crate::calibrate::{
    self, Fit, Groups, Measured, Options, Prepared, Sample, Statistics, StatisticsOptions,
};
use crate::error::listed;
use crate::families::ModelSpec;
use crate::models::Loaded;

/// Rounding with errors made up for, under way.
pub(super) struct Compensate<R: Runner> {
    statistics: Statistics<R>,
    program: Rc<Program>,
    options: Compensation,
    /// The matrices in each tensor that is to be coded, by its name.
    matrices: BTreeMap<String, Vec<MatrixId>>,
    /// What is known of those that come next.
    measured: BTreeMap<MatrixId, Measured>,
    /// The text was read as often as it takes.
    read: bool,
    /// Tensors that were rounded plainly.
    plain: Vec<String>,
}

impl<R: Runner> Compensate<R> {
    /// Prepares to code `tensors`, in that order, for a model that reads `ids`.
    pub fn new<'a>(
        model: &impl Loaded<Runner = R>,
        ids: &[u32],
        options: Compensation,
        (spec, index): (&ModelSpec, &Index),
        tensors: impl Iterator<Item = &'a str>,
    ) -> Result<Self, EngineError> {
        let info = model.info();
        let program = info.program.clone();
        let mut inside: BTreeMap<&str, Vec<MatrixId>> = BTreeMap::new();
        for id in program.used_matrices() {
            if let Some(entry) = spec.names.get(index, &program.matrix(id).key) {
                inside.entry(&entry.name).or_default().push(id);
            }
        }
        let (mut matrices, mut wanted) = (BTreeMap::new(), Vec::new());
        for name in tensors {
            if let Some(ids) = inside.remove(name) {
                wanted.extend(&ids);
                matrices.insert(name.to_string(), ids);
            }
        }
        let window = options.window.min(info.max_tokens.unwrap_or(usize::MAX));
        let windows = options.windows.min(ids.len() / window.max(1)).max(1);
        let sample = Sample { windows: Some(windows), window: Some(window) };
        let statistics = Statistics::new(
            model,
            ids,
            &wanted,
            &StatisticsOptions { sample, ..StatisticsOptions::default() },
        )?;
        let (measured, plain) = (BTreeMap::new(), Vec::new());
        Ok(Self { statistics, program, options, matrices, measured, read: false, plain })
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

    /// Codes a tensor of finite numbers; `None` where nothing is known of it, which is told at the end.
    pub fn code(
        &mut self,
        entry: &Entry,
        values: &[f32],
        coding: Coding,
        clip: Clip,
    ) -> Result<Option<(Tensor, Vec<Finding>)>, EngineError> {
        let Some(ids) = self.matrices.remove(&entry.name) else { return Ok(None) };
        let measured: Vec<_> = ids.iter().filter_map(|id| self.measured.remove(id)).collect();
        let shares = coding.group == Group::Tensor && ids.len() > 1;
        if measured.len() < ids.len() || measured.is_empty() || shares {
            self.plain.push(entry.name.clone());
            return Ok(None);
        }
        let options = Options {
            fit: match clip {
                Clip::Absmax => Fit::Weighted,
                Clip::Percentile(percentile) => Fit::Percentile(percentile),
            },
            damping: self.options.damping,
            passes: self.options.passes,
        };
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
            // A table that makes the logits is rounded for them.
            let h = measured.head.map_or(measured.h, |head| head.h);
            let prepared = Prepared::new(&h, cols, options.damping, &entry.name);
            let rounded = calibrate::round(&prepared, values, coding, groups, &options);
            codes.extend(rounded.codes);
            scales.extend(rounded.scales);
            findings.extend(rounded.findings);
        }
        let tensor = codecs::assemble(&entry.shape, coding, codes, scales)
            .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
        Ok(Some((tensor, findings)))
    }

    /// What is to be said in the end.
    pub fn findings(&self) -> Vec<Finding> {
        let tokens = self.statistics.tokens();
        let message = format!(
            "errors of rounding were made up for by what enters each matrix while the model reads {tokens} tokens of the \
             calibration text"
        );
        let mut findings = vec![Finding::info("compensated", message)];
        if let Some(first) = self.plain.first() {
            let message = format!(
                "{} tensors were rounded plainly: nothing is multiplied with them, and what the loss feels of rows that are \
                 looked up takes gradients to know: {}",
                self.plain.len(),
                listed(&self.plain)
            );
            findings.push(Finding::info("not-compensated", message).about(first));
        }
        findings
    }
}

//! Rounding a tensor, or rows of one, once everything is known of what enters it.

use statepress_core::{Coding, Encoding, Entry, Finding, Group, Tensor};
use statepress_kernels::KernelError;
use statepress_kernels::codecs::{self, Clip, Encoded};
use statepress_kernels::gptq::{self, Groups, Options, Prepared, Steps};
use statepress_kernels::program::{Layout, Matrix, MatrixId};

use super::{Compensate, Wanted};
use crate::EngineError;
use crate::calibrate::RowUse;
use crate::techniques::keep::tell_once;

/// How a tensor is rounded.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub clip: Clip,
    /// How far apart the levels of its rows are, in units of what it puts out; fitted to its numbers where nothing is said.
    pub step: Option<f64>,
}

/// A tensor that was coded.
pub(crate) struct Compensated {
    pub tensor: Tensor,
    /// Values beyond the limit that the recipe clips to.
    pub clipped: u64,
    pub findings: Vec<Finding>,
}

impl Compensate {
    /// Rounds a tensor of which everything is known, and of which [`Self::reason`] has nothing to say.
    pub fn rounded(
        &self,
        entry: &Entry,
        values: &[f32],
        coding: Coding,
        How { clip, step }: How,
    ) -> Result<Compensated, EngineError> {
        let not_measured = || EngineError::Evaluation(format!("{} was not measured", entry.name));
        let Wanted { matrices, use_, .. } = self.tensors.get(entry.name.as_str()).ok_or_else(not_measured)?;
        let program = &self.model.info.program;
        let numbers: usize = matrices.iter().map(|&id| program.matrix(id)).map(|it| it.rows * it.cols).sum();
        if numbers != values.len() {
            return Err(other_shape(&entry.name));
        }
        if self.clips_only {
            let mut scales = Vec::new();
            for &id in matrices {
                let (values, groups) = part(program.matrix(id), values, coding.group);
                let h = self.h(id, *use_).ok_or_else(not_measured)?;
                scales.extend(gptq::scales(values, coding, groups, h));
            }
            return encoded(entry, codecs::encode_scaled(values, &entry.shape, coding, scales));
        }
        let options = self.rounding(clip);
        let (mut codes, mut scales, mut findings) =
            (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
        for &id in matrices {
            let (values, groups) = part(program.matrix(id), values, coding.group);
            let h = self.h(id, *use_).ok_or_else(not_measured)?;
            let prepared = Prepared::new(h, groups.cols, options.damping, &entry.name);
            let rounded = match step {
                Some(step) => prepared.round_in_steps(
                    values,
                    groups,
                    self.steps(id, Some(&prepared), step),
                    options.passes,
                ),
                None => gptq::round(&prepared, values, coding, groups, &options),
            };
            codes.extend(rounded.codes);
            scales.extend(rounded.scales);
            rounded.findings.into_iter().for_each(|finding| tell_once(&mut findings, finding));
        }
        compensated(entry, &entry.shape, values, coding, clip, (codes, scales, findings))
    }

    /// Rounds some rows of a matrix, each with a coding, as often as there are any: rows are independent of each other, and
    /// what is known of the matrix holds for all of them. [`Self::reason`] has nothing to say of it.
    pub fn rounded_rows<'a>(
        &self,
        entry: &Entry,
        pieces: impl Iterator<Item = (&'a [f32], Coding, Clip)>,
    ) -> Result<Vec<Compensated>, EngineError> {
        let not_measured = || EngineError::Evaluation(format!("{} was not measured", entry.name));
        let Wanted { matrices, use_, .. } = self.tensors.get(entry.name.as_str()).ok_or_else(not_measured)?;
        let &[id] = matrices.as_slice() else { return Err(other_shape(&entry.name)) };
        let matrix = self.model.info.program.matrix(id);
        if matrix.layout != Layout::Plain || entry.shape != [matrix.rows, matrix.cols] {
            return Err(other_shape(&entry.name));
        }
        let h = self.h(id, *use_).ok_or_else(not_measured)?;
        if self.clips_only {
            let piece = |(values, coding, clip): (&[f32], Coding, Clip)| {
                let shape = [values.len() / matrix.cols.max(1), matrix.cols];
                let (_, groups) = part(&Matrix { rows: shape[0], ..matrix.clone() }, values, coding.group);
                let coded = match clip {
                    Clip::Weighted => {
                        let scales = gptq::scales(values, coding, groups, h);
                        codecs::encode_scaled(values, &shape, coding, scales)
                    }
                    clip => codecs::encode(values, &shape, Encoding::Codes(coding), clip),
                };
                encoded(entry, coded)
            };
            return pieces.map(piece).collect();
        }
        let prepared = Prepared::new(h, matrix.cols, self.options.damping, &entry.name);
        let piece = |(values, coding, clip): (&[f32], Coding, Clip)| {
            let rows = values.len() / matrix.cols.max(1);
            let (_, groups) = part(&Matrix { rows, ..matrix.clone() }, values, coding.group);
            let rounded = gptq::round(&prepared, values, coding, groups, &self.rounding(clip));
            let shape = [rows, matrix.cols];
            compensated(
                entry,
                &shape,
                values,
                coding,
                clip,
                (rounded.codes, rounded.scales, rounded.findings),
            )
        };
        pieces.map(piece).collect()
    }

    /// Steps for the rows of a matrix, none of them too large for what is prepared.
    fn steps(&self, id: MatrixId, prepared: Option<&Prepared>, step: f64) -> Steps<'_> {
        let program = &self.model.info.program;
        match self.graded.as_ref().and_then(|it| it.rows(program, id)) {
            Some(weights) => Steps { step, weights: Some(weights), most: f64::INFINITY },
            None => RowUse::steps(self.rows.as_ref(), program, id, prepared, step),
        }
    }

    /// How matrices are rounded.
    fn rounding(&self, clip: Clip) -> Options {
        // Where a recipe says nothing of it, scales serve what is made up for.
        let clip = if clip == Clip::Absmax { Clip::Weighted } else { clip };
        Options { clip, damping: self.options.damping, passes: self.options.passes }
    }

    /// The step at which the codes of a tensor have about three bits, for [`How::step`].
    pub fn usual_step(&self, entry: &Entry, values: &[f32]) -> Option<f64> {
        let program = &self.model.info.program;
        let Wanted { matrices, use_, .. } = self.tensors.get(entry.name.as_str())?;
        let step = |&id: &MatrixId| {
            let (values, groups) = part(program.matrix(id), values, Group::Row);
            let prepared = Prepared::new(self.h(id, *use_)?, groups.cols, self.options.damping, &entry.name);
            let Steps { weights, .. } = self.steps(id, None, 1.0);
            Some(prepared.usual_step(values, groups, weights).ln())
        };
        let logs: Option<Vec<f64>> = matrices.iter().map(step).collect();
        let logs = logs?;
        Some((logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp())
    }
}

/// What was rounded plainly.
fn encoded(entry: &Entry, coded: Result<Encoded, KernelError>) -> Result<Compensated, EngineError> {
    let Encoded { tensor, clipped } =
        coded.map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
    Ok(Compensated { tensor, clipped, findings: Vec::new() })
}

/// Codes and scales as a tensor.
fn compensated(
    entry: &Entry,
    shape: &[usize],
    values: &[f32],
    coding: Coding,
    clip: Clip,
    (codes, scales, findings): (Vec<u8>, Vec<f32>, Vec<Finding>),
) -> Result<Compensated, EngineError> {
    let clipped = match clip {
        Clip::Absmax => 0,
        _ => {
            let groups = values.chunks(coding.group.size(shape)).zip(&scales);
            groups.map(|(values, &scale)| codecs::beyond(values, coding.grid, scale)).sum()
        }
    };
    let tensor = codecs::assemble(shape, coding, codes, scales)
        .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
    Ok(Compensated { tensor, clipped, findings })
}

fn other_shape(tensor: &str) -> EngineError {
    EngineError::Evaluation(format!("{tensor} is of another shape in the model that reads the text"))
}

/// The numbers of a matrix in those of its tensor, and what shares scales in it.
fn part<'a>(matrix: &Matrix, values: &'a [f32], group: Group) -> (&'a [f32], Groups) {
    let (rows, cols) = (matrix.rows, matrix.cols);
    let values = match matrix.layout {
        Layout::Plain | Layout::Transposed => values,
        Layout::Part { index, .. } => &values[index * rows * cols..][..rows * cols],
    };
    let transposed = matrix.layout == Layout::Transposed;
    let shape = if transposed { [cols, rows] } else { [rows, cols] };
    (values, Groups { rows, cols, group: group.size(&shape), transposed })
}

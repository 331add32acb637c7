//! What a matrix that ids look rows up in is rounded for.
//!
//! The loss feels a change of such rows by `F_in = mean g g^T` with g the gradient at the output of the look-up, which
//! takes a backward pass. Without one there is a substitute, reported as such ([`substitute`]): the covariance of the
//! softmax, seen through the final norm, says in which directions of the residual stream logits are touchy. It gives
//! the shape of `F_in` alone, which is enough for a matrix that is only looked up. Of a table that is the head as well
//! H is `H_head + F_in`: how much of a change at the input gets to the logits, one measured divergence says ([`Probe`]).

use statepress_core::encoding::ScaleType;
use statepress_core::job::{Job, Progress};
use statepress_core::{Encoding, Finding};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::linear::outer;
use statepress_kernels::program::{Layout, Matrix, MatrixId, NormKind, Program};

use crate::EngineError;
use crate::eval::Divergence;
use crate::models::Model;

/// What stands in for gradients, in words.
pub const SUBSTITUTE: &str =
    "the covariance of the softmax, seen through the final norm, stands in for what takes gradients to know";

/// How a table is changed to see what that costs: a few bits, plainly.
const PROBE: Encoding = Encoding::nf4(64, ScaleType::Fp32);

/// Windows of the calibration text on which that is measured.
const WINDOWS: usize = 4;

/// By how much the substitute is taken larger than a probe says: it lacks directions that only the layers between make
/// touchy, and measured with it twice as large, coded tables lose 4 to 6 % less.
const MORE: f64 = 2.0;

/// The substitute of a model's `F_in`, whose softmax has the covariance
/// [`HeadStatistics::covariance`](super::HeadStatistics::covariance). Of a table with a basis of its own both are about what
/// its rows are written in.
pub fn of_model(model: &Model, covariance: &[f32]) -> Vec<f32> {
    let (norm, basis) = model.info.program.end();
    let gain = norm.and_then(|norm| norm.weight).map(|id| model.network().vector(id));
    let takes_mean = norm.is_some_and(|norm| matches!(norm.kind, NormKind::Layer { .. }));
    let Some(basis) = basis else { return substitute(covariance, gain, takes_mean) };
    let Matrix { rows: k, cols: d, .. } = *model.info.program.matrix(basis);
    let of_stream = outer::congruent(covariance, &rows(model, basis), [k, d]);
    in_basis(model, substitute(&of_stream, gain, takes_mean))
}

/// What the loss feels of directions of the residual stream, `[d, d]`, as what it feels of what the table's rows are written in.
pub fn in_basis(model: &Model, of_stream: Vec<f32>) -> Vec<f32> {
    let Some(basis) = model.info.program.end().1 else { return of_stream };
    let Matrix { rows: k, cols: d, .. } = *model.info.program.matrix(basis);
    outer::congruent(&of_stream, &outer::transposed(&rows(model, basis), d), [d, k])
}

/// In place of `F_in`, up to its size: `P G S G P` with S the covariance of the softmax, `[d, d]`, G the weights of the
/// final norm, and P what takes the mean away, as a LayerNorm does; its trace is d. It knows nothing of the layers between.
fn substitute(covariance: &[f32], gain: Option<&[f32]>, takes_mean: bool) -> Vec<f32> {
    let d = covariance.len().isqrt();
    let gain = |i: usize| gain.map_or(1.0, |gain| f64::from(gain[i]));
    let mut f: Vec<f64> =
        (0..d * d).map(|at| f64::from(covariance[at]) * gain(at / d.max(1)) * gain(at % d.max(1))).collect();
    if takes_mean {
        for row in f.chunks_exact_mut(d) {
            let mean = row.iter().sum::<f64>() / d as f64;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        for col in 0..d {
            let mean = (0..d).map(|row| f[row * d + col]).sum::<f64>() / d as f64;
            (0..d).for_each(|row| f[row * d + col] -= mean);
        }
    }
    let trace = (0..d).map(|i| f[i * (d + 1)]).sum::<f64>();
    let size = if trace > 0.0 { d as f64 / trace } else { 0.0 };
    f.into_iter().map(|x| (x * size) as f32).collect()
}

/// The numbers of the head, `[V, d]`; `None` where its rows cannot be read one by one.
pub fn head_rows(model: &Model) -> Option<Vec<f32>> {
    let program = &model.info.program;
    let head = program.head.matrix;
    (program.matrix(head).layout == Layout::Plain).then(|| rows(model, head))
}

fn rows(model: &Model, id: MatrixId) -> Vec<f32> {
    let weights = model.network().matrix(id);
    let mut values = vec![0.0; weights.rows() * weights.cols()];
    for (row, values) in values.chunks_exact_mut(weights.cols().max(1)).enumerate() {
        weights.row(row, values);
    }
    values
}

/// What a change of a table that is the head as well costs, being measured.
pub struct Probe {
    judge: Divergence,
    changed: Model,
    kl: Option<f64>,
    /// `sum_r alpha_r e_r e_r^T` of the change E, `[d, d]`.
    change: Vec<f32>,
}

impl Probe {
    /// Prepares to read some of these windows. `alpha` is the head's.
    pub fn new(model: &Model, alpha: &[f32], windows: &[Vec<u32>]) -> Result<Self, EngineError> {
        let program: &Program = &model.info.program;
        let (table, head) = (program.table, program.head.matrix);
        let matrix = program.matrix(table);
        let d = matrix.cols;
        let mut values = rows(model, table);
        let coded = codecs::encode(&values, &[matrix.rows, d], PROBE, Clip::Absmax);
        let coded = coded.map_err(|error| EngineError::Codec { tensor: matrix.key.clone(), error })?.tensor;
        for (x, rounded) in values.iter_mut().zip(codecs::decode(&coded)) {
            *x -= rounded;
        }
        for (row, alpha) in values.chunks_exact_mut(d.max(1)).zip(alpha) {
            let root = alpha.max(0.0).sqrt();
            row.iter_mut().for_each(|x| *x *= root);
        }
        let mut change = vec![0.0; d * d];
        outer::add_gram(&mut change, &values, d);
        let mut changed = model.with(table, coded.clone())?;
        if head != table {
            changed = changed.with(head, coded)?;
        }
        let some = windows.iter().step_by(windows.len().div_ceil(WINDOWS).max(1)).cloned().collect();
        // The table changes, which is before all layers.
        Ok(Self { judge: Divergence::new(model, some, 0), changed, kl: None, change })
    }
}

impl Job for Probe {
    type Output = Probed;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        if !self.judge.prepare().await? {
            if self.kl.is_some() {
                return Ok(None);
            }
            self.kl = Some(self.judge.of(&self.changed).await?);
        }
        let done = f64::from(u8::from(self.kl.is_some()));
        Ok(Some(Progress { stage: "calibrate".into(), done, total: 1.0, unit: "probes".into(), item: None }))
    }

    fn finish(self) -> Result<Probed, EngineError> {
        let unfinished = || EngineError::Evaluation("a probe was finished before it was measured".into());
        Ok(Probed { kl: self.kl.ok_or_else(unfinished)?, change: self.change })
    }
}

/// What a change of a table cost.
pub struct Probed {
    /// In nats a token.
    pub kl: f64,
    change: Vec<f32>,
}

impl Probed {
    /// Says what came of it, `size` being [`Self::size`].
    pub fn told(&self, size: Option<f64>) -> Finding {
        let message = match size {
            Some(size) => format!(
                "rounded for the logits that it makes and for what ids look up in it; of the latter {SUBSTITUTE}, times \
                 {size:.3}, which a probe gave that cost a divergence of {:.4}",
                self.kl
            ),
            None => "rounded for the logits that it makes: they explain all that a probe cost".into(),
        };
        Finding::info("lookup-substitute", message)
    }

    /// How many times `f` is taken, by what is needed to explain the divergence together with the head's H. `None` where the
    /// head explains all of it.
    pub fn size(&self, head: &[f32], f: &[f32]) -> Option<f64> {
        let (explained, unit) = (half_trace(&self.change, head), half_trace(&self.change, f));
        (unit > 0.0 && self.kl > explained).then(|| MORE * (self.kl - explained) / unit)
    }
}

/// `1/2 tr(C H)` of symmetric matrices: `1/2 sum_r alpha_r e_r^T H e_r` where C is `sum_r alpha_r e_r e_r^T`.
fn half_trace(c: &[f32], h: &[f32]) -> f64 {
    c.iter().zip(h).map(|(c, h)| f64::from(*c) * f64::from(*h)).sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_substitute_has_the_trace_of_the_identity_and_does_not_see_a_mean() {
        let covariance = [2.0, 0.5, 0.0, 0.5, 1.0, 0.25, 0.0, 0.25, 3.0];
        let f = substitute(&covariance, Some(&[1.0, 2.0, 0.5]), true);
        assert!((f[0] + f[4] + f[8] - 3.0).abs() < 1e-5);
        for i in 0..3 {
            assert!(f[3 * i..3 * i + 3].iter().sum::<f32>().abs() < 1e-5, "{f:?}");
            (0..3).for_each(|j| assert!((f[3 * i + j] - f[3 * j + i]).abs() < 1e-6));
        }
        let plain = substitute(&covariance, None, false);
        assert!((plain[1] - 0.25).abs() < 1e-6, "{plain:?}");
    }

    #[test]
    fn half_a_trace_is_what_every_row_costs() {
        let (e, alpha, h) = ([[0.5_f32, -1.0], [0.25, 2.0]], [0.5_f32, 0.25], [2.0_f32, 0.5, 0.5, 1.0]);
        let row = |[x, y]: [f32; 2]| x * x * h[0] + 2.0 * x * y * h[1] + y * y * h[3];
        let expected = (alpha[0] * row(e[0]) + alpha[1] * row(e[1])) / 2.0;
        let c = [0, 1, 2, 3]
            .map(|at| alpha[0] * e[0][at / 2] * e[0][at % 2] + alpha[1] * e[1][at / 2] * e[1][at % 2]);
        assert!((half_trace(&c, &h) - f64::from(expected)).abs() < 1e-6);
    }
}

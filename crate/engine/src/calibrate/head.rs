//! How the head uses its rows: what a table that is also the head has to be rounded for.

use std::rc::Rc;

use statepress_kernels::backend::Runner;
use statepress_kernels::lanes::{F32x4, math};
use statepress_kernels::linear::outer::{self, Area, Strided};
use statepress_kernels::program::Program;

use crate::EngineError;

/// Rows of logits that are held at a time.
const LOGIT_ROWS: usize = 32;

/// What the logits say of the head, with p the softmax of a token's logits. A change E of the head's rows
/// changes the divergence by about `1/2 sum_r alpha_r e_r^T H e_r`, with H of [`Self::h`].
#[derive(Clone, Debug, PartialEq)]
pub struct HeadStatistics {
    /// `alpha_r = mean p_r (1 - p_r)`: how much row r matters.
    pub alpha: Vec<f32>,
    /// `mean p_r`.
    pub mean: Vec<f32>,
    /// `sum_t c_t h_t h_t^T / sum_t c_t` with `c_t = sum_r p_r (1 - p_r)` and h what enters the head, times
    /// the scale of the logits: tokens about which the model is sure do not mind.
    pub h: Vec<f32>,
    /// `mean T^T (diag p - p p^T) T` of a table T, where it was asked for: what logits feel of a change of
    /// what enters the head.
    pub covariance: Option<Vec<f32>>,
}

/// The same while it is added up.
pub(super) struct HeadSums {
    d: usize,
    scale: f32,
    alpha: Vec<f64>,
    mean: Vec<f64>,
    h: Vec<f32>,
    weight: f64,
    tokens: usize,
    hidden: Vec<f32>,
    logits: Vec<f32>,
    table: Option<Rc<Vec<f32>>>,
    /// `sum m_t m_t^T` with `m_t = T^T p_t`.
    means: Vec<f32>,
}

impl HeadSums {
    pub fn new(program: &Program, table: Option<Rc<Vec<f32>>>) -> Self {
        let (d, vocab_size) = (program.matrix(program.head.matrix).cols, program.vocab_size);
        let means = vec![0.0; table.as_ref().map_or(0, |_| d * d)];
        Self {
            d,
            scale: program.head.scale,
            alpha: vec![0.0; vocab_size],
            mean: vec![0.0; vocab_size],
            h: vec![0.0; d * d],
            weight: 0.0,
            tokens: 0,
            hidden: Vec::new(),
            logits: Vec::new(),
            table,
            means,
        }
    }

    /// Adds the rows of the last forward pass.
    pub async fn add(&mut self, runner: &mut impl Runner, rows: usize) -> Result<(), EngineError> {
        runner.hidden(0..rows, &mut self.hidden).await?;
        for from in (0..rows).step_by(LOGIT_ROWS) {
            let to = rows.min(from + LOGIT_ROWS);
            runner.logits(from..to, &mut self.logits).await?;
            for (t, row) in (from..to).zip(self.logits.chunks_exact_mut(self.alpha.len())) {
                softmax(row);
                let mut weight = 0.0;
                for ((p, alpha), mean) in row.iter().zip(&mut self.alpha).zip(&mut self.mean) {
                    let p = f64::from(*p);
                    *alpha += p * (1.0 - p);
                    *mean += p;
                    weight += p * (1.0 - p);
                }
                self.weight += weight;
                let root = weight.max(0.0).sqrt() as f32 * self.scale;
                self.hidden[t * self.d..][..self.d].iter_mut().for_each(|x| *x *= root);
            }
            if let Some(table) = &self.table {
                let (rows, vocab_size, d) = (to - from, self.alpha.len(), self.d);
                let turned = outer::transposed(&self.logits[..rows * vocab_size], vocab_size);
                let mut means = vec![0.0; rows * d];
                let p = Strided { values: turned.as_slice(), stride: rows };
                let t = Strided { values: table.as_slice(), stride: d };
                outer::add((&mut means, d), p, t, vocab_size, [rows, d], Area::Whole);
                outer::add_gram(&mut self.means, &means, d);
            }
        }
        outer::add_gram(&mut self.h, &self.hidden, self.d);
        self.tokens += rows;
        Ok(())
    }

    pub fn finish(self) -> Result<HeadStatistics, EngineError> {
        if !self.weight.is_finite() {
            let message = "the logits are not numbers somewhere in the calibration text";
            return Err(EngineError::Evaluation(message.into()));
        }
        let tokens = self.tokens.max(1) as f64;
        let means = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / tokens) as f32).collect();
        let covariance = self.table.map(|table| {
            let mut sums = vec![0.0; self.d * self.d];
            let roots = table.chunks_exact(self.d).zip(&self.mean);
            let rows: Vec<f32> = roots
                .flat_map(|(row, mean)| row.iter().map(move |x| x * (mean / tokens).sqrt() as f32))
                .collect();
            outer::add_gram(&mut sums, &rows, self.d);
            let square = self.scale * self.scale;
            let pairs = sums.iter().zip(&self.means);
            pairs.map(|(sum, mean)| square * (sum - mean / tokens as f32)).collect()
        });
        // A head that is sure of every token has nothing to be rounded for.
        let share = if self.weight > 0.0 { (1.0 / self.weight) as f32 } else { 0.0 };
        Ok(HeadStatistics {
            alpha: means(self.alpha),
            mean: means(self.mean),
            h: self.h.into_iter().map(|sum| sum * share).collect(),
            covariance,
        })
    }
}

/// Logits become probabilities. The function e^x is the kernels' own, so that they are the same on every
/// machine's CPU.
pub(super) fn softmax(row: &mut [f32]) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |largest, &x| if x > largest { x } else { largest });
    let shift = F32x4::splat(largest);
    statepress_kernels::lanes::map(row, |x| math::exp(x - shift));
    let mut sum = 0.0;
    row.iter().for_each(|&x| sum += f64::from(x));
    let share = (1.0 / sum) as f32;
    row.iter_mut().for_each(|x| *x *= share);
}

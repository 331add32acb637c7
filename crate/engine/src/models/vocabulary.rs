//! Models whose table has rows for some ids only: ids of texts become rows, and what is computed of rows is said of ids.
//!
//! An id without a row is read as the unknown token. How likely such ids are does not follow from the model: they have a fixed share `m`
//! of the probability, each of the `r` of them as much as another.
//!
//! ```text
//! p(id) = (1 - m) softmax(logits of rows)[row of id]   where id has a row
//! p(id) = m / r                                        where it has none
//! ```
//!
//! Probabilities sum up to 1 over all ids, and so they are compared with those of a model that has rows for all of them.

use std::ops::Range;
use std::rc::Rc;

use statepress_kernels::backend::{BackendError, Moments, Residuals, Runner, Sampled, Sampling, Stretch};
use statepress_kernels::ops::softmax;
use statepress_kernels::program::{MatrixId, ReducedVocabulary};

use super::CpuRunner;
use crate::EngineError;

/// Which id has which row.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// By id; `None` of those without one.
    rows: Vec<Option<u32>>,
    /// By row, ascending.
    ids: Vec<u32>,
    /// The row of the unknown token.
    unknown: u32,
    /// `m`.
    share: f64,
}

impl Vocabulary {
    /// That of a program, of which these are the ids of the rows.
    ///
    /// # Errors
    /// For ids that do not ascend, that there are not, and where the unknown token has no row.
    pub(crate) fn new(of: &ReducedVocabulary, key: &str, ids: &[f32]) -> Result<Self, EngineError> {
        let refused = |why: String| EngineError::UnknownModel { reason: format!("{key} {why}") };
        let is_id = |id: &f32| id.fract() == 0.0 && (0.0..of.size as f32).contains(id);
        if let Some(odd) = ids.iter().find(|id| !is_id(id)) {
            return Err(refused(format!("has {odd}; allowed: ids from 0 to {}", of.size.saturating_sub(1))));
        }
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(refused(format!("has {} behind {}; allowed: ids that ascend", pair[1], pair[0])));
        }
        let row = ids.binary_search(&(of.unknown as u32));
        let unknown = row.map_err(|_| refused(format!("lacks the unknown token {}", of.unknown)))? as u32;
        let mut rows = vec![None; of.size];
        ids.iter().zip(0..).for_each(|(&id, row)| rows[id as usize] = Some(row));
        // Where all have one, nothing is shared out.
        let share = if ids.len() == of.size { 0.0 } else { of.share };
        Ok(Self { rows, ids, unknown, share })
    }

    /// The rows of ids that there are: those that enter a model.
    pub fn rows(&self, ids: &[u32]) -> impl Iterator<Item = u32> {
        ids.iter().map(|&id| self.rows[id as usize].unwrap_or(self.unknown))
    }

    /// Rows of ids below one.
    fn rows_below(&self, id: usize) -> usize {
        self.ids.partition_point(|&it| (it as usize) < id)
    }

    /// The negative log-likelihood of an id, nats, given that of its row.
    fn nll(&self, id: u32, of_row: f32) -> f32 {
        match self.rows[id as usize] {
            Some(_) => of_row - (1.0 - self.share).ln() as f32,
            None => -(self.share / self.without_row()).ln() as f32,
        }
    }

    /// `r`.
    fn without_row(&self) -> f64 {
        (self.rows.len() - self.ids.len()) as f64
    }

    /// Logits of ids, from those of rows, which stay what they are.
    fn logits(&self, of_rows: &[f32]) -> Vec<f32> {
        let odds = (self.share / (1.0 - self.share) / self.without_row()).ln() as f32;
        let mut logits = Vec::with_capacity(of_rows.len() / self.ids.len().max(1) * self.rows.len());
        for row in of_rows.chunks_exact(self.ids.len().max(1)) {
            let without = softmax::log_sum_exp(row) + odds;
            logits.extend(self.rows.iter().map(|at| at.map_or(without, |at| row[at as usize])));
        }
        logits
    }
}

/// A runner that takes ids of texts, whatever rows a model has.
pub struct Translated<R> {
    runner: R,
    vocabulary: Option<Rc<Vocabulary>>,
    /// Whether logits are those of rows: what is about the head's own rows asks for them.
    of_rows: bool,
    /// Of the ids that are taken in.
    rows: Vec<u32>,
}

impl<R: Runner> Translated<R> {
    pub(super) fn new(runner: R, vocabulary: Option<Rc<Vocabulary>>, of_rows: bool) -> Self {
        Self { runner, vocabulary, of_rows, rows: Vec::new() }
    }

    /// What translates logits and labels.
    fn outwards(&self) -> Option<&Vocabulary> {
        self.vocabulary.as_deref().filter(|_| !self.of_rows)
    }

    /// The runner, and ids as it takes them.
    fn inwards(&mut self, ids: &[u32]) -> (&mut R, &[u32]) {
        self.rows.clear();
        match &self.vocabulary {
            Some(vocabulary) => self.rows.extend(vocabulary.rows(ids)),
            None => self.rows.extend(ids),
        }
        (&mut self.runner, &self.rows)
    }
}

impl Translated<CpuRunner> {
    /// See [`CpuRunner::resume`].
    pub fn resume(&mut self, begin: usize, stream: &[f32], ids: &[u32]) {
        let (runner, rows) = self.inwards(ids);
        runner.resume(begin, stream, rows);
    }
}

// What is passed on is the runner's own future: one around it would be code for nothing.
impl<R: Runner> Runner for Translated<R> {
    fn name(&self) -> &'static str {
        self.runner.name()
    }

    fn adapter(&self) -> Option<String> {
        self.runner.adapter()
    }

    fn restart(&mut self) {
        self.runner.restart();
    }

    fn position(&self) -> usize {
        self.runner.position()
    }

    fn forward(
        &mut self,
        ids: &[u32],
        residuals: Option<&mut Residuals>,
    ) -> impl Future<Output = Result<(), BackendError>> {
        let (runner, rows) = self.inwards(ids);
        runner.forward(rows, residuals)
    }

    async fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        self.runner.logits(rows, out).await?;
        if let Some(vocabulary) = self.outwards() {
            *out = vocabulary.logits(out);
        }
        Ok(())
    }

    fn hidden(
        &mut self,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) -> impl Future<Output = Result<(), BackendError>> {
        self.runner.hidden(rows, out)
    }

    fn moments(
        &mut self,
        ids: &[u32],
        stretch: Stretch<'_>,
        matrices: &[MatrixId],
        moments: Moments,
        sums: &mut [Vec<f32>],
    ) -> impl Future<Output = Result<(), BackendError>> {
        let (runner, rows) = self.inwards(ids);
        runner.moments(rows, stretch, matrices, moments, sums)
    }

    async fn nll(&mut self, labels: &[&[u32]]) -> Result<Vec<Vec<f32>>, BackendError> {
        let Some(vocabulary) = self.vocabulary.clone().filter(|_| !self.of_rows) else {
            return self.runner.nll(labels).await;
        };
        let rows: Vec<Vec<u32>> = labels.iter().map(|labels| vocabulary.rows(labels).collect()).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let mut all = self.runner.nll(&rows).await?;
        for (nll, labels) in all.iter_mut().zip(labels) {
            nll.iter_mut().zip(*labels).for_each(|(nll, &label)| *nll = vocabulary.nll(label, *nll));
        }
        Ok(all)
    }

    fn keep(&mut self, n: usize) -> impl Future<Output = Result<(), BackendError>> {
        self.runner.keep(n)
    }

    /// Of ids without a row none is taken.
    async fn generate(
        &mut self,
        sampling: &Sampling,
        random: &[f64],
        take_in: usize,
    ) -> Result<Vec<Sampled>, BackendError> {
        let Some(vocabulary) = &self.vocabulary else {
            return self.runner.generate(sampling, random, take_in).await;
        };
        let sampling = Sampling { usable: vocabulary.rows_below(sampling.usable).max(1), ..*sampling };
        let mut tokens = self.runner.generate(&sampling, random, take_in).await?;
        for token in &mut tokens {
            token.id = vocabulary.ids[token.id as usize];
            token.probability *= 1.0 - vocabulary.share;
        }
        Ok(tokens)
    }
}

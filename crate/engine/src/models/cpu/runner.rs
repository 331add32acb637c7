//! A network at work on one sequence, on the CPU.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use statepress_kernels::backend::{BackendError, Moments, Residuals, Runner, Sampled, Sampling, Stretch};
use statepress_kernels::linear::outer;
use statepress_kernels::ops::softmax;
use statepress_kernels::program::{MatrixId, Program};

use super::{CpuNetwork, Observe, State, Workspace, interpret};

/// Rows of logits that are held at a time: 32 rows of 50,000 are 6 MB.
const LOGIT_ROWS: usize = 32;

/// A network at work on one sequence.
pub struct CpuRunner {
    network: Rc<CpuNetwork>,
    state: State,
    workspace: Workspace,
    logits: Vec<f32>,
    /// What [`Runner::generate`] takes tokens from, oldest first.
    kept: VecDeque<Vec<f32>>,
}

impl CpuRunner {
    pub(super) fn new(network: Rc<CpuNetwork>, exact: bool) -> Self {
        let state = State::new(&network.program);
        let workspace = if exact { Workspace::exact() } else { Workspace::default() };
        Self { network, state, workspace, logits: Vec::new(), kept: VecDeque::new() }
    }

    /// A forward pass over a sequence that begins at a node of the program, given the residual stream before it.
    pub fn resume(&mut self, begin: usize, stream: &[f32], ids: &[u32]) {
        self.restart();
        let nodes = begin..self.network.program.nodes.len();
        interpret::stretch(&self.network, nodes, stream, ids, &mut self.state, &mut self.workspace, None);
    }

    fn take_in(&mut self, ids: &[u32], observer: Option<&mut dyn Observe>) {
        interpret::forward(&self.network, ids, &mut self.state, &mut self.workspace, observer);
    }

    /// Logits of rows of the last forward pass.
    fn project(&mut self, rows: Range<usize>, logits: &mut Vec<f32>) {
        let Workspace { kernels, hidden, .. } = &mut self.workspace;
        let d = self.network.head().cols();
        interpret::logits(&self.network, &hidden[rows.start * d..rows.end * d], kernels, logits);
    }
}

impl Runner for CpuRunner {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn adapter(&self) -> Option<String> {
        None
    }

    fn restart(&mut self) {
        self.state = State::new(&self.network.program);
        self.kept.clear();
    }

    fn position(&self) -> usize {
        self.state.position
    }

    async fn forward(&mut self, ids: &[u32], residuals: Option<&mut Residuals>) -> Result<(), BackendError> {
        match residuals {
            Some(residuals) => {
                residuals.clear();
                self.take_in(ids, Some(&mut Collect(residuals)));
            }
            None => self.take_in(ids, None),
        }
        Ok(())
    }

    async fn logits(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        self.project(rows, out);
        Ok(())
    }

    async fn hidden(&mut self, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), BackendError> {
        let d = self.network.head().cols();
        out.clear();
        out.extend_from_slice(&self.workspace.hidden[rows.start * d..rows.end * d]);
        Ok(())
    }

    async fn moments(
        &mut self,
        ids: &[u32],
        Stretch { nodes, stream }: Stretch<'_>,
        matrices: &[MatrixId],
        moments: Moments,
        sums: &mut [Vec<f32>],
    ) -> Result<(), BackendError> {
        self.restart();
        let Self { network, state, workspace, .. } = self;
        let observer = &mut Sums { moments, matrices, sums };
        interpret::stretch(network, nodes, stream, ids, state, workspace, Some(observer));
        let Program { slots, hidden, .. } = &*network.program;
        workspace.slots[slots.of(*hidden)].clone_into(stream);
        self.restart();
        Ok(())
    }

    async fn nll(&mut self, labels: &[&[u32]]) -> Result<Vec<Vec<f32>>, BackendError> {
        let rows = labels.iter().map(|labels| labels.len()).max().unwrap_or(0);
        let vocab_size = self.network.program.vocab_size;
        let mut all: Vec<Vec<f32>> = labels.iter().map(|labels| Vec::with_capacity(labels.len())).collect();
        let mut logits = std::mem::take(&mut self.logits);
        for from in (0..rows).step_by(LOGIT_ROWS) {
            self.project(from..rows.min(from + LOGIT_ROWS), &mut logits);
            for (t, row) in (from..).zip(logits.chunks_exact(vocab_size)) {
                let log_sum_exp = softmax::log_sum_exp(row);
                for (labels, nll) in labels.iter().zip(&mut all) {
                    if let Some(&label) = labels.get(t) {
                        nll.push(log_sum_exp - row[label as usize]);
                    }
                }
            }
        }
        self.logits = logits;
        Ok(all)
    }

    async fn keep(&mut self, n: usize) -> Result<(), BackendError> {
        let rows = self.workspace.hidden.len() / self.network.head().cols();
        self.kept.clear();
        for row in rows - n..rows {
            let mut logits = Vec::new();
            self.project(row..row + 1, &mut logits);
            self.kept.push_back(logits);
        }
        Ok(())
    }

    async fn generate(
        &mut self,
        sampling: &Sampling,
        random: &[f64],
        take_in: usize,
    ) -> Result<Vec<Sampled>, BackendError> {
        let mut sampled = Vec::with_capacity(random.len());
        for (n, &random) in random.iter().enumerate() {
            let Some(mut logits) = self.kept.pop_front() else { break };
            let token = softmax::sample(&logits, sampling, random);
            sampled.push(token);
            if n < take_in {
                self.take_in(&[token.id], None);
                self.project(0..1, &mut logits);
                self.kept.push_back(logits);
            }
        }
        Ok(sampled)
    }
}

/// Adds up what enters products.
struct Sums<'a> {
    moments: Moments,
    matrices: &'a [MatrixId],
    sums: &'a mut [Vec<f32>],
}

impl Observe for Sums<'_> {
    fn tap(&mut self, matrix: MatrixId, _: &str, rows: &[f32]) {
        for (_, sums) in self.matrices.iter().zip(&mut *self.sums).filter(|(id, _)| **id == matrix) {
            match self.moments {
                Moments::Squares => {
                    for row in rows.chunks_exact(sums.len().max(1)) {
                        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
                    }
                }
                Moments::Gram => {
                    let cols = sums.len().isqrt();
                    outer::add_gram(sums, rows, cols);
                }
            }
        }
    }
}

/// Keeps the residual stream.
struct Collect<'a>(&'a mut Residuals);

impl Observe for Collect<'_> {
    fn value(&mut self, _: Option<usize>, quantity: &'static str, values: &[f32]) {
        if quantity == "residual" {
            self.0.push(values.to_vec());
        }
    }
}

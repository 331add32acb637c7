//! What enters the products of a model while it reads a text.

use std::collections::VecDeque;
use std::rc::Rc;

use statepress_core::job::{Job, Progress};
use statepress_kernels::backend::{Moments, Runner, Stretch};
use statepress_kernels::program::MatrixId;

use super::head::{HeadStatistics, HeadSums};
use super::passes::{self, Group, entered, groups};
use super::windows::{Sample, windows};
use crate::EngineError;
use crate::models::{Info, Loaded};

/// Bytes of sums that are held at a time, unless somebody asks for more or less.
pub const BUDGET: usize = 256 << 20;

/// How statistics are taken.
#[derive(Clone, Debug)]
pub struct StatisticsOptions {
    /// Of how much text.
    pub sample: Sample,
    /// Bytes of sums held at a time: matrices that do not fit together are taken one group after the other,
    /// each with its own pass over the windows. A matrix that is larger by itself is a group of its own. As
    /// many bytes again may hold residual streams, with which a pass goes on where another one ended.
    pub budget: usize,
    /// Numbers of the table `[V, d]`, where [`HeadStatistics::covariance`] is wanted.
    pub covariance_of: Option<Rc<Vec<f32>>>,
}

impl Default for StatisticsOptions {
    fn default() -> Self {
        Self { sample: Sample::default(), budget: BUDGET, covariance_of: None }
    }
}

/// What enters one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Which.
    pub matrix: MatrixId,
    /// `H = mean x x^T`, `[cols, cols]`. The mean is over all tokens: an expert that was sent few has a
    /// small one.
    pub h: Vec<f32>,
    /// Of the head, and of a table that is one.
    pub head: Option<HeadStatistics>,
}

/// Statistics being taken; a step is a window through the model.
///
/// Groups are ready one after the other: whoever works them off as they come ([`Self::take`]) never holds
/// more than the budget and one group's results.
pub struct Statistics<R: Runner> {
    runner: R,
    info: Rc<Info>,
    windows: Vec<Vec<u32>>,
    groups: VecDeque<Group>,
    passes: usize,
    covariance_of: Option<Rc<Vec<f32>>>,
    /// Of the group at work.
    sums: Vec<Vec<f32>>,
    head: Option<HeadSums>,
    /// The residual streams of the windows at stops where later groups begin.
    streams: Vec<(usize, Vec<Vec<f32>>)>,
    next: usize,
    ready: Vec<Measured>,
}

impl<R: Runner> Statistics<R> {
    /// Prepares to take the statistics of `wanted`, in that order; the head among them brings those of
    /// the head along. Matrices that are only looked up are left out.
    pub fn new(
        model: &impl Loaded<Runner = R>,
        ids: &[u32],
        wanted: &[MatrixId],
        options: &StatisticsOptions,
    ) -> Result<Self, EngineError> {
        let info = model.info().clone();
        let windows = windows(ids, &options.sample, &info)?;
        let entered = entered(&info.program);
        let wanted: Vec<MatrixId> = wanted.iter().copied().filter(|id| entered.contains(id)).collect();
        let tokens: usize = windows.iter().map(Vec::len).sum();
        let room = options.budget / tokens.saturating_mul(4 * info.program.hidden_size()).max(1);
        let groups = passes::plan(&info.program, groups(&info.program, &wanted, options.budget), room);
        let passes = groups.len();
        let runner = model.row_runner(true)?;
        Ok(Self {
            runner,
            info,
            windows,
            groups: groups.into(),
            passes,
            covariance_of: options.covariance_of.clone(),
            sums: Vec::new(),
            head: None,
            streams: Vec::new(),
            next: 0,
            ready: Vec::new(),
        })
    }

    /// What is read.
    pub fn windows(&self) -> &[Vec<u32>] {
        &self.windows
    }

    /// Tokens that are read.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }

    /// Bytes of the sums at work, and of the streams that are held.
    pub fn bytes(&self) -> u64 {
        let numbers =
            self.sums.iter().chain(self.streams.iter().flat_map(|(_, streams)| streams)).map(Vec::len);
        4 * numbers.sum::<usize>() as u64
    }

    /// What is ready, and was not taken before.
    pub fn take(&mut self) -> Vec<Measured> {
        std::mem::take(&mut self.ready)
    }

    /// Empty sums for the next group.
    fn begin(&mut self) {
        let Some(Group { matrices, .. }) = self.groups.front() else { return };
        let program = &self.info.program;
        let zeros = |id: &MatrixId| vec![0.0; Moments::Gram.len(program.matrix(*id).cols)];
        self.sums = matrices.iter().map(zeros).collect();
        if matrices.contains(&program.head.matrix) {
            // The numbers of the head are held as long as it takes, no longer.
            self.head = Some(HeadSums::new(program, self.covariance_of.take()));
        }
    }

    async fn window(&mut self, group: &Group) -> Result<(), EngineError> {
        let ids = &self.windows[self.next];
        let (mut stream, mut ended) = (Vec::new(), 0);
        for nodes in group.stretches.iter().cloned() {
            let (begin, end) = (nodes.start, nodes.end);
            if begin != ended {
                let held = self.streams.iter().find(|(stop, _)| *stop == begin);
                let unknown =
                    || EngineError::Evaluation(format!("no residual stream is held before node {begin}"));
                stream.clone_from(&held.ok_or_else(unknown)?.1[self.next]);
            }
            let stretch = Stretch { nodes, stream: &mut stream };
            self.runner.moments(ids, stretch, &group.matrices, Moments::Gram, &mut self.sums).await?;
            if group.held.contains(&end) {
                hold(&mut self.streams, end, self.next, &stream);
            }
            ended = end;
        }
        if let Some(head) = &mut self.head {
            head.add(&mut self.runner, ids.len()).await?;
        }
        Ok(())
    }

    /// Makes means of the sums of a group.
    fn end(&mut self, group: &Group) -> Result<(), EngineError> {
        self.streams.retain(|(stop, _)| group.held.contains(stop));
        let share = 1.0 / self.tokens() as f32;
        for (&matrix, mut h) in group.matrices.iter().zip(std::mem::take(&mut self.sums)) {
            h.iter_mut().for_each(|sum| *sum *= share);
            if !h.iter().all(|x| x.is_finite()) {
                let key = &self.info.program.matrix(matrix).key;
                let message = format!("what enters {key} is not a number somewhere in the calibration text");
                return Err(EngineError::Evaluation(message));
            }
            let head = match matrix == self.info.program.head.matrix {
                true => self.head.take().map(HeadSums::finish).transpose()?,
                false => None,
            };
            self.ready.push(Measured { matrix, h, head });
        }
        Ok(())
    }
}

/// Holds the stream of the `n`th window at a stop, unless an earlier group has left it there.
fn hold(streams: &mut Vec<(usize, Vec<Vec<f32>>)>, stop: usize, n: usize, stream: &[f32]) {
    match streams.iter_mut().find(|(held, _)| *held == stop) {
        Some((_, windows)) if windows.len() > n => {}
        Some((_, windows)) => windows.push(stream.into()),
        None => streams.push((stop, vec![stream.into()])),
    }
}

impl<R: Runner> Job for Statistics<R> {
    /// What was not taken before.
    type Output = Vec<Measured>;
    type Error = EngineError;

    async fn step(&mut self) -> Result<Option<Progress>, EngineError> {
        let Some(group) = self.groups.front().cloned() else { return Ok(None) };
        // Not before: the group that is ready may have been taken by now.
        if self.next == 0 {
            self.begin();
        }
        self.window(&group).await?;
        self.next += 1;
        let count = self.windows.len();
        let (window, done) = (self.windows[0].len(), (self.passes - self.groups.len()) * count + self.next);
        if self.next == count {
            self.end(&group)?;
            self.groups.pop_front();
            self.next = 0;
        }
        Ok(Some(Progress {
            stage: "calibrate".into(),
            done: (done * window) as f64,
            total: (self.passes * count * window) as f64,
            unit: "tokens".into(),
            item: None,
        }))
    }

    fn finish(self) -> Result<Vec<Measured>, EngineError> {
        if !self.groups.is_empty() {
            return Err(EngineError::Evaluation("statistics were finished before the text was read".into()));
        }
        Ok(self.ready)
    }
}

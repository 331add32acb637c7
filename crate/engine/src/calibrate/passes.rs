//! Which stretches of a program are run for which sums: a pass goes on from where an earlier one left the residual stream.

use std::ops::Range;

use statepress_kernels::backend::Moments;
use statepress_kernels::program::{MatrixId, Op, Program};

/// Matrices whose sums are taken together, and what is run for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Which.
    pub matrices: Vec<MatrixId>,
    /// Nodes, one stretch after the other. Each begins at the first node, where the one before ended, or where a stream is held.
    pub stretches: Vec<Range<usize>>,
    /// Stops whose streams are held once that is done: groups to come begin there.
    pub held: Vec<usize>,
}

/// Plans passes for groups of matrices, with room for the residual streams at so many stops: two are enough for layers in their order.
pub fn plan(program: &Program, groups: Vec<Vec<MatrixId>>, room: usize) -> Vec<Group> {
    let (stops, mut held) = (program.stops(), Vec::<usize>::new());
    let runs: Vec<Vec<Range<usize>>> = groups.iter().map(|group| runs(program, &stops, group)).collect();
    let plan = groups.into_iter().enumerate().map(|(n, matrices)| {
        let begins_later = |stop: &usize| runs[n + 1..].iter().flatten().any(|run| run.start == *stop);
        let mut stretches: Vec<Range<usize>> = Vec::new();
        for run in &runs[n] {
            let before = stretches.last().map(|stretch| stretch.end);
            let mut from =
                held.iter().copied().filter(|&stop| stop <= run.start).max().max(before).unwrap_or(0);
            for &stop in stops.iter().filter(|stop| begins_later(stop)) {
                if from < stop && stop <= run.end && held.len() < room && !held.contains(&stop) {
                    held.push(stop);
                    stretches.push(from..stop);
                    from = stop;
                }
            }
            // What is behind the last node, the final norm and the head, may be a stretch of no nodes.
            if stretches.last().is_none_or(|stretch| stretch.end != run.end) {
                stretches.push(from..run.end);
            }
        }
        held.retain(begins_later);
        Group { matrices, stretches, held: held.clone() }
    });
    plan.collect()
}

/// The nodes that have to be run for the sums of a group, from stop to stop.
fn runs(program: &Program, stops: &[usize], group: &[MatrixId]) -> Vec<Range<usize>> {
    let end = program.nodes.len();
    let is_wanted = |op: &Op| products(op).iter().any(|id| group.contains(id));
    let nodes = program.nodes.iter().enumerate().filter(|(_, node)| is_wanted(&node.op)).map(|(at, _)| at);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for node in nodes.chain(group.contains(&program.head.matrix).then_some(end)) {
        let next = stops.partition_point(|&stop| stop <= node);
        let (from, to) = (stops[next - 1], stops.get(next).copied().unwrap_or(end));
        match runs.last_mut() {
            Some(last) if from <= last.end => last.end = to,
            _ => runs.push(from..to),
        }
    }
    runs
}

/// Cuts matrices into groups whose sums fit a budget of bytes, in their order.
pub fn groups(program: &Program, wanted: &[MatrixId], budget: usize) -> Vec<Vec<MatrixId>> {
    let mut groups: Vec<Vec<MatrixId>> = Vec::new();
    let mut held = 0;
    for &id in wanted {
        let bytes = 4 * Moments::Gram.len(program.matrix(id).cols);
        if held + bytes > budget || groups.is_empty() {
            groups.push(Vec::new());
            held = 0;
        }
        held += bytes;
        groups.last_mut().into_iter().for_each(|group| group.push(id));
    }
    groups
}

/// Matrices that something enters: all but those that are only looked up.
pub fn entered(program: &Program) -> Vec<MatrixId> {
    let products = program.nodes.iter().flat_map(|node| products(&node.op));
    products.chain([program.head.matrix]).collect()
}

/// Matrices that an op multiplies by.
pub fn products(op: &Op) -> Vec<MatrixId> {
    match op {
        Op::Linear(linear) => vec![linear.w],
        Op::Experts(op) => {
            let both = op.experts.iter().flat_map(|expert| [expert.up, expert.down]);
            both.chain([op.router]).collect()
        }
        _ => Vec::new(),
    }
}

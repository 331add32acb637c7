//! What a training run takes in memory, before it begins: weights and what is remembered of them, and what a pass over a batch
//! keeps for the way back.
//!
//! Counted from the program, in numbers of 32 bits. How many tensors an op keeps is burn's matter: factors were fitted to the peaks of
//! an Itera-Lite, a Mamba and a Transformer in batches of 2 and of 6 windows, from which estimates are at most a sixth away.

use statepress_engine::EngineError;
use statepress_kernels::program::Op;

use super::TrainOptions;
use crate::Trainable;
use crate::interpret::CHUNK;

/// Copies of each weight that is trained: its number, its gradient, two means, the best so far, and what an update makes anew.
const OF_WEIGHTS: usize = 6;

/// Copies of each weight in a snapshot, which nothing of a pass is there beside.
const OF_SNAPSHOTS: usize = 4;

/// Tensors of logits: the student's, a teacher's, and their slopes.
const OF_LOGITS: usize = 3;

/// Tensors that are kept of an op for each that it gives, and those of gradients on the way back.
const OF_OPS: usize = 2;

/// The same of a convolution for each tap, of the states of a scan, and of a matrix of decays or of shares.
const OF_TAPS: usize = 2;
const OF_STATES: usize = 8;
const OF_PAIRS: usize = 4;

/// About how many bytes training takes, those of a teacher among them.
pub(super) fn estimated(student: &Trainable, teacher: u64, options: &TrainOptions) -> u64 {
    let program = &student.program;
    let chunk = CHUNK.min(options.window);
    let numbers = |factor: usize, of: usize| factor as f64 * of as f64;
    let of_a_token = |op: &Op| match op {
        Op::Conv1d { x, taps, .. } => numbers(OF_OPS, x.width) + numbers(OF_TAPS, program.vector(*taps).len),
        Op::SoftplusMean { x, .. } => numbers(OF_OPS, program.width(*x)),
        Op::Scan { bx, .. } => numbers(OF_OPS, program.width(*bx)) + numbers(OF_PAIRS, chunk),
        Op::SelectiveScan { u, b, .. } => numbers(OF_STATES, u.width * b.width),
        Op::Ssd(op) => numbers(OF_PAIRS, chunk * op.heads) + numbers(2 * OF_OPS, op.u.width + op.b.width),
        Op::Attention(op) => numbers(OF_PAIRS * op.heads, options.window) + numbers(2 * OF_OPS, op.q.width),
        Op::Experts(op) => {
            let rows = op.experts.iter().map(|it| program.matrix(it.up).rows + program.matrix(it.down).rows);
            numbers(OF_OPS, rows.sum())
        }
        op => numbers(OF_OPS, program.width(op.writes())),
    };
    let kept: f64 = program.nodes.iter().map(|node| of_a_token(&node.op)).sum();
    let pass = (kept + numbers(OF_LOGITS, program.vocab_size)) * numbers(options.batch, options.window);
    let (mut weights, mut trained) = (0.0, 0.0);
    for it in &student.parameters {
        let count = it.shape.iter().product();
        let copies =
            if options.trains.has(it) { OF_WEIGHTS + usize::from(options.trains.rounds()) } else { 1 };
        (weights, trained) = (weights + numbers(1, count), trained + numbers(copies, count));
    }
    (4.0 * (trained + pass.max(OF_SNAPSHOTS as f64 * weights))) as u64 + teacher
}

/// Refuses what takes more than there is.
pub(super) fn fits(bytes: u64, options: &TrainOptions) -> Result<(), EngineError> {
    let Some(most) = options.most_bytes.filter(|&most| bytes > most) else { return Ok(()) };
    let TrainOptions { batch, window, .. } = options;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    Err(EngineError::Option {
        option: "batch".into(),
        value: format!(
            "{batch}, of windows of {window} tokens, with which training takes about {:.1} MB",
            megabytes(bytes)
        ),
        allowed: format!(
            "what fits into {:.1} MB: fewer or shorter windows, or a smaller student",
            megabytes(most)
        ),
    })
}

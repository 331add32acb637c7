//! A small case through the CPU and through another backend: drivers and shader compilers make
//! mistakes, and a wrong number would otherwise look like a finding about compression.

use std::rc::Rc;

use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::{Encoding, Grid, Role, Tensor};
use statepress_kernels::backend::{Backend, BackendError, Runner, Sampling};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::network::Network;
use statepress_kernels::program::{VectorForm, VectorSource};

use crate::families::blocks;
use crate::models::Cpu;

/// `|a - b| / (1 + |b|)` of logits that are f32 sums in another order.
const TOLERANCE: f32 = 1e-3;

/// Sizes of the small network, odd enough to need every kind of padding.
const D: usize = 20;
const VOCAB: usize = 61;
const POSITIONS: usize = 32;

/// Matrices of the first layer take them in turn; the others are in the first.
const ENCODINGS: [Encoding; 9] = [
    Encoding::int8(Granularity::Row),
    Encoding::Fp32,
    Encoding::nf4(64, ScaleType::Double),
    Encoding::int4(4, ScaleType::Fp16),
    Encoding::grouped(Grid::Int3, 16, ScaleType::Log8),
    Encoding::Fp16,
    Encoding::nf4(64, ScaleType::Fp32),
    Encoding::grouped(Grid::Lm2, 16, ScaleType::Fp16),
    Encoding::Bf16,
];

/// What a backend makes of the small case.
struct Results {
    whole: Vec<f32>,
    single: Vec<f32>,
    nll: Vec<f32>,
    greedy: Vec<u32>,
}

/// Runs a network with a layer of every kind, the first in nine precisions, on `backend` and on the CPU.
///
/// # Errors
/// [`BackendError::SelfCheck`] with the numbers where they differ, and what the backend says where
/// it cannot run at all.
pub async fn self_check(backend: &impl Backend, adapter: &str) -> Result<(), BackendError> {
    let expected = results(&Cpu).await?;
    let found = results(backend).await?;
    let refuse = |reason| Err(BackendError::SelfCheck { adapter: adapter.into(), reason });
    for (what, found, expected) in [
        ("the logits of a sequence", &found.whole, &expected.whole),
        ("the logits of single tokens", &found.single, &expected.single),
        ("the likelihoods of a sequence", &found.nll, &expected.nll),
    ] {
        let difference = |(i, (a, b)): (usize, (&f32, &f32))| {
            let difference = (a - b).abs() / (1.0 + b.abs());
            // A NaN differs from everything.
            (i, *a, *b, if difference.is_nan() { f32::INFINITY } else { difference })
        };
        let worst = found.iter().zip(expected).enumerate().map(difference).max_by(|x, y| x.3.total_cmp(&y.3));
        if let Some((i, a, b, difference)) = worst
            && difference > TOLERANCE
        {
            return refuse(format!(
                "{what} differ from the CPU's by {difference:.1e} of 1 + |value|, where {TOLERANCE:.0e} is allowed \
                 (number {i} is {a}, not {b})"
            ));
        }
    }
    if found.greedy != expected.greedy {
        return refuse(format!("it continues with {:?}, not {:?}", found.greedy, expected.greedy));
    }
    Ok(())
}

async fn results<B: Backend>(backend: &B) -> Result<Results, BackendError> {
    let network = Rc::new(backend.network(network(backend)?)?);
    let mut runner = backend.runner(&network, true)?;
    let ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 60];
    let (mut whole, mut single, mut row) = (Vec::new(), Vec::new(), Vec::new());
    runner.forward(&ids, None).await?;
    runner.logits(0..ids.len(), &mut whole).await?;
    let nll = runner.nll(&[&ids[1..]]).await?.concat();
    runner.keep(2).await?;
    let sampling = Sampling { temperature: 0.0, top_k: None, usable: VOCAB };
    let sampled = runner.generate(&sampling, &[0.0; 6], 4).await?;
    // Single tokens on the path that generates.
    let mut runner = backend.runner(&network, false)?;
    for id in &ids[..5] {
        runner.forward(&[*id], None).await?;
        runner.logits(0..1, &mut row).await?;
        single.extend_from_slice(&row);
    }
    Ok(Results { whole, single, nll, greedy: sampled.iter().map(|token| token.id).collect() })
}

/// A network of every kind of layer, with weights that are the same everywhere.
fn network<B: Backend>(backend: &B) -> Result<Network<B::Matrix>, BackendError> {
    let program = blocks::check_program(VOCAB, D, POSITIONS);
    let mut random = fastrand::Rng::with_seed(1);
    let mut numbers = |n: usize, centre: f32, spread: f32| -> Vec<f32> {
        (0..n).map(|_| centre + spread * (2.0 * random.f32() - 1.0)).collect()
    };
    let mut matrices = Vec::with_capacity(program.matrices.len());
    for (n, matrix) in program.matrices.iter().enumerate() {
        let (rows, cols) = (matrix.rows, matrix.cols);
        let values = numbers(rows * cols, 0.0, 2.0 / (cols as f32).sqrt());
        let fits = |encoding: &Encoding| encoding.refusal(&[rows, cols]).is_none();
        // The first layer goes through all of them; every kernel of the others in one is enough, and each
        // that is compiled costs time at every start.
        let first = if matrix.layer.is_some_and(|layer| layer > 0) { 0 } else { n % ENCODINGS.len() };
        let encoding = ENCODINGS[first..].iter().chain(&ENCODINGS).find(|encoding| fits(encoding));
        let encoding = *encoding.unwrap_or(&Encoding::Fp32);
        let tensor: Tensor = codecs::encode(&values, &[rows, cols], encoding, Clip::Absmax)?.tensor;
        matrices.push(Some(backend.matrix("self-check", tensor, false)?));
    }
    let vectors = program.vectors.iter().map(|vector| match (&vector.source, vector.form, vector.role) {
        (VectorSource::Constant(values), ..) => values.clone(),
        (_, VectorForm::NegExp, _) => numbers(vector.len, -1.0, 0.9),
        (_, _, Role::Norm) => numbers(vector.len, 1.0, 0.3),
        _ => numbers(vector.len, 0.0, 0.5),
    });
    let vectors = vectors.collect();
    Ok(Network { program: Rc::new(program), matrices, vectors })
}

//! A model held against the CPU before another backend may run it: drivers and shader compilers make
//! mistakes, and a wrong number would otherwise look like a finding about compression.
//!
//! What is run is the model itself, cut down: layers of its own, in their sizes and precisions, with few
//! tokens in the vocabulary and random weights. So the kernels that are compiled for the check are those
//! that the model needs anyway, and what has passed for one model need not be checked for the next.

use std::collections::BTreeSet;
use std::rc::Rc;

use statepress_core::{Encoding, Role};
use statepress_kernels::backend::{Backend, BackendError, Runner, Sampling};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::network::Network;
use statepress_kernels::program::{Layout, MatrixId, Op, Program, StateSize, VectorForm, VectorSource};

use crate::models::{Cpu, CpuNetwork};

/// `|a - b| / (1 + |b|)` of numbers that are f32 sums in another order.
const TOLERANCE: f32 = 1e-3;

/// The most rows of the tables for tokens and positions: whatever shares a scale fits into them.
const ROWS: usize = 512;

/// The most tokens of the vocabulary; the other rows are padding.
const VOCAB: usize = 509;

/// The sequence that is taken in.
const IDS: [u32; 11] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 60];

/// How many of its tokens are taken in one by one as well: an emulated GPU takes long for each.
const SINGLE: usize = 3;

/// Tokens that are made behind it, each taken in.
const MADE: usize = 2;

/// Runs `layers` of a model, whose matrices have these encodings, on `backend` and on the CPU.
///
/// # Errors
/// [`BackendError::SelfCheck`] with the layer, its precisions and the numbers where they differ, and what
/// the backend says where it cannot run at all.
pub(crate) async fn self_check<B: Backend>(
    backend: &B,
    model: &Program,
    encodings: &[Option<Encoding>],
    layers: &[usize],
) -> Result<(), BackendError> {
    let program = Rc::new(cut(model, encodings, layers));
    let (exact, network) = networks(backend, &program, encodings, layers)?;
    let network = Rc::new(backend.network(network)?);
    let expected = results(&Cpu, &Rc::new(exact), &program, true).await?;
    let found = results(backend, &network, &program, false).await?;
    let adapter = backend.runner(&network, true)?.adapter().unwrap_or_default();
    let refuse = |reason| Err(BackendError::SelfCheck { adapter: adapter.clone(), reason });
    let names = names(&program, encodings, layers);
    for (of, found, expected) in
        [("a sequence", &found.whole, &expected.whole), ("single tokens", &found.single, &expected.single)]
    {
        for (name, (found, expected)) in names.iter().zip(found.iter().zip(expected)) {
            if let Some(apart) = first_apart(found, expected) {
                return refuse(format!("what {name} makes of {of} differs from the CPU's {apart}"));
            }
        }
    }
    if found.made != expected.made {
        return refuse(format!("it goes on with the tokens {:?}, not {:?}", found.made, expected.made));
    }
    backend.passed(&network);
    Ok(())
}

/// By how much two lists first differ, if that is more than is allowed.
fn first_apart(found: &[f32], expected: &[f32]) -> Option<String> {
    let difference = |(a, b): (&f32, &f32)| {
        let difference = (a - b).abs() / (1.0 + b.abs());
        // A NaN differs from everything.
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    let mut differences = found.iter().zip(expected).map(difference).enumerate();
    let (at, by) = differences.find(|(_, by)| *by > TOLERANCE)?;
    Some(format!(
        "by {by:.1e} of 1 + |value|, where {TOLERANCE:.0e} is allowed (number {at} is {}, not {})",
        found[at], expected[at]
    ))
}

/// What a backend makes of the case: after the table, after every layer, and the logits; of a sequence the
/// likelihoods as well.
struct Results {
    whole: Vec<Vec<f32>>,
    single: Vec<Vec<f32>>,
    made: Vec<u32>,
}

async fn results<B: Backend>(
    backend: &B,
    network: &Rc<B::Network>,
    program: &Program,
    exact: bool,
) -> Result<Results, BackendError> {
    let vocab_size = program.vocab_size;
    let ids = IDS.map(|id| id % vocab_size as u32);
    // A sequence of the model may be shorter.
    let room = program.max_tokens.unwrap_or(usize::MAX);
    let ids = &ids[..ids.len().min(room).max(1)];
    let made = MADE.min(room.saturating_sub(ids.len()));

    let mut runner = backend.runner(network, true)?;
    let (mut whole, mut logits) = (Vec::new(), Vec::new());
    runner.forward(ids, Some(&mut whole)).await?;
    runner.logits(0..ids.len(), &mut logits).await?;
    whole.push(logits);
    whole.push(runner.nll(&[&ids[1..]]).await?.concat());
    runner.keep(1).await?;
    let sampling = Sampling { temperature: 0.0, top_k: None, usable: vocab_size };
    let made = runner.generate(&sampling, &vec![0.0; made + 1], made).await?;

    // Single tokens on the path that generates.
    let mut runner = backend.runner(network, exact)?;
    let mut single = vec![Vec::new(); whole.len() - 1];
    let mut stages = Vec::new();
    for &id in ids.iter().take(SINGLE) {
        let mut logits = Vec::new();
        runner.forward(&[id], Some(&mut stages)).await?;
        runner.logits(0..1, &mut logits).await?;
        for (all, one) in single.iter_mut().zip(stages.iter().chain([&logits])) {
            all.extend_from_slice(one);
        }
    }
    Ok(Results { whole, single, made: made.iter().map(|token| token.id).collect() })
}

/// What gives each of the [`Results`], with the precisions of its matrices.
fn names(program: &Program, encodings: &[Option<Encoding>], layers: &[usize]) -> Vec<String> {
    let named = |what: String, is_in: &dyn Fn(MatrixId) -> bool| {
        let ids = (0..program.matrices.len()).map(MatrixId).filter(|&id| is_in(id));
        let precisions = ids.filter_map(|id| Some(encodings[id.0]?.precision().name()));
        let precisions: Vec<&str> = precisions.collect::<BTreeSet<_>>().into_iter().collect();
        format!("{what} ({})", precisions.join(", "))
    };
    let layers = layers
        .iter()
        .map(|&layer| named(format!("layer {layer}"), &|id| program.matrix(id).layer == Some(layer)));
    let mut names = vec![named("the table".into(), &|id| id == program.table)];
    names.extend(layers);
    names.push(named("the head".into(), &|id| id == program.head.matrix));
    names.push("the likelihood".into());
    names
}

/// A model of these layers alone, with few tokens and positions. What the other layers declare is still
/// there, and nothing uses it.
fn cut(model: &Program, encodings: &[Option<Encoding>], layers: &[usize]) -> Program {
    let mut program = model.clone();
    program.nodes.retain_mut(|node| {
        let at = node.layer.map(|layer| layers.iter().position(|left| *left == layer));
        node.layer = at.flatten();
        at != Some(None)
    });
    for state in program.states.iter_mut().filter(|state| !is_left(state.layer, layers)) {
        state.size = StateSize::Fixed(vec![0]);
    }
    let positions = program.nodes.iter().find_map(|node| match node.op {
        Op::Embed { positions, .. } => positions,
        _ => None,
    });
    for id in [Some(program.table), Some(program.head.matrix), positions].into_iter().flatten() {
        let matrix = &mut program.matrices[id.0];
        let fits = |encoding: Encoding| encoding.refusal(&[ROWS, matrix.cols]).is_none();
        if encodings[id.0].is_some_and(fits) {
            matrix.rows = matrix.rows.min(ROWS);
        }
    }
    program.vocab_size = program.vocab_size.min(VOCAB);
    program.max_tokens = program.max_tokens.map(|most| most.min(ROWS));
    program
}

fn is_left(layer: Option<usize>, layers: &[usize]) -> bool {
    layer.is_none_or(|layer| layers.contains(&layer))
}

/// The program with the same random weights for the CPU and for a backend.
fn networks<B: Backend>(
    backend: &B,
    program: &Rc<Program>,
    encodings: &[Option<Encoding>],
    layers: &[usize],
) -> Result<(CpuNetwork, Network<B::Matrix>), BackendError> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut numbers = |n: usize, centre: f32, spread: f32| -> Vec<f32> {
        (0..n).map(|_| centre + spread * (2.0 * random.f32() - 1.0)).collect()
    };
    let (mut exact, mut matrices) = (Vec::new(), Vec::new());
    for (matrix, encoding) in program.matrices.iter().zip(encodings) {
        let Some(encoding) = encoding.filter(|_| is_left(matrix.layer, layers)) else {
            exact.push(None);
            matrices.push(None);
            continue;
        };
        let (rows, cols) = (matrix.rows, matrix.cols);
        let transposed = matrix.layout == Layout::Transposed;
        let shape = if transposed { [cols, rows] } else { [rows, cols] };
        let values = numbers(rows * cols, 0.0, 2.0 / (cols as f32).sqrt());
        let tensor = codecs::encode(&values, &shape, encoding, Clip::Absmax)?.tensor;
        exact.push(Some(Cpu.matrix(&matrix.key, tensor.clone(), transposed)?));
        matrices.push(Some(backend.matrix(&matrix.key, tensor, transposed)?));
    }
    let vectors = program.vectors.iter().map(|vector| match (&vector.source, vector.form, vector.role) {
        (VectorSource::Constant(values), ..) => values.clone(),
        _ if !is_left(vector.layer, layers) => Vec::new(),
        (_, VectorForm::NegExp, _) => numbers(vector.len, -1.0, 0.9),
        (_, _, Role::Norm) => numbers(vector.len, 1.0, 0.3),
        _ => numbers(vector.len, 0.0, 0.5),
    });
    let vectors: Vec<Vec<f32>> = vectors.collect();
    let exact = Network { program: program.clone(), matrices: exact, vectors: vectors.clone() };
    Ok((exact, Network { program: program.clone(), matrices, vectors }))
}

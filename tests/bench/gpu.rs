//! Decode speed of Mamba and Itera-Lite shapes on this machine's GPU, beside what its memory allows and,
//! for Itera-Lite, beside PyTorch at FP16 on the same card.
//!
//! `cargo run --release -p statepress-tests --example gpu [-- SHAPE...] [--tiny]`, with shapes `mamba-130m`,
//! `mamba-1.4b`, and of Itera-Lite `tiny`, `130m` and `1.4b` (the widths and depths of Mamba's models of
//! that size). Weights are random.
//! `--tiny` decodes a few tokens of the shape `tiny` and leaves PyTorch out, to see that everything runs.
//! Each is timed with nothing that some adapter does not have, and with what this one has.
//! The bound is the time to read a token's weights at the bandwidth that copying one large buffer
//! to another reaches in the same run (a copy reads and writes, so its bytes count twice).
//! PyTorch is that of `python3`, or of what `PYTHON` names; without it or without CUDA the last
//! line says so.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use pollster::block_on;
use statepress::{Backend, Clock, Gpu, GpuNetwork, GpuOptions, Runner, Sampling, explain};
use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::index::{Extent, Format, Stored, Strided};
use statepress_core::{DType, Encoding, Entry, Index, Role, Tensor};
use statepress_engine::families::{Hints, infer};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::network::Network;
use statepress_kernels::program::VectorForm;

/// Positions of Itera-Lite.
const POSITIONS: usize = 1024;

/// Taps of every convolution.
const TAPS: usize = 4;

/// Sizes of a model.
struct Shape {
    name: &'static str,
    /// Mamba, not Itera-Lite.
    mamba: bool,
    d: usize,
    layers: usize,
    states: usize,
    ffn: usize,
    vocab: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "mamba-130m", mamba: true, d: 768, layers: 24, states: 16, ffn: 0, vocab: 50280 },
    Shape { name: "mamba-1.4b", mamba: true, d: 2048, layers: 48, states: 16, ffn: 0, vocab: 50280 },
    Shape { name: "tiny", mamba: false, d: 128, layers: 4, states: 8, ffn: 64, vocab: 8000 },
    Shape { name: "130m", mamba: false, d: 768, layers: 24, states: 16, ffn: 384, vocab: 50280 },
    Shape { name: "1.4b", mamba: false, d: 2048, layers: 48, states: 16, ffn: 1024, vocab: 50280 },
];

/// How often and how much is decoded: tokens of a submission, and submissions, of which the best counts.
#[derive(Clone, Copy)]
struct Work {
    tokens: usize,
    submissions: usize,
}

fn main() {
    let gpu = block_on(Gpu::open(GpuOptions::default())).expect("a GPU");
    println!("{:?}", gpu.adapter());
    let plain = GpuOptions::default();
    let packed_dot = GpuOptions { packed_dot: true, ..plain.clone() };
    let subgroups = GpuOptions { subgroups: true, ..plain.clone() };
    let ways = [("plain", plain), ("packed dot", packed_dot), ("subgroups", subgroups)];
    let bandwidth = block_on(gpu.copy_bandwidth(Clock::default().seconds())).expect("a copy");
    println!("copying: {:.1} GB/s read and written", bandwidth / 1e9);
    let (tiny, mut named): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument == "--tiny");
    let tiny = !tiny.is_empty();
    if tiny {
        named = vec!["tiny".into()];
    }
    let work = if tiny { Work { tokens: 2, submissions: 1 } } else { Work { tokens: 32, submissions: 4 } };
    println!(
        "{:<10} {:<6} {:<10} {:>10} {:>12} {:>10} {:>9} {:>8}",
        "shape", "codec", "with", "dispatches", "MB a token", "tokens/s", "of bound", "of fp16"
    );
    let shapes =
        || SHAPES.iter().filter(|shape| named.is_empty() || named.iter().any(|name| name == shape.name));
    for shape in shapes() {
        let mut of_fp16 = 0.0;
        for (name, encoding) in [
            ("fp16", Encoding::Fp16),
            ("int8", Encoding::int8(Granularity::Row)),
            ("nf4", Encoding::nf4(64, ScaleType::Double)),
        ] {
            for (way, options) in &ways {
                let gpu = block_on(Gpu::open(options.clone())).expect("a GPU");
                let network = network(&gpu, shape, encoding);
                let costs = explain(&network);
                let bytes: u64 = costs.iter().map(|row| row.weights).sum();
                let dispatches: usize = costs.iter().map(|row| row.dispatches).sum();
                let best = seconds_per_token(&gpu, network, shape, work);
                if (name, *way) == ("fp16", "plain") {
                    of_fp16 = best;
                }
                println!(
                    "{:<10} {name:<6} {way:<10} {dispatches:>10} {:>12.2} {:>10.1} {:>7.1} % {:>7.2}x",
                    shape.name,
                    bytes as f64 / 1e6,
                    1.0 / best,
                    100.0 * bytes as f64 / bandwidth / best,
                    of_fp16 / best
                );
            }
        }
    }
    if !tiny {
        pytorch(bandwidth, shapes());
    }
}

/// The same shapes through PyTorch, which prints lines like ours or why it cannot.
fn pytorch<'a>(bandwidth: f64, shapes: impl Iterator<Item = &'a Shape>) {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/gpu_peer.py");
    let sizes =
        shapes.filter(|shape| !shape.mamba).map(|Shape { name, d, layers, states, ffn, vocab, .. }| {
            format!("{name}={d},{layers},{states},{ffn},{vocab}")
        });
    if let Err(error) = Command::new(&python).arg(script).arg(bandwidth.to_string()).args(sizes).status() {
        println!("PyTorch beside it: not measured, {python} cannot be started ({error})");
    }
}

/// The best of several submissions.
fn seconds_per_token(gpu: &Gpu, network: GpuNetwork, shape: &Shape, work: Work) -> f64 {
    let Work { tokens, submissions } = work;
    let mut runner = gpu.runner(&Rc::new(network), false).unwrap();
    let sampling = Sampling { temperature: 0.0, top_k: None, usable: shape.vocab };
    let mut best = f64::INFINITY;
    block_on(async {
        runner.forward(&[1], None).await.unwrap();
        runner.keep(1).await.unwrap();
        for _ in 0..submissions {
            let start = Instant::now();
            runner.generate(&sampling, &vec![0.0; tokens], tokens).await.unwrap();
            best = best.min(start.elapsed().as_secs_f64() / tokens as f64);
        }
    });
    best
}

/// The headers of a checkpoint of that shape: keys and dimensions, no weight.
fn headers(shape: &Shape) -> Index {
    let Shape { d, layers, states, ffn, vocab, .. } = *shape;
    let inner = 2 * d;
    let mut tensors = Vec::new();
    let mut put = |name: String, dims: &[usize]| {
        let bytes = 4 * dims.iter().product::<usize>() as u64;
        let storage = Extent { offset: 0, len: bytes };
        let strides = (1..=dims.len()).map(|n| dims[n..].iter().product::<usize>() as u64).collect();
        let stored =
            Stored::Strided(Strided { dtype: DType::F32, storage, first: 0, strides, negated: false });
        tensors.push(Entry { name, shape: dims.to_vec(), stored, tied_to: None });
    };
    if shape.mamba {
        let rank = d.div_ceil(16);
        put("backbone.embeddings.weight".into(), &[vocab, d]);
        put("backbone.norm_f.weight".into(), &[d]);
        for n in 0..layers {
            let mut put = |name: &str, dims: &[usize]| put(format!("backbone.layers.{n}.{name}"), dims);
            put("norm.weight", &[d]);
            put("mixer.in_proj.weight", &[2 * inner, d]);
            put("mixer.conv1d.weight", &[inner, 1, TAPS]);
            put("mixer.conv1d.bias", &[inner]);
            put("mixer.x_proj.weight", &[rank + 2 * states, inner]);
            put("mixer.dt_proj.weight", &[inner, rank]);
            put("mixer.dt_proj.bias", &[inner]);
            put("mixer.A_log", &[inner, states]);
            put("mixer.D", &[inner]);
            put("mixer.out_proj.weight", &[d, inner]);
        }
    } else {
        put("embedding.weight".into(), &[vocab, d]);
        put("position_embedding.weight".into(), &[POSITIONS, d]);
        put("norm.weight".into(), &[d]);
        put("norm.bias".into(), &[d]);
        for n in 0..layers {
            let mut put = |name: &str, dims: &[usize]| put(format!("layers.{n}.{name}"), dims);
            for norm in ["ssm.norm", "moe.norm"] {
                put(&format!("{norm}.weight"), &[d]);
                put(&format!("{norm}.bias"), &[d]);
            }
            put("ssm.in_proj.weight", &[2 * inner, d]);
            put("ssm.conv1d.weight", &[inner, 1, TAPS]);
            put("ssm.conv1d.bias", &[inner]);
            put("ssm.ssm.A_log", &[states]);
            put("ssm.ssm.B", &[states, inner]);
            put("ssm.ssm.C", &[inner, states]);
            put("ssm.ssm.D", &[inner]);
            put("ssm.ssm.delta_proj.weight", &[inner, inner]);
            put("ssm.ssm.delta_proj.bias", &[inner]);
            put("ssm.out_proj.weight", &[d, inner]);
            put("moe.ffn.w1.weight", &[ffn, d]);
            put("moe.ffn.w2.weight", &[d, ffn]);
        }
    }
    let (wrapper, config, metadata, findings) = Default::default();
    Index { format: Format::Safetensors, wrapper, weights: Vec::new(), config, metadata, tensors, findings }
}

/// A network of random weights: one random block repeated, which takes as long as any other.
fn network(gpu: &Gpu, shape: &Shape, encoding: Encoding) -> GpuNetwork {
    let mut rng = fastrand::Rng::with_seed(1);
    let noise: Vec<f32> = (0..1 << 20).map(|_| rng.f32() - 0.5).collect();
    let numbers = |n: usize, centre: f32, scale: f32| -> Vec<f32> {
        (0..n).map(|i| centre + scale * noise[i % noise.len()]).collect()
    };
    let spec = infer(&headers(shape), &Hints::default()).unwrap();
    let program = spec.program.unwrap_or_else(|| panic!("{}: {:?}", shape.name, spec.refusal));
    let matrices = program.matrices.iter().map(|matrix| {
        let (rows, cols) = (matrix.rows, matrix.cols);
        // What blocks do not fit into, and tables of positions, are small.
        let fits = encoding.refusal(&[rows, cols]).is_none() && matrix.role != Role::Positions;
        let encoding = if fits { encoding } else { Encoding::Fp16 };
        let values = numbers(rows * cols, 0.0, 2.0 / (cols as f32).sqrt());
        let tensor: Tensor = codecs::encode(&values, &[rows, cols], encoding, Clip::Absmax).unwrap().tensor;
        Some(gpu.matrix("random", tensor, false).unwrap())
    });
    let vectors = program.vectors.iter().map(|vector| match (vector.form, vector.role) {
        (VectorForm::NegExp, _) => numbers(vector.len, -1.0, 0.1),
        (_, Role::Norm) => numbers(vector.len, 1.0, 0.1),
        _ => numbers(vector.len, 0.0, 0.1),
    });
    let (matrices, vectors) = (matrices.collect(), vectors.collect());
    gpu.network(Network { program: program.clone(), matrices, vectors }).unwrap()
}

//! Decode speed of Itera-Lite shapes on this machine's GPU, beside what its memory allows and
//! beside PyTorch at FP16 on the same card.
//!
//! `cargo run --release -p statepress-tests --example gpu [-- SHAPE...] [--tiny]`, with shapes `tiny`,
//! `130m` and `1.4b` (the widths and depths of Mamba's models of that size). Weights are random.
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
use statepress_core::encoding::{AbsmaxType, Granularity};
use statepress_core::{Encoding, Tensor};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::network::{Ffn, Layer, Mixer, Network, Norm, Ssm, Sublayer};

/// Sizes of a model.
struct Shape {
    name: &'static str,
    d: usize,
    layers: usize,
    states: usize,
    ffn: usize,
    vocab: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "tiny", d: 128, layers: 4, states: 8, ffn: 64, vocab: 8000 },
    Shape { name: "130m", d: 768, layers: 24, states: 16, ffn: 384, vocab: 50280 },
    Shape { name: "1.4b", d: 2048, layers: 48, states: 16, ffn: 1024, vocab: 50280 },
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
        "{:<6} {:<6} {:<10} {:>10} {:>12} {:>10} {:>9} {:>8}",
        "shape", "codec", "with", "dispatches", "MB a token", "tokens/s", "of bound", "of fp16"
    );
    let shapes =
        || SHAPES.iter().filter(|shape| named.is_empty() || named.iter().any(|name| name == shape.name));
    for shape in shapes() {
        let mut of_fp16 = 0.0;
        for (name, encoding) in [
            ("fp16", Encoding::Fp16),
            ("int8", Encoding::Int8 { granularity: Granularity::Row }),
            ("nf4", Encoding::Nf4 { block: 64, absmax: AbsmaxType::Double }),
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
                    "{:<6} {name:<6} {way:<10} {dispatches:>10} {:>12.2} {:>10.1} {:>7.1} % {:>7.2}x",
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
    let sizes = shapes.map(|Shape { name, d, layers, states, ffn, vocab }| {
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

/// A network of random weights: one random block repeated, which takes as long as any other.
fn network(gpu: &Gpu, shape: &Shape, encoding: Encoding) -> GpuNetwork {
    let mut rng = fastrand::Rng::with_seed(1);
    let noise: Vec<f32> = (0..1 << 20).map(|_| rng.f32() - 0.5).collect();
    let vector = |n: usize, centre: f32| (0..n).map(|i| centre + 0.1 * noise[i]).collect::<Vec<f32>>();
    let matrix = |rows: usize, cols: usize, encoding: Encoding| {
        let scale = 2.0 / (cols as f32).sqrt();
        let values: Vec<f32> = (0..rows * cols).map(|i| scale * noise[i % noise.len()]).collect();
        let tensor: Tensor = codecs::encode(&values, &[rows, cols], encoding, Clip::Absmax).unwrap().tensor;
        gpu.matrix("random", tensor).unwrap()
    };
    let (d, inner) = (shape.d, 2 * shape.d);
    let norm = || Norm { weight: vector(d, 1.0), bias: vector(d, 0.0), eps: 1e-5 };
    let layers = (0..shape.layers).map(|_| Layer::IteraLite {
        ssm: Ssm {
            norm: norm(),
            in_proj: matrix(2 * inner, d, encoding),
            conv_taps: vector(4 * inner, 0.0),
            conv_bias: vector(inner, 0.0),
            a: vector(shape.states, -1.0),
            b: matrix(shape.states, inner, encoding),
            c: matrix(inner, shape.states, Encoding::Fp16),
            d: vector(inner, 1.0),
            delta_proj: matrix(inner, inner, encoding),
            delta_bias: vector(inner, 0.0),
            out_proj: matrix(d, inner, encoding),
        },
        sublayer: Some(Sublayer {
            norm: norm(),
            mixer: Mixer::Ffn(Ffn { w1: matrix(shape.ffn, d, encoding), w2: matrix(d, shape.ffn, encoding) }),
        }),
    });
    let network = Network {
        embedding: matrix(shape.vocab, d, encoding),
        positions: matrix(1024, d, Encoding::Fp16),
        layers: layers.collect(),
        norm: norm(),
        head: None,
    };
    gpu.network(network).unwrap()
}

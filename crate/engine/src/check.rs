//! A small case through the CPU and through another backend: drivers and shader compilers make
//! mistakes, and a wrong number would otherwise look like a finding about compression.

use std::rc::Rc;

use statepress_core::encoding::{AbsmaxType, Granularity, ScaleType};
use statepress_core::{Encoding, Tensor};
use statepress_kernels::backend::{Backend, BackendError, Runner, Sampling};
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::network::{Ffn, Layer, Mixer, Network, Norm, Ssm, Sublayer};

use crate::models::Cpu;

/// `|a - b| / (1 + |b|)` of logits that are f32 sums in another order.
const TOLERANCE: f32 = 1e-3;

/// Sizes of the small network, odd enough to need every kind of padding.
const D: usize = 20;
const INNER: usize = 40;
const STATES: usize = 5;
const VOCAB: usize = 61;
const POSITIONS: usize = 32;

/// What a backend makes of the small case.
struct Results {
    whole: Vec<f32>,
    single: Vec<f32>,
    nll: Vec<f32>,
    greedy: Vec<u32>,
}

/// Runs a network of two layers in seven precisions on `backend` and on the CPU.
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

/// Weights that are the same everywhere.
struct Weights<'a, B> {
    backend: &'a B,
    random: fastrand::Rng,
}

impl<B: Backend> Weights<'_, B> {
    fn vector(&mut self, n: usize, centre: f32, spread: f32) -> Vec<f32> {
        (0..n).map(|_| centre + spread * (2.0 * self.random.f32() - 1.0)).collect()
    }

    fn matrix(&mut self, rows: usize, cols: usize, encoding: Encoding) -> Result<B::Matrix, BackendError> {
        let values = self.vector(rows * cols, 0.0, 2.0 / (cols as f32).sqrt());
        let tensor: Tensor = codecs::encode(&values, &[rows, cols], encoding, Clip::Absmax)?.tensor;
        self.backend.matrix("self-check", tensor)
    }

    fn norm(&mut self) -> Norm {
        Norm { weight: self.vector(D, 1.0, 0.3), bias: self.vector(D, 0.0, 0.3), eps: 1e-5 }
    }

    fn ffn(&mut self, width: usize, encoding: Encoding) -> Result<Ffn<B::Matrix>, BackendError> {
        Ok(Ffn { w1: self.matrix(width, D, encoding)?, w2: self.matrix(D, width, encoding)? })
    }

    fn ssm(&mut self) -> Result<Ssm<B::Matrix>, BackendError> {
        Ok(Ssm {
            norm: self.norm(),
            in_proj: self.matrix(2 * INNER, D, Encoding::Nf4 { block: 64, absmax: AbsmaxType::Double })?,
            conv_taps: self.vector(4 * INNER, 0.0, 0.5),
            conv_bias: self.vector(INNER, 0.0, 0.5),
            a: self.vector(STATES, -1.0, 0.9),
            b: self.matrix(STATES, INNER, Encoding::Fp32)?,
            c: self.matrix(INNER, STATES, Encoding::Bf16)?,
            d: self.vector(INNER, 1.0, 0.3),
            delta_proj: self.matrix(INNER, INNER, Encoding::Int4 { group: 8, scale: ScaleType::Fp16 })?,
            delta_bias: self.vector(INNER, 0.0, 0.5),
            out_proj: self.matrix(D, INNER, Encoding::Fp16)?,
        })
    }
}

fn network<B: Backend>(backend: &B) -> Result<Network<B::Matrix>, BackendError> {
    let mut weights = Weights { backend, random: fastrand::Rng::with_seed(1) };
    let int8 = Encoding::Int8 { granularity: Granularity::Row };
    let ffn = Layer::IteraLite {
        ssm: weights.ssm()?,
        sublayer: Some(Sublayer { norm: weights.norm(), mixer: Mixer::Ffn(weights.ffn(24, int8)?) }),
    };
    let experts = Layer::IteraLite {
        ssm: weights.ssm()?,
        sublayer: Some(Sublayer {
            norm: weights.norm(),
            mixer: Mixer::Experts {
                gate: weights.matrix(3, D, Encoding::Fp32)?,
                experts: (0..3)
                    .map(|_| weights.ffn(16, Encoding::Nf4 { block: 64, absmax: AbsmaxType::Fp32 }))
                    .collect::<Result<_, _>>()?,
                top_k: 2,
            },
        }),
    };
    Ok(Network {
        embedding: weights.matrix(VOCAB, D, int8)?,
        positions: weights.matrix(POSITIONS, D, Encoding::Fp32)?,
        layers: vec![ffn, experts],
        norm: weights.norm(),
        head: None,
    })
}

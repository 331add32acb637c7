//! Cases for `bench.mjs`, which holds the clock: set one up, then run it many times.

use std::hint::black_box;

use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::{Encoding, Grid};
use statepress_formats::entropy::{Decoder, encode};
use statepress_kernels::Rows;
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::linear::{Scratch, Weights, linear};
use statepress_kernels::ops::{conv1d, gate, norm, softmax};
use wasm_bindgen::prelude::wasm_bindgen;

/// A matrix and tokens.
#[wasm_bindgen]
pub struct Product {
    weights: Weights,
    x: Vec<f32>,
    out: Vec<f32>,
    scratch: Scratch,
}

#[wasm_bindgen]
impl Product {
    /// A random `[rows, cols]` matrix in `encoding` and `n` random tokens; `undefined` if the encoding
    /// does not exist or cannot take the shape.
    pub fn create(encoding: &str, rows: usize, cols: usize, n: usize) -> Option<Self> {
        let encoding = match encoding {
            "fp32" => Encoding::Fp32,
            "fp16" => Encoding::Fp16,
            "bf16" => Encoding::Bf16,
            "int8" => Encoding::int8(Granularity::Row),
            "int4" => Encoding::int4(32, ScaleType::Fp16),
            "nf4" => Encoding::nf4(64, ScaleType::Fp32),
            _ => {
                let grid = Grid::ALL.iter().find(|grid| grid.name() == encoding)?;
                Encoding::grouped(*grid, 64, ScaleType::Fp16)
            }
        };
        let tensor = codecs::encode(&random(rows * cols), &[rows, cols], encoding, Clip::Absmax).ok()?.tensor;
        let weights = Weights::new(tensor).ok()?;
        Some(Self { weights, x: random(n * cols), out: vec![0.0; n * rows], scratch: Scratch::default() })
    }

    /// Multiplies `times` times.
    pub fn run(&mut self, times: usize) {
        for _ in 0..times {
            linear(&self.weights, black_box(&self.x), &mut self.out, &mut self.scratch);
        }
    }
}

/// Runs an op `times` times over `n` numbers, in rows of 256; `false` if there is no such op.
#[wasm_bindgen]
pub fn op(name: &str, n: usize, times: usize) -> bool {
    const D: usize = 256;
    let (x, other, mut out) = (random(n), random(n), vec![0.0; n]);
    let (weight, taps, mut tail, mut dt) = (random(D), random(4 * D), random(3 * D), vec![0.0; n / D]);
    for _ in 0..times {
        let x = black_box(&x[..]);
        match name {
            "layer_norm" => norm::layer_norm(Rows::whole(x, D), &weight, &weight, 1e-5, &mut out),
            "conv1d" => conv1d::causal(Rows::whole(x, D), &mut tail, &taps, Some(&weight), &mut out),
            "log_sum_exp" => out[0] = softmax::log_sum_exp(x),
            "argmax" => out[0] = softmax::argmax(x) as f32,
            "compare" => out[0] = softmax::compare(x, &other, 0).kl,
            _ => {
                out.copy_from_slice(x);
                match name {
                    "silu" => gate::silu(&mut out),
                    "gelu" => gate::gelu(&mut out),
                    "silu_gate" => gate::silu_gate(&mut out, Rows::whole(&other, D), 1.0),
                    "skip" => gate::skip(&mut out, &weight, Rows::whole(&other, D)),
                    "softplus_mean" => gate::softplus_mean(&mut out, &weight, &mut dt),
                    _ => return false,
                }
            }
        }
        black_box(&out);
    }
    true
}

/// A matrix of entropy-coded codes, unpacked eight rows at a time, as panels are made.
#[wasm_bindgen]
pub struct Coded {
    stream: Vec<u8>,
    rows: usize,
    cols: usize,
    panel: Vec<i16>,
}

#[wasm_bindgen]
impl Coded {
    /// Normally distributed codes of that deviation; `spread`: it differs by row and column, a factor of 11 in all.
    pub fn create(rows: usize, cols: usize, deviation: f32, spread: bool) -> Option<Self> {
        // Four uniform numbers together are normal enough, and have a variance of a third.
        let unit = random(rows * cols).into_iter().map(|it| it * 3f32.sqrt());
        let half_octaves =
            |at: usize| if spread { (at / cols % 5 + at % cols % 5) as f32 / 2.0 - 2.0 } else { 0.0 };
        let code = |(at, unit): (usize, f32)| (unit * deviation * half_octaves(at).exp2()).round() as i16;
        let codes: Vec<i16> = unit.enumerate().map(code).collect();
        let stream = encode(&codes, rows, cols).ok()?;
        Some(Self { stream, rows, cols, panel: vec![0; 8.min(rows) * cols] })
    }

    /// Bits of a code, all counted.
    pub fn bits(&self) -> f64 {
        8.0 * self.stream.len() as f64 / (self.rows * self.cols) as f64
    }

    /// Unpacks `times` times; `false` if that fails.
    pub fn run(&mut self, times: usize) -> bool {
        for _ in 0..times {
            let Ok(mut decoder) = Decoder::new(black_box(&self.stream), self.rows, self.cols) else {
                return false;
            };
            let mut left = self.rows;
            while left > 0 {
                let rows = left.min(8);
                let Some(panel) = self.panel.get_mut(..rows * self.cols) else { return false };
                if decoder.read(panel).is_err() {
                    return false;
                }
                left -= rows;
            }
            black_box(&self.panel);
        }
        true
    }
}

fn random(n: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(1);
    (0..n).map(|_| (0..4).map(|_| rng.f32() - 0.5).sum()).collect()
}

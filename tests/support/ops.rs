//! The ops of a model as every backend has them, and one test body for each: held against the
//! plain references, on every length and tail.
//!
//! Backends fuse what belongs together, so an op here is as large as the smallest kernel that any
//! of them has for it.

use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::{Coding, Encoding, Grid, Group, Tensor};
use statepress_kernels::Rows;
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::linear::{self, Scratch, Weights};
use statepress_kernels::ops::{attention, conv1d, gate, norm, route, scan, softmax};

/// Who computes.
pub trait Ops {
    /// f32 sums in another order, and elementary functions of a few units in the last place, as
    /// a share of `1 + |value|`.
    const TOLERANCE: f32;

    /// LayerNorm of every row of `x` `[n, d]`.
    fn layer_norm(&mut self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32>;
    /// SiLU of the convolution of the first halves of rows of `wide` `[n, 2 D]`, after the inputs
    /// in `tail` `[k - 1, D]`.
    fn conv_silu(&mut self, wide: &[f32], tail: &[f32], taps: &[f32], bias: &[f32]) -> Vec<f32>;
    /// Step sizes of rows of `delta` `[n, D]`.
    fn step(&mut self, delta: &[f32], bias: &[f32]) -> Vec<f32>;
    /// States `[n, N]` after each position.
    fn scan(&mut self, dt: &[f32], driven: &[f32], a: &[f32], h: &[f32]) -> Vec<f32>;
    /// `(y + d a) SiLU(g)`, with `g` the second halves of rows of `wide` `[n, 2 D]`.
    fn skip_gate(&mut self, y: &[f32], a: &[f32], wide: &[f32], d: &[f32]) -> Vec<f32>;
    /// Attention of all tokens of `qkv` `[n, 3 d]`, in steps of these lengths.
    fn attention(&mut self, qkv: &[f32], d: usize, heads: usize, steps: &[usize]) -> Vec<f32>;
    /// Experts and their shares, `k` a token.
    fn route(&mut self, logits: &[f32], experts: usize, k: usize) -> (Vec<usize>, Vec<f32>);
    /// Negative log-likelihoods of a label for every row.
    fn nll(&mut self, logits: &[f32], vocab_size: usize, labels: &[u32]) -> Vec<f32>;
    /// `X W^T` for rows of `x` `[n, cols]`.
    fn linear(&mut self, w: &Tensor, x: &[f32]) -> Vec<f32>;
    /// GELU of `X W^T`, added to `y`, where a backend has it in one.
    fn linear_gelu_add(&mut self, w: &Tensor, x: &[f32], y: &[f32]) -> Vec<f32>;
}

/// The CPU's fast paths.
#[derive(Default)]
pub struct Fast(Scratch);

impl Fast {
    /// With f32 activations throughout.
    pub fn exact() -> Self {
        let mut scratch = Scratch::default();
        scratch.exact = true;
        Self(scratch)
    }
}

impl Ops for Fast {
    const TOLERANCE: f32 = 5e-6;

    fn layer_norm(&mut self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        norm::layer_norm(Rows::whole(x, weight.len()), weight, bias, 1e-5, &mut out);
        out
    }

    fn conv_silu(&mut self, wide: &[f32], tail: &[f32], taps: &[f32], bias: &[f32]) -> Vec<f32> {
        let d = bias.len();
        let mut out = vec![f32::NAN; wide.len() / 2];
        let v = Rows::new(wide, 0, d, 2 * d);
        conv1d::causal(v, &mut tail.to_vec(), taps, Some(bias), &mut out);
        gate::silu(&mut out);
        out
    }

    fn step(&mut self, delta: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut dt = vec![f32::NAN; delta.len() / bias.len()];
        gate::softplus_mean(&mut delta.to_vec(), bias, &mut dt);
        dt
    }

    fn scan(&mut self, dt: &[f32], driven: &[f32], a: &[f32], h: &[f32]) -> Vec<f32> {
        let mut states = vec![f32::NAN; driven.len()];
        scan::sequential(dt, driven, a, &mut h.to_vec(), &mut states);
        states
    }

    fn skip_gate(&mut self, y: &[f32], a: &[f32], wide: &[f32], d: &[f32]) -> Vec<f32> {
        let mut y = y.to_vec();
        gate::skip(&mut y, d, Rows::whole(a, d.len()));
        gate::silu_gate(&mut y, Rows::new(wide, d.len(), d.len(), 2 * d.len()), 1.0);
        y
    }

    fn attention(&mut self, qkv: &[f32], d: usize, heads: usize, steps: &[usize]) -> Vec<f32> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let (mut rest, mut all, mut position) = (qkv, Vec::new(), 0);
        let head = d / heads;
        let heads = attention::Heads {
            heads,
            kv_heads: heads,
            head,
            scale: (head as f32).sqrt().recip(),
            inv_freq: &[],
            rope_scale: 1.0,
            q_norm: None,
            k_norm: None,
        };
        for n in steps {
            let (now, later) = rest.split_at(n * 3 * d);
            let mut out = vec![f32::NAN; n * d];
            let [q, k, v] = [0, d, 2 * d].map(|first| Rows::new(now, first, d, 3 * d));
            let scratch = &mut attention::Scratch::default();
            attention::causal(q, k, v, &heads, position, &mut keys, &mut values, scratch, &mut out);
            position += n;
            all.extend(out);
            rest = later;
        }
        all
    }

    fn route(&mut self, logits: &[f32], experts: usize, k: usize) -> (Vec<usize>, Vec<f32>) {
        route::top_k(logits, experts, k).into_iter().map(|route| (route.expert, route.weight)).unzip()
    }

    fn nll(&mut self, logits: &[f32], vocab_size: usize, labels: &[u32]) -> Vec<f32> {
        let rows = logits.chunks_exact(vocab_size).zip(labels);
        rows.map(|(row, &label)| softmax::log_sum_exp(row) - row[label as usize]).collect()
    }

    fn linear(&mut self, w: &Tensor, x: &[f32]) -> Vec<f32> {
        let weights = Weights::new(w.clone()).unwrap();
        let mut out = vec![f32::NAN; x.len() / weights.cols() * weights.rows()];
        linear::linear(&weights, x, &mut out, &mut self.0);
        out
    }

    fn linear_gelu_add(&mut self, w: &Tensor, x: &[f32], y: &[f32]) -> Vec<f32> {
        let mut out = self.linear(w, x);
        gate::gelu(&mut out);
        out.iter().zip(y).map(|(a, b)| a + b).collect()
    }
}

/// Numbers about normal, times `scale`.
pub fn random(n: usize, scale: f32, rng: &mut fastrand::Rng) -> Vec<f32> {
    // A sum of four uniforms is close enough to normal.
    (0..n).map(|_| (0..4).map(|_| rng.f32() - 0.5).sum::<f32>() * 1.7 * scale).collect()
}

#[track_caller]
fn close<O: Ops>(what: &str, found: &[f32], exact: &[f32]) {
    assert_eq!(found.len(), exact.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(exact).enumerate() {
        let allowed = O::TOLERANCE * (1.0 + b.abs());
        assert!((a - b).abs() <= allowed, "{what}: element {i} of {}: {a}, {b}", exact.len());
    }
}

/// Every length around a vector of four, and lengths around the threads of a workgroup.
fn lengths() -> impl Iterator<Item = usize> {
    (1..20).chain([31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 300])
}

/// LayerNorm, the convolution, the step size and the gate, of every width.
pub fn elementwise<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(11);
    for d in lengths() {
        for n in [1, 3] {
            let what = |name: &str| format!("{name}, {n} rows of {d}");
            let (x, a) = (random(n * d, 6.0, &mut rng), random(n * d, 6.0, &mut rng));
            let (weight, bias) = (random(d, 1.0, &mut rng), random(d, 1.0, &mut rng));
            let wide = random(n * 2 * d, 6.0, &mut rng);

            let mut exact = vec![0.0; n * d];
            norm::reference::layer_norm(Rows::whole(&x, d), &weight, &bias, 1e-5, &mut exact);
            close::<O>(&what("layer_norm"), &ops.layer_norm(&x, &weight, &bias), &exact);

            let (mut biased, mut exact) = (x.clone(), vec![0.0; n]);
            gate::reference::softplus_mean(&mut biased, &bias, &mut exact);
            close::<O>(&what("step"), &ops.step(&x, &bias), &exact);

            let mut exact = x.clone();
            gate::reference::skip(&mut exact, &weight, Rows::whole(&a, d));
            gate::reference::silu_gate(&mut exact, Rows::new(&wide, d, d, 2 * d), 1.0);
            // Values of several hundred: relative to the largest factor.
            close::<O>(&what("skip_gate"), &ops.skip_gate(&x, &a, &wide, &weight), &exact);
        }
    }
}

/// Convolutions of every width and number of taps.
pub fn convolutions<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(13);
    for d in [1, 3, 4, 5, 12, 64, 300] {
        for k in 1..6 {
            let (taps, bias) = (random(k * d, 1.0, &mut rng), random(d, 1.0, &mut rng));
            for n in [1, 2, 9] {
                let tail = random((k - 1) * d, 1.0, &mut rng);
                let wide = random(n * 2 * d, 1.0, &mut rng);
                let mut exact = vec![0.0; n * d];
                let v = Rows::new(&wide, 0, d, 2 * d);
                conv1d::reference::causal(v, &mut tail.clone(), &taps, Some(&bias), &mut exact);
                gate::reference::silu(&mut exact);
                let found = ops.conv_silu(&wide, &tail, &taps, &bias);
                close::<O>(&format!("conv, {n} rows of {d}, {k} taps"), &found, &exact);
            }
        }
    }
}

/// Scans of every state size over short and long sequences.
pub fn scans<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(14);
    for states in [1, 3, 4, 5, 8, 17] {
        for n in [1, 2, 7, 200, 256, 257, 700] {
            let dt: Vec<f32> = (0..n).map(|_| rng.f32()).collect();
            let (driven, h) = (random(n * states, 1.0, &mut rng), random(states, 1.0, &mut rng));
            let a: Vec<f32> = (0..states).map(|_| -rng.f32() * 3.0).collect();
            let mut exact = vec![0.0; n * states];
            scan::reference::sequential(&dt, &driven, &a, &mut h.clone(), &mut exact);
            close::<O>(&format!("{states} states over {n}"), &ops.scan(&dt, &driven, &a, &h), &exact);
        }
    }
}

/// Attention in one step, in several, and token by token, is the same.
pub fn attentions<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(16);
    for (d, heads, n) in [(12, 3, 9), (16, 1, 20), (8, 8, 3), (4, 2, 600)] {
        let qkv = random(n * 3 * d, 1.0, &mut rng);
        let exact = attention_reference(&qkv, d, heads);
        let some = [vec![n], vec![1, n - 1], vec![n / 2, n - n / 2]];
        for steps in some {
            let found = ops.attention(&qkv, d, heads, &steps);
            close::<O>(&format!("attention {d}/{heads} in {steps:?}"), &found, &exact);
        }
    }
}

/// Causal attention in double precision.
fn attention_reference(qkv: &[f32], d: usize, heads: usize) -> Vec<f32> {
    let width = d / heads;
    let at = |t: usize, part: usize, channel: usize| f64::from(qkv[t * 3 * d + part * d + channel]);
    let mut out = Vec::new();
    for t in 0..qkv.len() / (3 * d) {
        for channel in 0..d {
            let first = channel / width * width;
            let score = |s: usize| {
                let dot: f64 = (first..first + width).map(|i| at(t, 0, i) * at(s, 1, i)).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let total: f64 = (0..=t).map(score).sum();
            out.push(((0..=t).map(|s| score(s) * at(s, 2, channel)).sum::<f64>() / total) as f32);
        }
    }
    out
}

/// The largest logits come first, ties go to the lowest index, shares are a softmax.
pub fn routes<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(17);
    for experts in [1, 2, 5, 8, 40] {
        // llvmpipe ends an invocation's loops after 65535 rounds in all, which 40 choices among 40 exceed.
        for k in [1, 2, 8] {
            let k = k.min(experts);
            for n in [1, 30, 300] {
                let mut logits = random(n * experts, 2.0, &mut rng);
                // A tie in every row.
                logits.chunks_exact_mut(experts).for_each(|row| row[experts - 1] = row[0]);
                let (chosen, shares) = ops.route(&logits, experts, k);
                for (t, row) in logits.chunks_exact(experts).enumerate() {
                    let mut order: Vec<usize> = (0..experts).collect();
                    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                    assert_eq!(chosen[t * k..][..k], order[..k], "{experts} experts, {k}, token {t}");
                    let weight = |expert: &usize| f64::from(row[*expert] - row[order[0]]).exp();
                    let total: f64 = order[..k].iter().map(weight).sum();
                    let exact: Vec<f32> = order[..k].iter().map(|e| (weight(e) / total) as f32).collect();
                    close::<O>("shares", &shares[t * k..][..k], &exact);
                }
            }
        }
    }
}

/// Likelihoods over vocabularies of every length.
pub fn likelihoods<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(15);
    for vocab_size in lengths().chain([1000, 8000]) {
        let logits = random(3 * vocab_size, 4.0, &mut rng);
        let labels: Vec<u32> = (0..3).map(|_| rng.u32(0..vocab_size as u32)).collect();
        let rows = logits.chunks_exact(vocab_size).zip(&labels);
        let exact: Vec<f32> = rows
            .map(|(row, &label)| {
                (softmax::reference::log_sum_exp(row) - f64::from(row[label as usize])) as f32
            })
            .collect();
        close::<O>(&format!("nll of {vocab_size}"), &ops.nll(&logits, vocab_size, &labels), &exact);
    }
}

/// Every encoding that rows of so many columns can have.
pub fn encodings(cols: usize) -> Vec<Encoding> {
    let mut all = vec![Encoding::Fp32, Encoding::Fp16, Encoding::Bf16];
    all.extend([Granularity::Row, Granularity::Tensor].map(Encoding::int8));
    for group in [2, 8, 32, cols] {
        all.push(Encoding::int4(group, ScaleType::Fp16));
    }
    all.push(Encoding::int4(cols, ScaleType::Fp32));
    for (block, absmax) in [
        (64, ScaleType::Fp32),
        (64, ScaleType::Double),
        (32, ScaleType::Fp16),
        (7, ScaleType::Fp32),
        (7, ScaleType::Double),
    ] {
        all.push(Encoding::nf4(block, absmax));
    }
    for (grid, group, scale) in [
        (Grid::Int8, 32, ScaleType::Fp16),
        (Grid::Int8, 7, ScaleType::Fp32),
        (Grid::Int6, 32, ScaleType::Fp16),
        (Grid::Int5, 64, ScaleType::Log8),
        (Grid::Int3, 16, ScaleType::Fp32),
        (Grid::Lm3, 64, ScaleType::Log8),
        (Grid::Int2, 8, ScaleType::Fp16),
        (Grid::Lm2, 32, ScaleType::Log8),
        // Across the ends of rows.
        (Grid::Int3, 7, ScaleType::Fp16),
        (Grid::Int8, 32, ScaleType::Affine),
        (Grid::Int5, 32, ScaleType::Affine),
        (Grid::Int4, 16, ScaleType::Affine),
        (Grid::Int2, 16, ScaleType::Affine),
        (Grid::Int3, 7, ScaleType::Affine),
    ] {
        all.push(Encoding::grouped(grid, group, scale));
    }
    all.push(Encoding::Codes(Coding { grid: Grid::Int5, group: Group::Row, scale: ScaleType::Fp16 }));
    all.push(Encoding::Codes(Coding { grid: Grid::Lm2, group: Group::Tensor, scale: ScaleType::Fp32 }));
    all
}

/// A matrix in an encoding, unless its shape cannot take it.
pub fn encode(values: &[f32], shape: [usize; 2], encoding: Encoding) -> Option<Tensor> {
    if encoding.refusal(&shape).is_some() {
        return None;
    }
    Some(codecs::encode(values, &shape, encoding, Clip::Absmax).unwrap().tensor)
}

/// Products with packed matrices are those of the decoded ones: errors as a share of `|w| |x|`.
pub fn products<O: Ops>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(7);
    let norm_of = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (rows, cols) in [(1, 1), (5, 7), (13, 8), (9, 20), (70, 33), (24, 64), (65, 96), (40, 130), (3, 2100)]
    {
        let values = random(rows * cols, 0.05, &mut rng);
        for encoding in encodings(cols) {
            let Some(tensor) = encode(&values, [rows, cols], encoding) else { continue };
            let decoded = codecs::decode(&tensor);
            for n in [1, 2, 5, 67] {
                let x = random(n * cols, 1.0, &mut rng);
                let mut exact = vec![0.0; n * rows];
                linear::reference::linear(&decoded, cols, &x, &mut exact);
                let found = ops.linear(&tensor, &x);
                for (i, (a, b)) in found.iter().zip(&exact).enumerate() {
                    let unit =
                        norm_of(&decoded[i % rows * cols..][..cols]) * norm_of(&x[i / rows * cols..][..cols]);
                    let error = (a - b).abs() / unit.max(1e-20);
                    assert!(error < 2e-6, "{encoding:?} {rows}x{cols}, {n} tokens, output {i}: {a}, {b}");
                }
                if encoding == Encoding::Fp32 {
                    let y = random(n * rows, 1.0, &mut rng);
                    gate::reference::gelu(&mut exact);
                    let exact: Vec<f32> = exact.iter().zip(&y).map(|(a, b)| a + b).collect();
                    close::<O>("linear, GELU, add", &ops.linear_gelu_add(&tensor, &x, &y), &exact);
                }
            }
        }
    }
}

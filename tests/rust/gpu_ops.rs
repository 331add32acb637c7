//! Every kernel on a real adapter against the plain reference: the bodies that the CPU's fast
//! paths go through as well.

use statepress::{Gpu, GpuOptions};
use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::{Encoding, Tensor};
use statepress_gpu::One;
use statepress_kernels::shaders::{self as wgsl, Kernel, Norm, Rows};
use statepress_kernels::{codecs, linear};
use statepress_tests::gpu::{dispatch, gpus, open_gpu, tokens};
use statepress_tests::ops::{self, Ops};

/// One dispatch after another on a GPU.
struct Lab(Gpu);

/// Which kernel multiplies.
#[derive(Clone, Copy)]
enum Products {
    One,
    Many,
}

fn labs() -> Vec<Lab> {
    gpus().into_iter().map(Lab).collect()
}

impl Lab {
    fn run(
        &self,
        one: &mut One,
        kernel: Kernel,
        overrides: &'static [&'static str],
        params: &impl wgsl::Block,
        groups: [usize; 3],
    ) {
        dispatch(&self.0, one, kernel, overrides, params, groups);
    }

    fn product(&self, how: Products, w: &Tensor, x: &[f32], y: Option<&[f32]>) -> Vec<f32> {
        let (rows, cols) = w.matrix();
        let n = x.len() / cols;
        let mut all = Vec::new();
        let size = match how {
            Products::One => 1,
            Products::Many => n,
        };
        for (t, x) in x.chunks(size * cols).enumerate() {
            let mut one = tokens(size);
            let block = one.matrix(&self.0, vec![w.clone()]).unwrap();
            let x = one.put(x);
            let into = match y {
                Some(y) => one.put(&y[t * size * rows..][..size * rows]),
                None => one.put(&vec![f32::NAN; size * rows]),
            };
            let overrides: &'static [&'static str] = if y.is_some() { &["GELU", "ADD"] } else { &[] };
            match how {
                Products::One => {
                    let lanes = block.eights.next_power_of_two().min(32);
                    let params = wgsl::Matvec { w: block, x, y: into, lanes, ..wgsl::Matvec::default() };
                    let groups = [rows.div_ceil(256 / lanes as usize), 1, 1];
                    self.run(&mut one, Kernel::Matvec, overrides, &params, groups);
                }
                Products::Many => {
                    let params = wgsl::Matmul {
                        w: block,
                        x: Rows::whole(x, cols),
                        y: Rows::whole(into, rows),
                        slots: 1,
                        ..wgsl::Matmul::default()
                    };
                    let groups = [rows.div_ceil(64), size.div_ceil(64), 1];
                    self.run(&mut one, Kernel::Matmul, overrides, &params, groups);
                }
            }
            all.extend_from_slice(&one.memory[into as usize..][..size * rows]);
        }
        all
    }

    fn scan_by(&self, kernel: Kernel, dt: &[f32], driven: &[f32], a: &[f32], h: &[f32]) -> Vec<f32> {
        let (n, n_states) = (dt.len(), a.len());
        let mut one = tokens(n);
        let params = wgsl::Scan {
            dt: one.put(dt),
            bx: one.put(driven),
            h: one.put(h),
            states: one.put(&vec![f32::NAN; n * n_states]),
            a: one.constant(a),
            n_states: n_states as u32,
            // No convolution to bring up to date.
            k: 1,
            ..wgsl::Scan::default()
        };
        let groups = if kernel == Kernel::ScanParallel { n_states } else { 1 };
        self.run(&mut one, kernel, &[], &params, [groups, 1, 1]);
        let states = one.memory[params.states as usize..][..n * n_states].to_vec();
        let after = &one.memory[params.h as usize..][..n_states];
        let last = &states[(n - 1) * n_states..];
        for (after, last) in after.iter().zip(last) {
            assert!(
                (after - last).abs() <= 1e-5 * (1.0 + last.abs()),
                "{after}, {last}: the state is the last one"
            );
        }
        states
    }
}

impl Ops for Lab {
    const TOLERANCE: f32 = 2e-5;

    fn layer_norm(&mut self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let d = weight.len();
        let n = x.len() / d;
        let mut one = tokens(n);
        let norm = Norm { weight: one.constant(weight), bias: one.constant(bias), eps: 1e-5, d: d as u32 };
        let params = wgsl::NormRows { norm, x: one.rows(x, d), y: one.room(n, d) };
        self.run(&mut one, Kernel::Norm, &[], &params, [n, 1, 1]);
        one.memory[params.y.at as usize..].to_vec()
    }

    fn conv_silu(&mut self, wide: &[f32], tail: &[f32], taps: &[f32], bias: &[f32]) -> Vec<f32> {
        let d = bias.len();
        let (n, k) = (wide.len() / 2 / d, taps.len() / d);
        let mut one = tokens(n);
        let params = wgsl::Conv1d {
            x: one.rows(wide, 2 * d),
            tail: one.put(tail),
            y: one.room(n, d),
            taps: one.constant(taps),
            bias: one.constant(bias),
            inner: d as u32,
            k: k as u32,
        };
        self.run(&mut one, Kernel::Conv1d, &["SILU"], &params, [d.div_ceil(256), n, 1]);
        one.memory[params.y.at as usize..].to_vec()
    }

    fn step(&mut self, delta: &[f32], bias: &[f32]) -> Vec<f32> {
        let d = bias.len();
        let n = delta.len() / d;
        let mut one = tokens(n);
        let params = wgsl::SoftplusMean {
            delta: one.put(delta),
            dt: one.put(&vec![f32::NAN; n]),
            bias: one.constant(bias),
            inner: d as u32,
        };
        self.run(&mut one, Kernel::SoftplusMean, &[], &params, [n, 1, 1]);
        one.memory[params.dt as usize..].to_vec()
    }

    fn scan(&mut self, dt: &[f32], driven: &[f32], a: &[f32], h: &[f32]) -> Vec<f32> {
        let sequential = self.scan_by(Kernel::ScanSequential, dt, driven, a, h);
        let parallel = self.scan_by(Kernel::ScanParallel, dt, driven, a, h);
        for (a, b) in sequential.iter().zip(&parallel) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} one by one, {b} at once");
        }
        parallel
    }

    fn skip_gate(&mut self, y: &[f32], a: &[f32], wide: &[f32], d: &[f32]) -> Vec<f32> {
        let (inner, n) = (d.len(), y.len() / d.len());
        let mut one = tokens(n);
        let params = wgsl::Gate {
            a: one.rows(a, inner),
            z: one.rows(wide, 2 * inner).from_column(inner),
            y: one.rows(y, inner),
            d: one.constant(d),
            z_scale: 1.0,
            width: inner as u32,
            slots: 1,
            ..wgsl::Gate::default()
        };
        let params = wgsl::Gate { x: params.y, ..params };
        self.run(&mut one, Kernel::Gate, &["SKIP"], &params, [inner.div_ceil(256), n, 1]);
        one.memory[params.y.at as usize..].to_vec()
    }

    fn attention(&mut self, qkv: &[f32], d: usize, heads: usize, steps: &[usize]) -> Vec<f32> {
        let n: usize = steps.iter().sum();
        let (mut keys, mut values) = (vec![f32::NAN; n * d], vec![f32::NAN; n * d]);
        let (mut all, mut position) = (Vec::new(), 0);
        for &step in steps {
            let mut one = tokens(step);
            one.control.position = position as u32;
            let qkv = one.rows(&qkv[position * 3 * d..][..step * 3 * d], 3 * d);
            let params = wgsl::Attention {
                q: qkv,
                k: qkv.from_column(d),
                v: qkv.from_column(2 * d),
                keys: one.put(&keys),
                values: one.put(&values),
                y: one.room(step, d),
                heads: heads as u32,
                kv_heads: heads as u32,
                head: (d / heads) as u32,
                scale: ((d / heads) as f32).sqrt().recip(),
                ..wgsl::Attention::default()
            };
            self.run(&mut one, Kernel::Attention, &[], &params, [heads, step, 1]);
            let take = |at: u32, len: usize| one.memory[at as usize..][..len].to_vec();
            (keys, values) = (take(params.keys, n * d), take(params.values, n * d));
            all.extend(take(params.y.at, step * d));
            position += step;
        }
        all
    }

    fn route(&mut self, logits: &[f32], experts: usize, k: usize) -> (Vec<usize>, Vec<f32>) {
        let n = logits.len() / experts;
        let mut one = tokens(n);
        let room = n * k;
        let params = wgsl::Route {
            logits: one.put(logits),
            routes: one.put(&vec![f32::NAN; room]),
            shares: one.put(&vec![f32::NAN; room]),
            counts: one.put(&vec![f32::NAN; experts]),
            lists: one.put(&vec![f32::NAN; experts * room]),
            room: room as u32,
            n_experts: experts as u32,
            top_k: k as u32,
        };
        self.run(&mut one, Kernel::Route, &[], &params, [1; 3]);
        let take = |at: u32, len: usize| one.memory[at as usize..][..len].to_vec();
        let routes: Vec<usize> = take(params.routes, room).iter().map(|&expert| expert as usize).collect();
        // Each expert's list has the slots that chose it, in order.
        for expert in 0..experts {
            let count = one.memory[params.counts as usize + expert] as usize;
            let listed = take(params.lists + (expert * room) as u32, count);
            let chose = (0..room).filter(|&slot| routes[slot] == expert).map(|slot| slot as f32);
            assert_eq!(listed, chose.collect::<Vec<_>>());
        }
        (routes, take(params.shares, room))
    }

    fn nll(&mut self, logits: &[f32], vocab_size: usize, labels: &[u32]) -> Vec<f32> {
        let n = labels.len();
        let mut one = tokens(n);
        // The second of four sets; the others score nothing.
        one.ids = vec![u32::MAX; 6 * n];
        one.ids[3 * n..4 * n].copy_from_slice(labels);
        let params = wgsl::Nll {
            logits: one.put(logits),
            nll: one.put(&vec![f32::NAN; 4 * n]),
            vocab_size: vocab_size as u32,
        };
        self.run(&mut one, Kernel::Nll, &[], &params, [n, 1, 1]);
        let nll = &one.memory[params.nll as usize..];
        assert!(nll[..n].iter().chain(&nll[2 * n..]).all(|nll| nll.is_nan()), "nobody asked for those");
        nll[n..2 * n].to_vec()
    }

    fn linear(&mut self, w: &Tensor, x: &[f32]) -> Vec<f32> {
        let one_by_one = self.product(Products::One, w, x, None);
        let at_once = self.product(Products::Many, w, x, None);
        for (a, b) in one_by_one.iter().zip(&at_once) {
            assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{a} one by one, {b} at once");
        }
        at_once
    }

    fn linear_gelu_add(&mut self, w: &Tensor, x: &[f32], y: &[f32]) -> Vec<f32> {
        let one_by_one = self.product(Products::One, w, x, Some(y));
        let at_once = self.product(Products::Many, w, x, Some(y));
        for (a, b) in one_by_one.iter().zip(&at_once) {
            assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{a} one by one, {b} at once");
        }
        at_once
    }
}

macro_rules! on_the_gpu {
    ($($body:ident),+) => {$(
        #[test]
        fn $body() {
            labs().iter_mut().for_each(ops::$body);
        }
    )+};
}

on_the_gpu!(elementwise, convolutions, scans, attentions, routes, likelihoods, products);

/// Rows of tables, in every encoding: what is looked up are the decoded numbers, to the last bit
/// where a value is one product of a code and a scale, and a bias.
#[test]
fn embeddings_are_the_decoded_rows() {
    let lab = &labs()[0];
    let mut rng = fastrand::Rng::with_seed(3);
    for (rows, cols) in [(7, 5), (9, 64), (6, 100)] {
        let values: Vec<f32> = (0..rows * cols).map(|_| rng.f32() - 0.5).collect();
        let zeros = Tensor { shape: vec![4, cols], data: statepress_core::Packed::F32(vec![0.0; 4 * cols]) };
        for encoding in ops::encodings(cols) {
            let Some(tensor) = ops::encode(&values, [rows, cols], encoding) else { continue };
            let decoded = codecs::decode(&tensor);
            // What is counted from a minimum is a sum of larger numbers.
            let within =
                if encoding.coding().is_some_and(|it| it.scale == ScaleType::Affine) { 1.0 } else { 0.0 };
            let mut one = tokens(3);
            let ids = [rows as u32 - 1, 0, 2];
            let bias: Vec<f32> = (0..cols).map(|_| rng.f32() - 0.5).collect();
            one.ids[..3].copy_from_slice(&ids);
            let params = wgsl::Embed {
                tokens: one.matrix(&lab.0, vec![tensor]).unwrap(),
                positions: one.matrix(&lab.0, vec![zeros.clone()]).unwrap(),
                y: one.put(&vec![f32::NAN; 3 * cols]),
                scale: 1.0,
                bias: one.constant(&bias),
                ..wgsl::Embed::default()
            };
            lab.run(&mut one, Kernel::Embed, &["POSITIONS"], &params, [cols.div_ceil(8 * 256), 3, 1]);
            let rows_of_ids =
                ids.iter().flat_map(|&id| decoded[id as usize * cols..][..cols].iter().zip(&bias));
            for (a, (x, bias)) in one.memory.iter().zip(rows_of_ids) {
                // Products and sums may be fused.
                let (b, size) = (x + bias, x.abs() + bias.abs() + within);
                assert!((a - b).abs() <= 2e-7 * size, "{encoding:?} {rows}x{cols}: {a}, {b}");
            }
        }
    }
}

/// INT8 in packed integers: activations of 15 bits, as a share of `|w| |x|`.
#[test]
fn packed_integers_round_activations_to_fifteen_bits() {
    let lab = Lab(open_gpu(GpuOptions { packed_dot: true, ..GpuOptions::default() }));
    if !lab.0.adapter().features.iter().any(|feature| feature == "packed-dot") {
        eprintln!("not checked: this adapter has no dot products of packed bytes");
        return;
    }
    let mut rng = fastrand::Rng::with_seed(5);
    let norm_of = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (rows, cols) in [(5, 7), (70, 33), (24, 64), (65, 130), (3, 2100)] {
        let mut x: Vec<f32> = (0..cols).map(|_| rng.f32() - 0.5).collect();
        // Activations of SSMs have outliers.
        x[cols / 2] *= 100.0;
        let values: Vec<f32> = (0..rows * cols).map(|_| rng.f32() - 0.5).collect();
        for granularity in [Granularity::Row, Granularity::Tensor] {
            let tensor = ops::encode(&values, [rows, cols], Encoding::int8(granularity)).unwrap();
            let decoded = codecs::decode(&tensor);
            let mut exact = vec![0.0; rows];
            linear::reference::linear(&decoded, cols, &x, &mut exact);
            let mut one = tokens(1);
            let block = one.matrix(&lab.0, vec![tensor]).unwrap();
            let lanes = block.eights.next_power_of_two().min(32);
            let params = wgsl::Matvec {
                w: block,
                x: one.put(&x),
                y: one.put(&vec![f32::NAN; rows]),
                lanes,
                ..wgsl::Matvec::default()
            };
            let groups = [rows.div_ceil(256 / lanes as usize), 1, 1];
            lab.run(&mut one, Kernel::Matvec, &["INTEGER"], &params, groups);
            let found = &one.memory[params.y as usize..];
            let mut rounded = 0;
            for (row, (a, b)) in found.iter().zip(&exact).enumerate() {
                let unit = norm_of(&decoded[row * cols..][..cols]) * norm_of(&x);
                assert!((a - b).abs() < 4e-5 * unit, "{rows}x{cols}, row {row}: {a}, {b}");
                rounded += usize::from(a != b);
            }
            assert!(rounded > 0, "{rows}x{cols}: as exact as f32, so it was not the integer kernel");
        }
    }
}

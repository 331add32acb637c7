//! Products on an adapter, with everything that is done to their operands and results, against
//! double precision.

use fastrand::Rng;
use statepress::{Gpu, GpuOptions};
use statepress_core::encoding::Granularity;
use statepress_core::{Encoding, Tensor};
use statepress_gpu::One;
use statepress_kernels::codecs;
use statepress_kernels::shaders::{self as wgsl, Affine, Kernel, Matrix, NONE, Norm, Rows};
use statepress_tests::gpu::{dispatch, gpus, open_gpu, tokens};
use statepress_tests::gpu_reference as reference;
use statepress_tests::gpu_reference::{close, silu, wide};
use statepress_tests::ops::{self, random};

const TOLERANCE: f64 = 2e-5;

/// Every activation, with and without adding.
const ENDS: [&[&str]; 8] = [
    &[],
    &["GELU"],
    &["GELU_TANH"],
    &["SILU"],
    &["ADD"],
    &["GELU", "ADD"],
    &["GELU_TANH", "ADD"],
    &["SILU", "ADD"],
];

/// The same of transposed matrices.
const TRANSPOSED: [&[&str]; 8] = [
    &["TRANSPOSED"],
    &["TRANSPOSED", "GELU"],
    &["TRANSPOSED", "GELU_TANH"],
    &["TRANSPOSED", "SILU"],
    &["TRANSPOSED", "ADD"],
    &["TRANSPOSED", "GELU", "ADD"],
    &["TRANSPOSED", "GELU_TANH", "ADD"],
    &["TRANSPOSED", "SILU", "ADD"],
];

/// A matrix in every encoding that it can have, and what its numbers are then.
fn matrices(shape: [usize; 2], rng: &mut Rng) -> Vec<(Tensor, Vec<f32>)> {
    let values = random(shape[0] * shape[1], (shape[1] as f32).sqrt().recip(), rng);
    let encoded =
        ops::encodings(shape[1]).into_iter().filter_map(|encoding| ops::encode(&values, shape, encoding));
    encoded.map(|tensor| (tensor.clone(), codecs::decode(&tensor))).collect()
}

/// The cases of one of several GPUs that share the work, with their numbers.
fn in_turn<T>(cases: Vec<T>, turn: usize, gpus: usize) -> impl Iterator<Item = (usize, T)> {
    cases.into_iter().enumerate().filter(move |(case, _)| case % gpus == turn)
}

fn lanes(matrix: &Matrix) -> u32 {
    matrix.eights.next_power_of_two().min(32)
}

fn groups(rows: usize, lanes: u32) -> [usize; 3] {
    [rows.div_ceil(256 / lanes as usize), 1, 1]
}

fn take(one: &One, at: u32, len: usize) -> Vec<f32> {
    one.memory[at as usize..][..len].to_vec()
}

/// Scales and a bias among the constants, and what they do.
struct Scaled {
    affine: Affine,
    bias: Vec<f32>,
    row_scale: Vec<f32>,
}

impl Scaled {
    fn new(rows: usize, one: &mut One, rng: &mut Rng) -> Self {
        let (bias, row_scale) = (random(rows, 1.0, rng), random(rows, 1.0, rng));
        let affine = Affine {
            bias: one.constant(&bias),
            row_scale: one.constant(&row_scale),
            x_scale: 0.75,
            y_scale: -1.5,
        };
        Self { affine, bias, row_scale }
    }

    fn apply(&self, products: &[f64]) -> Vec<f64> {
        let rows = self.bias.len();
        let scaled = products.iter().enumerate().map(|(i, product)| {
            (product * f64::from(self.affine.x_scale) + f64::from(self.bias[i % rows]))
                * f64::from(self.row_scale[i % rows])
                * f64::from(self.affine.y_scale)
        });
        scaled.collect()
    }
}

/// An activation, and adding, by their `override` constants.
fn finish(overrides: &[&str], exact: &[f64], y: &[f32]) -> Vec<f64> {
    let activated = exact.iter().map(|&x| match overrides.first() {
        Some(&"GELU") => {
            let mut one = [x as f32];
            statepress_kernels::ops::gate::reference::gelu(&mut one);
            f64::from(one[0])
        }
        Some(&"GELU_TANH") => reference::gelu_tanh(x),
        Some(&"SILU") => silu(x),
        _ => x,
    });
    let adds = overrides.contains(&"ADD");
    activated.zip(y).map(|(x, y)| if adds { x + f64::from(*y) } else { x }).collect()
}

/// Rows that stand apart from each other: columns 3 to `3 + width` of rows of `width + 5`.
fn apart(one: &mut One, values: &[f32], width: usize) -> Rows {
    let padded: Vec<f32> = values
        .chunks_exact(width)
        .flat_map(|row| [[f32::NAN; 3].as_slice(), row, &[f32::NAN; 2]].concat())
        .collect();
    one.rows(&padded, width + 5).from_column(3)
}

/// The rows that `apart` made room for.
fn gather(one: &One, rows: Rows, n: usize, width: usize) -> Vec<f32> {
    (0..n).flat_map(|t| take(one, rows.at + t as u32 * rows.stride, width)).collect()
}

#[test]
fn products_are_scaled_activated_and_added() {
    let mut rng = Rng::with_seed(21);
    let gpus = gpus();
    for (turn, gpu) in gpus.iter().enumerate() {
        for (rows, cols) in [(5, 7), (70, 33), (24, 64), (13, 2100)] {
            for (case, (tensor, decoded)) in in_turn(matrices([rows, cols], &mut rng), turn, gpus.len()) {
                let overrides = ENDS[case % ENDS.len()];
                let what = format!("{:?} {rows}x{cols} {overrides:?}", tensor.encoding());
                for n in [1, 3] {
                    let (x, y) = (random(n * cols, 1.0, &mut rng), random(n * rows, 1.0, &mut rng));
                    let mut one = tokens(n);
                    let w = one.matrix(gpu, vec![tensor.clone()]).unwrap();
                    let scaled = Scaled::new(rows, &mut one, &mut rng);
                    let exact = scaled.apply(&reference::linear(&decoded, &wide(&x), cols));
                    let exact = finish(overrides, &exact, &y);
                    let affine = scaled.affine;
                    let (x, y) = (apart(&mut one, &x, cols), apart(&mut one, &y, rows));
                    let params = wgsl::Matmul { w, affine, x, y, slots: 1, ..wgsl::Matmul::default() };
                    let before = one.memory.clone();
                    dispatch(gpu, &mut one, Kernel::Matmul, overrides, &params, [rows.div_ceil(64), 1, 1]);
                    close(&format!("{what}, {n} tokens"), &gather(&one, y, n, rows), &exact, TOLERANCE);
                    if n == 1 {
                        one.memory = before;
                        let params = wgsl::Matvec {
                            w,
                            affine,
                            x: x.at,
                            y: y.at,
                            lanes: lanes(&w),
                            ..wgsl::Matvec::default()
                        };
                        dispatch(
                            gpu,
                            &mut one,
                            Kernel::Matvec,
                            overrides,
                            &params,
                            groups(rows, params.lanes),
                        );
                        close(&what, &take(&one, y.at, rows), &exact, TOLERANCE);
                    }
                }
            }
        }
    }
}

/// What a product of one token does with its operand.
struct Modes<'a> {
    gpu: &'a Gpu,
    tensor: Tensor,
    decoded: Vec<f32>,
    x: Vec<f32>,
    z: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Modes<'_> {
    /// Dispatches with what `set` makes of the parameters, and compares with the product of `operand`.
    fn check(
        &self,
        overrides: &'static [&'static str],
        set: impl Fn(&mut One, &mut wgsl::Matvec),
        operand: &[f64],
    ) -> (One, wgsl::Matvec) {
        let (rows, cols) = self.tensor.matrix();
        let mut one = tokens(1);
        let w = one.matrix(self.gpu, vec![self.tensor.clone()]).unwrap();
        let mut params = wgsl::Matvec {
            w,
            x: one.put(&self.x),
            z: one.put(&self.z),
            y: one.put(&vec![f32::NAN; rows]),
            lanes: lanes(&w),
            ..wgsl::Matvec::default()
        };
        set(&mut one, &mut params);
        dispatch(self.gpu, &mut one, Kernel::Matvec, overrides, &params, groups(rows, params.lanes));
        let exact = reference::linear(&self.decoded, operand, cols);
        let what = format!("{overrides:?} {:?} {rows}x{cols}", self.tensor.encoding());
        close(&what, &take(&one, params.y, rows), &exact, TOLERANCE);
        (one, params)
    }

    fn all(&self, rng: &mut Rng) {
        let cols = self.x.len();
        let eps = 1e-5;
        let (x, z) = (wide(&self.x), wide(&self.z));
        let gate: Vec<f64> = z.iter().map(|z| silu(z * 0.5)).collect();
        let gated: Vec<f64> = x.iter().zip(&gate).map(|(x, gate)| x * gate).collect();
        let norm = |weight, bias, d| Norm { weight, bias, eps: eps as f32, d };

        let normed = reference::layer_norm(&x, &self.weight, &self.bias, eps);
        self.check(
            &["NORM"],
            |one, params| {
                params.norm = norm(one.constant(&self.weight), one.constant(&self.bias), cols as u32);
            },
            &normed,
        );
        let normed = reference::rms(&x, None, eps, cols);
        self.check(&["NORM"], |_, params| params.norm = norm(NONE, NONE, cols as u32), &normed);
        self.check(&["GATED"], |_, params| params.z_scale = 0.5, &gated);
        for d in [cols, cols / 3].into_iter().filter(|d| cols.is_multiple_of(*d)) {
            let set = |one: &mut One, params: &mut wgsl::Matvec| {
                params.norm = norm(one.constant(&self.weight), NONE, d as u32);
                params.z_scale = 0.5;
            };
            let normed = reference::rms(&gated, Some(&self.weight), eps, d);
            self.check(&["NORM", "GATED"], set, &normed);
            let normed = reference::rms(&x, Some(&self.weight), eps, d);
            let normed: Vec<f64> = normed.iter().zip(&gate).map(|(x, gate)| x * gate).collect();
            self.check(&["NORM", "GATED", "NORM_FIRST"], set, &normed);
        }
        for k in [1, 2, 4] {
            let (taps, tail) = (random(k * cols, 1.0, rng), random((k - 1) * cols, 1.0, rng));
            let bias = (k > 1).then_some(self.bias.as_slice());
            let (convolved, _) = reference::conv(&x, &wide(&tail), &taps, bias, cols);
            let convolved: Vec<f64> = convolved.into_iter().map(silu).collect();
            let set = |one: &mut One, params: &mut wgsl::Matvec| {
                params.tail = one.put(&tail);
                params.convolved = one.put(&vec![f32::NAN; cols]);
                params.taps = one.constant(&taps);
                params.conv_bias = bias.map_or(NONE, |bias| one.constant(bias));
                params.k = k as u32;
            };
            let (one, params) = self.check(&["CONV"], set, &convolved);
            close("convolved", &take(&one, params.convolved, cols), &convolved, TOLERANCE);
            assert_eq!(take(&one, params.tail, tail.len()), tail, "the tail stays");
        }
    }
}

#[test]
fn operands_are_normalised_gated_and_convolved_while_they_are_loaded() {
    let mut rng = Rng::with_seed(22);
    let gpus = gpus();
    for (turn, gpu) in gpus.iter().enumerate() {
        for (rows, cols) in [(3, 1), (5, 9), (40, 96), (13, 2100)] {
            let some = matrices([rows, cols], &mut rng).into_iter().step_by(4).collect();
            for (_, (tensor, decoded)) in in_turn(some, turn, gpus.len()) {
                let [x, z, weight, bias] = [2.0, 2.0, 1.0, 1.0].map(|scale| random(cols, scale, &mut rng));
                Modes { gpu, tensor, decoded, x, z, weight, bias }.all(&mut rng);
            }
        }
    }
}

/// Three matrices of different precisions, each with its own bias.
#[test]
fn three_products_in_one_dispatch() {
    let mut rng = Rng::with_seed(23);
    let gpus = gpus();
    for (turn, gpu) in gpus.iter().enumerate() {
        for (q_rows, kv_rows, cols) in [(1, 1, 1), (9, 3, 20), (64, 16, 64), (70, 35, 2100)] {
            let sizes = [q_rows, kv_rows, kv_rows];
            let all = sizes.map(|rows| matrices([rows, cols], &mut rng));
            for (_, case) in in_turn((0..all[0].len()).step_by(3).collect(), turn, gpus.len()) {
                let x = random(cols, 2.0, &mut rng);
                let weight = random(cols, 1.0, &mut rng);
                let mut one = tokens(1);
                let chosen: Vec<&(Tensor, Vec<f32>)> =
                    all.iter().enumerate().map(|(i, all)| &all[(case + 4 * i) % all.len()]).collect();
                let [q, k, v] = [0, 1, 2].map(|i: usize| one.matrix(gpu, vec![chosen[i].0.clone()]).unwrap());
                let scaled = sizes.map(|rows| Scaled::new(rows, &mut one, &mut rng));
                let params = wgsl::Matvec3 {
                    q,
                    k,
                    v,
                    norm: Norm { weight: one.constant(&weight), bias: NONE, eps: 1e-6, d: cols as u32 },
                    q_affine: scaled[0].affine,
                    k_affine: scaled[1].affine,
                    v_affine: scaled[2].affine,
                    x: one.put(&x),
                    q_y: one.put(&vec![f32::NAN; q_rows]),
                    k_y: one.put(&vec![f32::NAN; kv_rows]),
                    v_y: one.put(&vec![f32::NAN; kv_rows]),
                    lanes: lanes(&q),
                };
                let rows = sizes.iter().sum();
                dispatch(gpu, &mut one, Kernel::Matvec3, &["NORM"], &params, groups(rows, params.lanes));
                let x = reference::rms(&wide(&x), Some(&weight), 1e-6, cols);
                for (i, at) in [params.q_y, params.k_y, params.v_y].into_iter().enumerate() {
                    let exact = scaled[i].apply(&reference::linear(&chosen[i].1, &x, cols));
                    close(
                        &format!("matrix {i} of {sizes:?}x{cols}"),
                        &take(&one, at, sizes[i]),
                        &exact,
                        TOLERANCE,
                    );
                }
            }
        }
    }
}

/// Two matrices, or the halves of one.
#[test]
fn a_gated_product() {
    let mut rng = Rng::with_seed(24);
    let gpus = gpus();
    for (turn, gpu) in gpus.iter().enumerate() {
        for (rows, cols) in [(1, 1), (9, 20), (64, 64), (35, 2100)] {
            for (_, (tensor, decoded)) in in_turn(matrices([2 * rows, cols], &mut rng), turn, gpus.len()) {
                let x = random(cols, 2.0, &mut rng);
                let mut one = tokens(1);
                let both = one.matrix(gpu, vec![tensor.clone()]).unwrap();
                let again = one.matrix(gpu, vec![tensor.clone()]).unwrap();
                let scaled = Scaled::new(2 * rows, &mut one, &mut rng);
                // The first half goes up, the second is the gate.
                let params = wgsl::MatvecGated {
                    gate: both,
                    up: again,
                    norm: Norm::default(),
                    gate_affine: scaled.affine,
                    up_affine: scaled.affine,
                    x: one.put(&x),
                    y: one.put(&vec![f32::NAN; rows]),
                    rows: rows as u32,
                    gate_first: rows as u32,
                    up_first: 0,
                    lanes: lanes(&both),
                };
                dispatch(gpu, &mut one, Kernel::MatvecGated, &[], &params, groups(rows, params.lanes));
                let products = scaled.apply(&reference::linear(&decoded, &wide(&x), cols));
                let (up, gate) = products.split_at(rows);
                let exact: Vec<f64> = up.iter().zip(gate).map(|(up, gate)| up * silu(*gate)).collect();
                let what = format!("{:?} {rows}x{cols}", tensor.encoding());
                close(&what, &take(&one, params.y, rows), &exact, TOLERANCE);
            }
        }
    }
}

/// GPT-2 stores its matrices the other way round.
#[test]
fn products_with_transposed_matrices() {
    let mut rng = Rng::with_seed(25);
    let gpus = gpus();
    for (turn, gpu) in gpus.iter().enumerate() {
        for (rows, cols) in [(1, 1), (7, 5), (33, 70), (64, 24), (300, 130)] {
            for (case, (tensor, decoded)) in in_turn(matrices([cols, rows], &mut rng), turn, gpus.len()) {
                let (overrides, transposed) = (ENDS[case % ENDS.len()], TRANSPOSED[case % ENDS.len()]);
                let across: Vec<f32> =
                    (0..rows * cols).map(|i| decoded[i % cols * rows + i / cols]).collect();
                let what = format!("{:?} {rows}x{cols} {overrides:?}", tensor.encoding());
                for n in [1, 5] {
                    let (x, y) = (random(n * cols, 1.0, &mut rng), random(n * rows, 1.0, &mut rng));
                    let mut one = tokens(n);
                    let w = one.matrix(gpu, vec![tensor.clone()]).unwrap();
                    let scaled = Scaled::new(rows, &mut one, &mut rng);
                    let exact = scaled.apply(&reference::linear(&across, &wide(&x), cols));
                    let exact = finish(overrides, &exact, &y);
                    let affine = scaled.affine;
                    let (x, y) = (one.rows(&x, cols), one.rows(&y, rows));
                    let params = wgsl::Matmul { w, affine, x, y, slots: 1, ..wgsl::Matmul::default() };
                    let before = one.memory.clone();
                    dispatch(gpu, &mut one, Kernel::Matmul, transposed, &params, [rows.div_ceil(64), 1, 1]);
                    close(&format!("{what}, {n} tokens"), &gather(&one, y, n, rows), &exact, TOLERANCE);
                    if n > 1 {
                        continue;
                    }
                    for lanes in [1, 32, 256] {
                        one.memory.clone_from(&before);
                        let params =
                            wgsl::MatvecT { w, affine, x: x.at, y: y.at, lanes, ..wgsl::MatvecT::default() };
                        let groups = [rows.div_ceil(8 * 256 / lanes as usize), 1, 1];
                        dispatch(gpu, &mut one, Kernel::MatvecT, overrides, &params, groups);
                        close(&what, &take(&one, y.at, rows), &exact, TOLERANCE);
                    }
                }
            }
        }
    }
}

/// INT8 in packed integers, where two matrices meet one rounded operand.
#[test]
fn a_gated_product_of_packed_integers() {
    let gpu = open_gpu(GpuOptions { packed_dot: true, ..GpuOptions::default() });
    if !gpu.adapter().features.iter().any(|feature| feature == "packed-dot") {
        eprintln!("not checked: this adapter has no dot products of packed bytes");
        return;
    }
    let mut rng = Rng::with_seed(26);
    for (rows, cols) in [(5, 7), (24, 130), (3, 2100)] {
        let encoding = Encoding::int8(Granularity::Row);
        let scale = (cols as f32).sqrt().recip();
        let [gate, up] = [0; 2]
            .map(|_| ops::encode(&random(rows * cols, scale, &mut rng), [rows, cols], encoding).unwrap());
        let x = random(cols, 1.0, &mut rng);
        let products = [&gate, &up].map(|w| reference::linear(&codecs::decode(w), &wide(&x), cols));
        let exact: Vec<f64> =
            products[0].iter().zip(&products[1]).map(|(gate, up)| silu(*gate) * up).collect();
        let mut one = tokens(1);
        let gate = one.matrix(&gpu, vec![gate]).unwrap();
        let params = wgsl::MatvecGated {
            gate,
            up: one.matrix(&gpu, vec![up]).unwrap(),
            x: one.put(&x),
            y: one.put(&vec![f32::NAN; rows]),
            rows: rows as u32,
            lanes: lanes(&gate),
            ..wgsl::MatvecGated::default()
        };
        dispatch(&gpu, &mut one, Kernel::MatvecGated, &["INTEGER"], &params, groups(rows, params.lanes));
        let found = take(&one, params.y, rows);
        close(&format!("{rows}x{cols}"), &found, &exact, 1e-3);
        let differs = found.iter().zip(&exact).any(|(a, b)| (f64::from(*a) - b).abs() > 1e-6 * b.abs());
        assert!(differs, "{rows}x{cols}: as exact as f32, so it was not the integer kernel");
    }
}

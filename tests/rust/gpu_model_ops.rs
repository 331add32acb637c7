//! The ops of Mamba-1, Mamba-2, Llama, GPT-2 and their relatives on an adapter, against double
//! precision.

use fastrand::Rng;
use statepress::Gpu;
use statepress_core::{Packed, Tensor};
use statepress_gpu::One;
use statepress_kernels::codecs;
use statepress_kernels::shaders::{self as wgsl, Kernel, LANE_STATES, NONE, Norm, Rows};
use statepress_tests::gpu::{dispatch, gpus, tokens};
use statepress_tests::gpu_reference as reference;
use statepress_tests::gpu_reference::{close, gelu_tanh, silu, softplus, wide};
use statepress_tests::ops::{self, random};

const TOLERANCE: f64 = 2e-5;

fn take(one: &One, at: u32, len: usize) -> Vec<f32> {
    one.memory[at as usize..][..len].to_vec()
}

fn gather(one: &One, rows: Rows, n: usize, width: usize) -> Vec<f32> {
    (0..n).flat_map(|t| take(one, rows.at + t as u32 * rows.stride, width)).collect()
}

/// Columns of every row of `x`.
fn columns(x: &[f64], width: usize, from: usize, count: usize) -> Vec<f64> {
    x.chunks_exact(width).flat_map(|row| row[from..from + count].to_vec()).collect()
}

fn times(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

fn zeros(rows: usize, cols: usize) -> Tensor {
    Tensor { shape: vec![rows, cols], data: Packed::F32(vec![0.0; rows * cols]) }
}

#[test]
fn norms_of_parts_of_rows() {
    let mut rng = Rng::with_seed(31);
    for gpu in gpus() {
        for (d, groups, n) in [(1, 1, 1), (5, 3, 2), (64, 8, 3), (300, 2, 2)] {
            let width = d * groups;
            let (x, z) = (random(n * (width + 2), 2.0, &mut rng), random(n * (width + 1), 2.0, &mut rng));
            let (weight, bias) = (random(width, 1.0, &mut rng), random(d, 1.0, &mut rng));
            let mut one = tokens(n);
            let x_rows = one.rows(&x, width + 2).from_column(1);
            let z_rows = one.rows(&z, width + 1);
            let (weight_at, bias_at) = (one.constant(&weight), one.constant(&bias));
            let before = one.memory.clone();
            let norm = |weight, bias| Norm { weight, bias, eps: 1e-5, d: d as u32 };

            // In place, of a part that a wider row has of it.
            for (weight_at, bias_at) in [(NONE, NONE), (weight_at, NONE), (weight_at, bias_at)] {
                let part = columns(&wide(&x), width + 2, 1, d);
                let exact = match (weight_at, bias_at) {
                    (NONE, _) => reference::rms(&part, None, 1e-5, d),
                    (_, NONE) => reference::rms(&part, Some(&weight[..d]), 1e-5, d),
                    _ => reference::layer_norm(&part, &weight[..d], &bias, 1e-5),
                };
                let params = wgsl::NormRows { norm: norm(weight_at, bias_at), x: x_rows, y: x_rows };
                dispatch(&gpu, &mut one, Kernel::Norm, &[], &params, [n, 1, 1]);
                close(&format!("norm of {d}"), &gather(&one, x_rows, n, d), &exact, TOLERANCE);
                one.memory.clone_from(&before);
            }

            let part = columns(&wide(&x), width + 2, 1, width);
            let gate: Vec<f64> =
                columns(&wide(&z), width + 1, 0, width).iter().map(|z| silu(z * 0.3)).collect();
            let y_rows = one.room(n, width);
            let params = wgsl::GatedNorm {
                norm: norm(weight_at, NONE),
                x: x_rows,
                z: z_rows,
                y: y_rows,
                z_scale: 0.3,
            };
            let exact = reference::rms(&times(&part, &gate), Some(&weight), 1e-5, d);
            dispatch(&gpu, &mut one, Kernel::GatedNorm, &[], &params, [groups, n, 1]);
            close(
                &format!("{groups} gated norms of {d}"),
                &gather(&one, y_rows, n, width),
                &exact,
                TOLERANCE,
            );
            let exact = times(&reference::rms(&part, Some(&weight), 1e-5, d), &gate);
            dispatch(&gpu, &mut one, Kernel::GatedNorm, &["NORM_FIRST"], &params, [groups, n, 1]);
            close(
                &format!("{groups} norms of {d}, gated"),
                &gather(&one, y_rows, n, width),
                &exact,
                TOLERANCE,
            );
        }
    }
}

#[test]
fn a_convolution_goes_on_where_it_stopped() {
    let mut rng = Rng::with_seed(32);
    for gpu in gpus() {
        for (d, k) in [(1, 1), (5, 4), (300, 2), (64, 4)] {
            let (taps, bias) = (random(k * d, 1.0, &mut rng), random(d, 1.0, &mut rng));
            let bias = (d != 5).then_some(bias.as_slice());
            let mut tail = random((k - 1) * d, 1.0, &mut rng);
            for n in [1, 2, 1, 7, 1] {
                let x = random(n * (d + 3), 1.0, &mut rng);
                let mut one = tokens(n);
                let x_rows = one.rows(&x, d + 3).from_column(2);
                let params = wgsl::Conv1d {
                    x: x_rows,
                    y: one.room(n, d + 1),
                    tail: one.put(&tail),
                    taps: one.constant(&taps),
                    bias: bias.map_or(NONE, |bias| one.constant(bias)),
                    inner: d as u32,
                    k: k as u32,
                };
                let part = columns(&wide(&x), d + 3, 2, d);
                let (exact, after) = reference::conv(&part, &wide(&tail), &taps, bias, d);
                let groups = [d.div_ceil(256), n, 1];
                if n == 1 {
                    dispatch(&gpu, &mut one, Kernel::Conv1d, &["SILU", "ADVANCE"], &params, groups);
                    let exact: Vec<f64> = exact.into_iter().map(silu).collect();
                    close("conv, SiLU", &gather(&one, params.y, n, d), &exact, TOLERANCE);
                } else {
                    dispatch(&gpu, &mut one, Kernel::Conv1d, &[], &params, groups);
                    close("conv", &gather(&one, params.y, n, d), &exact, TOLERANCE);
                    let advance =
                        wgsl::Advance { x: x_rows, tail: params.tail, inner: d as u32, k: k as u32 };
                    dispatch(&gpu, &mut one, Kernel::Advance, &[], &advance, [d.div_ceil(256), 1, 1]);
                }
                tail = take(&one, params.tail, tail.len());
                close(&format!("tail of {d}, {k} taps"), &tail, &after, 0.0);
            }
        }
    }
}

#[test]
fn elementwise_ops_on_parts_of_rows() {
    let mut rng = Rng::with_seed(33);
    for gpu in gpus() {
        for (width, n, slots) in [(1, 1, 1), (5, 3, 2), (300, 2, 1)] {
            let rows = n * slots;
            let (a, b) = (random(rows * (width + 4), 3.0, &mut rng), random(rows * width, 3.0, &mut rng));
            let part = columns(&wide(&a), width + 4, 3, width);
            let mut one = tokens(n);
            let (a, b_rows) = (one.rows(&a, width + 4).from_column(3), one.rows(&b, width));
            let y = one.room(rows, width + 2).from_column(1);
            let before = one.memory.clone();
            let (columns, slots) = (width as u32, slots as u32);
            let groups = [width.div_ceil(256), rows, 1];

            let names: [&'static [&'static str]; 3] = [&["GELU_TANH"], &["SILU"], &["GELU"]];
            let mut exact_gelu = part.iter().map(|&x| x as f32).collect::<Vec<_>>();
            statepress_kernels::ops::gate::reference::gelu(&mut exact_gelu);
            let exact = [
                part.iter().map(|&x| gelu_tanh(x)).collect(),
                part.iter().map(|&x| silu(x)).collect(),
                wide(&exact_gelu),
            ];
            for (name, exact) in names.into_iter().zip(exact) {
                let params = wgsl::Activate { x: a, width: columns, slots };
                dispatch(&gpu, &mut one, Kernel::Activate, name, &params, groups);
                close(&format!("{name:?}"), &gather(&one, a, rows, width), &exact, TOLERANCE);
                one.memory.clone_from(&before);
            }

            let exact = times(&part, &wide(&b).iter().map(|b| silu(b * -0.7)).collect::<Vec<_>>());
            let params = wgsl::Gate {
                x: a,
                z: b_rows,
                y,
                z_scale: -0.7,
                width: columns,
                slots,
                ..wgsl::Gate::default()
            };
            dispatch(&gpu, &mut one, Kernel::Gate, &[], &params, groups);
            close("gate", &gather(&one, y, rows, width), &exact, TOLERANCE);

            // These know tokens and no slots.
            one.control.n = rows as u32;
            let params = wgsl::CopyRows { x: a, y, width: columns };
            dispatch(&gpu, &mut one, Kernel::Copy, &[], &params, groups);
            close("copy", &gather(&one, y, rows, width), &part, 0.0);
            assert!(one.memory[y.at as usize - 1].is_nan(), "nothing beside it");

            let bias = random(width, 1.0, &mut rng);
            let step = |i: usize, x: f64| softplus(x + f64::from(bias[i % width])).clamp(0.1, 2.0);
            let exact: Vec<f64> = part.iter().enumerate().map(|(i, &x)| step(i, x)).collect();
            let bias = one.constant(&bias);
            let params = wgsl::Softplus { x: a, y, bias, least: 0.1, most: 2.0, width: columns };
            dispatch(&gpu, &mut one, Kernel::Softplus, &[], &params, groups);
            close("softplus", &gather(&one, y, rows, width), &exact, TOLERANCE);
        }
    }
}

/// Everything that the selective scan can take over, or nothing of it.
struct Selective {
    inner: usize,
    n_states: usize,
    rank: usize,
    k: usize,
}

impl Selective {
    /// Steps of different lengths through one state.
    fn check(&self, gpu: &Gpu, fused: bool, workgroups: usize, rng: &mut Rng) {
        let (inner, n_states, rank, k) = (self.inner, self.n_states, self.rank, self.k);
        let what = format!("{inner} channels, {n_states} states, {rank} to a step, fused: {fused}");
        let a: Vec<f32> = (0..inner * n_states).map(|_| -0.1 - 2.0 * rng.f32()).collect();
        let (d, bias) = (random(inner, 1.0, rng), random(inner, 1.0, rng));
        let weights = random(inner * rank, 1.0, rng);
        let encodings = ops::encodings(rank);
        let encoding = encodings[(inner + n_states) % encodings.len()];
        let dt_proj = ops::encode(&weights, [inner, rank], encoding).unwrap_or_else(|| zeros(inner, rank));
        let decoded = codecs::decode(&dt_proj);
        let mut h = random(inner * n_states, 1.0, rng);
        let mut tail = random((k - 1) * inner, 1.0, rng);
        for n in [1, 4, 1, 9] {
            let low = rank + 2 * n_states;
            let (u, low_rows) = (random(n * inner, 1.0, rng), random(n * low, 1.0, rng));
            let z = random(n * 2 * inner, 1.0, rng);
            let raw: Vec<f32> = (0..n * inner).map(|_| rng.f32()).collect();
            let mut one = tokens(n);
            let low_at = one.rows(&low_rows, low);
            let xz = one.rows(&z, 2 * inner);
            let params = wgsl::SelectiveScan {
                dt_proj: one.matrix(gpu, vec![dt_proj.clone()]).unwrap(),
                u: one.rows(&u, inner),
                b: low_at.from_column(rank),
                c: low_at.from_column(rank + n_states),
                dt: if fused { low_at } else { one.rows(&raw, inner) },
                z: xz.from_column(inner),
                y: one.room(n, inner),
                x: xz,
                h: one.put(&h),
                a: one.constant(&a),
                d: one.constant(&d),
                dt_bias: one.constant(&bias),
                dt_least: 0.0,
                dt_most: f32::MAX,
                inner: inner as u32,
                n_states: n_states as u32,
                tail: one.put(&tail),
                k: k as u32,
            };
            let overrides: &[&str] = if fused { &["DT_PROJ", "SOFTPLUS", "GATE", "ADVANCE"] } else { &[] };
            dispatch(gpu, &mut one, Kernel::SelectiveScan, overrides, &params, [workgroups, 1, 1]);

            let low_rows = wide(&low_rows);
            let part = |from, count| columns(&low_rows, low, from, count);
            let dt = match fused {
                false => wide(&raw),
                true => {
                    let dt = reference::linear(&decoded, &part(0, rank), rank);
                    dt.iter().enumerate().map(|(i, x)| softplus(x + f64::from(bias[i % inner]))).collect()
                }
            };
            let mut h_exact = wide(&h);
            let scan = reference::Scan {
                u: &wide(&u),
                dt: &dt,
                b: &part(rank, n_states),
                c: &part(rank + n_states, n_states),
                a: &|i, s| f64::from(a[i * n_states + s]),
                d: &|i| f64::from(d[i]),
                channels: inner,
                heads: inner,
                groups: 1,
                n_states,
            };
            let mut exact = scan.run(&mut h_exact);
            if fused {
                let gate = columns(&wide(&z), 2 * inner, inner, inner);
                exact = times(&exact, &gate.into_iter().map(silu).collect::<Vec<_>>());
                let x = columns(&wide(&z), 2 * inner, 0, inner);
                let all: Vec<f64> = wide(&tail).into_iter().chain(x).collect();
                tail = take(&one, params.tail, tail.len());
                close(&what, &tail, &all[all.len() - tail.len()..], 0.0);
            }
            close(&what, &gather(&one, params.y, n, inner), &exact, TOLERANCE);
            h = take(&one, params.h, h.len());
            close(&what, &h, &h_exact, TOLERANCE);
        }
    }
}

#[test]
fn selective_scans() {
    let mut rng = Rng::with_seed(34);
    for gpu in gpus() {
        for (inner, n_states, rank, k) in
            [(1, 1, 1, 1), (7, 5, 3, 4), (40, 16, 8, 2), (300, 16, 20, 4), (33, 21, 64, 4)]
        {
            let selective = Selective { inner, n_states, rank, k };
            for fused in [false, true] {
                selective.check(&gpu, fused, inner.div_ceil(256), &mut rng);
                selective.check(&gpu, fused, inner.div_ceil(32), &mut rng);
            }
        }
    }
}

#[test]
fn scans_of_heads() {
    let mut rng = Rng::with_seed(35);
    for gpu in gpus() {
        for (heads, head, groups, n_states) in
            [(1, 1, 1, 1), (4, 5, 2, 7), (6, 8, 3, 16), (3, 64, 1, 33), (2, 16, 1, 128), (2, 3, 1, 300)]
        {
            for raw in [false, true] {
                let (channels, k) = (heads * head, 4);
                let what = format!("{heads} heads of {head}, {groups} groups, {n_states} states, raw: {raw}");
                let conv = channels + 2 * groups * n_states;
                let a: Vec<f32> = (0..heads).map(|_| -0.1 - 2.0 * rng.f32()).collect();
                let d = random(if raw { heads } else { channels }, 1.0, &mut rng);
                let bias = random(heads, 1.0, &mut rng);
                let mut h = random(channels * n_states, 1.0, &mut rng);
                let mut tail = random((k - 1) * conv, 1.0, &mut rng);
                for n in [1, 8, 1, 21] {
                    let (row, dt) = (random(n * conv, 0.5, &mut rng), random(n * heads, 1.0, &mut rng));
                    let dt: Vec<f32> = dt.into_iter().map(|dt| if raw { dt } else { dt.abs() }).collect();
                    let x = random(n * conv, 1.0, &mut rng);
                    let mut one = tokens(n);
                    let xbc = one.rows(&row, conv);
                    let params = wgsl::Ssd {
                        u: xbc,
                        b: xbc.from_column(channels),
                        c: xbc.from_column(channels + groups * n_states),
                        dt: one.rows(&dt, heads),
                        y: one.room(n, channels),
                        x: one.rows(&x, conv),
                        h: one.put(&h),
                        a: one.constant(&a),
                        d: one.constant(&d),
                        d_per_channel: u32::from(!raw),
                        dt_bias: one.constant(&bias),
                        dt_least: 0.2,
                        dt_most: 1.5,
                        heads: heads as u32,
                        head: head as u32,
                        groups: groups as u32,
                        n_states: n_states as u32,
                        lanes: (n_states as u32).div_ceil(LANE_STATES).next_power_of_two(),
                        tail: one.put(&tail),
                        conv: conv as u32,
                        k: k as u32,
                    };
                    let overrides: &[&str] = if raw { &["SOFTPLUS", "ADVANCE"] } else { &[] };
                    let across = 256 / params.lanes as usize;
                    dispatch(
                        &gpu,
                        &mut one,
                        Kernel::Ssd,
                        overrides,
                        &params,
                        [channels.div_ceil(across), 1, 1],
                    );

                    let row = wide(&row);
                    let part = |from, count| columns(&row, conv, from, count);
                    let dt = wide(&dt).into_iter().enumerate().map(|(i, dt)| match raw {
                        true => softplus(dt + f64::from(bias[i % heads])).clamp(f64::from(0.2f32), 1.5),
                        false => dt,
                    });
                    let mut h_exact = wide(&h);
                    let scan = reference::Scan {
                        u: &part(0, channels),
                        dt: &dt.collect::<Vec<_>>(),
                        b: &part(channels, groups * n_states),
                        c: &part(channels + groups * n_states, groups * n_states),
                        a: &|i, _| f64::from(a[i / head]),
                        d: &|i| f64::from(d[if raw { i / head } else { i }]),
                        channels,
                        heads,
                        groups,
                        n_states,
                    };
                    let exact = scan.run(&mut h_exact);
                    close(&what, &gather(&one, params.y, n, channels), &exact, TOLERANCE);
                    h = take(&one, params.h, h.len());
                    close(&what, &h, &h_exact, TOLERANCE);
                    if raw {
                        let all: Vec<f64> = wide(&tail).into_iter().chain(wide(&x)).collect();
                        tail = take(&one, params.tail, tail.len());
                        close(&what, &tail, &all[all.len() - tail.len()..], 0.0);
                    }
                }
            }
        }
    }
}

//! Attention with shared keys, norms and rotations on an adapter, and what else there is once a
//! model, against double precision.

use fastrand::Rng;
use statepress_kernels::codecs;
use statepress_kernels::shaders::{self as wgsl, Kernel, NONE, turns};
use statepress_tests::gpu::{dispatch, gpus, tokens};
use statepress_tests::gpu_reference as reference;
use statepress_tests::gpu_reference::{close, wide};
use statepress_tests::ops::{self, random};

const TOLERANCE: f64 = 2e-5;

fn frequencies(pairs: usize) -> Vec<f32> {
    (0..pairs).map(|i| 10000f32.powf(-(i as f32) / pairs as f32)).collect()
}

/// Rotations far from the start are as exact as near it.
#[test]
fn rotations_at_any_position() {
    let mut rng = Rng::with_seed(41);
    for gpu in gpus() {
        for (heads, kv_heads, head, pairs) in [(1, 1, 2, 1), (4, 2, 7, 2), (3, 1, 64, 32), (2, 2, 256, 100)] {
            for position in [0, 1000, 9999, 100_000] {
                let (n, width) = (3, (heads + 2 * kv_heads) * head);
                let inv_freq = frequencies(pairs);
                let row = random(n * width, 1.0, &mut rng);
                let weight = random(head, 1.0, &mut rng);
                let mut one = tokens(n);
                one.control.position = position as u32;
                let q = one.rows(&row, width);
                let params = wgsl::Rotate {
                    q,
                    k: q.from_column(heads * head),
                    heads: heads as u32,
                    head: head as u32,
                    turns: one.constant(&turns(&inv_freq)),
                    pairs: pairs as u32,
                    rope_scale: 1.25,
                    q_norm: one.constant(&weight),
                    k_norm: NONE,
                    eps: 1e-6,
                };
                dispatch(&gpu, &mut one, Kernel::Rotate, &[], &params, [heads + kv_heads, n, 1]);
                let mut exact = Vec::new();
                for (t, row) in wide(&row).chunks_exact(width).enumerate() {
                    let (q, rest) = row.split_at(heads * head);
                    let (k, v) = rest.split_at(kv_heads * head);
                    let mut q = reference::rms(q, Some(&weight), 1e-6, head);
                    let mut k = k.to_vec();
                    reference::rotate(&mut q, heads, head, &inv_freq, 1.25, position + t);
                    reference::rotate(&mut k, kv_heads, head, &inv_freq, 1.25, position + t);
                    exact.extend([q, k, v.to_vec()].concat());
                }
                let what = format!("{pairs} pairs of {head} at {position}");
                close(&what, &one.memory[..n * width], &exact, TOLERANCE);
            }
        }
    }
}

/// Token by token with rotation inside, and many at once after it, over one cache.
#[test]
fn attention_with_shared_keys_and_rotation() {
    let mut rng = Rng::with_seed(42);
    for gpu in gpus() {
        for (heads, kv_heads, head, pairs, normed) in
            [(1, 1, 1, 0, false), (4, 2, 6, 3, true), (6, 1, 16, 4, false), (2, 2, 256, 128, true)]
        {
            let steps = [1, 1, 5, 1, 270, 1];
            let n: usize = steps.iter().sum();
            let (q_width, kv_width) = (heads * head, kv_heads * head);
            let width = q_width + 2 * kv_width;
            let (scale, inv_freq) = (0.4 / (head as f32).sqrt(), frequencies(pairs));
            let rows = random(n * width, 1.0, &mut rng);
            let weights = [random(head, 1.0, &mut rng), random(head, 1.0, &mut rng)];
            let (mut keys, mut values) = (vec![f32::NAN; n * kv_width], vec![f32::NAN; n * kv_width]);
            let (mut found, mut position) = (Vec::new(), 0);
            for step in steps {
                let mut one = tokens(step);
                one.control.position = position as u32;
                let row = one.rows(&rows[position * width..][..step * width], width);
                let [q_norm, k_norm] =
                    [0, 1].map(|i: usize| if normed { one.constant(&weights[i]) } else { NONE });
                let params = wgsl::Attention {
                    q: row,
                    k: row.from_column(q_width),
                    v: row.from_column(q_width + kv_width),
                    y: one.room(step, q_width),
                    keys: one.put(&keys),
                    values: one.put(&values),
                    heads: heads as u32,
                    kv_heads: kv_heads as u32,
                    head: head as u32,
                    scale,
                    turns: one.constant(&turns(&inv_freq)),
                    pairs: pairs as u32,
                    rope_scale: 1.0,
                    q_norm,
                    k_norm,
                    eps: 1e-6,
                };
                if step == 1 {
                    dispatch(&gpu, &mut one, Kernel::Attention, &["ROTATE"], &params, [heads, 1, 1]);
                } else {
                    let rotate = wgsl::Rotate {
                        q: params.q,
                        k: params.k,
                        heads: params.heads,
                        head: params.head,
                        turns: params.turns,
                        pairs: params.pairs,
                        rope_scale: 1.0,
                        q_norm,
                        k_norm,
                        eps: 1e-6,
                    };
                    dispatch(&gpu, &mut one, Kernel::Rotate, &[], &rotate, [heads + kv_heads, step, 1]);
                    dispatch(&gpu, &mut one, Kernel::Attention, &[], &params, [heads, step, 1]);
                }
                let take = |at: u32, len: usize| one.memory[at as usize..][..len].to_vec();
                (keys, values) = (take(params.keys, keys.len()), take(params.values, values.len()));
                found.extend(take(params.y.at, step * q_width));
                position += step;
            }
            let part = |from: usize, count: usize| -> Vec<f64> {
                wide(&rows).chunks_exact(width).flat_map(|row| row[from..from + count].to_vec()).collect()
            };
            let ready = |x: Vec<f64>, weight: &[f32], heads| {
                let mut x = if normed { reference::rms(&x, Some(weight), 1e-6, head) } else { x };
                reference::rotate(&mut x, heads, head, &inv_freq, 1.0, 0);
                x
            };
            let (q, k) = (part(0, q_width), part(q_width, kv_width));
            let (q, k) = (ready(q, &weights[0], heads), ready(k, &weights[1], kv_heads));
            let v = part(q_width + kv_width, kv_width);
            let what = format!("{heads} heads of {head}, {kv_heads} of keys, {pairs} pairs");
            close(&format!("{what}: keys"), &keys, &k, TOLERANCE);
            close(&format!("{what}: values"), &values, &v, 0.0);
            let exact = reference::attention(&q, &k, &v, heads, kv_heads, head, f64::from(scale));
            close(&what, &found, &exact, TOLERANCE);
        }
    }
}

#[test]
fn embeddings_without_positions_are_scaled() {
    let mut rng = Rng::with_seed(43);
    let gpu = &gpus()[0];
    for (rows, cols) in [(7, 5), (9, 64)] {
        let values = random(rows * cols, 1.0, &mut rng);
        for encoding in ops::encodings(cols) {
            let Some(tensor) = ops::encode(&values, [rows, cols], encoding) else { continue };
            let decoded = codecs::decode(&tensor);
            let mut one = tokens(2);
            one.ids[..2].copy_from_slice(&[rows as u32 - 1, 1]);
            let table = one.matrix(gpu, vec![tensor.clone()]).unwrap();
            // It stands in the place of the positions as well.
            one.matrix(gpu, vec![tensor]).unwrap();
            let y = one.room(2, cols);
            let params = wgsl::Embed {
                tokens: table,
                positions: table,
                y: y.at,
                scale: 12.0,
                bias: wgsl::NONE,
                ..wgsl::Embed::default()
            };
            dispatch(gpu, &mut one, Kernel::Embed, &[], &params, [1, 2, 1]);
            let exact: Vec<f64> = [rows - 1, 1]
                .into_iter()
                .flat_map(|id| {
                    decoded[id * cols..][..cols].iter().map(|x| f64::from(*x) * 12.0).collect::<Vec<_>>()
                })
                .collect();
            close(&format!("{encoding:?}"), &one.memory, &exact, 1e-6);
        }
    }
}

#[test]
fn squares_and_products_of_columns_add_up() {
    let mut rng = Rng::with_seed(44);
    for gpu in gpus() {
        for (cols, n) in [(1, 1), (17, 5), (300, 70)] {
            let x = random(n * (cols + 1), 1.0, &mut rng);
            let (squares, gram) = (random(cols, 1.0, &mut rng), random(cols * cols, 1.0, &mut rng));
            let mut one = tokens(n);
            let rows = one.rows(&x, cols + 1).from_column(1);
            let (squares_at, gram_at) = (one.put(&squares), one.put(&gram));
            let at = |t: usize, i: usize| f64::from(x[t * (cols + 1) + 1 + i]);
            let product = |i: usize, j: usize| (0..n).map(|t| at(t, i) * at(t, j)).sum::<f64>();

            let params =
                wgsl::Accumulate { x: rows, sums: squares_at, cols: cols as u32, ..Default::default() };
            dispatch(&gpu, &mut one, Kernel::Accumulate, &[], &params, [cols.div_ceil(256), 1, 1]);
            let exact: Vec<f64> = (0..cols).map(|i| f64::from(squares[i]) + product(i, i)).collect();
            close("squares", &one.memory[squares_at as usize..][..cols], &exact, TOLERANCE);

            let params = wgsl::Accumulate { sums: gram_at, ..params };
            let tiles = cols.div_ceil(16);
            dispatch(&gpu, &mut one, Kernel::Accumulate, &["GRAM"], &params, [tiles, tiles, 1]);
            let exact: Vec<f64> =
                (0..cols * cols).map(|at| f64::from(gram[at]) + product(at / cols, at % cols)).collect();
            close("gram", &one.memory[gram_at as usize..][..cols * cols], &exact, TOLERANCE);
        }
    }
}

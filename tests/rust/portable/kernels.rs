//! Fast kernels against plain references, on every length and tail, in every build.
//!
//! The same bodies run natively and in wasm without SIMD, with SIMD and with relaxed SIMD.

use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::{Codes, Encoding, Grid, Group, Levels, Packed, Scales, Tensor};
use statepress_kernels::Rows;
use statepress_kernels::codecs::{self, stream};
use statepress_kernels::linear::{self, Scratch, Weights};
use statepress_kernels::ops::{conv1d, gate, norm, softmax};
use statepress_tests::golden::{Golden, assert_close};
use statepress_tests::ops::{self, Fast, encode, encodings};
use statepress_tests::test;

/// f32 sums in another order.
const ROUNDING: f32 = 2e-6;
/// Activations of 15 bits, as a share of |w| |x|: rms and largest. Where one of a few columns outweighs the others, rms is that of
/// rounding it, 1 / (32767 sqrt(12)), more or less.
const INT8_NOISE: (f32, f32) = (1.2e-5, 4e-5);
/// Activations and table of 13 bits.
const NF4_NOISE: (f32, f32) = (3e-5, 1.5e-4);

/// Lengths around every vector, tile and block, and what models use.
const SIZES: [usize; 26] =
    [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 36, 40, 48, 63, 64, 65, 70, 96, 128];

fn random(n: usize, scale: f32, rng: &mut fastrand::Rng) -> Vec<f32> {
    // A sum of four uniforms is close enough to normal.
    (0..n).map(|_| (0..4).map(|_| rng.f32() - 0.5).sum::<f32>() * 1.7 * scale).collect()
}

/// Activations as SSMs have them: a few channels are a hundred times larger.
fn with_outliers(n: usize, rng: &mut fastrand::Rng) -> Vec<f32> {
    let mut x = random(n, 1.0, rng);
    for _ in 0..n / 50 {
        x[rng.usize(0..n)] *= 100.0;
    }
    x
}

fn norm_of(x: &[f32]) -> f32 {
    x.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// Error of `found` as a share of `|w| |x|` for every output: root mean square, and largest.
fn noise(found: &[f32], exact: &[f32], w: &[f32], x: &[f32]) -> (f32, f32) {
    let cols = x.len();
    let shares = found.iter().zip(exact).zip(w.chunks(cols)).map(|((found, exact), row)| {
        let unit = norm_of(row) * norm_of(x);
        if unit == 0.0 { (found - exact).abs() } else { (found - exact).abs() / unit }
    });
    let shares: Vec<f32> = shares.collect();
    (norm_of(&shares) / (shares.len() as f32).sqrt(), shares.iter().copied().fold(0.0, f32::max))
}

fn allowed(encoding: Encoding) -> (f32, f32) {
    match encoding.coding().map(|coding| coding.grid.levels()) {
        None => (ROUNDING, ROUNDING),
        Some(Levels::Integers) => INT8_NOISE,
        Some(Levels::Table(_)) => NF4_NOISE,
    }
}

/// The bodies that every backend goes through.
macro_rules! as_every_backend {
    ($($body:ident),+) => {$(
        #[test]
        fn $body() {
            ops::$body(&mut Fast::exact());
        }
    )+};
}

as_every_backend!(elementwise, convolutions, scans, attentions, routes, likelihoods, products);

#[test]
fn products_are_those_of_the_decoded_matrix() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut scratch = Scratch::default();
    for cols in SIZES {
        for rows in [1, 5, 8, 13, 24] {
            let values = random(rows * cols, 0.05, &mut rng);
            for encoding in encodings(cols) {
                let Some(tensor) = encode(&values, [rows, cols], encoding) else { continue };
                let decoded = codecs::decode(&tensor);
                let weights = Weights::new(tensor).unwrap();
                for n in [1, 2, 3, 4, 5, 7, 8, 11] {
                    let x = with_outliers(n * cols, &mut rng);
                    let (mut exact, mut found) = (vec![0.0; n * rows], vec![f32::NAN; n * rows]);
                    linear::reference::linear(&decoded, cols, &x, &mut exact);
                    linear::linear(&weights, &x, &mut found, &mut scratch);
                    // Many tokens are multiplied in f32 whatever the encoding.
                    let (_, bound) = if n == 1 { allowed(encoding) } else { (ROUNDING, ROUNDING) };
                    for (t, x) in x.chunks(cols).enumerate() {
                        let outputs = t * rows..(t + 1) * rows;
                        let (_, worst) = noise(&found[outputs.clone()], &exact[outputs], &decoded, x);
                        assert!(
                            worst <= bound,
                            "{encoding:?} {rows}x{cols}, {n} tokens, token {t}: {worst:e}"
                        );
                    }
                }
                let mut row = vec![f32::NAN; cols];
                weights.row(rows - 1, &mut row);
                assert_eq!(row, decoded[(rows - 1) * cols..], "{encoding:?} {rows}x{cols}");
            }
        }
    }
}

#[test]
fn exact_products_of_one_token_are_those_of_many() {
    let mut rng = fastrand::Rng::with_seed(18);
    for (rows, cols) in [(13, 64), (8, 20)] {
        let values = random(rows * cols, 0.05, &mut rng);
        for encoding in encodings(cols) {
            let Some(tensor) = encode(&values, [rows, cols], encoding) else { continue };
            let weights = Weights::new(tensor).unwrap();
            let x = with_outliers(3 * cols, &mut rng);
            let (mut many, mut one) = (vec![0.0; 3 * rows], vec![0.0; rows]);
            linear::linear(&weights, &x, &mut many, &mut Scratch::default());
            let mut scratch = Scratch::default();
            scratch.exact = true;
            linear::linear(&weights, &x[cols..2 * cols], &mut one, &mut scratch);
            assert_eq!(one, many[rows..2 * rows], "{encoding:?}");
        }
    }
}

#[test]
fn integer_activations_stay_below_their_noise_on_models_sizes() {
    let mut rng = fastrand::Rng::with_seed(8);
    let mut scratch = Scratch::default();
    for (rows, cols) in [(2000, 128), (512, 128), (128, 256), (8, 256), (256, 8)] {
        let values = random(rows * cols, 0.05, &mut rng);
        for encoding in encodings(cols) {
            let Some(tensor) = encode(&values, [rows, cols], encoding) else { continue };
            let decoded = codecs::decode(&tensor);
            let weights = Weights::new(tensor).unwrap();
            for x in
                [random(cols, 1.0, &mut rng), with_outliers(cols, &mut rng), random(cols, 1e-3, &mut rng)]
            {
                let (mut exact, mut found) = (vec![0.0; rows], vec![f32::NAN; rows]);
                linear::reference::linear(&decoded, cols, &x, &mut exact);
                linear::linear(&weights, &x, &mut found, &mut scratch);
                let (rms, worst) = noise(&found, &exact, &decoded, &x);
                let allowed = allowed(encoding);
                assert!(
                    rms <= allowed.0 && worst <= allowed.1,
                    "{encoding:?} {rows}x{cols}: {rms:e}, {worst:e}"
                );
            }
        }
    }
}

#[test]
fn extreme_codes_and_activations_do_not_overflow() {
    let cols = 256;
    let tensors = Grid::ALL.iter().flat_map(|&grid| {
        // The least and the largest level: the highest bit alone, and all others.
        let (least, most) = match grid.levels() {
            Levels::Integers => (1 << (grid.bits() - 1), (1 << (grid.bits() - 1)) - 1),
            Levels::Table(table) => (0, table.len() as u8 - 1),
        };
        [least, most].map(|code| {
            let codes = stream::pack((0..8 * cols).map(|_| code), grid.bits(), 0);
            let (group, scales) = match grid {
                Grid::Int8 => (Group::Row, 8),
                _ => (Group::Values(128), 8 * cols / 128),
            };
            Packed::Codes(Codes { grid, group, codes, scales: Scales::F32(vec![1.0; scales]) })
        })
    });
    for data in tensors {
        let tensor = Tensor { shape: vec![8, cols], data };
        let weight = codecs::decode(&tensor)[0];
        let weights = Weights::new(tensor).unwrap();
        for x in [1.0, -1.0] {
            let mut out = [0.0; 8];
            linear::linear(&weights, &vec![x; cols], &mut out, &mut Scratch::default());
            let exact = weight * x * cols as f32;
            assert!(out.iter().all(|out| (out - exact).abs() < 1e-4 * exact.abs()), "{out:?} {exact}");
        }
    }
}

#[test]
fn what_is_not_a_number_shows_in_the_product() {
    let mut rng = fastrand::Rng::with_seed(9);
    let values = random(16 * 64, 1.0, &mut rng);
    for encoding in encodings(64) {
        let Some(tensor) = encode(&values, [16, 64], encoding) else { continue };
        let weights = Weights::new(tensor).unwrap();
        for n in [1, 5] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = random(n * 64, 1.0, &mut rng);
                x[37] = bad;
                let mut out = vec![0.0; n * 16];
                linear::linear(&weights, &x, &mut out, &mut Scratch::default());
                let finite = out[..16].iter().filter(|out| out.is_finite()).count();
                assert_eq!(finite, 0, "{encoding:?}, {n} tokens");
                assert!(out[16..].iter().all(|out| out.is_finite()), "{encoding:?}: other tokens");
            }
        }
    }
    // A damaged binary16 matrix multiplies like its numbers.
    let mut bits = vec![0x3c00; 16];
    bits[3] = 0x7c00;
    let weights = Weights::new(Tensor { shape: vec![2, 8], data: Packed::F16(bits) }).unwrap();
    let mut out = [0.0; 2];
    linear::linear(&weights, &[1.0; 8], &mut out, &mut Scratch::default());
    assert_eq!(out, [f32::INFINITY, 8.0]);
}

#[test]
fn matrices_that_lie_about_their_size_are_refused_and_empty_ones_are_not() {
    let short = Tensor { shape: vec![4, 4], data: Packed::F32(vec![0.0; 15]) };
    assert!(Weights::new(short).is_err());
    for shape in [[0, 4], [4, 0], [0, 0]] {
        for data in [Packed::F32(vec![]), Packed::F16(vec![]), Packed::Bf16(vec![])] {
            let weights = Weights::new(Tensor { shape: shape.to_vec(), data }).unwrap();
            let mut out = vec![1.0; shape[0]];
            linear::linear(&weights, &vec![1.0; shape[1]], &mut out, &mut Scratch::default());
            assert!(out.iter().all(|&out| out == 0.0));
        }
    }
}

#[test]
fn packed_bytes_stay_packed() {
    let mut rng = fastrand::Rng::with_seed(10);
    let values = random(512 * 128, 1.0, &mut rng);
    let bits = |encoding| {
        let tensor = encode(&values, [512, 128], encoding).unwrap();
        let weights = Weights::new(tensor).unwrap();
        assert_eq!(weights.encoding(), encoding);
        weights.bytes() as f64 * 8.0 / values.len() as f64
    };
    assert_eq!(bits(Encoding::Fp32), 32.0);
    assert_eq!(bits(Encoding::Fp16), 16.0);
    assert_eq!(bits(Encoding::Bf16), 16.0);
    assert_eq!(bits(Encoding::int8(Granularity::Row)), 8.25);
    // Scales are f32 in memory.
    assert_eq!(bits(Encoding::int4(32, ScaleType::Fp16)), 5.0);
    assert_eq!(bits(Encoding::nf4(64, ScaleType::Double)), 4.5);
    for grid in [Grid::Int6, Grid::Int5, Grid::Int3, Grid::Lm3, Grid::Int2, Grid::Lm2] {
        assert_eq!(bits(Encoding::grouped(grid, 64, ScaleType::Log8)), grid.bits() as f64 + 0.5, "{grid:?}");
    }
}

#[track_caller]
fn close(what: &str, found: &[f32], exact: &[f32], tolerance: f32) {
    assert_eq!(found.len(), exact.len());
    for (i, (a, b)) in found.iter().zip(exact).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * (1.0 + b.abs()),
            "{what}: element {i} of {}: {a}, {b}",
            exact.len()
        );
    }
}

#[test]
fn element_wise_ops_equal_their_references() {
    let mut rng = fastrand::Rng::with_seed(11);
    for d in 1..70 {
        for n in [1, 3] {
            let x = random(n * d, 6.0, &mut rng);
            let (weight, bias) = (random(d, 1.0, &mut rng), random(d, 1.0, &mut rng));

            let (mut found, mut exact) = (x.clone(), x.clone());
            gate::silu(&mut found);
            gate::reference::silu(&mut exact);
            close("silu", &found, &exact, 3e-7);

            let (mut found, mut exact) = (x.clone(), x.clone());
            gate::gelu(&mut found);
            gate::reference::gelu(&mut exact);
            close("gelu", &found, &exact, 1e-6);

            let g = random(n * (d + 3), 6.0, &mut rng);
            let (mut found, mut exact) = (x.clone(), x.clone());
            gate::silu_gate(&mut found, Rows::new(&g, 0, d, d + 3), 1.0);
            gate::reference::silu_gate(&mut exact, Rows::new(&g, 0, d, d + 3), 1.0);
            close("silu_gate", &found, &exact, 5e-7);

            let a = random(n * d, 6.0, &mut rng);
            let (mut found, mut exact) = (x.clone(), x.clone());
            gate::skip(&mut found, &weight, Rows::whole(&a, d));
            gate::reference::skip(&mut exact, &weight, Rows::whole(&a, d));
            close("skip", &found, &exact, 1e-6);

            let (mut found, mut exact) = ((x.clone(), vec![0.0; n]), (x.clone(), vec![0.0; n]));
            gate::softplus_mean(&mut found.0, &bias, &mut found.1);
            gate::reference::softplus_mean(&mut exact.0, &bias, &mut exact.1);
            assert_eq!(found.0, exact.0, "the bias is added");
            close("softplus_mean", &found.1, &exact.1, 1e-6);

            let (mut found, mut exact) = (vec![0.0; n * d], vec![0.0; n * d]);
            norm::layer_norm(Rows::whole(&x, d), &weight, &bias, 1e-5, &mut found);
            norm::reference::layer_norm(Rows::whole(&x, d), &weight, &bias, 1e-5, &mut exact);
            close("layer_norm", &found, &exact, 5e-6);
        }
    }
}

#[test]
fn norms_of_values_far_from_zero_keep_their_digits() {
    let mut rng = fastrand::Rng::with_seed(12);
    let x: Vec<f32> = random(128, 1.0, &mut rng).into_iter().map(|x| x + 300.0).collect();
    let (mut found, mut exact) = (vec![0.0; 128], vec![0.0; 128]);
    norm::layer_norm(Rows::whole(&x, 128), &[1.0; 128], &[0.0; 128], 1e-5, &mut found);
    norm::reference::layer_norm(Rows::whole(&x, 128), &[1.0; 128], &[0.0; 128], 1e-5, &mut exact);
    close("layer_norm", &found, &exact, 1e-4);
}

#[test]
fn convolutions_continue_where_the_last_one_ended() {
    let mut rng = fastrand::Rng::with_seed(13);
    for d in [1, 3, 4, 5, 12, 36, 64] {
        for k in 1..6 {
            let (taps, bias) = (random(k * d, 1.0, &mut rng), random(d, 1.0, &mut rng));
            let mut tails = (vec![0.0; (k - 1) * d], vec![0.0; (k - 1) * d]);
            for n in [1, 2, 3, 9, 1] {
                let x = random(n * 2 * d, 1.0, &mut rng);
                let mut outs = (vec![0.0; n * d], vec![0.0; n * d]);
                let v = Rows::new(&x, 0, d, 2 * d);
                conv1d::causal(v, &mut tails.0, &taps, Some(&bias), &mut outs.0);
                conv1d::reference::causal(v, &mut tails.1, &taps, Some(&bias), &mut outs.1);
                close("causal", &outs.0, &outs.1, 1e-6);
                assert_eq!(tails.0, tails.1, "d {d}, k {k}, n {n}");
            }
        }
    }
}

#[test]
fn softmax_quantities_equal_their_references() {
    let mut rng = fastrand::Rng::with_seed(15);
    for n in (1..70).chain([1000, 8000]) {
        let a = random(n, 4.0, &mut rng);
        let label = rng.usize(0..n);
        close(
            "log_sum_exp",
            &[softmax::log_sum_exp(&a)],
            &[softmax::reference::log_sum_exp(&a) as f32],
            5e-7,
        );
        let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(softmax::argmax(&a), a.iter().position(|&x| x == largest).unwrap());
        // From rounding noise to another model altogether.
        for drift in [1e-4, 1e-2, 1.0] {
            let b: Vec<f32> = a.iter().zip(random(n, drift, &mut rng)).map(|(a, d)| a + d).collect();
            let pair = softmax::compare(&a, &b, label);
            let exact = softmax::reference::divergence(&a, &b) as f32;
            assert!((pair.kl - exact).abs() <= 1e-3 * exact + 1e-10, "{n}, {drift}: {} {exact}", pair.kl);
            close(
                "nll",
                &[pair.nll_a, pair.nll_b],
                &[
                    (softmax::reference::log_sum_exp(&a) - f64::from(a[label])) as f32,
                    (softmax::reference::log_sum_exp(&b) - f64::from(b[label])) as f32,
                ],
                2e-6,
            );
            assert_eq!((pair.argmax_a, pair.argmax_b), (softmax::argmax(&a), softmax::argmax(&b)));
        }
    }
    // The first of equals, wherever the vectors' borders are.
    for at in 0..20 {
        let mut x = vec![0.0; 40];
        x[at] = 2.0;
        x[39] = 2.0;
        assert_eq!(softmax::argmax(&x), at);
    }
    assert!(softmax::log_sum_exp(&[1.0, f32::NAN, 2.0, 0.0, 0.0]).is_nan());
}

/// Products with the INT8 codes of torch's dynamic quantization, against PyTorch: its weight-only
/// output, with f32 activations.
#[test]
fn int8_products_are_those_of_pytorch() {
    let golden = Golden::new(include_bytes!("../../fixtures/quant/dynamic_linear.safetensors"));
    let x = golden.f32("x");
    for name in ["layers.0.ssm.in_proj", "layers.1.moe.layer.router.gate"] {
        let shape = golden.shape(&format!("{name}/q"));
        let codes = golden.bytes(&format!("{name}/q"));
        let scales = golden.f32(&format!("{name}/scale"));
        let (rows, cols) = (shape[0], shape[1]);
        let weights = Weights::new(Tensor { shape, data: int8(codes, scales) }).unwrap();
        let expected = golden.f32(&format!("{name}/weight_only_output"));
        let mut out = vec![0.0; expected.len()];
        linear::linear(&weights, &x, &mut out, &mut Scratch::default());
        assert_close(&format!("{name}, all tokens"), &out, &expected, 1e-5);
        for (x, expected) in x.chunks(cols).zip(expected.chunks(rows)) {
            linear::linear(&weights, x, &mut out[..rows], &mut Scratch::default());
            assert_close(&format!("{name}, one token"), &out[..rows], expected, 1e-4);
        }
    }
}

fn int8(codes: Vec<u8>, scales: Vec<f32>) -> Packed {
    let group = if scales.len() == 1 { Group::Tensor } else { Group::Row };
    Packed::Codes(Codes { grid: Grid::Int8, group, codes, scales: Scales::F32(scales) })
}

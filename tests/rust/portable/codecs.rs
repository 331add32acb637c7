//! Codecs bit for bit against PyTorch and bitsandbytes. The same body runs natively, in wasm
//! without SIMD and in wasm with it.

use statepress_core::encoding::{Coding, Granularity, Group, ScaleType};

use std::collections::BTreeMap;

use statepress_core::{Codes, Encoding, Form, Grid, Packed, Scales, Tensor, tables};
use statepress_formats::{TensorSpec, Writer};
use statepress_kernels::KernelError;
use statepress_kernels::codecs::{self, Clip};
use statepress_tests::golden::{Golden, assert_close};
use statepress_tests::test;

fn golden(name: &str) -> Golden {
    Golden::new(match name {
        "half" => include_bytes!("../../fixtures/quant/half.safetensors"),
        "int8" => include_bytes!("../../fixtures/quant/int8.safetensors"),
        "nf4" => include_bytes!("../../fixtures/quant/nf4.safetensors"),
        other => panic!("no golden {other}"),
    })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn i8s(golden: &Golden, name: &str) -> Vec<i8> {
    golden.bytes(name).into_iter().map(|byte| byte as i8).collect()
}

fn u16s(golden: &Golden, name: &str) -> Vec<u16> {
    golden.bytes(name).as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
}

fn matrices(golden: &Golden) -> Vec<String> {
    let mut names: Vec<_> =
        golden.names().iter().filter_map(|name| name.strip_suffix("/input")).map(str::to_string).collect();
    names.sort();
    assert!(names.len() >= 10);
    names
}

fn encode(values: &[f32], shape: &[usize], encoding: Encoding, clip: Clip) -> Packed {
    codecs::encode(values, shape, encoding, clip).unwrap().tensor.data
}

#[test]
fn sixteen_bit_floats_are_those_of_pytorch() {
    let golden = golden("half");
    let input = golden.f32("input");
    let shape = [input.len()];
    for (name, encoding) in [("f16", Encoding::Fp16), ("bf16", Encoding::Bf16)] {
        let encoded = codecs::encode(&input, &shape, encoding, Clip::Absmax).unwrap();
        let (Packed::F16(found) | Packed::Bf16(found)) = &encoded.tensor.data else { panic!("{name}") };
        let expected = u16s(&golden, &format!("{name}_bits"));
        let back = codecs::decode(&encoded.tensor);
        let expected_back = golden.f32(&format!("{name}_back"));
        let mut overflowed = 0;
        for i in 0..input.len() {
            // The payload of a NaN is nobody's business.
            if input[i].is_nan() {
                assert!(back[i].is_nan());
                continue;
            }
            assert_eq!(found[i], expected[i], "{name} of {:e}", input[i]);
            assert_eq!(back[i].to_bits(), expected_back[i].to_bits(), "{name} of {:e}", input[i]);
            overflowed += u64::from(input[i].is_finite() && back[i].is_infinite());
        }
        assert_eq!(encoded.clipped, overflowed, "{name}");
    }
}

#[test]
fn int8_is_that_of_the_specification() {
    let golden = golden("int8");
    for name in matrices(&golden) {
        let key = |suffix: &str| format!("{name}/{suffix}");
        let (input, shape) = (golden.f32(&key("input")), golden.shape(&key("input")));
        for (rule, clip) in [("absmax", Clip::Absmax), ("p9999", Clip::Percentile(99.99))] {
            let encoding = Encoding::int8(Granularity::Row);
            let Packed::Codes(Codes { codes, scales: Scales::F32(scales), .. }) =
                encode(&input, &shape, encoding, clip)
            else {
                panic!()
            };
            let codes: Vec<i8> = codes.into_iter().map(|code| code as i8).collect();
            assert_eq!(codes, i8s(&golden, &key(&format!("{rule}_row_q"))), "{name} {rule}");
            for (found, expected) in scales.iter().zip(golden.f32(&key(&format!("{rule}_row_scale")))) {
                // A row of zeros: the reference keeps scale 0 and divides by 1.
                let expected = if expected == 0.0 { 1.0 } else { expected };
                assert_eq!(found.to_bits(), expected.to_bits(), "{name} {rule}");
            }
        }
        let encoding = Encoding::int8(Granularity::Tensor);
        for (clip, expected) in [
            (Clip::Absmax, key("absmax_tensor_scale")),
            (Clip::Percentile(99.0), key("p99.0_tensor_value")),
            (Clip::Percentile(99.9), key("p99.9_tensor_value")),
            (Clip::Percentile(99.99), key("p99.99_tensor_value")),
            (Clip::Percentile(100.0), key("p100.0_tensor_value")),
        ] {
            let Packed::Codes(Codes { scales: Scales::F32(scales), .. }) =
                encode(&input, &shape, encoding, clip)
            else {
                panic!()
            };
            let expected_value = golden.f32(&expected)[0];
            let expected_scale =
                if expected.ends_with("value") { expected_value / 127.0 } else { expected_value };
            assert_eq!(scales[0].to_bits(), expected_scale.to_bits(), "{expected}");
        }
    }
}

/// The one-scale-per-tensor INT4 of the research is a group as long as the tensor.
#[test]
fn int4_rounds_as_the_specification_says() {
    let golden = golden("int8");
    for name in matrices(&golden) {
        let (input, shape) = (golden.f32(&format!("{name}/input")), golden.shape(&format!("{name}/input")));
        if input.len() % 2 != 0 {
            continue;
        }
        let encoding = Encoding::int4(input.len(), ScaleType::Fp32);
        let whole = [1, input.len()];
        let encoded = codecs::encode(&input, &whole, encoding, Clip::Absmax).unwrap().tensor;
        let scale = golden.f32(&format!("{name}/int4_tensor_scale"))[0];
        let Packed::Codes(Codes { scales: Scales::F32(scales), .. }) = &encoded.data else { panic!() };
        assert_eq!(
            scales[0].to_bits(),
            if scale == 0.0 { 1f32 } else { scale }.to_bits(),
            "{name} {shape:?}"
        );
        let expected: Vec<f32> = i8s(&golden, &format!("{name}/int4_tensor_q"))
            .iter()
            .map(|&q| f32::from(q) * scales[0])
            .collect();
        assert_eq!(codecs::decode(&encoded), expected, "{name}");
    }
}

#[test]
fn int4_groups_store_high_nibble_first_and_round_the_scale_before_the_codes() {
    let values: Vec<f32> = (0..64).map(|i| (i as f32 - 20.0) * 0.37).collect();
    for scale in [ScaleType::Fp16, ScaleType::Fp32] {
        let encoding = Encoding::int4(16, scale);
        let encoded = codecs::encode(&values, &[2, 32], encoding, Clip::Absmax).unwrap().tensor;
        let decoded = codecs::decode(&encoded);
        for (group, (values, decoded)) in values.chunks(16).zip(decoded.chunks(16)).enumerate() {
            let absmax = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            let worst = values.iter().zip(decoded).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst <= absmax / 7.0 * 0.502, "group {group}: {worst}");
        }
        let Packed::Codes(Codes { codes, .. }) = &encoded.data else { panic!() };
        // -7.4 / scale = -7 and -7.03 / scale = -6.65 -> -7.
        assert_eq!(codes[0], 0x99, "{codes:x?}");
        assert_eq!(encoded.encoding(), encoding);
    }
}

#[test]
fn nf4_is_that_of_bitsandbytes() {
    let golden = golden("nf4");
    assert_eq!(bits(&tables::NF4), bits(&golden.f32("code")));
    assert_eq!(bits(&tables::documented()), bits(&golden.f32("nested_quant_map_documented")));
    assert_eq!(bits(tables::dynamic()), bits(&golden.f32("nested_quant_map")));
    for name in matrices(&golden) {
        let key = |suffix: &str| format!("{name}/{suffix}");
        let (input, shape) = (golden.f32(&key("input")), golden.shape(&key("input")));
        let shape = if shape.len() == 1 { vec![1, shape[0]] } else { shape };
        let encoding = Encoding::nf4(64, ScaleType::Fp32);
        let encoded = codecs::encode(&input, &shape, encoding, Clip::Absmax).unwrap().tensor;
        let Packed::Codes(Codes { codes, scales: Scales::F32(absmax), .. }) = &encoded.data else { panic!() };
        assert_eq!(bits(absmax), bits(&golden.f32(&key("absmax"))), "{name}");
        let expected = golden.bytes(&key("packed"));
        for (at, (&found, &expected)) in codes.iter().zip(&expected).enumerate() {
            // bitsandbytes codes blocks of zeros as 0 (from NaN); ours is 7, which is zero too.
            let zero_block = absmax[2 * at / 64] == 0.0;
            let expected = if zero_block { 0x77 } else { expected };
            assert_eq!(found, expected, "{name} byte {at}");
        }
        assert_eq!(codes.len(), expected.len());
        if golden.has(&key("dequant")) {
            let expected: Vec<f32> = golden.f32(&key("dequant")).iter().map(|x| x + 0.0).collect();
            let found: Vec<f32> = codecs::decode(&encoded).iter().map(|x| x + 0.0).collect();
            assert_eq!(bits(&found), bits(&expected), "{name}");
        }
    }
    for block in [32, 128, 256] {
        let (input, name) = (golden.f32("normal_64x128/input"), format!("normal_64x128.block{block}"));
        let encoding = Encoding::nf4(block, ScaleType::Fp32);
        let Packed::Codes(Codes { codes, scales: Scales::F32(absmax), .. }) =
            encode(&input, &[64, 128], encoding, Clip::Absmax)
        else {
            panic!()
        };
        assert_eq!(codes, golden.bytes(&format!("{name}/packed")));
        assert_eq!(bits(&absmax), bits(&golden.f32(&format!("{name}/absmax"))));
    }
}

#[test]
fn double_quantization_is_that_of_bitsandbytes() {
    let golden = golden("nf4");
    for name in matrices(&golden) {
        let key = |suffix: &str| format!("{name}/{suffix}");
        if !golden.has(&key("dq_offset")) {
            continue;
        }
        let (input, shape) = (golden.f32(&key("input")), golden.shape(&key("input")));
        let encoding = Encoding::nf4(64, ScaleType::Double);
        let encoded = codecs::encode(&input, &shape, encoding, Clip::Absmax).unwrap().tensor;
        let Packed::Codes(Codes { scales, .. }) = &encoded.data else { panic!() };
        let Scales::Double { codes, nested, offset } = scales else { panic!() };
        // The mean depends on the order of summation in its last bit, and with it the rest.
        let expected = golden.f32(&key("dq_offset"))[0];
        assert!((offset - expected).abs() <= expected.abs() * 1e-6, "{name}: {offset} against {expected}");
        let expected = golden.f32(&key("dq_nested_absmax"));
        for (found, expected) in nested.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= expected.abs() * 1e-5 + 1e-9,
                "{name}: {found} against {expected}"
            );
        }
        let differing =
            codes.iter().zip(golden.bytes(&key("dq_absmax_u8"))).filter(|(a, b)| **a != *b).count();
        assert!(differing * 100 <= codes.len(), "{name}: {differing} of {} codes differ", codes.len());
        let restored: Vec<f32> = (0..codes.len()).map(|block| codecs::scales::get(scales, block)).collect();
        assert_close(&name, &restored, &golden.f32(&key("dq_absmax_restored")), 1e-3);
    }
}

/// Rows and ranges decode to what the whole does, on every alignment of short blocks.
#[test]
fn parts_decode_as_the_whole_does() {
    let (rows, cols) = (6, 38);
    let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect();
    let encodings = [
        Encoding::Fp32,
        Encoding::Fp16,
        Encoding::Bf16,
        Encoding::int8(Granularity::Row),
        Encoding::int8(Granularity::Tensor),
        Encoding::int4(38, ScaleType::Fp16),
        Encoding::nf4(64, ScaleType::Fp16),
        Encoding::nf4(32, ScaleType::Double),
    ];
    for encoding in encodings {
        let encoded = codecs::encode(&values, &[rows, cols], encoding, Clip::Absmax).unwrap().tensor;
        codecs::check(&encoded).unwrap();
        assert_eq!(encoded.encoding(), encoding);
        let whole = codecs::decode(&encoded);
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            codecs::decode_range(&encoded, r * cols, &mut row);
            assert_eq!(row, whole[r * cols..][..cols], "{encoding:?} row {r}");
        }
        for first in 0..cols {
            let mut part = vec![0.0; 41];
            codecs::decode_range(&encoded, first, &mut part);
            assert_eq!(part, whole[first..first + 41], "{encoding:?} from {first}");
        }
        let error = whole.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let bound = if encoding.precision().is_quantized() { 0.1 } else { 2e-3 };
        assert!(error <= bound, "{encoding:?}: {error}");
    }
}

#[test]
fn numbers_that_no_code_stands_for_are_refused_by_index() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut values = vec![1.0; 64];
        values[17] = value;
        let encoding = Encoding::nf4(64, ScaleType::Fp32);
        let error = codecs::encode(&values, &[2, 32], encoding, Clip::Absmax).unwrap_err();
        assert!(matches!(error, KernelError::NotFinite { index: 17, .. }), "{error}");
    }
    for percentile in [f64::NAN, -1.0, 100.5] {
        let encoding = Encoding::int8(Granularity::Tensor);
        let error = codecs::encode(&[1.0; 64], &[2, 32], encoding, Clip::Percentile(percentile)).unwrap_err();
        assert!(matches!(error, KernelError::Percentile(_)), "{error}");
    }
    let error = codecs::encode(&[1.0; 3], &[2, 2], Encoding::Fp32, Clip::Absmax).unwrap_err();
    assert_eq!(error.to_string(), "values has 3 elements; the shape needs 4");
}

/// Values out of a binary16 scale's reach take the last code on their side, and are counted one by one.
#[test]
fn values_out_of_reach_take_the_last_code_and_are_counted() {
    let largest = 65504.0;
    let mut values = vec![largest; 64];
    (values[0], values[1], values[2]) = (1e30, -1e30, 70_000.0);
    let encoding = Encoding::nf4(64, ScaleType::Fp16);
    let nf4 = codecs::encode(&values, &[2, 32], encoding, Clip::Absmax).unwrap();
    assert_eq!(codecs::decode(&nf4.tensor)[..4], [largest, -largest, largest, largest]);
    assert_eq!(nf4.clipped, 3);

    let encoding = Encoding::int4(32, ScaleType::Fp16);
    let mut values = vec![6e5; 64];
    (values[1], values[2]) = (-6e5, 7.0 * largest);
    let int4 = codecs::encode(&values, &[2, 32], encoding, Clip::Absmax).unwrap();
    assert_eq!(codecs::decode(&int4.tensor)[..3], [7.0 * largest, -8.0 * largest, 7.0 * largest]);
    assert_eq!(int4.clipped, 63);

    // absmax / 7 = 8.5e-8 is stored as 2^-24, the smallest binary16: the code would be 10.
    let mut values = vec![0.0; 64];
    values[0] = 7.0 * 8.5e-8;
    let int4 = codecs::encode(&values, &[2, 32], encoding, Clip::Absmax).unwrap();
    assert_eq!(codecs::decode(&int4.tensor)[0], 7.0 * 2f32.powi(-24));
    assert_eq!(int4.clipped, 1);

    let mut values = vec![0.01; 64];
    (values[0], values[40]) = (1.0, -1.0);
    let encoding = Encoding::int8(Granularity::Row);
    let int8 = codecs::encode(&values, &[2, 32], encoding, Clip::Percentile(50.0)).unwrap();
    assert_eq!(int8.clipped, 2);
}

/// The tensor as a file has it.
fn file(tensor: &Tensor) -> Vec<u8> {
    let form = Form::Coded(tensor.encoding());
    let spec = TensorSpec { name: "w".into(), shape: tensor.shape.clone(), form, coded: false };
    let mut writer = Writer::new(Vec::new(), &[spec], &BTreeMap::new()).unwrap();
    writer.write("w", tensor).unwrap();
    writer.finish().unwrap().0
}

/// One number stands for the bytes of every encoding, those without a golden included.
#[test]
fn the_bytes_are_the_same_in_every_build() {
    let mut seed = 1u32;
    let values: Vec<f32> = (0..64 * 96)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for encoding in [
        Encoding::Fp16,
        Encoding::Bf16,
        Encoding::int8(Granularity::Row),
        Encoding::int8(Granularity::Tensor),
        Encoding::int4(32, ScaleType::Fp16),
        Encoding::int4(16, ScaleType::Fp32),
        Encoding::nf4(64, ScaleType::Fp32),
        Encoding::nf4(64, ScaleType::Fp16),
        Encoding::nf4(16, ScaleType::Double),
        Encoding::grouped(Grid::Int6, 64, ScaleType::Fp16),
        Encoding::grouped(Grid::Int5, 7, ScaleType::Log8),
        Encoding::grouped(Grid::Int3, 64, ScaleType::Log8),
        Encoding::grouped(Grid::Lm3, 64, ScaleType::Fp16),
        Encoding::grouped(Grid::Int2, 32, ScaleType::Fp32),
        Encoding::grouped(Grid::Lm2, 32, ScaleType::Log8),
    ] {
        for clip in [Clip::Absmax, Clip::Percentile(99.9)] {
            // FNV-1a.
            let tensor = codecs::encode(&values, &[64, 96], encoding, clip).unwrap().tensor;
            for byte in file(&tensor) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    assert_eq!(hash, 0x9db0_2f89_4eb9_e359, "{hash:#x}");
}

/// A search loses no more than the largest magnitude does, in any group; and groups clip where somebody else says.
#[test]
fn a_searched_limit_has_the_least_error() {
    let values: Vec<f32> = (0..6144).map(|i| ((i * 37 + i * i % 101) % 211) as f32 / 105.0 - 1.0).collect();
    // A heavy tail, as weights have.
    let values: Vec<f32> = values.iter().map(|x| x.powi(5) + 0.05 * x).collect();
    let shape = [64, 96];
    for &grid in Grid::ALL {
        for scale in [ScaleType::Fp32, ScaleType::Fp16, ScaleType::Log8] {
            let coding = Coding { grid, group: Group::Values(32), scale };
            if Encoding::Codes(coding).refusal(&shape).is_some() {
                continue;
            }
            let lost = |tensor: &Tensor| -> Vec<f32> {
                let off: Vec<f32> = codecs::decode(tensor).iter().zip(&values).map(|(a, b)| a - b).collect();
                off.chunks(32).map(|off| off.iter().map(|x| x * x).sum()).collect()
            };
            let encode = |clip| codecs::encode(&values, &shape, Encoding::Codes(coding), clip).unwrap();
            let (whole, searched) = (encode(Clip::Absmax), encode(Clip::Mse));
            let (before, after) = (lost(&whole.tensor), lost(&searched.tensor));
            let pairs = || before.iter().zip(&after);
            let worse = pairs().position(|(before, after)| *after > before * 1.0001 + 1e-12);
            assert_eq!(worse, None, "{coding:?}: {:?}", worse.map(|at| (before[at], after[at])));
            let better = pairs().filter(|(before, after)| **after < 0.95 * **before).count();
            assert!(better > 20 || grid.bits() > 5, "{grid:?}: {better} of 192 groups are better");
            assert!(searched.clipped > 0 || grid.bits() > 5, "{grid:?}");
            // Nothing is known of what meets the numbers.
            assert_eq!(encode(Clip::Weighted), searched);
            let largest = |values: &[f32]| values.iter().fold(0f32, |most, x| most.max(x.abs()));
            let mut scales: Vec<f32> =
                values.chunks(32).map(|values| largest(values) / grid.most()).collect();
            let given = |scales: &[f32]| codecs::encode_scaled(&values, &shape, coding, scales.to_vec());
            assert_eq!(given(&scales).unwrap().tensor, whole.tensor);
            scales[5] /= 4.0;
            // The largest number of the group is four times as far as its last level.
            let largest = [largest(&values[160..192])];
            assert_eq!(codecs::beyond(&largest, grid, scales[5]), 1, "{coding:?}");
            assert_eq!(codecs::beyond(&largest, grid, 4.0 * scales[5]), 0, "{coding:?}");
            assert!(given(&scales).unwrap().clipped > 0, "{coding:?}");
            let error = given(&scales[1..]).unwrap_err();
            assert!(error.to_string().contains("scales"), "{error}");
        }
    }
}

/// Zeros have no scale that others would have to share 8 bits with.
#[test]
fn a_group_of_zeros_is_zeros_however_its_scale_is_found() {
    let mut values: Vec<f32> = (0..256).map(|i| (i as f32 - 128.0) * 1e-3).collect();
    values[64..128].fill(0.0);
    for encoding in [
        Encoding::nf4(64, ScaleType::Double),
        Encoding::grouped(Grid::Int3, 64, ScaleType::Log8),
        Encoding::int4(64, ScaleType::Fp16),
    ] {
        let tensor = codecs::encode(&values, &[4, 64], encoding, Clip::Mse).unwrap().tensor;
        let read = codecs::decode(&tensor);
        assert!(read[64..128].iter().all(|&x| x == 0.0), "{encoding:?}");
        let off = read.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 0.05, "{encoding:?}: {off}");
    }
}

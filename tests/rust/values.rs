//! Numbers that are not ordinary: what is said of NaN and infinities, of what overflows, of what becomes
//! nothing but zeros, and of what is clipped; under every recipe, and in the report's numbers too.

use safetensors::tensor::{Dtype, TensorView as Part, serialize};
use statepress::report::{CompressReport, RoundingError};
use statepress::{Checkpoint, Finding, Level, OpenOptions, Recipe, recipes, run};
use statepress_tests::yardstick::recipe;

/// A checkpoint of tensors given as bytes.
fn checkpoint(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Checkpoint {
    let parts = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.to_string(), Part::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    Checkpoint::open(serialize(parts, None).unwrap(), OpenOptions::default()).unwrap()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Ordinary weights, no two rows alike.
fn ordinary(n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * scale).collect()
}

fn compress(checkpoint: &Checkpoint, recipe: &Recipe) -> CompressReport {
    let (job, _) = checkpoint.compress_to_memory(recipe).unwrap();
    run(job, |_| {}).unwrap()
}

fn only(rule: &str, options: &str) -> Recipe {
    recipe(&[("*", rule)], options)
}

/// What is said of a tensor under a code.
fn told<'a>(report: &'a CompressReport, code: &str, tensor: &str) -> Vec<&'a Finding> {
    let about = |finding: &&Finding| finding.code == code && finding.tensor.as_deref() == Some(tensor);
    report.plan.findings.iter().filter(about).collect()
}

fn error(report: &CompressReport, tensor: &str) -> RoundingError {
    report.plan.tensors.iter().find(|it| it.name == tensor).unwrap().error.unwrap()
}

const ODD: [&str; 5] = ["non-finite", "overflow", "zeroed", "coarse-scale", "clipped"];

#[test]
fn nan_and_infinities_are_told_under_every_recipe() {
    let mut values = ordinary(4 * 64, 0.02);
    for (at, value) in [(70, f32::NAN), (99, f32::NEG_INFINITY), (130, f32::NAN)] {
        values[at] = value;
    }
    let halves: Vec<u8> = values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
    let wide: Vec<f64> = values.iter().map(|&value| value.into()).collect();
    let shape = [4, 64];
    for (dtype, bytes) in [(Dtype::F32, f32s(&values)), (Dtype::F16, halves), (Dtype::F64, f64s(&wide))] {
        let checkpoint = checkpoint(&[
            ("odd", dtype, &shape, bytes),
            ("fine", Dtype::F32, &shape, f32s(&ordinary(4 * 64, 0.02))),
        ]);
        let mut written = 0;
        for recipe in recipes::builtin().unwrap() {
            let what = format!("{dtype:?}, {}", recipe.name);
            let (job, _) = checkpoint.compress_to_memory(&recipe).unwrap();
            match run(job, |_| {}) {
                Ok(report) => {
                    let told = told(&report, "non-finite", "odd");
                    let words = "3 of the 256 numbers of odd are not finite (2 NaN, 1 infinite); the first is number 70, NaN";
                    assert_eq!(
                        (told.len(), told[0].level, told[0].message.as_str()),
                        (1, Level::Warning, words),
                        "{what}"
                    );
                    let error = error(&report, "odd");
                    assert_eq!((error.non_finite, error.overflowed), (3, 0), "{what}");
                    // They are what they were: the distance is that of the others.
                    assert!(error.mse.unwrap() < 1e-9 && error.cosine.unwrap() > 0.9999, "{what}: {error:?}");
                    let others =
                        report.plan.findings.iter().filter(|it| it.tensor.as_deref() == Some("fine"));
                    assert_eq!(others.filter(|it| ODD.contains(&it.code.as_str())).count(), 0, "{what}");
                    written += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        error.contains("tensor odd: number 70 is NaN: only finite numbers"),
                        "{what}: {error}"
                    );
                    assert!(
                        ["int8", "int4", "nf4", "mixed-aggressive"].contains(&recipe.name.as_str()),
                        "{what}"
                    );
                }
            }
        }
        assert!(written >= 5, "{written}");
    }
}

#[test]
fn what_overflows_is_called_infinite_and_has_no_distance() {
    let mut values = ordinary(4 * 64, 0.02);
    values[65] = -70_000.0;
    values[200] = 65_520.0; // half of the way to the next: rounds to infinity
    values[201] = 65_519.0;
    let f16 = checkpoint(&[("w", Dtype::F32, &[4, 64], f32s(&values))]);
    let report = compress(&f16, &only("fp16", ""));
    let overflow = told(&report, "overflow", "w");
    assert_eq!(overflow.len(), 1, "{:?}", report.plan.findings);
    for words in [
        "2 of the 256 numbers of w",
        "fp16",
        "65504",
        "became infinite",
        "number 65, -70000",
        "bf16 and fp32",
    ] {
        assert!(overflow[0].message.contains(words), "{words}: {overflow:?}");
    }
    assert!(told(&report, "clipped", "w").is_empty());
    let found = error(&report, "w");
    assert_eq!((found.overflowed, found.clipped, found.non_finite), (2, 0, 0));
    assert_eq!((found.mse, found.max_abs, found.cosine), (None, None, None));
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains(r#""mse":null,"maxAbs":null,"cosine":null"#));
    let read: CompressReport = serde_json::from_str(&json).unwrap();
    assert_eq!(read.plan.tensors, report.plan.tensors);
    for quiet in [only("bf16", ""), only("fp32", ""), recipes::find("none").unwrap(), only("int8", "")] {
        let report = compress(&f16, &quiet);
        assert!(told(&report, "overflow", "w").is_empty() && error(&report, "w").cosine.is_some());
    }
    let huge = checkpoint(&[("w", Dtype::F32, &[2], f32s(&[3.4e38, 1.0]))]);
    let report = compress(&huge, &only("bf16", ""));
    assert!(told(&report, "overflow", "w")[0].message.contains("beyond what bf16 holds (3.39e38)"));
}

#[test]
fn float64_below_float32_is_told_of_where_it_becomes_zero() {
    let mut values: Vec<f64> = ordinary(4 * 64, 0.02).into_iter().map(f64::from).collect();
    (values[5], values[9]) = (1e-200, -1e-46);
    let wide = checkpoint(&[("w", Dtype::F64, &[4, 64], f64s(&values))]);
    for rule in ["fp32", "fp16", "int8", "nf4"] {
        let report = compress(&wide, &only(rule, ""));
        let zeroed = told(&report, "zeroed", "w");
        assert_eq!(zeroed.len(), 1, "{rule}: {zeroed:?}");
        for words in
            ["2 of the 256 numbers of w", "are too small for float32 and 0 once read", "number 5, 1e-200"]
        {
            assert!(zeroed[0].message.contains(words), "{words}: {zeroed:?}");
        }
        assert!(error(&report, "w").zeroed >= 2, "{rule}");
    }
    let report = compress(&wide, &recipes::find("none").unwrap());
    assert!(told(&report, "zeroed", "w").is_empty() && error(&report, "w").zeroed == 0);
}

#[test]
fn float64_beyond_float32_is_blamed_as_what_it_is() {
    let mut values: Vec<f64> = ordinary(4 * 64, 0.02).into_iter().map(f64::from).collect();
    (values[5], values[9]) = (1e300, -4e38);
    let wide = checkpoint(&[("w", Dtype::F64, &[4, 64], f64s(&values))]);
    for rule in ["fp32", "fp16", "bf16"] {
        let report = compress(&wide, &only(rule, ""));
        let overflow = told(&report, "overflow", "w");
        assert_eq!(overflow.len(), 1, "{rule}: {overflow:?}");
        for words in ["2 of the 256 numbers of w are beyond float32", "infinite once read", "number 5, 1e300"]
        {
            assert!(overflow[0].message.contains(words), "{rule}: {overflow:?}");
        }
        assert!(told(&report, "non-finite", "w").is_empty(), "no infinity is in the file");
        let found = error(&report, "w");
        assert_eq!(
            (found.overflowed, found.non_finite, found.mse, found.cosine),
            (2, 0, None, None),
            "{rule}"
        );
    }
    let kept = compress(&wide, &recipes::find("none").unwrap());
    assert!(told(&kept, "overflow", "w").is_empty(), "as they are, they are kept");
    for rule in ["int8", "int4", "nf4"] {
        let (job, _) = wide.compress_to_memory(&only(rule, "")).unwrap();
        let error = run(job, |_| {}).unwrap_err();
        assert_eq!(error.code(), "bad-tensor");
        let error = error.to_string();
        assert!(
            error.contains("tensor w: number 5 is 1e300, more than float32 holds") && error.contains(rule),
            "{error}"
        );
    }
}

/// Groups of numbers that a codec makes zeros of, and scales without digits.
#[test]
fn what_becomes_nothing_but_zeros_is_told_with_its_share() {
    let mut values = ordinary(4 * 64, 0.02);
    values[64..128].iter_mut().for_each(|value| *value *= 1e-7);
    let rows = checkpoint(&[("w", Dtype::F32, &[4, 64], f32s(&values))]);
    for (rule, options, words) in [
        ("int8", r#","int8":{"granularity":"tensor"}"#, Some("1 of 4 rows of w, 25.0 % of its numbers,")),
        ("int8", "", None),
        ("int4", r#","int4":{"group":32}"#, Some("2 of 8 groups of w, 25.0 % of its numbers,")),
        ("int4", r#","int4":{"group":32,"scale":"fp32"}"#, None),
        ("nf4", r#","nf4":{"block":64,"doubleQuant":false}"#, None),
        (
            "nf4",
            r#","nf4":{"block":64,"doubleQuant":false,"absmax":"fp16"}"#,
            Some("1 of 4 groups of w, 25.0 %"),
        ),
        ("fp16", "", Some("of the 256 numbers of w (25.0 %) are too small for fp16 and became 0")),
        ("bf16", "", None),
    ] {
        let report = compress(&rows, &only(rule, options));
        let zeroed = told(&report, "zeroed", "w");
        let what = format!("{rule}{options}: {:?}", report.plan.findings);
        let found = error(&report, "w");
        match words {
            Some(words) => {
                assert!(zeroed.len() == 1 && zeroed[0].level == Level::Warning, "{what}");
                assert!(zeroed[0].message.contains(words), "{words}: {what}");
                assert!((60..=64).contains(&found.zeroed), "{}: {what}", found.zeroed);
            }
            None => assert_eq!((zeroed.len(), found.zeroed), (0, 0), "{what}"),
        }
    }
    // All zeros from the start is no loss, and a few numbers near 0 are ordinary.
    let mut few = ordinary(4 * 64, 0.02);
    few[64..128].fill(0.0);
    few[7] = 1e-9;
    let few = checkpoint(&[("w", Dtype::F32, &[4, 64], f32s(&few))]);
    for recipe in recipes::builtin().unwrap() {
        let report = compress(&few, &recipe);
        assert!(
            report.plan.findings.iter().all(|it| !ODD.contains(&it.code.as_str())),
            "{:?}",
            report.plan.findings
        );
    }
}

#[test]
fn scales_that_their_type_has_no_digits_for_are_told() {
    let tiny = checkpoint(&[("w", Dtype::F32, &[4, 64], f32s(&ordinary(4 * 64, 2e-6)))]);
    let report = compress(&tiny, &only("int4", ""));
    let coarse = told(&report, "coarse-scale", "w");
    assert!(coarse.len() == 1 && coarse[0].message.contains("8 scales of w (100.0 %)"), "{coarse:?}");
    let wide = compress(&tiny, &only("int4", r#","int4":{"scale":"fp32"}"#));
    assert!(told(&wide, "coarse-scale", "w").is_empty());
    assert!(error(&wide, "w").cosine.unwrap() > 0.99);
    // Double quantization centres absmax values: of a tiny block among large ones the sign may be lost.
    let (mut turned, mut kept) = (0, 0);
    for n in 1..40 {
        let mut values = ordinary(64 * 64, 0.02);
        values[640..704].iter_mut().for_each(|value| *value *= 1e-6);
        values[..64].iter_mut().for_each(|value| *value *= 3.0 + n as f32);
        let mixed = checkpoint(&[("w", Dtype::F32, &[64, 64], f32s(&values))]);
        let plain = compress(&mixed, &only("nf4", r#","nf4":{"doubleQuant":false}"#));
        assert!(told(&plain, "coarse-scale", "w").is_empty());
        let report = compress(&mixed, &only("nf4", ""));
        let decoded = decoded(&mixed, &only("nf4", ""));
        let block = decoded[640..704].iter().zip(&values[640..704]);
        let flips = block.filter(|(a, b)| **a * **b < 0.0).count() > 0;
        assert_eq!(told(&report, "coarse-scale", "w").len(), usize::from(flips), "{n}");
        *(if flips { &mut turned } else { &mut kept }) += 1;
    }
    assert!(turned > 0 && kept > 0, "{turned} {kept}");
}

/// The numbers of `w` after a recipe.
fn decoded(checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<f32> {
    let (job, bytes) = checkpoint.compress_to_memory(recipe).unwrap();
    run(job, |_| {}).unwrap();
    let bytes = bytes.take();
    let index = statepress_formats::open(&bytes).unwrap();
    statepress_kernels::codecs::decode(
        &statepress_formats::read_tensor(&bytes, index.get("w").unwrap()).unwrap(),
    )
}

/// Clipping that a recipe asks for is one sentence; what nobody asked for is a warning of each tensor.
#[test]
fn what_is_clipped_on_purpose_is_said_once() {
    let shape = [4, 256];
    let names: Vec<String> = (0..12).map(|n| format!("layers.{n}.w")).collect();
    let tensors: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), Dtype::F32, &shape[..], f32s(&ordinary(4 * 256, 0.02))))
        .collect();
    let report =
        compress(&checkpoint(&tensors), &only("int8", r#","int8":{"clip":"percentile","percentile":99}"#));
    let clipped: Vec<_> = report.plan.findings.iter().filter(|it| it.code == "clipped").collect();
    assert!(clipped.len() == 1 && clipped[0].level == Level::Info, "{clipped:?}");
    let each = error(&report, "layers.0.w").clipped;
    assert!(each > 0);
    let total: u64 = report.plan.tensors.iter().map(|it| it.error.unwrap().clipped).sum();
    let words = format!("{total} values of 12 tensors beyond the 99th percentile");
    assert!(clipped[0].message.starts_with(&words), "{clipped:?}");
    assert!(clipped[0].message.contains(&format!("layers.0.w ({each}), ")), "{clipped:?}");
    assert!(clipped[0].message.ends_with(" and 4 more"), "{clipped:?}");

    let large = checkpoint(&[("w", Dtype::F32, &[1, 32], f32s(&ordinary(32, 1e6)))]);
    let report = compress(&large, &only("int4", ""));
    let clipped = told(&report, "clipped", "w");
    assert!(clipped.len() == 1 && clipped[0].level == Level::Warning, "{clipped:?}");
    assert!(clipped[0].message.contains("numbers of w beyond the last code of int4"), "{clipped:?}");
}

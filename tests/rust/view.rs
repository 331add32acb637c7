//! One tensor looked at: against NumPy, against plain loops, and against what compressing then does.

use safetensors::tensor::{Dtype, TensorView as Part, serialize};
use statepress::report::{CodedView, TensorView};
use statepress::{
    Checkpoint, Finding, Level, OpenOptions, Precision, Recipe, ViewOptions, recipe, recipes, run,
};
use statepress_core::{Grid, StoredAs, Tensor};
use statepress_kernels::codecs;
use statepress_tests::files::{demo, fixture, open};
use statepress_tests::golden::Golden;
use statepress_tests::yardstick::recipe;

const ALL: [Precision; 6] = [
    Precision::Fp32,
    Precision::Fp16,
    Precision::Bf16,
    Precision::Codes(Grid::Int8),
    Precision::Codes(Grid::Int4),
    Precision::Codes(Grid::Nf4),
];

/// QLoRA (Dettmers et al. 2023), appendix E, to the digits printed there.
const PUBLISHED: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

fn in_all() -> ViewOptions {
    ViewOptions { precisions: ALL.to_vec(), ..ViewOptions::default() }
}

fn options(precisions: &[Precision]) -> ViewOptions {
    ViewOptions { precisions: precisions.to_vec(), ..ViewOptions::default() }
}

/// A checkpoint of F32 tensors.
fn checkpoint(tensors: &[(&str, &[usize], &[f32])]) -> Checkpoint {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let parts = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.to_string(), Part::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    Checkpoint::open(serialize(parts, None).unwrap(), OpenOptions::default()).unwrap()
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[track_caller]
fn near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs(), "{what}: {found}, expected {expected}");
}

/// Made with NumPy 2.4.6 from the file itself, in float64: `min`, `max`, `mean`, `std`,
/// `len * sum(d**4) / sum(d**2)**2 - 3`, `histogram(x, 8)`. The codecs were written out in NumPy
/// float32 after their definitions: `rint(w / (absmax / 127))` by row, the nearest of 16 by 64, and
/// `rint(w / float16(absmax / 7))` by 32.
#[test]
fn a_demo_tensor_has_the_numbers_that_numpy_finds() {
    let mut options = in_all();
    options.bins = 8;
    options.codecs.nf4.double_quant = false;
    let checkpoint = open(&demo().join("model.safetensors"), &[]);
    let view = checkpoint.tensor("layers.0.ssm.in_proj.weight", &options).unwrap();
    assert_eq!((view.shape.as_slice(), view.dtype.as_str(), view.params), (&[512, 128][..], "F32", 65_536));
    let it = view.statistics;
    assert_eq!((it.min, it.max, it.abs_max), (-0.372165709733963, 0.4513712227344513, 0.4513712227344513));
    assert_eq!((it.zeros, it.non_finite), (0, 0));
    near("mean", it.mean, -0.0007208469969702744, 1e-12);
    near("std", it.std, 0.09330537874466692, 1e-12);
    near("kurtosis", it.kurtosis, 0.04939338330368015, 1e-10);
    assert_eq!((view.histogram.from, view.histogram.to), (it.min, it.max));
    assert_eq!(view.histogram.counts, [133, 2388, 13862, 27358, 17779, 3728, 276, 12]);
    for (coded, (bits, mse, max_abs, cosine)) in view.coded.iter().zip([
        (32.0, 0.0, 0.0, 1.0),
        (16.0, 3.7256409628393656e-10, 0.00012186169624328613, 0.9999999786043126),
        (16.0, f64::NAN, f64::NAN, f64::NAN),
        (8.25, 3.641356355767273e-7, 0.0017719343304634094, 0.9999790880582207),
        (4.5, 8.14204681580652e-5, 0.031731367111206055, 0.9953632505235793),
        (4.5, 7.394281274882098e-5, 0.04909840226173401, 0.9957495651547172),
    ]) {
        let what = coded.precision.name();
        assert_eq!((coded.stored, coded.bits_per_weight), (StoredAs::Coded(coded.precision), bits), "{what}");
        // NumPy has no bfloat16.
        if !mse.is_nan() {
            near(what, coded.error.mse.unwrap(), mse, 1e-11);
            assert_eq!(coded.error.max_abs, Some(max_abs), "{what}");
            near(what, coded.error.cosine.unwrap(), cosine, 1e-12);
        }
    }
    assert_eq!(view.coded[3].histogram, [134, 2386, 13864, 27382, 17761, 3719, 278, 12]);
    assert_eq!(view.coded[5].histogram, [166, 2195, 13997, 27378, 17887, 3587, 314, 12]);
    assert_eq!(view.coded[5].block.start, 63_068 / 64 * 64, "the block of number 63068, the largest");
}

/// Counts as [`report::Histogram`] says, by trying every bin.
fn counted(values: impl Iterator<Item = f32>, from: f64, to: f64, bins: usize) -> Vec<u64> {
    let mut counts = vec![0; bins];
    for value in values.map(f64::from) {
        let above = |bin: &usize| (value - from) * bins as f64 >= *bin as f64 * (to - from);
        counts[if from == to { 0 } else { (1..bins).rev().find(above).unwrap_or(0) }] += 1;
    }
    counts
}

#[test]
fn statistics_and_histograms_are_those_of_plain_loops() {
    let path = demo().join("model.safetensors");
    let golden = Golden::open(&path);
    let checkpoint = open(&path, &[]);
    let mut seen = 0;
    for (bins, name) in [1, 2, 7, 64, 1000, 1024].into_iter().cycle().zip(golden.names()) {
        let values = golden.f32(&name);
        let n = values.len() as f64;
        let moment =
            |k: i32, from: f64| values.iter().map(|&x| (f64::from(x) - from).powi(k)).sum::<f64>() / n;
        let mean = moment(1, 0.0);
        let variance = moment(2, mean);
        let view = checkpoint.tensor(&name, &ViewOptions { bins, ..ViewOptions::default() }).unwrap();
        let it = view.statistics;
        let mut sorted = values.clone();
        sorted.sort_by(f32::total_cmp);
        assert_eq!((it.min, it.max), (f64::from(sorted[0]), f64::from(sorted[values.len() - 1])), "{name}");
        assert_eq!(it.abs_max, it.max.max(-it.min), "{name}");
        assert!((it.mean - mean).abs() <= 1e-12 * it.abs_max, "{name}: {} {mean}", it.mean);
        if it.min < it.max {
            near(&name, it.std, variance.sqrt(), 1e-9);
            let kurtosis = moment(4, mean) / (variance * variance) - 3.0;
            assert!((it.kurtosis - kurtosis).abs() < 1e-6, "{name}: {} {kurtosis}", it.kurtosis);
        } else {
            assert_eq!((it.std, it.kurtosis), (0.0, 0.0), "{name}");
        }
        assert_eq!(it.zeros, values.iter().filter(|x| **x == 0.0).count() as u64, "{name}");
        assert_eq!(view.histogram.counts, counted(values.into_iter(), it.min, it.max, bins), "{name}");
        assert!(view.coded.is_empty());
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

/// Compresses all of a checkpoint into one precision.
fn compressed(checkpoint: &Checkpoint, recipe: &Recipe) -> (statepress::report::CompressReport, Vec<u8>) {
    let (job, sink) = checkpoint.compress_to_memory(recipe).unwrap();
    (run(job, |_| {}).unwrap(), sink.take())
}

/// Fails unless a view of a tensor is what compressing made of it; `before` and `written` are the
/// tensor as read from both files.
fn check(what: &str, view: &TensorView, coded: &CodedView, before: &Tensor, written: &Tensor) {
    let (values, decoded) = (codecs::decode(before), codecs::decode(written));
    let (from, to) = (view.histogram.from, view.histogram.to);
    let beyond = decoded.iter().map(|x| x.clamp(from as f32, to as f32));
    assert_eq!(coded.histogram, counted(beyond, from, to, view.histogram.counts.len()), "{what}");
    assert_eq!(coded.histogram.iter().sum::<u64>(), view.params, "{what}");
    let block = &coded.block;
    let range = block.start as usize..block.start as usize + block.values.len();
    assert_eq!(block.values, values[range.clone()], "{what}");
    assert_eq!(block.decoded, decoded[range.clone()], "{what}");
    assert_eq!(block.values.len(), block.decoded.len());
    if !matches!(coded.stored, StoredAs::Coded(precision) if precision.is_quantized()) {
        assert_eq!((range, block.scale), (0..values.len().min(64), None), "{what}");
        assert!(block.levels.is_empty(), "{what}");
        return;
    }
    let largest = block.values.iter().any(|x| f64::from(x.abs()) == view.statistics.abs_max);
    assert!(largest, "{what}: the largest magnitude is shown");
    assert!(block.decoded.iter().all(|x| block.levels.contains(x)), "{what}: {block:?}");
    assert!(block.levels.is_sorted_by(|a, b| a < b), "{what}");
    // All numbers of the tensor that share the scale decode to the levels.
    let shared = written.encoding().coding().unwrap().group.size(&written.shape);
    let start = range.start / shared * shared;
    let whole = start..(start + shared).min(values.len());
    assert!(whole.contains(&(range.end - 1)), "{what}: one block is shown");
    assert_eq!(range.len(), whole.len().min(64), "{what}");
    assert!(decoded[whole].iter().all(|x| block.levels.contains(x)), "{what}");
}

#[test]
fn what_is_shown_is_what_compressing_does() {
    let quantize = [
        "",
        r#","int8":{"granularity":"tensor"},"nf4":{"doubleQuant":false,"block":128},"int4":{"group":64}"#,
        r#","int8":{"clip":"percentile","percentile":95},"nf4":{"doubleQuant":false,"absmax":"fp16"},"int4":{"group":16,"scale":"fp32"}"#,
    ];
    let nf4 = compressed(&open(&demo().join("model.safetensors"), &[]), &recipes::find("nf4").unwrap()).1;
    let bases = [
        ("demo", std::fs::read(demo().join("model.safetensors")).unwrap()),
        ("demo in NF4", nf4),
        ("rows of 12", std::fs::read(fixture("fixtures/il_odd.zip.pt")).unwrap()),
        ("FP16", std::fs::read(fixture("fixtures/il_moe.f16.pt")).unwrap()),
        ("torch's INT8", std::fs::read(fixture("fixtures/il_moe.int8dyn_per_channel.pt")).unwrap()),
    ];
    let (mut seen, mut refused, mut clipped) = (0, 0, 0);
    for (base, bytes) in bases {
        let source = statepress_formats::open(&bytes).unwrap();
        let checkpoint = Checkpoint::open(bytes.clone(), OpenOptions::default()).unwrap();
        for (precision, extra) in ALL.iter().flat_map(|it| quantize.map(|extra| (*it, extra))) {
            if !precision.is_quantized() && !extra.is_empty() {
                continue;
            }
            let recipe = recipe(&[("*", precision.name())], extra);
            let recipe::Step::Quantize(step) = &recipe.steps[0] else { unreachable!() };
            let options = ViewOptions { bins: 50, precisions: vec![precision], codecs: step.codecs() };
            let (report, written) = compressed(&checkpoint, &recipe);
            let index = statepress_formats::open(&written).unwrap();
            for tensor in &report.plan.tensors {
                let what = format!("{base}, {}{extra}: {}", precision.name(), tensor.name);
                let view = checkpoint.tensor(&tensor.name, &options).unwrap();
                let [coded] = &view.coded[..] else { panic!("{what}: one precision was asked for") };
                assert_eq!(Some(coded.error), tensor.error, "{what}");
                assert_eq!((coded.precision, coded.stored), (precision, tensor.precision), "{what}");
                assert_eq!(coded.bytes, tensor.bytes_after, "{what}");
                // What is clipped on purpose is said once for a file.
                let on_purpose = |it: &Finding| it.code == "clipped" && it.level == Level::Info;
                let about = report.plan.findings.iter().filter(|it| {
                    let of_coding = ["refused", "clipped", "overflow", "zeroed", "coarse-scale"];
                    it.tensor.as_ref() == Some(&tensor.name)
                        && of_coding.contains(&it.code.as_str())
                        && !on_purpose(it)
                });
                let told = coded.findings.iter().filter(|it| !on_purpose(it)).cloned().collect::<Vec<_>>();
                match coded.stored {
                    StoredAs::Kept => assert_eq!(codes(&coded.findings), ["kept"], "{what}"),
                    _ => assert_eq!(told, about.cloned().collect::<Vec<_>>(), "{what}"),
                }
                refused += u32::from(codes(&coded.findings).contains(&"refused"));
                clipped += u32::from(coded.error.clipped > 0);
                seen += 1;
                let read = |bytes: &Vec<u8>, index: &statepress_core::Index| {
                    statepress_formats::read_tensor(bytes, index.get(&tensor.name).unwrap()).unwrap()
                };
                check(&what, &view, coded, &read(&bytes, &source), &read(&written, &index));
            }
        }
    }
    assert!(seen > 1000 && refused > 100 && clipped > 100, "{seen} {refused} {clipped}");
}

#[test]
fn levels_are_the_code_book_times_the_scale() {
    let checkpoint = open(&demo().join("model.safetensors"), &[]);
    for double_quant in [false, true] {
        let mut options = in_all();
        options.codecs.nf4.double_quant = double_quant;
        let view = checkpoint.tensor("layers.0.ssm.in_proj.weight", &options).unwrap();
        let [.., int8, int4, nf4] = &view.coded[..] else { panic!() };
        let absmax = nf4.block.scale.unwrap();
        assert_eq!(nf4.block.levels, PUBLISHED.map(|entry| entry * absmax));
        near("the largest absmax", f64::from(absmax), view.statistics.abs_max, 1e-6);
        for (coded, largest) in [(int8, 127), (int4, 7)] {
            let scale = coded.block.scale.unwrap();
            let levels: Vec<f32> = (-largest..=largest).map(|code| code as f32 * scale).collect();
            assert_eq!(coded.block.levels, levels);
        }
    }
    // What is clipped below has the one code that has no twin above.
    let mut values = [0.5; 128];
    values[70] = -9.0;
    let mut options = options(&[Precision::Codes(Grid::Int8)]);
    options.codecs.int8.clip = recipe::ClipBy::Percentile;
    options.codecs.int8.percentile = 50.0;
    let view = self::checkpoint(&[("w", &[1, 128], &values)]).tensor("w", &options).unwrap();
    let block = &view.coded[0].block;
    let scale = 0.5f32 / 127.0;
    assert_eq!((block.start, block.scale, block.levels.len()), (64, Some(scale), 256));
    assert_eq!((block.levels[0], block.decoded[6], block.values[6]), (-128.0 * scale, -128.0 * scale, -9.0));
    assert_eq!((codes(&view.coded[0].findings), view.coded[0].error.clipped), (vec!["clipped"], 1));
}

#[test]
fn equal_numbers_are_in_one_bin() {
    for value in [0.0, -2.5, 0.1] {
        let view = checkpoint(&[("w", &[4, 64], &[value; 256])]).tensor("w", &in_all()).unwrap();
        let it = view.statistics;
        let exact = f64::from(value);
        assert_eq!((it.min, it.max, it.mean, it.std, it.kurtosis), (exact, exact, exact, 0.0, 0.0));
        assert_eq!((it.abs_max, it.zeros), (exact.abs(), if value == 0.0 { 256 } else { 0 }));
        assert_eq!((view.histogram.from, view.histogram.to), (exact, exact));
        assert_eq!((view.histogram.counts[0], view.histogram.counts.iter().sum::<u64>()), (256, 256));
        for coded in &view.coded {
            assert_eq!((coded.histogram.len(), coded.histogram[0]), (64, 256), "{}", coded.precision.name());
            let zero = value == 0.0 && coded.precision == Precision::Codes(Grid::Nf4);
            assert!(!zero || coded.block.levels == [0.0], "{:?}", coded.block.levels);
        }
        assert!(view.findings.is_empty());
    }
}

#[test]
fn what_is_not_finite_is_counted_and_left_out() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let values = [nan, 1.0, inf, -3.0, 0.0, -0.0, -inf, 70_000.0];
    let checkpoint =
        checkpoint(&[("odd", &[2, 4], &values), ("none", &[3], &[nan, inf, -inf]), ("no", &[0, 4], &[])]);
    let view = checkpoint.tensor("odd", &options(&[Precision::Fp32, Precision::Fp16])).unwrap();
    let it = view.statistics;
    assert_eq!((it.min, it.max, it.abs_max, it.zeros, it.non_finite), (-3.0, 70_000.0, 70_000.0, 2, 3));
    assert_eq!((it.mean, it.std.is_finite(), it.kurtosis.is_finite()), (69_998.0 / 5.0, true, true));
    assert_eq!(view.histogram.counts.iter().sum::<u64>(), 5);
    assert_eq!(codes(&view.findings), ["non-finite"]);
    assert_eq!(
        view.findings[0].message,
        "3 of the 8 numbers of odd are not finite (1 NaN, 2 infinite); the first is number 0, NaN"
    );
    assert_eq!(view.findings[0].tensor.as_deref(), Some("odd"));
    let fp16 = &view.coded[1];
    assert_eq!((fp16.histogram.iter().sum::<u64>(), fp16.histogram[63]), (5, 1), "70000 became infinite");
    assert_eq!((fp16.error.overflowed, fp16.error.clipped, fp16.error.non_finite), (1, 0, 3));
    assert_eq!((fp16.error.mse, fp16.error.max_abs, fp16.error.cosine), (None, None, None));
    assert_eq!(codes(&fp16.findings), ["overflow"]);
    // As JSON: what is not finite is null, and only there.
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["coded"][0]["block"]["values"][0], serde_json::Value::Null);
    let whole = [&json["statistics"], &json["histogram"], &json["coded"][0]["error"]];
    assert!(whole.iter().all(|part| !part.to_string().contains("null")), "{whole:?}");

    let error = checkpoint.tensor("odd", &options(&[Precision::Codes(Grid::Int8)])).unwrap_err();
    assert_eq!((error.code(), error.facts()[0].1.as_str()), ("bad-tensor", "odd"));

    for (name, expected, counted) in
        [("none", vec!["non-finite", "no-numbers"], 3), ("no", vec!["no-numbers"], 0)]
    {
        let view = checkpoint.tensor(name, &options(&[Precision::Fp32, Precision::Fp16])).unwrap();
        let it = view.statistics;
        assert_eq!(
            it,
            statepress::report::Statistics { non_finite: counted, ..Default::default() },
            "{name}"
        );
        assert_eq!((view.histogram.from, view.histogram.to), (0.0, 0.0));
        assert_eq!(view.histogram.counts, [0; 64]);
        assert_eq!(codes(&view.findings), expected, "{name}");
        assert_eq!((view.coded.len(), view.coded[0].block.values.len()), (2, counted as usize));
        assert_eq!(view.coded[1].histogram, [0; 64]);
    }
    let empty = checkpoint.tensor("no", &options(&[Precision::Codes(Grid::Nf4)])).unwrap();
    let nf4 = &empty.coded[0];
    assert_eq!(
        (nf4.stored, nf4.bytes, nf4.bits_per_weight, nf4.block.scale),
        (StoredAs::Coded(Precision::Fp32), 0, 0.0, None)
    );
    assert_eq!(nf4.findings[0].message, "nf4 refused: no numbers are in it; stored as fp32");
}

#[test]
fn what_is_no_weight_says_what_becomes_of_it() {
    let checkpoint = open(&demo().join("model.safetensors"), &[]);
    let buffer = "layers.1.moe.layer.router.expert_counts";
    let view = checkpoint.tensor(buffer, &options(&[Precision::Codes(Grid::Int8)])).unwrap();
    assert_eq!((view.coded[0].stored, codes(&view.coded[0].findings)), (StoredAs::Kept, vec!["kept"]));
    let vector = checkpoint.tensor("norm.weight", &options(&[Precision::Codes(Grid::Nf4)])).unwrap();
    let [refused] = &vector.coded[0].findings[..] else { panic!("{vector:?}") };
    assert_eq!(
        (vector.coded[0].stored, refused.code.as_str()),
        (StoredAs::Coded(Precision::Fp32), "refused")
    );
    assert!(refused.message.contains("a vector is not quantized (shape [128])"), "{}", refused.message);

    let masked = open(&fixture("fixtures/tf.zip.pt"), &[]);
    let mask = masked.inspection().tensors.into_iter().find(|tensor| tensor.name.ends_with("causal_mask"));
    let view = masked.tensor(&mask.unwrap().name, &options(&[Precision::Fp16])).unwrap();
    assert_eq!(codes(&view.coded[0].findings), ["mask-left-out"]);
}

#[test]
fn a_tied_tensor_is_looked_at_through_its_storage() {
    let checkpoint = open(&fixture("fixtures/il_moe.zip.pt"), &[]);
    let tied = checkpoint.inspection().tensors.into_iter().find(|tensor| tensor.tied_to.is_some()).unwrap();
    let first = tied.tied_to.unwrap();
    let (a, b) =
        (checkpoint.tensor(&first, &in_all()).unwrap(), checkpoint.tensor(&tied.name, &in_all()).unwrap());
    assert_eq!((a.statistics, &a.histogram), (b.statistics, &b.histogram));
    assert_eq!((codes(&a.findings), codes(&b.findings)), (vec![], vec!["tied"]));
    assert!(b.findings[0].message.contains(&first), "{:?}", b.findings);
}

#[test]
fn bad_names_and_options_are_refused_by_what_is_allowed() {
    let checkpoint = open(&demo().join("model.safetensors"), &[]);
    let refused = |name: &str, options: &ViewOptions| checkpoint.tensor(name, options).unwrap_err();
    let error = refused("embeding.weight", &in_all());
    assert_eq!(error.to_string(), "no tensor is named \"embeding.weight\"; near to it: embedding.weight");
    assert_eq!(error.code(), "unknown-tensor");
    assert_eq!(error.facts(), [("tensor", "embeding.weight".into()), ("near", "embedding.weight".into())]);
    let error = refused("qwertyuiop", &in_all());
    assert_eq!(error.to_string(), "no tensor is named \"qwertyuiop\"");
    for bins in [0, 1025] {
        let error = refused("norm.weight", &ViewOptions { bins, ..ViewOptions::default() });
        assert_eq!(
            (error.code(), error.to_string()),
            ("bad-option", format!("option bins is {bins}; allowed: 1 to 1024"))
        );
    }
    for bins in [1, 1024] {
        let view = checkpoint.tensor("norm.weight", &ViewOptions { bins, ..ViewOptions::default() }).unwrap();
        assert_eq!(view.histogram.counts.len(), bins);
    }
    let mut options = in_all();
    options.codecs.int4.group = 48;
    let error = refused("norm.weight", &options);
    assert_eq!(error.to_string(), "option quantize.int4.group is 48; allowed: 16, 32, 64, 128");
}

//! Weights that other tools quantized: read as what those tools decode them to, never taken for numbers, and kept bit for
//! bit where they cannot be decoded. `tests/fixtures/cases/make_quantized.py` makes the files with the tools themselves.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use statepress::report::{CompressReport, Inspection};
use statepress::{Checkpoint, Finding, OpenOptions, Recipe, StoredAs, recipes, run, sequence_logits};
use statepress_formats::export::compressed_tensors::Packing;
use statepress_formats::{Choice, Writer};
use statepress_tests::files::{fixture, open_folder};
use statepress_tests::yardstick::recipe;

fn folder(name: &str) -> Checkpoint {
    open_folder(&fixture(&format!("cases/quantized/{name}")))
}

fn compressed(checkpoint: &Checkpoint, recipe: &Recipe) -> (CompressReport, Vec<u8>) {
    let (job, bytes) = checkpoint.compress_to_memory(recipe).unwrap();
    (run(job, |_| {}).unwrap(), bytes.take())
}

/// What `expected.safetensors` holds, by name: the shape and the numbers.
fn expected(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    numbers(&std::fs::read(fixture(&format!("cases/quantized/{name}/expected.safetensors"))).unwrap())
}

fn numbers(bytes: &[u8]) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let floats = file.iter().filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
    floats
        .map(|(name, tensor)| {
            let values = tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            (name.to_string(), (tensor.shape().to_vec(), values.collect()))
        })
        .collect()
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

fn dtype<'a>(inspection: &'a Inspection, name: &str) -> &'a str {
    &inspection.tensors.iter().find(|tensor| tensor.name == name).unwrap().dtype
}

/// The largest difference, in units of the largest number.
fn off(found: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    assert_eq!(found.len(), wanted.len());
    found.iter().zip(wanted).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

const DECODED: [&str; 5] = ["bitsandbytes", "gptq", "gptq_v2", "awq", "compressed_tensors"];

#[test]
fn weights_are_what_their_tool_decodes_them_to() {
    for name in DECODED {
        let checkpoint = folder(name);
        let expected = expected(name);
        let inspection = checkpoint.inspection();
        let shapes: BTreeMap<_, _> =
            inspection.tensors.iter().map(|it| (it.name.as_str(), &it.shape)).collect();
        let plain = |name: &&str| name.ends_with(".bias") || *name == "norm.weight";
        assert_eq!(
            shapes.keys().filter(|name| !plain(name)).copied().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "{name}: one entry a weight"
        );
        let (_, written) = compressed(&checkpoint, &recipe(&[("*", "fp32")], ""));
        let found = numbers(&written);
        for (weight, (shape, values)) in &expected {
            assert_eq!((&found[weight].0, shapes[weight.as_str()]), (shape, shape), "{name}: {weight}");
            // LLM.int8 divides by 127 another time than we do; the others are equal bit for bit, but for
            // numbers that their tool rounds to binary16 afterwards.
            let allowed = match weight.as_str() {
                "int8.weight" => 2e-7,
                "nf4_half.weight" => 4e-4,
                _ => 0.0,
            };
            assert!(
                off(&found[weight].1, values) <= allowed,
                "{name}: {weight}: {}",
                off(&found[weight].1, values)
            );
        }
        let params: usize = expected.values().map(|(_, values)| values.len()).sum();
        let plain: u64 =
            inspection.tensors.iter().filter(|it| plain(&it.name.as_str())).map(|it| it.params).sum();
        assert_eq!(inspection.params, params as u64 + plain, "{name}: parameters, not packed bytes");
    }
}

#[test]
fn what_changes_nothing_keeps_codes_where_a_precision_has_them() {
    let kept = [
        ("bitsandbytes", &["nf4", "nf4_wide", "nf4_odd", "nf4_half", "storage", "double", "gpu"][..], "nf4"),
        ("bitsandbytes", &["int8"], "int8"),
        // With zero points, too: those of sixteen bits' scales.
        ("gptq", &["even", "four"], "int4"),
        ("gptq", &["even_eight", "eight"], "int8"),
        ("gptq", &["three"], "int3"),
        ("gptq", &["two"], "int2"),
        ("gptq_v2", &["even", "plain"], "int4"),
        ("awq", &["a"], "int4"),
        ("compressed_tensors", &["four", "brain", "channel", "shifted"], "int4"),
        ("compressed_tensors", &["eight", "int"], "int8"),
        ("compressed_tensors", &["three"], "int3"),
    ];
    for name in DECODED {
        let checkpoint = folder(name);
        let (report, written) = compressed(&checkpoint, &recipes::find("none").unwrap());
        let again = Checkpoint::open(written.clone(), OpenOptions::default()).unwrap();
        let (_, decoded) = compressed(&again, &recipe(&[("*", "fp32")], ""));
        let decoded = numbers(&decoded);
        for (weight, (shape, values)) in expected(name) {
            let planned = report.plan.tensors.iter().find(|tensor| tensor.name == weight).unwrap();
            let module = weight.strip_suffix(".weight").unwrap();
            let kept = kept.iter().find(|(file, modules, _)| *file == name && modules.contains(&module));
            assert_eq!(planned.precision.name(), kept.map_or("fp32", |kept| kept.2), "{name}: {weight}");
            assert_eq!(planned.error.map(|error| error.max_abs), Some(Some(0.0)), "{name}: {weight}");
            assert_eq!(decoded[&weight].0, shape);
            assert!(off(&decoded[&weight].1, &values) <= 4e-4, "{name}: {weight}");
        }
        let told = codes(&report.plan.findings);
        assert_eq!(told.contains(&"dequantized"), name != "awq", "{name}: {told:?}");
        assert!(!codes(&report.plan.findings).contains(&"recoded"));
        let left: HashSet<_> = again.inspection().tensors.into_iter().map(|it| it.name).collect();
        let arrays = [".qweight", ".SCB", ".absmax", "_packed", "_scale", "g_idx", "quant_map"];
        assert!(
            !left.iter().any(|name| arrays.iter().any(|array| name.ends_with(array))),
            "{name}: {left:?}"
        );
    }
}

/// Codes of every tool that has whole numbers, zero points and all, in the layout of compressed-tensors: those of its own bit for bit.
#[test]
fn whole_numbers_of_any_tool_are_packed_as_they_are() {
    let mut packed = BTreeMap::new();
    for name in DECODED {
        let path = fixture(&format!("cases/quantized/{name}/model.safetensors"));
        let (source, original) = (std::fs::read(&path).unwrap(), std::fs::read(&path).unwrap());
        let original = SafeTensors::deserialize(&original).unwrap();
        let text = std::fs::read_to_string(path.with_file_name("config.json")).unwrap_or("{}".into());
        let config = serde_json::from_str(&text).unwrap();
        let choice = Choice { config: Some(&config), ..Choice::default() };
        let index = statepress_formats::open_with(&source, &choice).unwrap();
        let (mut specs, mut arrays, mut refused) = (Vec::new(), Vec::new(), BTreeMap::new());
        for entry in index.tensors.iter().filter(|entry| entry.shape.len() > 1) {
            let module = entry.name.strip_suffix(".weight").unwrap();
            match Packing::of(entry) {
                Ok(packing) => {
                    specs.extend(packing.specs(&entry.name, &entry.shape));
                    arrays.extend(packing.bytes(&source, entry, |_| unreachable!()).unwrap());
                }
                Err(why) => drop(refused.insert(module.to_string(), why)),
            }
        }
        let mut writer = Writer::new(Vec::new(), &specs, &BTreeMap::new()).unwrap();
        for (spec, bytes) in specs.iter().zip(&arrays) {
            writer.write_bytes(&spec.name, &spec.shape, bytes).unwrap();
            // The arrays that it has already; `int` has its codes one by one.
            if let Ok(array) = original.tensor(&spec.name).as_ref()
                && !spec.name.starts_with("int.")
            {
                assert_eq!((array.shape(), array.data()), (&spec.shape[..], &bytes[..]), "{}", spec.name);
            }
        }
        let again = Checkpoint::open(writer.finish().unwrap().0, OpenOptions::default()).unwrap();
        let (_, written) = compressed(&again, &recipe(&[("*", "fp32")], ""));
        let (found, expected) = (numbers(&written), expected(name));
        for (weight, tensor) in &found {
            assert!(off(&tensor.1, &expected[weight].1) <= 2e-7, "{name}: {weight}");
        }
        for (module, word) in
            [("order", "g_idx"), ("nf4", "a table"), ("block", "F8_E4M3"), ("three", "zero points")]
        {
            let expected = (name, module) != ("compressed_tensors", "three");
            if let Some(why) = refused.get(module).filter(|_| expected) {
                assert!(why.contains(word), "{name}: {module}: {why}");
            }
        }
        packed.insert(name, found.len());
    }
    let expected = [("bitsandbytes", 1), ("gptq", 2), ("gptq_v2", 2), ("awq", 1), ("compressed_tensors", 8)];
    assert_eq!(packed, expected.into());
}

#[test]
fn coding_again_starts_from_numbers_and_is_told() {
    for (name, scheme) in
        [("bitsandbytes", "(nf4 (bitsandbytes))"), ("gptq", "(int3 (GPTQ))"), ("awq", "(int4 (AWQ))")]
    {
        let checkpoint = folder(name);
        let (report, written) = compressed(&checkpoint, &recipes::find("int8").unwrap());
        let told = report.plan.findings.iter().filter(|finding| finding.code == "recoded");
        assert!(told.into_iter().any(|it| it.message.contains(scheme)), "{name}: {:?}", report.plan.findings);
        let again = Checkpoint::open(written, OpenOptions::default()).unwrap();
        let (_, decoded) = compressed(&again, &recipe(&[("*", "fp32")], ""));
        for (weight, (_, values)) in expected(name) {
            assert!(off(&numbers(&decoded)[&weight].1, &values) < 0.006, "{name}: {weight}");
        }
    }
}

#[test]
fn inspection_names_the_scheme() {
    let of = |name: &str| folder(name).inspection();
    let bnb = of("bitsandbytes");
    assert_eq!(dtype(&bnb, "nf4.weight"), "nf4 (bitsandbytes)");
    assert_eq!(dtype(&bnb, "double_fp4.weight"), "fp4 (bitsandbytes)");
    assert_eq!(dtype(&bnb, "int8.weight"), "int8 (bitsandbytes)");
    assert_eq!(dtype(&of("gptq"), "three.weight"), "int3 (GPTQ)");
    assert_eq!(dtype(&of("awq"), "a.weight"), "int4 (AWQ)");
    let compressed = of("compressed_tensors");
    assert_eq!(dtype(&compressed, "four.weight"), "int4 (compressed-tensors)");
    assert_eq!(dtype(&compressed, "block.weight"), "float8 (scaled)");
    assert!(codes(&compressed.findings).contains(&"quantized-left-out"), "{:?}", compressed.findings);
    let nf4 = bnb.tensors.iter().find(|tensor| tensor.name == "nf4.weight").unwrap();
    let state = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [6, 32]}"#;
    assert_eq!(nf4.bytes, 96 + 12 + 64 + state.len() as u64, "all its arrays");
    assert_eq!(
        codes(&bnb.findings).iter().filter(|code| **code == "quantized").count(),
        3,
        "{:?}",
        bnb.findings
    );
}

#[test]
fn zero_points_of_gptq_without_a_configuration() {
    let open = |name: &str| {
        let bytes = std::fs::read(fixture(&format!("cases/quantized/{name}/model.safetensors"))).unwrap();
        Checkpoint::open(bytes, OpenOptions::default()).unwrap()
    };
    for name in ["gptq", "gptq_v2"] {
        let checkpoint = open(name);
        assert!(codes(&checkpoint.inspection().findings).contains(&"gptq-zero-points"), "{name}");
        let (_, written) = compressed(&checkpoint, &recipe(&[("*", "fp32")], ""));
        let (found, expected) = (numbers(&written), expected(name));
        // Symmetric ones say it themselves; of the others the first version is assumed.
        assert_eq!(found["even.weight"], expected["even.weight"], "{name}");
        assert_eq!(found["order.weight"] == expected["order.weight"], name == "gptq", "{name}");
    }
}

/// A model in a scheme computes what it computes with the weights that its tool decodes; so does what any recipe that
/// keeps them makes of it.
#[test]
fn whole_models_run() {
    for (name, family, told) in [
        ("llama_nf4", "llama", "nf4 (bitsandbytes)"),
        ("llama_int8", "llama", "int8 (bitsandbytes)"),
        ("mamba_nf4", "mamba", "nf4 (bitsandbytes)"),
        ("llama_gptq", "llama", "int4 (GPTQ)"),
        ("llama_packed", "llama", "int3 (compressed-tensors)"),
        ("llama_shifted", "llama", "int4 (compressed-tensors)"),
        ("mamba_packed", "mamba", "int4 (compressed-tensors)"),
    ] {
        let checkpoint = folder(name);
        let inspection = checkpoint.inspection();
        assert_eq!(inspection.family.name(), family, "{name}: {:?}", inspection.findings);
        assert!(
            inspection.findings.iter().any(|it| it.code == "quantized" && it.message.contains(told)),
            "{name}"
        );
        let path = fixture(&format!("cases/quantized/{name}/logits.json"));
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let ids: Vec<u32> = serde_json::from_value(json["ids"].clone()).unwrap();
        let wanted: Vec<Vec<f32>> = serde_json::from_value(json["logits"].clone()).unwrap();
        let (_, none) = compressed(&checkpoint, &recipes::find("none").unwrap());
        let (_, coded) = compressed(&checkpoint, &recipes::find("int8").unwrap());
        let reopened = |bytes| Checkpoint::open(bytes, OpenOptions::default()).unwrap();
        for (what, checkpoint, allowed) in
            [("opened", checkpoint, 1e-5), ("none", reopened(none), 1e-5), ("int8", reopened(coded), 0.02)]
        {
            let logits = pollster::block_on(sequence_logits(&checkpoint.model().unwrap(), &ids)).unwrap();
            let off = off(&logits, &wanted.concat());
            assert!(off < allowed, "{name}, {what}: {off}");
        }
    }
}

#[test]
fn what_is_not_decoded_is_kept_bit_for_bit_by_every_recipe() {
    let checkpoint = folder("others");
    let inspection = checkpoint.inspection();
    let kept: Vec<_> = inspection.findings.iter().filter(|it| it.code == "quantized-kept").collect();
    let said = |word: &str| kept.iter().any(|finding| finding.message.contains(word));
    for word in ["EXL2", "quanto", "of no layout that is known", "col_turing", "9 bytes of codes"] {
        assert!(said(word), "{word}: {kept:?}");
    }
    assert_eq!(inspection.params, 8 * 16 + 3 * 32, "neither codes nor ids are parameters");
    let bytes = std::fs::read(fixture("cases/quantized/others/model.safetensors")).unwrap();
    let before = SafeTensors::deserialize(&bytes).unwrap();
    for recipe in recipes::builtin().unwrap() {
        let (report, written) = compressed(&checkpoint, &recipe);
        let after = SafeTensors::deserialize(&written).unwrap();
        for (name, tensor) in before.iter() {
            if name == "plain.weight" || (name == "wide.weight" && recipe.name != "none") {
                continue;
            }
            let found = after.tensor(name).unwrap();
            assert_eq!(
                (found.dtype(), found.shape(), found.data()),
                (tensor.dtype(), tensor.shape(), tensor.data())
            );
            let planned = report.plan.tensors.iter().find(|it| it.name == name).unwrap();
            assert_eq!(planned.precision, StoredAs::Kept, "{name}");
        }
        let shares = &report.plan.precisions;
        let kept: u64 = shares.iter().filter(|it| it.precision == StoredAs::Kept).map(|it| it.params).sum();
        assert_eq!(
            kept,
            64 + 32 * u64::from(recipe.name == "none"),
            "{}: weights that are kept",
            recipe.name
        );
    }
    for (name, word) in [("exl.q_weight", "EXL2"), ("complex.weight", "complex")] {
        let error = checkpoint.tensor(name, &Default::default()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
}

#[test]
fn damaged_arrays_are_refused_or_kept_with_a_reason() {
    let path = fixture("cases/quantized/bitsandbytes/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let at = |text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let state = at(r#""shape": [6, 32]"#);
    for (text, code) in [
        (r#""shape": [6, 99]"#, "quantized-kept"),
        (r#""shape": [0, 32]"#, "quantized-kept"),
        (r#""shape": "6, 32" "#, "quantized-kept"),
        (r#""shape": [6, 32 "#, "quantized-kept"),
    ] {
        let mut damaged = bytes.clone();
        damaged[state..state + text.len()].copy_from_slice(text.as_bytes());
        let checkpoint = Checkpoint::open(damaged, OpenOptions::default()).unwrap();
        assert!(codes(&checkpoint.inspection().findings).contains(&code), "{text}");
        compressed(&checkpoint, &recipes::find("int8").unwrap());
    }
    let huge = bytes[state..].iter().position(|&byte| byte == b']').unwrap();
    let mut damaged = bytes.clone();
    damaged[state..=state + huge].copy_from_slice(br#""shape":[9999999]"#.split_at(huge + 1).0);
    assert!(Checkpoint::open(damaged, OpenOptions::default()).is_ok());

    // A group that is not there is found when the weight is read.
    let path = fixture("cases/quantized/gptq/model.safetensors");
    let mut bytes = std::fs::read(Path::new(&path)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let first = json["order.g_idx"]["data_offsets"][0].as_u64().unwrap() as usize + 8 + header;
    bytes[first..first + 4].copy_from_slice(&77u32.to_le_bytes());
    let checkpoint = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
    let error = checkpoint.tensor("order.weight", &Default::default()).unwrap_err().to_string();
    assert!(error.contains("`order.weight`") && error.contains("group 77, of 4"), "{error}");
}

/// An array by its name: it holds zeros, or what is given.
type Named = (&'static str, Dtype, Vec<usize>, Option<Vec<u8>>);

/// A safetensors file of arrays.
fn file(arrays: &[Named]) -> Vec<u8> {
    let size = |dtype: Dtype| if dtype == Dtype::I64 { 8 } else { 4 };
    let held: Vec<_> = arrays
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let bytes =
                bytes.clone().unwrap_or_else(|| vec![0; shape.iter().product::<usize>() * size(*dtype)]);
            (*name, *dtype, shape.clone(), bytes)
        })
        .collect();
    let views = held.iter().map(|(name, dtype, shape, bytes)| {
        (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn arrays_that_do_not_belong_together_are_kept_with_a_reason() {
    let gptq = |more: Named| {
        file(&[
            ("a.qweight", Dtype::I32, vec![8, 64], None),
            ("a.qzeros", Dtype::I32, vec![2, 8], None),
            ("a.scales", Dtype::F32, vec![2, 64], None),
            more,
        ])
    };
    let alternate: Vec<u8> = (0..256u32).flat_map(|i| ((i + 1) % 2).to_le_bytes()).collect();
    let dims: Vec<u8> = [256i64, 256].into_iter().flat_map(i64::to_le_bytes).collect();
    let blocks = file(&[
        ("a.weight_packed", Dtype::I32, vec![256, 32], None),
        ("a.weight_scale", Dtype::F32, vec![2, 2], None),
        ("a.weight_shape", Dtype::I64, vec![2], Some(dims)),
        ("a.weight_g_idx", Dtype::I32, vec![256], Some(alternate)),
    ]);
    let mlx = file(&[
        ("a.weight", Dtype::U32, vec![64, 8], None),
        ("a.scales", Dtype::F32, vec![64, 1], None),
        ("a.biases", Dtype::F32, vec![64, 1], None),
    ]);
    for (bytes, reason) in [
        (gptq(("a.g_idx", Dtype::I64, vec![64], None)), "`g_idx` is I64 [64], not I32 [64]"),
        (gptq(("a.weight", Dtype::F32, vec![64, 64], None)), "`a.weight` is stored as well"),
        (blocks, "its groups have scales for several rows"),
        (mlx, "in MLX cannot be decoded"),
    ] {
        let checkpoint = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
        let findings = checkpoint.inspection().findings;
        let kept = findings.iter().find(|finding| finding.code == "quantized-kept");
        let message = &kept.unwrap_or_else(|| panic!("{findings:?}")).message;
        assert!(message.contains(reason), "{message}");
        compressed(&checkpoint, &recipes::find("none").unwrap());
    }
}

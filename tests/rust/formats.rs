//! Every fixture through `open` and `read_tensor`: what is readable gives the numbers of its family's
//! `.safetensors` (read by the independent `safetensors` crate), what is not is refused with the reason.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use statepress_core::index::{Format, Stored};
use statepress_core::{Codes, Entry, Grid, Index, Packed, Scales, Source};
use statepress_formats::{open, read_tensor};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fixtures/");

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn manifest() -> Value {
    serde_json::from_slice(&file("manifest.json")).unwrap()
}

/// The tensors of a safetensors file as f32, by the independent reader.
fn reference(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = file(name);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::F16 => {
                    data.chunks(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
                }
                Dtype::BF16 => {
                    data.chunks(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
                }
                Dtype::BOOL => data.iter().map(|&b| f32::from(b)).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name.to_string(), (view.shape().to_vec(), values))
        })
        .collect()
}

/// The numbers of an entry as f32.
fn numbers(source: &dyn Source, entry: &Entry) -> Vec<f32> {
    let tensor = read_tensor(source, entry).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(tensor.shape, entry.shape);
    let cols = tensor.matrix().1.max(1);
    match tensor.data {
        Packed::F32(values) => values,
        Packed::F16(bits) => bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Packed::Bf16(bits) => bits.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        Packed::Codes(Codes { grid: Grid::Int8, codes, scales: Scales::F32(scales), .. }) => codes
            .iter()
            .enumerate()
            .map(|(i, &code)| f32::from(code as i8) * scales[if scales.len() == 1 { 0 } else { i / cols }])
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// The key that a fixture's key has in its family's reference file.
fn plain_key(name: &str) -> String {
    name.strip_prefix("module.").unwrap_or(name).replace(".moe.moe.", ".moe.layer.")
}

fn has_finding(index: &Index, code: &str) -> bool {
    index.findings.iter().any(|finding| finding.code == code)
}

#[test]
fn every_readable_file_gives_the_numbers_of_its_family() {
    let mut compared = 0;
    for (family, description) in manifest()["families"].as_object().unwrap() {
        for (name, about) in description["files"].as_object().unwrap() {
            let weights = about["weights"].as_str().unwrap();
            if !["f32", "f16", "bf16", "untied", "no_experts"].contains(&weights) {
                continue;
            }
            let expected = match weights {
                "f16" | "bf16" => reference(&format!("{family}.{weights}.safetensors")),
                _ => reference(&format!("{family}.safetensors")),
            };
            let bytes = file(name);
            let index = open(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            for entry in &index.tensors {
                let key = plain_key(&entry.name);
                let emptied = weights == "no_experts" && entry.shape.contains(&0);
                if emptied || (weights == "untied" && key == "lm_head.weight") {
                    continue;
                }
                let (shape, values) = &expected[&key];
                assert_eq!(&entry.shape, shape, "{name}: {key}");
                let read = numbers(&bytes, entry);
                let same = read.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && read.len() == values.len(), "{name}: {key}");
                compared += 1;
            }
            let mut left: Vec<_> = expected.keys().cloned().collect();
            left.retain(|key| !index.tensors.iter().any(|entry| plain_key(&entry.name) == *key));
            match name.split_once('.').unwrap().1 {
                "tied.safetensors" => assert_eq!(left, ["lm_head.weight"], "{name}"),
                "no_mask.pt" => assert!(left.iter().all(|key| key.ends_with("causal_mask")), "{name}"),
                "no_experts.pt" => assert!(left.iter().all(|key| key.contains(".experts.")), "{name}"),
                _ => assert!(left.is_empty(), "{name}: {left:?} are missing"),
            }
        }
    }
    assert!(compared > 2000, "{compared} tensors were compared");
}

#[test]
fn lm_head_is_tied_where_it_shares_the_storage_of_the_embedding() {
    for name in
        ["il_ffn.zip.pt", "il_moe.params.pt", "tf.strided.pt", "il_odd.f16.pt", "il_moe.wrap_trainer.pt"]
    {
        let index = open(&file(name)).unwrap();
        let tied = index.get("lm_head.weight").unwrap().tied_to.as_deref();
        assert_eq!(tied, Some("embedding.weight"), "{name}");
        assert_eq!(index.tensors.iter().filter(|entry| entry.tied_to.is_some()).count(), 1, "{name}");
    }
    for name in ["il_ffn.untied.pt", "il_ffn.safetensors", "il_moe.int8dyn.pt"] {
        let index = open(&file(name)).unwrap();
        assert!(index.tensors.iter().all(|entry| entry.tied_to.is_none()), "{name}");
    }
}

#[test]
fn wrappers_give_config_and_metadata() {
    let manifest = manifest();
    for family in ["il_moe", "il_odd", "il_ffn", "tf"] {
        let expected = manifest["families"][family]["config"].as_object().unwrap();
        for kind in ["wrap_config_dict", "wrap_config_class"] {
            let index = open(&file(&format!("{family}.{kind}.pt"))).unwrap();
            assert_eq!((index.wrapper.as_str(), index.format), ("model_state_dict", Format::Pytorch));
            assert_eq!(index.config.as_ref(), Some(expected), "{family} {kind}");
        }
        let index = open(&file(&format!("{family}.wrap_config_dict.pt"))).unwrap();
        assert_eq!(index.metadata, BTreeMap::from([("compression_ratio".into(), "1.0".into())]));
        let index = open(&file(&format!("{family}.wrap_state_dict.pt"))).unwrap();
        assert_eq!((index.wrapper.as_str(), index.metadata["epoch"].as_str()), ("state_dict", "3"));
        let index = open(&file(&format!("{family}.zip.pt"))).unwrap();
        assert_eq!((index.wrapper.as_str(), index.config, index.findings), ("bare", None, vec![]));
    }
}

#[test]
fn the_state_of_a_trainer_is_skipped_and_counted() {
    let bytes = file("tf.wrap_trainer.pt");
    let index = open(&bytes).unwrap();
    assert_eq!(index.metadata["train_losses"], "[2.5,2.0]");
    assert_eq!(index.metadata["best_val_loss"], "1.75");
    let [finding] = &index.findings[..] else { panic!("{:?}", index.findings) };
    // Two moments and a step counter for each parameter; the tied head has none of its own.
    let params: u64 = index
        .tensors
        .iter()
        .filter(|entry| entry.tied_to.is_none() && !entry.name.ends_with("causal_mask"))
        .map(Entry::params)
        .sum();
    let tensors =
        index.tensors.iter().filter(|e| e.tied_to.is_none() && !e.name.ends_with("causal_mask")).count();
    let skipped = format!("{} storages with {} bytes", 3 * tensors, 8 * params + 4 * tensors as u64);
    assert_eq!(finding.code, "state-skipped");
    assert!(finding.message.contains(&skipped), "{} does not say {skipped}", finding.message);
    assert!(finding.message.contains("`optimizer_state_dict`, `scheduler_state_dict`"));
}

/// torch's rule: scale = max|w| / 127.5, code = round-half-even(w * (1 / scale)).
fn torch_codes(weights: &[f32]) -> (f32, Vec<i8>) {
    let max = weights.iter().fold(0f32, |max, w| max.max(w.abs()));
    let scale = (max / 127.5).max(f32::EPSILON);
    let code = |w: &f32| (w * (1.0 / scale)).round_ties_even().clamp(-128.0, 127.0) as i8;
    (scale, weights.iter().map(code).collect())
}

#[test]
fn dynamic_int8_modules_become_weights_and_biases() {
    let float = reference("il_moe.safetensors");
    for (name, per_row) in [("il_moe.int8dyn.pt", false), ("il_moe.int8dyn_per_channel.pt", true)] {
        let bytes = file(name);
        let index = open(&bytes).unwrap();
        assert_eq!(index.findings.len(), 1, "{name}: {:?}", index.findings);
        assert!(has_finding(&index, "torch-dynamic-int8"));
        let names: Vec<_> = index.tensors.iter().map(|entry| entry.name.clone()).collect();
        let mut expected: Vec<_> = float.keys().cloned().collect();
        let mut sorted = names.clone();
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected, "{name}");
        let mut quantized = 0;
        for entry in &index.tensors {
            let (shape, values) = &float[&entry.name];
            assert_eq!(&entry.shape, shape);
            let Packed::Codes(Codes { grid: Grid::Int8, codes, scales: Scales::F32(scales), .. }) =
                read_tensor(&bytes, entry).unwrap().data
            else {
                assert_eq!(&numbers(&bytes, entry), values, "{name}: {}", entry.name);
                continue;
            };
            assert_eq!(scales.len(), if per_row { shape[0] } else { 1 });
            let group = values.len() / scales.len();
            for (row, scale) in scales.iter().enumerate() {
                let (expected_scale, expected) = torch_codes(&values[row * group..][..group]);
                assert!((scale - expected_scale).abs() <= f32::EPSILON * scale, "{name}: {}", entry.name);
                let codes: Vec<i8> = codes[row * group..][..group].iter().map(|&code| code as i8).collect();
                assert_eq!(codes, expected, "{name}: {} row {row}", entry.name);
            }
            quantized += 1;
        }
        // Three Linears in each of four blocks, two routers, sixteen in experts, four in FFNs, the head.
        assert_eq!(quantized, 12 + 2 + 16 + 4 + 1, "{name}");
    }
}

#[test]
fn weight_int8_with_its_scale_becomes_one_weight() {
    let float = reference("il_moe.safetensors");
    let bytes = file("il_moe.mixed_aggressive.pt");
    let index = open(&bytes).unwrap();
    assert!(has_finding(&index, "weight-int8"));
    assert!(index.metadata["mixed_precision_metadata"].contains("99.99"));
    let mut dtypes = BTreeMap::new();
    for entry in &index.tensors {
        *dtypes.entry(entry.dtype_name()).or_insert(0) += 1;
        let (shape, values) = &float[&entry.name];
        assert_eq!(&entry.shape, shape, "{}", entry.name);
        match read_tensor(&bytes, entry).unwrap().data {
            Packed::Codes(Codes { grid: Grid::Int8, codes, scales: Scales::F32(scales), .. }) => {
                assert!(entry.name.ends_with("in_proj.weight") || entry.name.ends_with("out_proj.weight"));
                for ((code, value), at) in codes.iter().map(|&code| code as i8).zip(values).zip(0..) {
                    let scale = scales[at / shape[1]];
                    let error = (f32::from(code) * scale - value).abs();
                    assert!(error <= 0.501 * scale || code.unsigned_abs() >= 127, "{} {error}", entry.name);
                }
            }
            Packed::F16(bits) => {
                let expected: Vec<u16> = values.iter().map(|&value| f16::from_f32(value).to_bits()).collect();
                assert_eq!(bits, expected, "{}", entry.name);
            }
            Packed::F32(read) => assert_eq!(&read, values, "{}", entry.name),
            other => panic!("{}: {other:?}", entry.name),
        }
    }
    assert_eq!(dtypes["INT8"], 8);
    assert_eq!(index.tensors.len(), float.len());
}

#[test]
fn what_is_not_read_is_refused_with_the_reason() {
    let refused = |name: &str| open(&file(name)).err().unwrap_or_else(|| panic!("{name} was opened"));
    let cases = [
        ("reject.whole_module.pt", "whole-module", "save model.state_dict() instead"),
        ("reject.truncated.pt", "truncated", "central directory"),
        ("reject.truncated.legacy.pt", "truncated", "fetch it again"),
        ("reject.header_len.safetensors", "truncated", "safetensors header"),
        ("reject.plain_pickle.pt", "unsupported-format", "torch.save did not write"),
    ];
    let manifest = manifest();
    let rejected = manifest["rejected"].as_object().unwrap();
    // And one that opens, with a warning: its weights are fine, and nothing of the rest is called.
    assert_eq!(rejected.len(), cases.len() + 1);
    let index = open(&file("reject.global_call.pt")).unwrap();
    let warning = index.findings.iter().find(|finding| finding.code == "dangerous-pickle").unwrap();
    assert!(warning.message.contains("`posix.getcwd`"), "{}", warning.message);
    for (name, code, words) in cases {
        assert!(rejected.contains_key(name));
        let error = refused(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

#[test]
fn the_distilled_checkpoint_opens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/itera-lite/itera_lite_micro_distilled.pt");
    let bytes = std::fs::read(path).unwrap();
    let index = open(&bytes).unwrap();
    assert_eq!((index.tensors.len(), index.wrapper.as_str()), (61, "model_state_dict"));
    assert_eq!(index.metadata["compression_ratio"], "3.8088647941809466");
    assert_eq!(index.get("embedding.weight").unwrap().shape, [2000, 64]);
    assert_eq!(index.get("layers.1.moe.layer.router.expert_counts").unwrap().shape, [4]);
    let tied: Vec<_> = index.tensors.iter().filter(|entry| entry.tied_to.is_some()).collect();
    assert!(matches!(tied[..], [entry] if entry.name == "lm_head.weight"));
    for entry in &index.tensors {
        assert!(matches!(entry.stored, Stored::Strided(_)));
        assert!(numbers(&bytes, entry).iter().all(|value| value.is_finite()), "{}", entry.name);
    }
}

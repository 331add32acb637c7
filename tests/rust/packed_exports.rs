//! Folders for transformers whose linear layers keep their codes: keys and bytes are those that it saves itself with bitsandbytes and
//! with compressed-tensors, what is opened again computes the same, and what a tool cannot hold is told by its name. That transformers
//! computes the same is held by `tests/interop`.

use std::collections::BTreeSet;

use statepress::{
    Checkpoint, ExportTarget, Exported, OpenOptions, PlainOptions, Recipe, recipes, sequence_logits,
};
use statepress_tests::edit::Edit;
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, open_folder};
use statepress_tests::golden::{Golden, assert_close};
use statepress_tests::gpu::compressed;

use crate::exports::{export, family, told};

/// What was exported, and its bytes.
type Written = Result<(Exported, Vec<u8>), statepress::Error>;

fn bitsandbytes(checkpoint: &Checkpoint) -> Written {
    export(checkpoint, &ExportTarget::Bitsandbytes(PlainOptions::default()))
}

fn compressed_tensors(checkpoint: &Checkpoint) -> Written {
    export(checkpoint, &ExportTarget::CompressedTensors(PlainOptions::default()))
}

/// The `quantization_config` of a `config.json`.
fn quantization(config: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(config).unwrap()["quantization_config"].take()
}

/// A recipe of rules for matrices, with options of precisions.
fn recipe(rules: &str, options: &str) -> Recipe {
    let quantize = format!(r#"{{"quantize":{{"rules":[{rules}],"otherwise":"fp32"{options}}}}}"#);
    Recipe::from_json(&format!(r#"{{"version":1,"name":"t","steps":[{quantize}]}}"#)).unwrap()
}

/// All in one precision.
fn one(precision: &str, options: &str) -> Recipe {
    recipe(&format!(r#"{{"match":"*","precision":"{precision}"}}"#), options)
}

/// Of every family that `transformers` knows: opened again, a folder computes what it was made of does, within a tolerance. By the
/// recipe, what weights are called then; gives how many are, and of how many families.
fn computed_again(write: fn(&Checkpoint) -> Written, recipes: &[(Recipe, &str, f32)]) -> (Vec<usize>, usize) {
    let (mut packed, mut families) = (vec![0; recipes.len()], BTreeSet::new());
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let base = open_folder(&sample.folder);
        for (at, (recipe, precision, tolerance)) in recipes.iter().enumerate() {
            let compressed = compressed(&base, recipe);
            let (exported, bytes) = match write(&compressed) {
                Ok(written) => written,
                Err(error) => {
                    let error = error.to_string();
                    let told = [
                        "transformers is what loads",
                        "no linear layer of the model is one that",
                        "its layers are stored the other way round",
                    ];
                    let gpt2 = sample.name.starts_with("gpt2");
                    let why = told.iter().position(|told| error.contains(told));
                    assert!(why.is_some_and(|why| (why == 2) == gpt2), "{}: {error}", sample.name);
                    continue;
                }
            };
            let config = exported.config.unwrap();
            let again = Checkpoint::open(bytes, OpenOptions::default().config_text(&config)).unwrap();
            let tensors = &exported.report.tensors;
            packed[at] += tensors.iter().filter(|it| it.dtype == *precision).count();
            let is_float = |name: &str| ["router", "dt_proj", "head"].iter().any(|part| name.contains(part));
            assert!(tensors.iter().all(|it| !is_float(&it.name) || it.dtype == "F32"), "{}", sample.name);
            families.insert(base.inspection().family.name().to_string());
            let ids: Vec<u32> = (0..9).map(|at| at * 5 % sample.vocab as u32).collect();
            let logits = |of: &Checkpoint| {
                let model = of.model().unwrap_or_else(|error| panic!("{}: {error}", sample.name));
                let all = pollster::block_on(sequence_logits(&model, &ids)).unwrap();
                let rows = all.chunks(all.len() / ids.len());
                rows.flat_map(|row| row[..sample.vocab].to_vec()).collect::<Vec<f32>>()
            };
            let name = format!("{}, {at}", sample.name);
            assert_close(&name, &logits(&again), &logits(&compressed), *tolerance);
        }
    }
    (packed, families.len())
}

/// What `transformers` wrote itself, with bitsandbytes: opened and written again it is the same file.
#[test]
fn weights_of_bitsandbytes_are_written_as_transformers_writes_them() {
    for (name, skipped) in [
        ("mamba_nf4", &["dt_proj", "lm_head"][..]),
        ("llama_int8", &["lm_head"]),
        ("llama_nf4", &["lm_head"]),
    ] {
        let folder = fixture(&format!("cases/quantized/{name}"));
        let (exported, bytes) = bitsandbytes(&open_folder(&folder)).unwrap();
        assert_eq!(exported.report.file_bytes, bytes.len() as u64);
        let (found, expected) = (Golden::new(&bytes), Golden::open(&folder.join("model.safetensors")));
        // Maxima that are codes of another table than ours are read as numbers, and written so.
        let double = name == "llama_nf4";
        let sorted = |golden: &Golden| {
            let mut names = golden.names();
            names.retain(|name| !(double && name.contains(".nested_")));
            names.sort();
            names
        };
        assert_eq!(sorted(&found), sorted(&expected), "{name}");
        for key in sorted(&expected) {
            if key.ends_with(".quant_state.bitsandbytes__nf4") {
                let state = |golden: &Golden| -> serde_json::Value {
                    serde_json::from_slice(&golden.bytes(&key)).unwrap()
                };
                let (found, expected) = (state(&found), state(&expected));
                for (field, value) in found.as_object().unwrap() {
                    assert_eq!(expected[field], *value, "{name}: {key}: {field}");
                }
                assert!(double || found == expected, "{name}: {key}");
                continue;
            }
            assert_eq!(found.shape(&key), expected.shape(&key), "{name}: {key}");
            if key.ends_with(".SCB") {
                let pairs = found.f32(&key).into_iter().zip(expected.f32(&key));
                pairs.for_each(|(a, b)| assert!((a - b).abs() <= 1e-6 * b, "{name}: {key}: {a}, {b}"));
            } else if !(double && key.ends_with(".absmax")) {
                assert_eq!(found.bytes(&key), expected.bytes(&key), "{name}: {key}");
            }
        }
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let [found, expected] = [&exported.config.unwrap(), &text].map(|text| quantization(text));
        assert_eq!(found["llm_int8_skip_modules"], serde_json::json!(skipped), "{name}");
        for (field, value) in found.as_object().unwrap() {
            let own = field == "llm_int8_skip_modules" || (double && field == "bnb_4bit_use_double_quant");
            assert!(own || expected[field] == *value, "{name}: {field} is {value}");
        }
    }
}

#[test]
fn what_is_written_for_bitsandbytes_computes_the_same() {
    // Scales of LLM.int8 are stored times 127.
    let (packed, families) = computed_again(
        bitsandbytes,
        &[
            (one("nf4", ""), "nf4", 0.0),
            (one("nf4", r#","nf4":{"block":128,"doubleQuant":true}"#), "nf4", 0.0),
            (one("int8", r#","int8":{"granularity":"row","clip":"minmax"}"#), "LLM.int8", 1e-4),
            (one("int8", r#","int8":{"granularity":"tensor","clip":"minmax"}"#), "LLM.int8", 1e-4),
        ],
    );
    assert!(packed.iter().all(|&count| count > 100) && families >= 9, "{packed:?}, {families}");
}

#[test]
fn what_bitsandbytes_cannot_hold_is_told_by_name() {
    let refusal = |of: &Checkpoint| bitsandbytes(of).err().unwrap().to_string();
    assert!(
        refusal(&family("mamba-default"))
            .contains("compress it by a recipe that makes such, as nf4 and int8 do")
    );
    let unknown = Checkpoint::open_path(demo(), OpenOptions::default()).unwrap();
    assert!(
        refusal(&unknown).contains("the family itera-lite is none of transformers'"),
        "{}",
        refusal(&unknown)
    );
    // One width for a model: what has the other is floats, and said.
    let mixed =
        recipe(r#"{"match":"*in_proj*","precision":"nf4"},{"match":"*out_proj*","precision":"int8"}"#, "");
    let (exported, bytes) = bitsandbytes(&compressed(&family("mamba-default"), &mixed)).unwrap();
    assert_eq!(told(&exported), ["one-width", "rows-across-blocks", "coded-before"]);
    let config = quantization(&exported.config.unwrap());
    let skipped = config["llm_int8_skip_modules"].as_array().unwrap();
    for name in ["out_proj", "x_proj", "dt_proj"] {
        assert!(skipped.contains(&name.into()), "{name}: {skipped:?}");
        assert_eq!(Golden::new(&bytes).shape(&format!("backbone.layers.2.mixer.{name}.weight")).len(), 2);
    }
    assert!(!skipped.iter().any(|name| name.as_str().unwrap().contains("in_proj")), "{skipped:?}");
}

/// What `transformers` wrote itself, with compressed-tensors: opened and written again it has the same keys and bytes.
#[test]
fn weights_of_compressed_tensors_are_written_as_transformers_writes_them() {
    let names = |patterns: &[&str]| serde_json::json!(patterns);
    let mamba = ["lm_head", r"re:.*\.dt_proj$", r"re:.*\.out_proj$"];
    for (name, schemes, ignore, findings) in [
        ("llama_packed", 3, &["lm_head"][..], &["several-schemes"][..]),
        ("llama_shifted", 1, &["lm_head"], &["zero-points"]),
        ("mamba_packed", 1, &mamba, &[]),
    ] {
        let folder = fixture(&format!("cases/quantized/{name}"));
        let (exported, bytes) = compressed_tensors(&open_folder(&folder)).unwrap();
        assert_eq!(exported.report.file_bytes, bytes.len() as u64);
        assert_eq!(told(&exported), findings, "{name}");
        let (found, expected) = (Golden::new(&bytes), Golden::open(&folder.join("model.safetensors")));
        let sorted = |golden: &Golden| {
            let mut names = golden.names();
            names.sort();
            names
        };
        assert_eq!(sorted(&found), sorted(&expected), "{name}");
        for key in sorted(&expected) {
            assert_eq!(found.shape(&key), expected.shape(&key), "{name}: {key}");
            assert_eq!(found.bytes(&key), expected.bytes(&key), "{name}: {key}");
        }
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let [found, expected] = [&exported.config.unwrap(), &text].map(|text| quantization(text));
        for field in ["quant_method", "format", "quantization_status"] {
            assert_eq!(found[field], expected[field], "{name}: {field}");
        }
        assert_eq!(found["ignore"], names(ignore), "{name}");
        let groups = |config: &serde_json::Value| {
            let groups = config["config_groups"].as_object().unwrap().values();
            let mut weights: Vec<String> = groups.map(|group| group["weights"].to_string()).collect();
            weights.sort();
            weights
        };
        assert_eq!((groups(&found), groups(&found).len()), (groups(&expected), schemes), "{name}");
    }
}

/// Our reader takes any zero point; what is packed beside codes has to be one of them.
#[test]
fn zero_points_that_are_no_codes_are_refused() {
    let folder = fixture("cases/quantized/llama_shifted");
    let mut edit = Edit::read(&std::fs::read(folder.join("model.safetensors")).unwrap());
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    let shape = edit.tensor(&format!("{name}_scale")).shape.clone();
    let zeros = edit.tensor(&format!("{name}_zero_point"));
    (zeros.dtype, zeros.bytes, zeros.shape) = ("I8".into(), vec![0; shape.iter().product()], shape);
    let mut written = |zero: u8| {
        edit.tensor(&format!("{name}_zero_point")).bytes[0] = zero;
        let options = OpenOptions::default().config_text(&config);
        compressed_tensors(&Checkpoint::open(edit.write(), options).unwrap())
    };
    assert!(written(7).is_ok() && written(0xf8).is_ok());
    for (zero, said) in [(8, 16), (100, 108), (0xf7, -1)] {
        let error = written(zero).err().unwrap().to_string();
        let why = format!("its zero point {said} is none of its codes, 0 to 15");
        assert!(error.contains(name) && error.contains(&why), "{error}");
    }
}

/// Loaded as `config.json` says, scales are what they were.
#[test]
fn scales_are_not_rounded_by_the_dtype_of_the_others() {
    let written = |scale: &str, otherwise: &str| {
        let rules = format!(
            r#"{{"match":"*in_proj*","precision":"int4"}},{{"match":"*","precision":"{otherwise}"}}"#
        );
        let options = format!(r#","int4":{{"group":16,"scale":"{scale}"}}"#);
        let checkpoint = compressed(&family("mamba-default"), &recipe(&rules, &options));
        let (exported, _) = compressed_tensors(&checkpoint).unwrap();
        let config: serde_json::Value = serde_json::from_str(exported.config.as_ref().unwrap()).unwrap();
        (config["dtype"].clone(), told(&exported).contains(&"scales-as-they-are"))
    };
    assert_eq!(written("fp16", "fp16"), ("float16".into(), false));
    assert_eq!(written("fp16", "fp32"), ("float32".into(), false));
    for (scale, otherwise) in [("fp32", "fp16"), ("fp32", "bf16"), ("fp16", "bf16")] {
        assert_eq!(written(scale, otherwise), ("float32".into(), true), "{scale} beside {otherwise}");
    }
}

/// Layers with zero points and others cannot be loaded together: the former become floats.
#[test]
fn zero_points_beside_other_schemes_become_floats() {
    let folder = fixture("cases/quantized/llama_shifted");
    let mut edit = Edit::read(&std::fs::read(folder.join("model.safetensors")).unwrap());
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    // One layer without zero points is packed another way.
    let name = "model.layers.0.mlp.up_proj.weight";
    edit.0.retain(|tensor| tensor.name != format!("{name}_zero_point"));
    let options = OpenOptions::default().config_text(&config);
    let (exported, bytes) = compressed_tensors(&Checkpoint::open(edit.write(), options).unwrap()).unwrap();
    assert_eq!(told(&exported), ["coded-before"]);
    let names = Golden::new(&bytes).names();
    assert_eq!(names.iter().filter(|name| name.ends_with("_packed")).count(), 1, "{names:?}");
    assert!(names.contains(&format!("{name}_packed")));
}

#[test]
fn what_is_written_for_compressed_tensors_computes_the_same() {
    let groups = |scale: &str| format!(r#","groups":{{"group":16,"scale":"{scale}"}}"#);
    let mixed = r#"{"match":"*in_proj*","precision":"int3"},{"match":"*q_proj*","precision":"int3"},{"match":"*","precision":"int8"}"#;
    let (packed, families) = computed_again(
        compressed_tensors,
        &[
            (one("int4", r#","int4":{"group":16}"#), "int4", 0.0),
            (one("int4", r#","int4":{"group":32,"scale":"fp32"}"#), "int4", 0.0),
            (one("int8", r#","int8":{"granularity":"row","clip":"minmax"}"#), "int8", 0.0),
            (one("int8", r#","int8":{"granularity":"tensor","clip":"minmax"}"#), "int8", 0.0),
            (one("int6", &groups("fp16")), "int6", 0.0),
            // Groups of several whole rows.
            (one("int6", r#","groups":{"group":128}"#), "int6", 0.0),
            (one("int5", &groups("log8")), "int5", 0.0),
            (one("int3", &groups("fp32")), "int3", 0.0),
            (one("int2", &groups("fp16")), "int2", 0.0),
            (recipe(mixed, &groups("fp16")), "int3", 0.0),
            (recipe(mixed, &groups("fp16")), "int8", 0.0),
        ],
    );
    // Many fixtures have rows that are no whole groups.
    assert!(packed.iter().all(|&count| count > 10) && families >= 10, "{packed:?}, {families}");
}

#[test]
fn what_compressed_tensors_cannot_hold_is_told_by_name() {
    let refusal = |of: &Checkpoint| compressed_tensors(of).err().unwrap().to_string();
    let base = family("mamba-default");
    let error = refusal(&base);
    assert!(error.contains("compress floats by a recipe that makes such, as int4 and int8 do"), "{error}");
    let error = refusal(&compressed(&base, &recipes::find("nf4").unwrap()));
    let first =
        "backbone.layers.0.mixer.in_proj.weight: nf4 is codes of a table, and whole numbers are packed";
    assert!(error.contains(first), "{error}");
    let unknown = Checkpoint::open_path(demo(), OpenOptions::default()).unwrap();
    assert!(refusal(&unknown).contains("the family itera-lite is none of transformers'"));

    // Each layer in its own width; of what has to be floats, why.
    let mixed = recipe(
        r#"{"match":"*.0.*in_proj*","precision":"int4"},{"match":"*in_proj*","precision":"int8"},
        {"match":"*.0.*x_proj*","precision":"nf4"},{"match":"*.1.*x_proj*","precision":"int3"},
        {"match":"*out_proj*","precision":"int8"},{"match":"*embeddings*","precision":"int8"}"#,
        r#","groups":{"group":128}"#,
    );
    let (exported, bytes) = compressed_tensors(&compressed(&base, &mixed)).unwrap();
    let floats: Vec<&str> = exported
        .report
        .findings
        .iter()
        .filter(|it| it.code == "coded-before")
        .map(|it| it.message.as_str())
        .collect();
    for (why, name) in [
        ("as transformers initializes them as it loads", "backbone.layers.2.mixer.out_proj.weight"),
        ("as nf4 is codes of a table", "backbone.layers.0.mixer.x_proj.weight"),
        ("as compressed-tensors packs linear layers alone", "backbone.embeddings.weight"),
    ] {
        let is_told = |message: &&&str| message.contains(why) && message.contains(name);
        assert_eq!(floats.iter().filter(is_told).count(), 1, "{why}: {floats:#?}");
        assert_eq!(Golden::new(&bytes).shape(name).len(), 2);
    }
    let told = quantization(&exported.config.unwrap());
    let targets: Vec<&serde_json::Value> =
        told["config_groups"].as_object().unwrap().values().map(|group| &group["targets"]).collect();
    let mixer = |layer: u32, name: &str| format!("backbone.layers.{layer}.mixer.{name}");
    let eights = [mixer(1, "in_proj"), mixer(2, "in_proj")];
    for expected in [vec![mixer(1, "x_proj")], vec![mixer(0, "in_proj")], eights.to_vec()] {
        assert!(targets.contains(&&serde_json::json!(expected)), "{expected:?}: {targets:?}");
    }
    let [zero, two] = [0, 2].map(|layer| mixer(layer, "x_proj"));
    let ignore = serde_json::json!(["lm_head", r"re:.*\.dt_proj$", r"re:.*\.out_proj$", zero, two]);
    assert_eq!(told["ignore"], ignore);
}

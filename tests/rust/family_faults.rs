//! Checkpoints and configurations that nobody would write: shapes, keys, fields and `--set` values of
//! every family, changed at random. Whatever comes of it, nothing panics, and refusals say what of.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use serde_json::{Map, Value, json};
use statepress::{Checkpoint, OpenOptions, Recipe, Workspace, recipes};
use statepress_core::Index;
use statepress_core::spec::{Field, Origin};
use statepress_engine::families::{Hints, infer};
use statepress_tests::edit::{Edit, Stored};
use statepress_tests::families::samples;
use statepress_tests::files::{fixture, open_folder};
use statepress_tests::gpu::compressed;

/// One change of shapes or keys.
fn mutate(file: &mut Edit, rng: &mut Rng) {
    let tensors = &mut file.0;
    let at = rng.usize(..tensors.len());
    let Stored { name, shape, .. } = &mut tensors[at];
    match rng.u8(..12) {
        // A dimension everywhere, so that shapes go on to agree with each other.
        0..=3 => {
            if let Some(&old) = rng.choice(shape.iter()) {
                let new = odd(rng, old);
                let shapes = tensors.iter_mut().flat_map(|stored| &mut stored.shape);
                shapes.filter(|dim| **dim == old).for_each(|dim| *dim = new);
            }
        }
        // A dimension of what has one role in every layer.
        4 | 5 => {
            let tail = name.rsplit('.').take(3).map(str::to_string).collect::<Vec<_>>();
            let dim = rng.usize(..3);
            let Some(new) = shape.get(dim).map(|&old| odd(rng, old)) else { return };
            for Stored { name, shape, .. } in tensors {
                if name.rsplit('.').zip(&tail).all(|(a, b)| a == b) && dim < shape.len() {
                    shape[dim] = new;
                }
            }
        }
        6 => {
            if let Some(dim) = rng.choice(shape.iter_mut()) {
                *dim = odd(rng, *dim);
            }
        }
        7 => shape.push(1),
        8 => drop(shape.pop()),
        9 => drop(tensors.remove(at)),
        10 => {
            let name = name.replace(".0.", ".1.").replace(".2.", ".9.");
            if tensors.iter().all(|other| other.name != name) {
                let copy = Stored { name, bytes: Vec::new(), ..tensors[at].clone() };
                tensors.push(copy);
            }
        }
        _ => {
            let other = rng.usize(..tensors.len());
            let name = tensors[at].name.clone();
            tensors[at].name = std::mem::replace(&mut tensors[other].name, name);
        }
    }
}

/// A config.json, where there is one.
type Config = Option<Map<String, Value>>;

fn odd(rng: &mut Rng, old: usize) -> usize {
    let news = [0, 1, 2, 3, 2 * old, old + 1, old.saturating_sub(1), old / 2, 5 * old, 300];
    news[rng.usize(..news.len())]
}

fn odd_value(rng: &mut Rng) -> Value {
    let values = [
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(-0.5),
        json!(1e-300),
        json!(0.3),
        json!(4_294_967_296u64),
        json!(4_294_967_297u64),
        json!("full"),
        json!(""),
        json!("linear"),
        json!("llama3"),
        json!("gelu"),
        json!("rope"),
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!([1]),
        json!([0.5, 0.1]),
        json!([1, 2, 3, 4, 5]),
        json!([1e300, "x"]),
        json!({}),
        json!({ "__float__": "NaN" }),
        json!({ "__float__": "Infinity" }),
        json!({ "__float__": "-Infinity" }),
        json!([0, { "__float__": "NaN" }]),
        json!([{ "__float__": "-Infinity" }, { "__float__": "Infinity" }]),
        json!({ "__float__": 3 }),
    ];
    values[rng.usize(..values.len())].clone()
}

/// A field of a configuration, or of an object in it, becomes something else or vanishes.
fn mutate_config(config: &mut Map<String, Value>, rng: &mut Rng) {
    let Some(name) = rng.choice(config.keys()).cloned() else { return };
    match &mut config[&name] {
        Value::Object(inner) if !inner.is_empty() && rng.u8(..4) > 0 => mutate_config(inner, rng),
        _ if rng.u8(..8) == 0 => drop(config.remove(&name)),
        value => *value = odd_value(rng),
    }
}

/// What panicked, if something did.
fn survives(what: &dyn Fn() -> String, run: impl FnOnce()) -> Option<String> {
    catch_unwind(AssertUnwindSafe(run)).err().map(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_string()));
        format!("{}\n  {}", text.unwrap_or_default(), what())
    })
}

/// Opens, inspects, plans; and runs, where that is said to be possible.
fn use_all(file: &Edit, config: &Config, set: &Map<String, Value>, all: &[Recipe]) -> bool {
    let options = OpenOptions { config: config.clone(), set: set.clone(), ..OpenOptions::default() };
    let checkpoint = match Checkpoint::open(file.write(), options) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            let error = error.to_string();
            // Files are well-formed: only what was set can be refused here.
            let named = set.keys().any(|name| error.contains(name.as_str()));
            assert!(named, "an error that names nothing: {error}");
            return false;
        }
    };
    let inspection = checkpoint.inspection();
    let refused = inspection.findings.iter().find(|finding| finding.code == "cannot-run");
    for recipe in all {
        let _ = checkpoint.plan(recipe);
    }
    if let Some(refused) = refused {
        let fields = config.iter().flat_map(Map::keys).chain(inspection.spec.keys()).chain(set.keys());
        let named = fields.into_iter().any(|name| refused.message.contains(name.as_str()));
        // A tensor under its usual name, a field, or what this is not.
        let words = ["tensor ", "missing [", "unexpected [", "known family", "this version lacks"];
        let told = words.iter().any(|word| refused.message.contains(word));
        assert!(named || told, "a refusal that names nothing: {}", refused.message);
        return false;
    }
    let model = checkpoint.model().unwrap_or_else(|error| panic!("said to run, and does not load: {error}"));
    let ids: Vec<u32> = (0..3).map(|n| (n * 7 % model.info.vocab_size) as u32).collect();
    for exact in [true, false] {
        let (mut state, mut logits) = (model.start(), Vec::new());
        let mut ws = if exact { Workspace::exact() } else { Workspace::default() };
        for bite in [&ids[..2], &ids[2..]] {
            if let Err(error) = model.forward(bite, &mut state, &mut ws, None) {
                assert!(error.to_string().contains("positions"), "{error}");
                break;
            }
            let hidden = std::mem::take(&mut ws.hidden);
            model.logits(&hidden, &mut ws, &mut logits);
            assert_eq!(logits.len(), bite.len() * model.info.vocab_size);
        }
    }
    true
}

fn originals() -> Vec<(String, Edit, Config)> {
    let samples = samples().into_iter().map(|sample| {
        let file = Edit::folder(&sample.folder);
        let text = std::fs::read_to_string(sample.folder.join("config.json")).ok();
        // The bare words of transformers 4 are the reader's business.
        let config = text.and_then(|text| OpenOptions::default().config_text(&text).config);
        (sample.name, file, config)
    });
    samples.collect()
}

#[test]
fn no_shape_no_field_and_no_setting_makes_anything_panic() {
    let mut rng = Rng::with_seed(20_260_101);
    let recipes = recipes::builtin().unwrap();
    let rounds = std::env::var("STATEPRESS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60);
    let (mut ran, mut tried, mut panics) = (0, 0, BTreeSet::new());
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for (name, file, config) in originals() {
        let open =
            Checkpoint::open(file.write(), OpenOptions { config: config.clone(), ..OpenOptions::default() });
        let mut fields: Vec<String> = open.unwrap().inspection().spec.keys().cloned().collect();
        fields.extend(["sliding_window", "time_step_limit", "rope_type"].map(String::from));
        for round in 0..rounds {
            let (mut file, mut config, mut set) = (file.clone(), config.clone(), Map::new());
            if rng.u8(..4) > 0 {
                (0..=rng.usize(..2)).for_each(|_| mutate(&mut file, &mut rng));
            }
            match rng.u8(..6) {
                0 => config = None,
                1 | 2 => (0..=rng.usize(..3))
                    .for_each(|_| config.iter_mut().for_each(|it| mutate_config(it, &mut rng))),
                3 => {
                    set.insert(fields[rng.usize(..fields.len())].clone(), odd_value(&mut rng));
                }
                _ => {}
            }
            tried += 1;
            let what = || {
                let shapes: Vec<_> =
                    file.0.iter().map(|stored| format!("{} {:?}", stored.name, stored.shape)).collect();
                format!("{name} {round}: set {set:?}, config {config:?}\n  {}", shapes.join(", "))
            };
            let mut runs = false;
            panics.extend(survives(&what, || runs = use_all(&file, &config, &set, &recipes)));
            ran += usize::from(runs);
        }
    }
    std::panic::set_hook(hook);
    assert!(
        panics.is_empty(),
        "{} panics:\n{}",
        panics.len(),
        panics.into_iter().collect::<Vec<_>>().join("\n")
    );
    // Changes are small enough for some to be a model still.
    assert!(ran * 20 > tried && ran * 2 < tried, "{ran} of {tried} ran");
}

/// Dimensions that no file could hold: products and sums of them must not overflow.
#[test]
fn no_dimension_is_too_large_to_be_refused() {
    let mut rng = Rng::with_seed(4);
    let mut panics = BTreeSet::new();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for (name, file, config) in originals() {
        let index = statepress_formats::open(&file.write()).unwrap();
        for _ in 0..40 {
            let mut index: Index = index.clone();
            let at = rng.usize(..index.tensors.len());
            let Some(&old) = rng.choice(index.tensors[at].shape.iter()) else { continue };
            let new = [usize::MAX, usize::MAX / 2, usize::MAX / 3 + 7, 1 << 62, 1 << 33][rng.usize(..5)];
            let everywhere = rng.bool();
            for (n, entry) in index.tensors.iter_mut().enumerate() {
                if everywhere || n == at {
                    entry.shape.iter_mut().filter(|dim| **dim == old).for_each(|dim| *dim = new);
                }
            }
            let hints = Hints { config: config.clone(), ..Hints::default() };
            let what =
                || format!("{name}: {old} -> {new}, everywhere: {everywhere}, {}", index.tensors[at].name);
            // No plan: readers have refused what overflows.
            panics.extend(survives(&what, || {
                let spec = infer(&index, &hints).unwrap();
                assert!(spec.program.is_none() && spec.refusal.is_some());
            }));
        }
    }
    std::panic::set_hook(hook);
    assert!(
        panics.is_empty(),
        "{} panics:\n{}",
        panics.len(),
        panics.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// A fixture with something changed, as it is seen from outside: whether it runs, and all that is said.
fn seen(name: &str, change: impl FnOnce(&mut Edit, &mut Map<String, Value>)) -> (bool, String) {
    let folder = fixture(&format!("families/{name}"));
    let mut file = Edit::folder(&folder);
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config = OpenOptions::default().config_text(&text).config.unwrap();
    change(&mut file, &mut config);
    let options = OpenOptions { config: Some(config), ..OpenOptions::default() };
    let inspection = Checkpoint::open(file.write(), options).unwrap().inspection();
    let findings = inspection.findings.iter().map(|finding| format!("{}: {}", finding.code, finding.message));
    let runs = inspection.findings.iter().all(|finding| finding.code != "cannot-run");
    (runs, findings.collect::<Vec<_>>().join("\n"))
}

/// What a reference computes otherwise is refused, by the name of the field.
#[test]
fn options_that_change_what_is_computed_are_refused_by_name() {
    for (name, field, value) in [
        ("mamba-default", "hidden_act", json!("gelu")),
        ("mamba2-groups", "hidden_act", json!("relu")),
        ("mamba-default", "model_type", json!("zamba")),
        ("bamba", "model_type", json!("zamba2")),
        ("granite-moe", "model_type", json!("nemotron_h")),
        ("jamba-dense", "model_type", json!("mamba")),
        ("falcon-h1", "model_type", json!("bamba")),
        ("gpt2", "model_type", json!("gpt_bigcode")),
        ("gpt2", "scale_attn_weights", json!("no")),
        ("llama-gqa", "sliding_window", json!(0)),
        ("qwen2", "use_sliding_window", json!("maybe")),
        ("llama-gqa", "rope_parameters", json!({ "factor": 2.0, "rope_theta": 1000.0 })),
        ("llama-gqa", "rope_parameters", json!({ "rope_type": "yarn", "rope_theta": 1000.0 })),
        (
            "llama-gqa",
            "rope_parameters",
            json!({ "rope_type": "linear", "factor": 1e-38, "rope_theta": 1e-38 }),
        ),
        ("granite-dense", "logits_scaling", json!(0)),
        ("granite-dense", "residual_multiplier", json!(1e300)),
        ("falcon-h1-norm", "mamba_norm_before_gate", json!("yes")),
        ("mamba2-original-attn", "attn_cfg", json!({ "num_heads": 4, "causal": false })),
        ("mamba2-original-attn", "attn_cfg", json!({ "num_heads": 4, "mlp_dim": 64 })),
        ("mamba2-original-attn", "attn_cfg", json!({ "num_heads": 4, "rotary_emb_interleaved": true })),
    ] {
        let (runs, said) = seen(name, |_, config| drop(config.insert(field.into(), value.clone())));
        assert!(!runs, "{name}: {field} = {value}");
        let named = match field {
            "rope_parameters" => "rope_",
            "attn_cfg" => "attention_|mlp_dim|rotary_emb_interleaved",
            field => field,
        };
        assert!(
            named.split('|').any(|name| said.contains(name)) && said.contains("allowed"),
            "{name}: {said}"
        );
    }
}

/// Tensors are believed; a configuration that says something else is not passed over.
#[test]
fn what_tensors_show_and_the_configuration_denies_is_reported() {
    for (name, field, value) in [
        ("mamba-default", "use_bias", json!(true)),
        ("mamba-odd", "use_conv_bias", json!(true)),
        ("mamba2-groups", "use_conv_bias", json!(true)),
        ("llama-gqa", "intermediate_size", json!(99)),
        ("llama-gqa", "num_key_value_heads", json!(3)),
        ("qwen3", "num_key_value_heads", json!(4)),
        ("llama-gqa", "attention_bias", json!(true)),
        ("llama-odd", "mlp_bias", json!(false)),
        ("bamba", "attn_layer_indices", json!([0])),
        ("bamba", "mamba_proj_bias", json!(true)),
        ("granite-moe", "layer_types", json!(["attention", "mamba", "mamba"])),
        ("granite-moe", "num_local_experts", json!(6)),
        ("granite-dense", "num_local_experts", json!(6)),
        ("granite-moe", "shared_intermediate_size", json!(23)),
        ("falcon-h1", "mamba_rms_norm", json!(true)),
    ] {
        let (runs, before) = seen(name, |_, _| {});
        assert!(runs && !before.contains("config-disagrees"), "{name}: {before}");
        let (runs, said) = seen(name, |_, config| drop(config.insert(field.into(), value.clone())));
        let reported = said.lines().any(|line| line.starts_with("config-disagrees") && line.contains(field));
        assert!(runs && reported, "{name}: {field} = {value}: {said}");
    }
}

/// The gate of transformers' Mamba-2 comes first, also where a configuration (Codestral's) says otherwise.
#[test]
fn transformers_mamba2_gates_before_it_normalises() {
    let logits = |claim: Option<bool>| {
        let folder = fixture("families/mamba2-groups");
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let mut config = OpenOptions::default().config_text(&text).config.unwrap();
        claim.map(|claim| config.insert("norm_before_gate".into(), claim.into()));
        let options = OpenOptions { config: Some(config), ..OpenOptions::default() };
        let checkpoint = Checkpoint::open(Edit::folder(&folder).write(), options).unwrap();
        let said = checkpoint.inspection().findings.iter().any(|finding| finding.code == "norm-before-gate");
        let model = checkpoint.model().unwrap();
        (pollster::block_on(statepress::sequence_logits(&model, &[1, 2, 3])).unwrap(), said)
    };
    let (usual, _) = logits(None);
    assert_eq!(logits(Some(true)), (usual.clone(), true));
    assert_eq!(logits(Some(false)), (usual, false));
}

/// A layer without a mixer would be skipped, a layer without a router would do without experts.
#[test]
fn layers_that_lack_a_part_are_refused() {
    let without = |name: &str, part: &'static str| {
        seen(name, |file, _| file.0.retain(|stored| !stored.name.starts_with(part)))
    };
    for (name, part) in [
        ("granite-dense", "model.layers.0.mamba."),
        ("jamba-dense", "model.layers.0.mamba."),
        ("granite-moe", "model.layers.0.block_sparse_moe."),
        ("granite-moe", "model.layers.2.block_sparse_moe."),
    ] {
        let (runs, said) = without(name, part);
        let layer = &part[..15];
        assert!(!runs && said.contains(layer), "{name} without {part}: {said}");
    }
    let (runs, said) = seen("granite-moe", |file, _| {
        for (part, count) in [("input_linear", 0), ("output_linear", 0), ("router.layer", 0)] {
            file.tensor(&format!("model.layers.1.block_sparse_moe.{part}.weight")).shape[count] = 1;
        }
    });
    assert!(
        !runs && said.contains("num_experts_per_tok"),
        "a layer of one expert, of which two are wanted: {said}"
    );
}

/// Whether a missing head is the table is said by the configuration, else by what its format takes for granted.
#[test]
fn a_missing_head_is_the_table_only_where_that_is_the_default() {
    for (name, tied) in [
        ("mamba-default", true),
        ("falcon-mamba", true),
        ("mamba2-one-group", false),
        ("mamba2-original", true),
        ("llama-gqa", false),
        ("qwen2", false),
        ("granite-dense", false),
        ("bamba", false),
        ("falcon-h1", false),
        ("jamba-dense", false),
        ("gpt2", true),
    ] {
        let (runs, said) = seen(name, |file, config| {
            file.0.retain(|stored| !stored.name.ends_with("lm_head.weight"));
            config.retain(|field, _| !["tie_word_embeddings", "tie_embeddings"].contains(&field.as_str()));
        });
        assert_eq!(runs, tied, "{name}: {said}");
        assert!(said.contains("tie_word_embeddings"), "{name}: {said}");
    }
}

/// What no tensor tells and no configuration says is assumed aloud.
#[test]
fn nothing_is_assumed_in_silence() {
    for (name, fields) in [
        ("llama-gqa", &["rms_norm_eps", "rope_theta", "num_attention_heads", "Granite"][..]),
        (
            "granite-moe",
            &["residual_multiplier", "logits_scaling", "attention_multiplier", "position_embedding_type"][..],
        ),
        (
            "falcon-h1-norm",
            &["key_multiplier", "ssm_multipliers", "mlp_multipliers", "mamba_norm_before_gate"],
        ),
    ] {
        let file = Edit::folder(&fixture(&format!("families/{name}"))).write();
        let base = Checkpoint::open(file, OpenOptions::default()).unwrap();
        let inspection = base.inspection();
        // Nor does a file that is made of it make facts of them.
        let again = compressed(&base, &recipes::find("fp16").unwrap()).inspection();
        let is_assumed = |(_, about): &(&String, &Field)| about.origin == Origin::Assumed;
        assert!(inspection.spec.iter().filter(is_assumed).count() >= 3, "{name}");
        for (field, about) in inspection.spec.iter().filter(is_assumed) {
            assert_eq!(again.spec[field].origin, Origin::Assumed, "{name}: {field}");
            assert_eq!(again.spec[field].value, about.value, "{name}: {field}");
        }
        for field in fields {
            let assumed =
                |finding: &&statepress::Finding| finding.code == "assumed" && finding.message.contains(field);
            assert!(inspection.findings.iter().find(assumed).is_some(), "{name}: {field}");
        }
    }
}

/// Groups are the model's, heads are a layer's: each has to be divided.
#[test]
fn a_later_layer_whose_heads_no_group_divides_is_refused() {
    let (runs, said) = seen("mamba2-groups", |file, _| {
        // Nine heads of five become five heads of nine.
        for name in ["A_log", "D", "dt_bias"] {
            file.tensor(&format!("backbone.layers.1.mixer.{name}")).shape = vec![5];
        }
        for name in ["in_proj.weight", "in_proj.bias"] {
            file.tensor(&format!("backbone.layers.1.mixer.{name}")).shape[0] -= 4;
        }
    });
    assert!(!runs && said.contains("n_groups") && said.contains("layers.1"), "{said}");
}

/// A refusal speaks of the keys that are in the file.
#[test]
fn tensors_are_named_as_the_file_names_them() {
    for (name, key) in [
        ("mamba-default.bare", "layers.0.norm.weight"),
        ("mamba-odd.prefix-model", "model.backbone.layers.0.norm.weight"),
    ] {
        let (runs, said) = seen(name, |file, _| file.tensor(key).shape = vec![3]);
        assert!(!runs && said.contains(&format!("tensor {key} has shape [3]")), "{name}: {said}");
    }
}

/// A head that is missing stays missing: compressing is no way to tie it to the table.
#[test]
fn a_file_without_its_head_is_refused_after_compression_too() {
    let base = open_folder(&fixture("families/llama-gqa.bare"));
    let inspection = compressed(&base, &recipes::find("int8").unwrap()).inspection();
    assert!(
        inspection.findings.iter().any(|finding| finding.code == "cannot-run"),
        "{:?}",
        inspection.findings
    );
}

//! Models against PyTorch: logits, every intermediate value, recurrent state, greedy text.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use statepress::{
    Checkpoint, FileSource, Generate, GenerateOptions, Model, Observe, OpenOptions, Workspace, recipes, run,
};
use statepress_tests::files::{fixture, load, open, shared};
use statepress_tests::golden::{Golden, assert_close};

/// `|a - b| / (1 + |b|)` for float32 against PyTorch's float32; NumPy's differs by up to 2.2e-5.
const TOLERANCE: f32 = 1e-4;

/// The same where single tokens meet integer codes with activations rounded to 16 bits: random
/// recurrences amplify that rounding fifty times over 24 tokens, trained ones hardly.
const FAST_TOLERANCE: f32 = 5e-3;

/// Collects every intermediate value under the goldens' names.
#[derive(Default)]
struct Values(BTreeMap<String, Vec<f32>>);

impl Observe for Values {
    fn value(&mut self, layer: Option<usize>, quantity: &'static str, values: &[f32]) {
        let name = match (layer, quantity) {
            (None, quantity) => quantity.to_string(),
            (Some(n), "block") => format!("block{n}"),
            (Some(n), "ln1" | "ln2" | "qkv" | "attention" | "ffn") => format!("block{n}.{quantity}"),
            (Some(n), quantity) => format!("layer{n}.{quantity}"),
        };
        self.0.entry(name).or_default().extend_from_slice(values);
    }
}

/// Checks one sequence in both forms: whole, and one token at a time.
fn check_sequence(model: &Model, golden: &Golden, sequence: &str, fast: f32) {
    let ids = golden.ids(&format!("{sequence}/ids"));
    let form = |chunk: usize, mut ws: Workspace| {
        let (mut state, mut values) = (model.start(), Values::default());
        let (mut logits, mut all) = (Vec::new(), Vec::new());
        for ids in ids.chunks(chunk) {
            model.forward(ids, &mut state, &mut ws, Some(&mut values)).unwrap();
            let hidden = std::mem::take(&mut ws.hidden);
            model.logits(&hidden, &mut ws, &mut logits);
            all.extend_from_slice(&logits);
        }
        (state, values, all)
    };
    for (name, chunk, workspace, tolerance) in [
        ("whole", ids.len(), Workspace::exact(), TOLERANCE),
        ("in parts", 3, Workspace::exact(), TOLERANCE),
        ("recurrent", 1, Workspace::exact(), TOLERANCE),
        ("recurrent, fast", 1, Workspace::default(), fast),
    ] {
        let (state, values, logits) = form(chunk, workspace);
        let check = Check { what: format!("{sequence} {name}"), golden, sequence, tolerance };
        check.values(&values, model);
        check.logits(&logits, &ids, model.info.vocab_size);
        for (about, numbers) in model.program().states.iter().zip(&state.numbers) {
            let layer = about.layer.unwrap();
            let key = format!("{sequence}/layer{layer}.state.{}", about.name);
            if golden.has(&key) {
                assert_close(&key, numbers, &golden.f32(&key), tolerance);
            }
        }
    }
}

/// What one sequence in one form is held against.
struct Check<'a> {
    what: String,
    golden: &'a Golden,
    sequence: &'a str,
    tolerance: f32,
}

impl Check<'_> {
    fn values(&self, values: &Values, model: &Model) {
        let Self { what, golden, sequence, tolerance } = self;
        let prefix = format!("{sequence}/");
        let mut checked = 0;
        for name in golden.names() {
            let Some(quantity) = name.strip_prefix(&prefix) else { continue };
            let Some(found) = values.0.get(quantity) else { continue };
            assert_close(&format!("{what} {quantity}"), found, &golden.f32(&name), *tolerance);
            checked += 1;
        }
        if golden.has(&format!("{prefix}embed")) {
            assert!(
                checked >= 2 + 5 * model.program().n_layers(),
                "{what}: only {checked} quantities were compared"
            );
        }
    }

    fn logits(&self, logits: &[f32], ids: &[u32], vocab: usize) {
        let Self { what, golden, sequence, tolerance } = self;
        let key = |suffix: &str| format!("{sequence}/{suffix}");
        let close = |suffix: &str, found: &[f32]| {
            if golden.has(&key(suffix)) {
                assert_close(&format!("{what} {suffix}"), found, &golden.f32(&key(suffix)), *tolerance);
            }
        };
        let rows = || logits.chunks_exact(vocab);
        close("logits", logits);
        close("logits_last", rows().last().unwrap());
        let log_sum_exp = |row: &[f32]| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
            (f64::from(largest) + sum.ln()) as f32
        };
        close("logsumexp", &rows().map(log_sum_exp).collect::<Vec<_>>());
        if golden.has(&key("argmax")) {
            let argmax =
                |row: &[f32]| (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best });
            let found: Vec<u32> = rows().map(|row| argmax(row).unwrap() as u32).collect();
            assert_eq!(found, golden.ids(&key("argmax")), "{what} argmax");
        }
        for offset in [1, 2] {
            let labels = &ids[offset.min(ids.len())..];
            let found: Vec<f32> =
                rows().zip(labels).map(|(row, &label)| row[label as usize] - log_sum_exp(row)).collect();
            close(&format!("logprob_offset{offset}"), &found);
        }
    }
}

fn check_file(path: &Path, golden: &Golden, set: &[(&str, u64)]) {
    let model = load(path, set);
    let mut sequences: Vec<String> = golden
        .names()
        .iter()
        .filter_map(|name| name.strip_suffix("/ids"))
        .filter(|sequence| !sequence.starts_with("batch"))
        .map(str::to_string)
        .collect();
    sequences.sort();
    assert!(sequences.len() >= 5, "{}", path.display());
    for sequence in sequences {
        check_sequence(&model, golden, &sequence, fast_tolerance(path));
    }
}

fn fast_tolerance(path: &Path) -> f32 {
    let coded =
        open(path, &[]).inspection().tensors.iter().any(|tensor| ["QI8", "INT8"].contains(&&*tensor.dtype));
    if coded { FAST_TOLERANCE } else { TOLERANCE }
}

/// Every fixture that is to be read, with the golden of its weights.
#[test]
fn fixtures_in_every_format_give_the_golden_logits() {
    let manifest = std::fs::read_to_string(fixture("fixtures/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut checked = 0;
    for (family, about) in manifest["families"].as_object().unwrap() {
        for (file, about) in about["files"].as_object().unwrap() {
            if file.contains(".legacy.") {
                continue;
            }
            let golden = match about["weights"].as_str().unwrap() {
                "f32" => format!("fixtures/{family}.golden.safetensors"),
                other => format!("fixtures/{family}.{other}.golden.safetensors"),
            };
            let set: &[(&str, u64)] = match family.as_str() {
                "il_odd" if !file.contains("wrap_config") => &[("top_k_experts", 1)],
                _ => &[],
            };
            check_file(&fixture(&format!("fixtures/{file}")), &Golden::open(&fixture(&golden)), set);
            checked += 1;
        }
    }
    assert!(checked >= 50, "only {checked} files");
}

#[test]
fn what_no_file_stores_can_be_set() {
    for (file, golden, field, value) in [
        ("il_odd.zip.pt", "il_odd.topk2", "top_k_experts", 2),
        ("il_odd.zip.pt", "il_odd.topk3", "top_k_experts", 3),
        ("tf.zip.pt", "tf.heads1", "num_attention_heads", 1),
        ("tf.zip.pt", "tf.heads2", "num_attention_heads", 2),
        ("tf.zip.pt", "tf.heads8", "num_attention_heads", 8),
    ] {
        let golden = Golden::open(&fixture(&format!("fixtures/{golden}.golden.safetensors")));
        check_file(&fixture(&format!("fixtures/{file}")), &golden, &[(field, value)]);
    }
}

fn greedy(model: &Model, prompt: &[u32]) -> Vec<u32> {
    let options = GenerateOptions { max_tokens: 24, ..GenerateOptions::default() };
    let mut generate = Generate::new(model, prompt, options).unwrap();
    let mut ids = prompt.to_vec();
    loop {
        // One token at a time, then several: they are the same.
        let tokens = pollster::block_on(generate.step(1 + ids.len() % 5)).unwrap();
        if tokens.is_empty() {
            return ids;
        }
        ids.extend(tokens.iter().map(|token| token.id));
    }
}

/// The four public checkpoints; the smallest ships with the tests.
#[test]
fn real_checkpoints_match_in_every_quantity_and_continue_the_same_texts() {
    for (name, file) in [
        ("micro_distilled", "itera_lite_micro_distilled.pt"),
        ("micro_int4_fake", "itera_lite_int4.pt"),
        ("tiny2000_int8_dequant", "itera_lite_tiny_int8.pt"),
        ("tiny8000_mixed_no_experts", "itera_lite_mixed_precision.pt"),
    ] {
        let path = match name {
            "micro_distilled" => Some(fixture(&format!("itera-lite/{file}"))),
            _ => shared(&format!("checkpoints/itera-lite/{file}")),
        };
        let Some(path) = path else { continue };
        let golden = Golden::open(&fixture(&format!("models/{name}.safetensors")));
        let model = load(&path, &[]);
        assert_eq!(model.info.offset, 2, "{name} is known to predict two tokens ahead");
        for sequence in ["rand1", "rand2", "rand5", "rand64", "rand128", "rand16", "story", "story16"] {
            if golden.has(&format!("{sequence}/ids")) {
                check_sequence(&model, &golden, sequence, fast_tolerance(&path));
            }
        }
        if golden.has("greedy/prompt") {
            let prompt = golden.ids("greedy/prompt");
            assert_eq!(greedy(&model, &prompt), golden.ids("greedy/offset2"), "{name} at offset 2");
            let model = load(&path, &[("prediction_offset", 1)]);
            assert_eq!(greedy(&model, &prompt), golden.ids("greedy/offset1"), "{name} at offset 1");
        }
    }
}

/// A checkpoint with tensors of the given shapes, all zeros.
fn zeros(tensors: &[(&str, &[usize])]) -> statepress::Checkpoint {
    let data = vec![0u8; tensors.iter().map(|(_, shape)| 4 * shape.iter().product::<usize>()).max().unwrap()];
    let views = tensors.iter().map(|(name, shape)| {
        let bytes = 4 * shape.iter().product::<usize>();
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &data[..bytes]);
        ((*name).to_string(), view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    statepress::Checkpoint::open(bytes, statepress::OpenOptions::default()).unwrap()
}

#[test]
fn models_without_width_are_refused_by_the_tensor() {
    let table: (&str, &[usize]) = ("embedding.weight", &[4, 0]);
    let positions: (&str, &[usize]) = ("position_embedding.weight", &[4, 0]);
    for layer in ["layers.0.ssm.in_proj.weight", "blocks.0.attention.qkv.weight"] {
        let checkpoint = zeros(&[table, positions, (layer, &[0, 0])]);
        let error = checkpoint.load().err().unwrap().to_string();
        assert!(error.contains("embedding.weight") && error.contains("no dimension of zero"), "{error}");
        assert_eq!(checkpoint.inspection().params, 0);
    }
}

#[test]
fn keys_that_do_not_fit_are_all_named() {
    let checkpoint = open(&fixture("fixtures/il_moe.no_experts.pt"), &[]);
    let findings = checkpoint.inspection().findings;
    let lost = findings.iter().filter(|finding| finding.code == "no-experts").count();
    assert_eq!(lost, 2, "{findings:?}");

    let error = match statepress::Checkpoint::open(
        statepress::FileSource::open(fixture("models/heldout_ids.safetensors")).unwrap(),
        statepress::OpenOptions::default(),
    )
    .unwrap()
    .load()
    {
        Ok(_) => panic!("a file of token ids is no model"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("no model of a known family") && error.contains("ids"), "{error}");
}

fn open_with(
    file: &str,
    config: serde_json::Value,
    set: serde_json::Value,
) -> statepress::Result<Checkpoint> {
    let (config, set) = (config.as_object().cloned(), set.as_object().cloned().unwrap());
    let source = FileSource::open(fixture(&format!("fixtures/{file}"))).unwrap();
    Checkpoint::open(source, OpenOptions { config, set, ..OpenOptions::default() })
}

#[test]
fn what_a_file_says_wrongly_of_itself_refuses_the_model_and_not_the_file() {
    for (file, field, value, right, allowed) in [
        ("il_moe.zip.pt", "layer_norm_eps", json!(0), json!(0.5), "a number between 0 and 1"),
        ("il_moe.zip.pt", "prediction_offset", json!(4), json!(1), "a whole number from 0 to 3"),
        ("il_moe.zip.pt", "top_k_experts", json!("two"), json!(1), "a whole number from 1 to 4"),
        ("tf.zip.pt", "num_attention_heads", json!(5), json!(8), "a divisor of 16"),
        ("tf.zip.pt", "layer_norm_eps", json!(-1.5), json!(0.5), "a number between 0 and 1"),
    ] {
        let mut config = json!({ "layer_norm_eps": 1e-3, "prediction_offset": 0 });
        config[field] = value.clone();
        let checkpoint = open_with(file, config.clone(), json!({})).unwrap();
        let error = checkpoint.load().err().unwrap();
        assert_eq!(error.code(), "unknown-model");
        let words = format!("{field} is {value} (config.json); allowed: {allowed}; set it to run the model");
        assert!(error.to_string().contains(&words), "{error}");

        let inspection = checkpoint.inspection();
        assert!(inspection.findings.iter().any(|finding| finding.code == "cannot-run"), "{field}");
        assert_eq!(inspection.spec[field].value, value);
        let recipe = recipes::find("int8").unwrap();
        assert!(checkpoint.plan(&recipe).unwrap().bytes.ratio > 1.0);
        let (job, bytes) = checkpoint.compress_to_memory(&recipe).unwrap();
        run(job, |_| {}).unwrap();
        let again = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
        for (name, value) in config.as_object().unwrap() {
            assert_eq!(&again.inspection().spec[name].value, value, "{field}: {name} travels");
        }

        // What is set is the user's, and can be set right.
        let error = open_with(file, json!({}), json!({ field: value })).err().unwrap();
        assert_eq!(error.code(), "bad-option");
        assert!(
            error.to_string().contains(&format!("option {field} is {value}; allowed: {allowed}")),
            "{error}"
        );
        open_with(file, config, json!({ field: right })).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_first_error_is_the_real_one() {
    let set = json!({ "num_attention_heads": 5, "prediction_offset": 2 });
    let error = open_with("tf.zip.pt", json!({}), set).err().unwrap().to_string();
    assert!(error.contains("num_attention_heads") && !error.contains("prediction_offset"), "{error}");

    // What is no model has no fields, and what is set for them does not hide that.
    let set = json!({ "prediction_offset": 2 }).as_object().unwrap().clone();
    let source = FileSource::open(fixture("models/heldout_ids.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(source, OpenOptions { set, ..OpenOptions::default() }).unwrap();
    let findings = checkpoint.inspection().findings;
    assert!(findings.iter().any(|finding| finding.code == "set-unused"), "{findings:?}");
    assert!(checkpoint.load().err().unwrap().to_string().contains("no model of a known family"));

    // Why a field is what it is assumed to be, in words for the command line, the page and the library.
    let checkpoint = open_with("tf.zip.pt", json!({}), json!({})).unwrap();
    let from = &checkpoint.inspection().spec["prediction_offset"].from;
    assert!(from.contains("an evaluation on a text can detect how many tokens ahead"), "{from}");

    // Where there is a model, a field that does not exist is a mistake.
    let error = open_with("tf.zip.pt", json!({}), json!({ "heads": 4 })).err().unwrap().to_string();
    assert!(
        error
            .contains("allowed: the fields head_dim, num_attention_heads, layer_norm_eps, prediction_offset"),
        "{error}"
    );
    let error = open_with("tf.zip.pt", json!({}), json!({ "hidden_size": 4 })).err().unwrap().to_string();
    let words = "allowed: the fields head_dim, num_attention_heads, layer_norm_eps, prediction_offset, unknown_token_id (hidden_size is counted from";
    assert!(error.contains(words), "{error}");
}

//! Every model family against its reference implementation: logits, states, what enters each product,
//! greedy texts; whole, in bites and token by token.

use std::collections::BTreeMap;

use pollster::block_on;
use statepress::program::MatrixId;
use statepress::{
    AnyModel, Evaluate, EvaluateOptions, Generate, GenerateOptions, Loaded, Model, Observe, Runner,
    Workspace, recipes, run,
};
use statepress_tests::families::{Sample, existing, samples};
use statepress_tests::files::{fixture, open, open_folder, shared};
use statepress_tests::golden::assert_close;
use statepress_tests::gpu::{clock, compressed};

/// `|a - b| / (1 + |b|)`: torch itself is within 2e-5 of the exact result.
const TOLERANCE: f32 = 1e-4;

/// What is watched on the way, under the references' names.
#[derive(Default)]
struct Watched(BTreeMap<String, Vec<f32>>);

impl Observe for Watched {
    fn value(&mut self, layer: Option<usize>, quantity: &'static str, values: &[f32]) {
        let name = match (layer, quantity) {
            (_, "residual") => return,
            (None, quantity) => quantity.to_string(),
            (Some(n), "layer") => format!("layer{n}"),
            (Some(n), quantity) => format!("layer{n}.{quantity}"),
        };
        self.0.entry(name).or_default().extend_from_slice(values);
    }

    fn tap(&mut self, _: MatrixId, weight: &str, rows: &[f32]) {
        self.0.entry(format!("tap/{weight}")).or_default().extend_from_slice(rows);
    }
}

/// Logits, states and everything that is watched, of a sequence taken in in bites.
fn check_bites(sample: &Sample, model: &Model, len: usize, bite: usize) -> usize {
    let Sample { name, vocab_rows, vocab, .. } = sample;
    let golden = sample.golden.as_ref().unwrap();
    let ids = golden.ids(&format!("len{len}/ids"));
    let (mut state, mut ws, mut watched) = (model.start(), Workspace::exact(), Watched::default());
    let (mut all, mut logits) = (Vec::new(), Vec::new());
    for ids in ids.chunks(bite) {
        model.forward(ids, &mut state, &mut ws, Some(&mut watched)).unwrap();
        let hidden = std::mem::take(&mut ws.hidden);
        model.logits(&hidden, &mut ws, &mut logits);
        all.extend_from_slice(&logits);
    }
    let what = format!("{name}, {len} tokens in bites of {bite}");
    let expected = existing(&golden.f32(&format!("len{len}/logits")), *vocab_rows, *vocab);
    assert_close(&format!("{what}: logits"), &all, &expected, TOLERANCE);

    let mut checked = 0;
    for key in golden.names() {
        let Some(quantity) = key.strip_prefix(&format!("len{len}/")) else { continue };
        if let Some(found) = watched.0.get(quantity) {
            assert_close(&format!("{what}: {quantity}"), found, &golden.f32(&key), TOLERANCE);
            checked += 1;
        } else {
            // Norms of queries and keys are within attention, and Falcon-H1's last multiplier within its
            // feed-forward network; states are looked at below.
            let falcon = name.starts_with("falcon-h1") && quantity.ends_with(".feed_forward");
            let within =
                falcon || [".state.", ".q_norm", ".k_norm"].iter().any(|part| quantity.contains(part));
            assert!(within || ["ids", "logits"].contains(&quantity), "{what}: {quantity} is not watched");
        }
    }
    for (about, numbers) in model.program().states.iter().zip(&state.numbers) {
        let key = format!("len{len}/layer{}.state.{}", about.layer.unwrap(), about.name);
        // The original code hands some states out, not all.
        if !golden.has(&key) {
            continue;
        }
        let shape = golden.shape(&key);
        // Caches are by position; the references' by head.
        let expected = match about.name {
            "k" | "v" => by_position(&golden.f32(&key), &shape),
            _ => golden.f32(&key),
        };
        assert_close(&format!("{what}: {key}"), numbers, &expected, TOLERANCE);
        checked += 1;
    }
    checked
}

/// `[heads, positions, head]` as `[positions, heads, head]`.
fn by_position(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let [heads, positions, head] = *shape else { panic!("{shape:?}") };
    (0..positions)
        .flat_map(|t| (0..heads).flat_map(move |h| (0..head).map(move |c| (h * positions + t) * head + c)))
        .map(|at| values[at])
        .collect()
}

#[test]
fn every_family_gives_the_references_logits_states_and_taps() {
    let mut checked = BTreeMap::new();
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let checkpoint = open_folder(&sample.folder);
        let model = checkpoint.model().unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(model.info.vocab_size, sample.vocab, "{}", sample.name);
        let mut quantities = 0;
        for len in [1, 2, 7, 40] {
            for bite in [len, 3, 1] {
                quantities += check_bites(sample, &model, len, bite);
            }
        }
        // Layers have states, and more than that was held against the reference.
        assert!(quantities >= 12 * model.program().n_layers(), "{}: {quantities}", sample.name);
        *checked.entry(checkpoint.inspection().family.name().to_string()).or_insert(0) += 1;
    }
    // Every family that runs, but for the two whose goldens `models.rs` holds.
    for family in statepress::families() {
        let elsewhere = ["itera-lite", "transformer"].contains(&family.name) || family.lacks.is_some();
        assert!(elsewhere || checked.contains_key(family.name), "{} has no fixture that runs", family.name);
    }
    assert!(checked.values().sum::<usize>() >= 38, "{checked:?}");
}

/// At once, then one by one with carried state; and the likeliest continuation.
#[test]
fn carried_state_and_greedy_texts_are_the_references() {
    for sample in samples().iter() {
        let Some(golden) = &sample.golden else { continue };
        let model = open_folder(&sample.folder).model().unwrap();
        let ids = golden.ids("len40/ids");
        let (mut state, mut ws) = (model.start(), Workspace::exact());
        let (mut all, mut logits) = (Vec::new(), Vec::new());
        for (n, ids) in std::iter::once(&ids[..13]).chain(ids[13..].chunks(1)).enumerate() {
            model.forward(ids, &mut state, &mut ws, None).unwrap();
            let hidden = std::mem::take(&mut ws.hidden);
            model.logits(&hidden, &mut ws, &mut logits);
            if n > 0 {
                all.extend_from_slice(&logits);
            }
        }
        let expected = match golden.has("split/logits") {
            true => golden.f32("split/logits"),
            false => golden.f32("len40/logits").split_off(13 * sample.vocab_rows),
        };
        let expected = existing(&expected, sample.vocab_rows, sample.vocab);
        assert_close(&format!("{}: split", sample.name), &all, &expected, TOLERANCE);

        let prompt = golden.ids("greedy/prompt");
        let key = ["greedy/ids_real_vocab", "greedy/ids"].into_iter().find(|key| golden.has(key)).unwrap();
        let options = GenerateOptions { max_tokens: 24, ..GenerateOptions::default() };
        let mut generate = Generate::new(&model, &prompt, options).unwrap();
        let mut found = Vec::new();
        loop {
            let tokens = pollster::block_on(generate.step(1 + found.len() % 5)).unwrap();
            if tokens.is_empty() {
                break;
            }
            found.extend(tokens.iter().map(|token| token.id));
        }
        assert_eq!(found, golden.ids(key), "{}", sample.name);
    }
}

#[test]
fn what_cannot_run_says_what_is_missing_and_still_compresses() {
    let mut refused = 0;
    for sample in samples().iter().filter(|sample| sample.golden.is_none()) {
        let checkpoint = open_folder(&sample.folder);
        let inspection = checkpoint.inspection();
        let finding = inspection.findings.iter().find(|finding| finding.code == "cannot-run");
        let finding = finding.unwrap_or_else(|| panic!("{}: {:?}", sample.name, inspection.findings));
        let expected = match inspection.family.name() {
            "llama" => "tie_word_embeddings",
            family if family.starts_with("rwkv") => "this version lacks",
            other => panic!("{}: {other}", sample.name),
        };
        assert!(finding.message.contains(expected), "{}: {}", sample.name, finding.message);
        assert!(checkpoint.load().is_err(), "{}", sample.name);
        for recipe in ["int8", "mixed", "mixed-aggressive"] {
            let plan = checkpoint.plan(&recipes::find(recipe).unwrap()).unwrap();
            assert!(plan.bytes.ratio > 1.2, "{} {recipe}: {}", sample.name, plan.bytes.ratio);
            assert_eq!(plan.unmatched.tensors, 0, "{} {recipe}", sample.name);
        }
        refused += 1;
    }
    assert_eq!(refused, 3);
}

/// Every weight that runs has a role, and a recipe over roles finds all of them.
#[test]
fn recipes_over_roles_mean_the_same_in_every_family() {
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let checkpoint = open_folder(&sample.folder);
        let inspection = checkpoint.inspection();
        for tensor in inspection.tensors.iter().filter(|tensor| !tensor.buffer) {
            assert!(tensor.role.is_some(), "{}: {} has no role", sample.name, tensor.name);
        }
        for recipe in ["mixed", "mixed-aggressive"] {
            let plan = checkpoint.plan(&recipes::find(recipe).unwrap()).unwrap();
            let refused = |name: &str| {
                let about = |finding: &&statepress::Finding| finding.tensor.as_deref() == Some(name);
                plan.findings.iter().filter(about).any(|finding| finding.code == "refused")
            };
            for tensor in &plan.tensors {
                let what = format!("{} {recipe}: {}", sample.name, tensor.name);
                let role = tensor.role.unwrap().name();
                let expected: &[&str] = match role {
                    "norm" | "bias" | "dynamics" => &["fp32"],
                    "conv" | "dt-proj" | "state-matrix" => &["fp16"],
                    "table" | "positions" | "head" | "router" | "x-proj" => &["int8"],
                    _ if recipe == "mixed" => &["fp16"],
                    // A shape that refuses blocks takes the next finer thing, and a finding says so.
                    _ if refused(&tensor.name) => &["int8"],
                    _ => &["nf4"],
                };
                assert!(
                    expected.contains(&tensor.precision.name()),
                    "{what}, {role}: {:?}",
                    tensor.precision
                );
                assert!(tensor.why.is_some(), "{what}");
            }
            let idle = plan.findings.iter().find(|finding| finding.code == "unused-pattern");
            assert!(idle.is_none(), "{}: {idle:?}", sample.name);
        }
    }
}

/// What was compressed opens as the same family without a configuration beside it, and runs.
#[test]
fn compressed_files_of_every_family_run_and_know_what_they_are() {
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let base = open_folder(&sample.folder);
        let golden = sample.golden.as_ref().unwrap();
        let ids = golden.ids("len40/ids");
        let exact = existing(&golden.f32("len40/logits"), sample.vocab_rows, sample.vocab);
        for (recipe, allowed) in
            [("none", 1e-4), ("fp16", 0.01), ("int8", 0.15), ("mixed", 0.15), ("nf4", 0.8)]
        {
            let produced = compressed(&base, &recipes::find(recipe).unwrap());
            assert_eq!(produced.inspection().family, base.inspection().family, "{}", sample.name);
            let model = produced.model().unwrap_or_else(|error| panic!("{} {recipe}: {error}", sample.name));
            let logits = pollster::block_on(statepress::sequence_logits(&model, &ids)).unwrap();
            let norm = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
            let difference: Vec<f32> = logits.iter().zip(&exact).map(|(a, b)| a - b).collect();
            let error = norm(&difference) / norm(&exact);
            assert!(error < allowed, "{} {recipe}: {error}", sample.name);
            assert_eq!(model.info.max_tokens, base.model().unwrap().info.max_tokens, "{}", sample.name);
        }
    }
}

/// The trained Mamba, in every row of the yardstick.
#[test]
fn mamba_micro_loses_what_the_yardstick_says() {
    let Some(weights) = shared("checkpoints/trained/mamba-micro/model.safetensors") else { return };
    let Some(text) = shared("data/wikitext2-test.bpe8000.u16.bin") else { return };
    let base = open(&weights, &[]);
    assert_eq!(base.inspection().family.name(), "mamba");
    // A slice: the whole text is what `examples/yardstick` goes over.
    let bytes = std::fs::read(text).unwrap();
    let ids: Vec<u32> =
        bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into()).collect();
    let evaluate = |checkpoint: &statepress::Checkpoint| {
        let model = AnyModel::Cpu(checkpoint.model().unwrap());
        let options = EvaluateOptions { window: Some(256), limit: Some(4096), ..EvaluateOptions::default() };
        run(Evaluate::new(&model, &ids, &options, clock()).unwrap(), |_| {}).unwrap().perplexity
    };
    let fp32 = evaluate(&base);
    // The whole text has 67.988; its beginning is harder or easier by chance, but not another model's.
    assert!((40.0..120.0).contains(&fp32), "{fp32}");
    let mixed = evaluate(&compressed(&base, &recipes::find("mixed").unwrap()));
    assert!((mixed / fp32 - 1.0).abs() < 0.005, "{mixed} {fp32}");
    let nf4 = evaluate(&compressed(&base, &recipes::find("nf4").unwrap()));
    assert!((0.0..0.08).contains(&(nf4 / fp32 - 1.0)), "{nf4} {fp32}");
}

#[test]
fn padding_is_never_an_input_and_never_a_logit() {
    let checkpoint = open_folder(&fixture("families/mamba-original"));
    let model = checkpoint.model().unwrap();
    assert_eq!(
        (model.info.vocab_size, checkpoint.inspection().spec["vocab_size"].value.as_u64()),
        (61, Some(61))
    );
    assert!(checkpoint.inspection().findings.iter().any(|finding| finding.code == "padded-vocabulary"));
    let error = pollster::block_on(statepress::sequence_logits(&model, &[1, 62])).unwrap_err().to_string();
    assert!(error.contains("62") && error.contains("61"), "{error}");
}

/// The README's table is what the registry says. `UPDATE_README=1` rewrites it.
#[test]
fn the_readme_names_every_family() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- families: generated, see tests/rust/families.rs -->\n", "<!-- /families -->");
    let mut table = "\n| family | name in reports | runs |\n| --- | --- | --- |\n".to_string();
    for family in statepress::families() {
        let runs = match family.lacks {
            None => "yes, on CPU and GPU".to_string(),
            Some(what) => format!("not yet: lacks {what}"),
        };
        table += &format!("| {} | `{}` | {runs} |\n", family.title, family.name);
    }
    table += "\n";
    let (before, rest) = readme.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            found, table,
            "run UPDATE_README=1 cargo test -p statepress-tests --test native families::readme"
        );
    }
}

/// A search measures a tensor without running the layers before it.
#[test]
fn a_pass_that_is_given_the_residual_stream_before_a_layer_computes_what_a_whole_one_does() {
    let mut layers = 0;
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let model = open_folder(&sample.folder).model().unwrap();
        let ids = sample.golden.as_ref().unwrap().ids("len40/ids");
        let mut runner = model.runner(true).unwrap();
        let (mut streams, mut whole, mut resumed) = (Vec::new(), Vec::new(), Vec::new());
        block_on(runner.forward(&ids, Some(&mut streams))).unwrap();
        block_on(runner.logits(0..ids.len(), &mut whole)).unwrap();
        assert_eq!(model.program().begin(0), None, "{}: before the first layer is no stream", sample.name);
        assert_eq!(streams.len(), model.program().n_layers() + 1, "{}", sample.name);
        for (layer, stream) in streams.iter().enumerate().skip(1) {
            let begin = model.program().begin(layer);
            runner.resume(begin.unwrap_or_else(|| panic!("{}: layer {layer}", sample.name)), stream, &ids);
            block_on(runner.logits(0..ids.len(), &mut resumed)).unwrap();
            assert!(resumed == whole, "{}: from layer {layer}", sample.name);
            layers += 1;
        }
    }
    assert!(layers > 80, "{layers}");
}

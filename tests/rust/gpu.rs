//! The GPU against PyTorch and against the CPU, on a real adapter.
//!
//! A machine without one fails these tests: a software adapter (lavapipe, SwiftShader) will do, and
//! `pkg-scripts/setup gpu` installs one.

use std::path::Path;

use pollster::block_on;
use statepress::{
    AnyModel, Backend, Checkpoint, Compare, CompareOptions, Evaluate, EvaluateOptions, Generate,
    GenerateOptions, Gpu, GpuOptions, Loaded, Recipe, explain, recipes, run,
};
use statepress_core::Precision;
use statepress_tests::files::{fixture, heldout_ids, open, open_folder, shared};
use statepress_tests::golden::{Golden, assert_close};
use statepress_tests::gpu::{clock, compressed, demo_checkpoint, greedy, logits_in_steps, on, open_gpu};

/// `|a - b| / (1 + |b|)` against PyTorch: f32 sums in another order, and exp of a few units in the
/// last place.
const TOLERANCE: f32 = 1e-3;

/// Without and with what not every adapter has.
fn gpus() -> Vec<Gpu> {
    let plain = open_gpu(GpuOptions::default());
    let has = |name: &str| name.is_empty() || plain.adapter().features.iter().any(|feature| feature == name);
    let mut gpus = vec![plain.clone()];
    for (name, options) in [
        ("", GpuOptions { op_by_op: true, ..GpuOptions::default() }),
        ("subgroups", GpuOptions { subgroups: true, ..GpuOptions::default() }),
        ("packed-dot", GpuOptions { packed_dot: true, ..GpuOptions::default() }),
    ] {
        gpus.extend(has(name).then(|| open_gpu(options)));
    }
    gpus
}

fn check_golden(gpu: &Gpu, path: &Path, golden: &Golden, set: &[(&str, u64)]) {
    let model = on(gpu, &open(path, set));
    let names = golden.names();
    let sequences = names.iter().filter_map(|name| name.strip_suffix("/logits"));
    let sequences: Vec<&str> = sequences.filter(|name| golden.has(&format!("{name}/ids"))).collect();
    assert!(sequences.len() >= 3, "{}", path.display());
    for sequence in sequences.into_iter().filter(|name| !name.starts_with("batch")) {
        let ids = golden.ids(&format!("{sequence}/ids"));
        let exact = golden.f32(&format!("{sequence}/logits"));
        for step in [ids.len(), 3, 1] {
            let what = format!("{} {sequence} in steps of {step}", path.display());
            assert_close(&what, &logits_in_steps(&model, &ids, step), &exact, TOLERANCE);
        }
    }
}

/// Every precision and every kind of layer, each in one of the others: loading checks them, and nothing is
/// compiled afterwards that has not been checked.
#[test]
fn every_variant_passes_the_self_check() {
    let folders = ["mamba-odd", "mamba2-groups", "llama-rope3", "granite-moe", "gpt2-odd", "falcon-h1-norm"];
    let folders = folders.map(|name| open_folder(&fixture(&format!("families/{name}"))));
    let files = ["il_moe", "il_ffn", "tf"];
    let files = files.map(|name| open(&fixture(&format!("fixtures/{name}.safetensors")), &[]));
    let bases: Vec<Checkpoint> = folders.into_iter().chain(files).collect();
    let compressed: Vec<Checkpoint> = Precision::all()
        .zip(bases.iter().cycle())
        .map(|(precision, base)| {
            let recipe = format!(
                r#"{{"version": 1, "name": "one", "steps": [{{"quantize": {{"rules": [], "otherwise": "{}",
                    "int4": {{"group": 16}}, "groups": {{"group": 16, "scale": "log8"}}}}}}]}}"#,
                precision.name()
            );
            compressed(base, &Recipe::from_json(&recipe).unwrap())
        })
        .collect();
    assert!(compressed.len() > bases.len());
    for (variant, gpu) in gpus().into_iter().enumerate() {
        eprintln!("{:?}", gpu.adapter());
        for (checkpoint, precision) in compressed.iter().zip(Precision::all()) {
            // Products differ in the variants, and packed integers are of INT8; how codes are read does not.
            if variant > 0 && !["fp32", "int8", "nf4"].contains(&precision.name()) {
                continue;
            }
            let model = on(&gpu, checkpoint);
            assert_eq!(gpu.unchecked(model.network()), None);
            let precisions: Vec<String> =
                explain(model.network()).into_iter().map(|row| row.precisions.to_lowercase()).collect();
            assert!(
                precisions.iter().any(|it| it.contains(precision.name())),
                "{precision:?}: {precisions:?}"
            );
            let compiled = gpu.compiled();
            greedy(&model, &[1, 2, 3], 4);
            let options = EvaluateOptions { window: Some(16), ..EvaluateOptions::default() };
            run(Evaluate::new(&model, &[1; 32], &options, clock()).unwrap(), |_| {}).unwrap();
            logits_in_steps(&model, &[1, 2, 3], 1);
            assert_eq!(gpu.compiled(), compiled, "{precision:?}");
        }
    }
}

/// Every fixture that is to be read, whose golden has whole logits; in blocks and op by op.
#[test]
fn fixtures_give_the_golden_logits() {
    let gpus = [false, true].map(|op_by_op| open_gpu(GpuOptions { op_by_op, ..GpuOptions::default() }));
    let manifest = std::fs::read_to_string(fixture("fixtures/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut checked = 0;
    for (family, about) in manifest["families"].as_object().unwrap() {
        let mut seen = Vec::new();
        for (file, about) in about["files"].as_object().unwrap() {
            let weights = about["weights"].as_str().unwrap();
            // Containers differ in how they are read, which the GPU has no part in: one file for
            // each kind of weights.
            if file.contains(".legacy.") || seen.contains(&weights) {
                continue;
            }
            seen.push(weights);
            let golden = match weights {
                "f32" => format!("fixtures/{family}.golden.safetensors"),
                other => format!("fixtures/{family}.{other}.golden.safetensors"),
            };
            let set: &[(&str, u64)] = match family.as_str() {
                "il_odd" if !file.contains("wrap_config") => &[("top_k_experts", 1)],
                _ => &[],
            };
            let golden = Golden::open(&fixture(&golden));
            for gpu in &gpus {
                check_golden(gpu, &fixture(&format!("fixtures/{file}")), &golden, set);
            }
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} files");
}

#[test]
fn real_checkpoints_continue_pytorchs_texts() {
    let gpu = open_gpu(GpuOptions::default());
    for (name, file) in [
        ("micro_distilled", "itera_lite_micro_distilled.pt"),
        ("tiny2000_int8_dequant", "itera_lite_tiny_int8.pt"),
    ] {
        let path = match name {
            "micro_distilled" => Some(fixture(&format!("itera-lite/{file}"))),
            _ => shared(&format!("checkpoints/itera-lite/{file}")),
        };
        let Some(path) = path else { continue };
        let golden = Golden::open(&fixture(&format!("models/{name}.safetensors")));
        let prompt = golden.ids("greedy/prompt");
        for offset in [2, 1] {
            let model = on(&gpu, &open(&path, &[("prediction_offset", offset)]));
            assert_eq!(
                greedy(&model, &prompt, 24),
                golden.ids(&format!("greedy/offset{offset}")),
                "{name} at offset {offset}"
            );
        }
    }
}

/// Experts of several precisions cannot stand in one bank; each token finds its own all the same.
#[test]
fn experts_of_several_precisions_are_those_of_the_cpu() {
    let gpu = open_gpu(GpuOptions::default());
    let recipe = Recipe::from_json(
        r#"{"version": 1, "name": "several", "steps": [{"quantize": {"rules": [
            {"match": "*experts.1.*", "precision": "int8"}, {"match": "*experts.2.*", "precision": "fp16"}
        ], "otherwise": "fp32"}}]}"#,
    );
    let compressed = compressed(&demo_checkpoint(), &recipe.unwrap());
    let (cpu, gpu) = (compressed.model().unwrap(), on(&gpu, &compressed));
    let ids: Vec<u32> = (0..100).map(|i| i * 79 % 8000).collect();
    let exact = logits_in_steps(&cpu, &ids, 100);
    for step in [100, 7] {
        assert_close("mixed experts", &logits_in_steps(&gpu, &ids, step), &exact, TOLERANCE);
    }
    assert_close(
        "mixed experts, one by one",
        &logits_in_steps(&gpu, &ids[..9], 1),
        &exact[..9 * 8000],
        TOLERANCE,
    );
}

/// What is judged on the GPU is what is judged on the CPU, in every precision.
#[test]
fn perplexity_of_every_recipe_is_the_cpus() {
    let gpu = open_gpu(GpuOptions::default());
    let base = demo_checkpoint();
    let ids = &heldout_ids()[..256];
    let evaluate = |model: AnyModel| {
        let options = EvaluateOptions { window: Some(64), ..EvaluateOptions::default() };
        run(Evaluate::new(&model, ids, &options, clock()).unwrap(), |_| {}).unwrap()
    };
    let mut checked = 0;
    for recipe in recipes::builtin().unwrap() {
        let compressed = compressed(&base, &recipe);
        let cpu = evaluate(AnyModel::Cpu(compressed.model().unwrap()));
        let found = evaluate(AnyModel::Gpu(on(&gpu, &compressed)));
        assert!(cpu.perplexity < 200.0, "{}: {}: is it the model's text?", recipe.name, cpu.perplexity);
        let percent = 100.0 * (found.perplexity / cpu.perplexity - 1.0);
        eprintln!(
            "{}: {} on the CPU, {} on the GPU, {percent:+.5} %",
            recipe.name, cpu.perplexity, found.perplexity
        );
        assert!(percent.abs() < 0.05, "{}: {percent} %", recipe.name);
        assert_eq!((found.tokens, &*found.backend), (cpu.tokens, "webgpu"), "{}", recipe.name);
        assert!(found.adapter.is_some());
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} recipes");
}

/// The CPU beside the GPU; and FP32 on one beside NF4 on the other, which is the card that one backend gives.
#[test]
fn a_card_can_have_its_halves_on_different_backends() {
    let gpu = open_gpu(GpuOptions::default());
    let base = demo_checkpoint();
    let ids: Vec<u32> = (0..64).map(|i| i * 61 % 8000).collect();
    let card = |a: &AnyModel, b: &AnyModel| {
        let options = CompareOptions { window: Some(32), ..CompareOptions::default() };
        run(Compare::new(a, b, &ids, options, clock()).unwrap(), |_| {}).unwrap()
    };
    let cpu = AnyModel::Cpu(base.model().unwrap());
    let same = card(&cpu, &AnyModel::Gpu(on(&gpu, &base)));
    assert_eq!((&*same.a.backend, &*same.b.backend), ("cpu", "webgpu"));
    assert_eq!((&same.a.adapter, &same.b.adapter), (&None, &Some(gpu.adapter().name.clone())));
    assert!(same.kl.max < 1e-5, "{:?}", same.kl);
    assert_eq!(same.top1_agreement, 1.0);
    assert_eq!(same.by_layer.len(), 5);
    assert!(same.by_layer.iter().all(|layer| layer.relative_error < 1e-4), "{:?}", same.by_layer);

    let nf4 = compressed(&base, &recipes::find("nf4").unwrap());
    let expected = card(&cpu, &AnyModel::Cpu(nf4.model().unwrap()));
    for (a, b, backends) in [
        (&cpu, AnyModel::Gpu(on(&gpu, &nf4)), ("cpu", "webgpu")),
        (&AnyModel::Gpu(on(&gpu, &base)), AnyModel::Cpu(nf4.model().unwrap()), ("webgpu", "cpu")),
    ] {
        let found = card(a, &b);
        assert_eq!((&*found.a.backend, &*found.b.backend), backends);
        let share = (found.kl.mean / expected.kl.mean - 1.0).abs();
        assert!(
            share < 1e-3,
            "{backends:?}: a mean divergence of {}, not {}",
            found.kl.mean,
            expected.kl.mean
        );
        let percent = found.perplexity_change - expected.perplexity_change;
        assert!(percent.abs() < 0.01, "{backends:?}: {percent} % apart");
    }
}

/// The same seed gives the same text wherever it is made: the random numbers come from one place.
#[test]
fn sampling_is_the_cpus() {
    let gpu = open_gpu(GpuOptions::default());
    let checkpoint = demo_checkpoint();
    let (cpu, gpu) = (checkpoint.model().unwrap(), on(&gpu, &checkpoint));
    let sample = |model: &dyn Fn(GenerateOptions) -> Vec<(u32, f64)>| {
        [(1.0, None), (0.8, Some(40)), (1.5, Some(3)), (0.7, Some(1))].map(|(temperature, top_k)| {
            let options =
                GenerateOptions { max_tokens: 12, temperature, top_k, seed: 7, suppress_from: Some(7000) };
            model(options)
        })
    };
    fn tokens(model: &impl Loaded, options: GenerateOptions) -> Vec<(u32, f64)> {
        let mut generate = Generate::new(model, &[5, 6, 7], options).unwrap();
        let mut all = Vec::new();
        loop {
            let some = block_on(generate.step(5)).unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some.iter().map(|token| (token.id, token.probability)));
        }
    }
    let expected = sample(&|options| tokens(&cpu, options));
    let found = sample(&|options| tokens(&gpu, options));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.len(), 12);
        for (a, b) in expected.iter().zip(found) {
            assert_eq!(a.0, b.0);
            // Single tokens of the CPU's fast path round activations.
            assert!((a.1 - b.1).abs() < 1e-3, "{a:?} {b:?}");
        }
    }
}

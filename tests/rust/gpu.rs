//! The GPU against PyTorch and against the CPU, on a real adapter.
//!
//! A machine without one fails these tests: a software adapter (lavapipe, SwiftShader) will do, and
//! `pkg-scripts/setup gpu` installs one.

use std::path::Path;

use pollster::block_on;
use statepress::{
    AnyModel, Backend, BackendError, Checkpoint, Compare, CompareOptions, Evaluate, EvaluateOptions,
    Generate, GenerateOptions, Gpu, GpuOptions, Loaded, Model, OpenOptions, Recipe, Runner, Wanted, choose,
    explain, recipes, run, self_check,
};
use statepress_tests::files::{demo, fixture, open, shared};
use statepress_tests::golden::{Golden, assert_close};

/// `|a - b| / (1 + |b|)` against PyTorch: f32 sums in another order, and exp of a few units in the
/// last place.
const TOLERANCE: f32 = 1e-3;

fn open_gpu(options: GpuOptions) -> Gpu {
    block_on(Gpu::open(options)).expect("a GPU, be it a software one: pkg-scripts/setup gpu installs one")
}

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

fn on(gpu: &Gpu, checkpoint: &Checkpoint) -> Model<Gpu> {
    run(checkpoint.load_into(gpu.clone()).unwrap(), |_| {}).unwrap()
}

fn demo_checkpoint() -> Checkpoint {
    open(&demo().join("model.safetensors"), &[])
}

fn clock() -> fn() -> f64 {
    statepress::Clock::default().seconds()
}

/// Logits of a sequence taken in in steps of these lengths.
fn logits_in_steps(model: &impl Loaded, ids: &[u32], step: usize) -> Vec<f32> {
    block_on(async {
        let mut runner = model.runner(true).unwrap();
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        for ids in ids.chunks(step) {
            runner.forward(ids, None).await.unwrap();
            runner.logits(0..ids.len(), &mut rows).await.unwrap();
            all.extend_from_slice(&rows);
        }
        all
    })
}

fn greedy(model: &impl Loaded, prompt: &[u32], count: usize) -> Vec<u32> {
    let options = GenerateOptions { max_tokens: count, ..GenerateOptions::default() };
    let mut generate = Generate::new(model, prompt, options).unwrap();
    let mut ids = prompt.to_vec();
    loop {
        let tokens = block_on(generate.step(1 + ids.len() % 7)).unwrap();
        if tokens.is_empty() {
            return ids;
        }
        ids.extend(tokens.iter().map(|token| token.id));
    }
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

#[test]
fn every_variant_passes_the_self_check() {
    for gpu in gpus() {
        eprintln!("{:?}", gpu.adapter());
        block_on(self_check(&gpu, "test")).unwrap();
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
    let (job, bytes) = demo_checkpoint().compress_to_memory(&recipe.unwrap()).unwrap();
    run(job, |_| {}).unwrap();
    let compressed = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
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
    let ids = Golden::open(&fixture("models/heldout_ids.safetensors"));
    let ids: Vec<u32> = ids.ids("ids").into_iter().take(1024).collect();
    let evaluate = |model: AnyModel| {
        let options = EvaluateOptions { window: Some(256), ..EvaluateOptions::default() };
        run(Evaluate::new(&model, &ids, &options, clock()).unwrap(), |_| {}).unwrap()
    };
    let mut checked = 0;
    for recipe in recipes::builtin().unwrap() {
        let (job, bytes) = base.compress_to_memory(&recipe).unwrap();
        run(job, |_| {}).unwrap();
        let compressed = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
        let cpu = evaluate(AnyModel::Cpu(compressed.model().unwrap()));
        let found = evaluate(AnyModel::Gpu(on(&gpu, &compressed)));
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

/// The CPU beside the GPU, and two precisions on different backends.
#[test]
fn a_card_can_have_its_halves_on_different_backends() {
    let gpu = open_gpu(GpuOptions::default());
    let base = demo_checkpoint();
    let (cpu, other) = (AnyModel::Cpu(base.model().unwrap()), AnyModel::Gpu(on(&gpu, &base)));
    let ids: Vec<u32> = (0..128).map(|i| i * 61 % 8000).collect();
    let options = CompareOptions { window: Some(64), ..CompareOptions::default() };
    let card = run(Compare::new(&cpu, &other, &ids, options, clock()).unwrap(), |_| {}).unwrap();
    assert_eq!((&*card.a.backend, &*card.b.backend), ("cpu", "webgpu"));
    assert!(card.kl.max < 1e-5, "{:?}", card.kl);
    assert_eq!(card.top1_agreement, 1.0);
    assert_eq!(card.by_layer.len(), 5);
    assert!(card.by_layer.iter().all(|layer| layer.relative_error < 1e-4), "{:?}", card.by_layer);
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

/// What `explain` counts is what the model's arithmetic says.
#[test]
fn a_token_takes_three_dispatches_a_layer_and_three() {
    let gpu = open_gpu(GpuOptions::default());
    let base = demo_checkpoint();
    // Of two experts of four: all weights but half of the experts', the table once and a row of each table.
    let (d, inner, experts) = (128, 256, 64);
    let ssm = 2 * inner * d + inner * inner + 2 * 8 * inner + d * inner;
    let all = 8000 * d + 2 * d + 4 * ssm + 2 * (2 * experts * d) + 2 * (4 * d + 2 * 2 * experts * d);
    for (recipe, bytes_per_weight) in [("none", 4.0), ("fp16", 2.0), ("int8", 1.0)] {
        let (job, bytes) = base.compress_to_memory(&recipes::find(recipe).unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        let compressed = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
        let rows = explain(on(&gpu, &compressed).network());
        let dispatches: usize = rows.iter().map(|row| row.dispatches).sum();
        assert_eq!(dispatches, 3 * 4 + 3, "{rows:?}");
        let logits: u64 = 4 * 8000;
        let found = (rows.iter().map(|row| row.bytes).sum::<u64>() - logits) as f64;
        let expected = f64::from(all) * bytes_per_weight;
        // INT8 has scales, and what its recipe leaves alone.
        let tolerance = if recipe == "int8" { 0.08 } else { 1e-9 };
        assert!((found / expected - 1.0).abs() <= tolerance, "{recipe}: {found}, {expected}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_its_name_and_the_limit() {
    let gpu = open_gpu(GpuOptions { max_buffer: Some(1 << 20), ..GpuOptions::default() });
    let error = run(demo_checkpoint().load_into(gpu).unwrap(), |_| {}).err().unwrap();
    assert_eq!(error.code(), "gpu-limit");
    let message = error.to_string();
    assert!(message.contains("embedding.weight") && message.contains("4096000"), "{message}");
    assert!(message.contains("1048576"), "{message}");
    // The memory of a sequence, too.
    let gpu = open_gpu(GpuOptions { max_buffer: Some(5 << 20), ..GpuOptions::default() });
    let model = on(&gpu, &demo_checkpoint());
    let mut runner = model.runner(true).unwrap();
    let error = block_on(runner.forward(&[0; 256], None)).unwrap_err();
    assert_eq!(error.code(), "gpu-limit", "{error}");
    assert!(error.to_string().contains("activations"), "{error}");
}

#[test]
fn a_lost_gpu_is_an_error_and_the_next_one_works() {
    let gpu = open_gpu(GpuOptions::default());
    let model = on(&gpu, &demo_checkpoint());
    let mut generate = Generate::new(&model, &[1, 2, 3], GenerateOptions::default()).unwrap();
    assert_eq!(block_on(generate.step(2)).unwrap().len(), 2);
    gpu.destroy();
    let error = block_on(generate.step(2)).unwrap_err();
    assert_eq!(error.code(), "gpu-lost", "{error}");
    assert!(model.runner(true).is_err());
    let error = run(demo_checkpoint().load_into(gpu).unwrap(), |_| {}).err().unwrap();
    assert_eq!(error.code(), "gpu-lost", "{error}");
    let again = open_gpu(GpuOptions::default());
    assert_eq!(greedy(&on(&again, &demo_checkpoint()), &[1, 2, 3], 2).len(), 5);
}

/// Two models, two sequences of one model, and one that is left in the middle.
#[test]
fn sequences_do_not_disturb_each_other() {
    let gpu = open_gpu(GpuOptions::default());
    let demo = on(&gpu, &demo_checkpoint());
    let small = on(&gpu, &open(&fixture("fixtures/il_moe.safetensors"), &[]));
    let alone = (greedy(&demo, &[1, 2, 3], 6), greedy(&small, &[4, 5], 6));
    let options = |max_tokens| GenerateOptions { max_tokens, ..GenerateOptions::default() };
    let mut first = Generate::new(&demo, &[1, 2, 3], options(6)).unwrap();
    let mut second = Generate::new(&small, &[4, 5], options(6)).unwrap();
    let mut left = Generate::new(&demo, &[9, 9, 9], options(6)).unwrap();
    block_on(left.step(2)).unwrap();
    let mut found = (vec![1, 2, 3], vec![4, 5]);
    for _ in 0..3 {
        found.0.extend(block_on(first.step(2)).unwrap().iter().map(|token| token.id));
        found.1.extend(block_on(second.step(2)).unwrap().iter().map(|token| token.id));
    }
    drop(left);
    assert_eq!(found, alone);
}

#[test]
fn models_that_are_not_numbers_fail_on_the_gpu_too() {
    let golden = fixture("fixtures/il_ffn.safetensors");
    let mut bytes = std::fs::read(golden).unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let at = 8 + header + metadata.info("norm.weight").unwrap().data_offsets.0;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let checkpoint = Checkpoint::open(bytes, OpenOptions::default()).unwrap();
    let gpu = open_gpu(GpuOptions::default());
    let model = on(&gpu, &checkpoint);
    let job = Evaluate::new(&model, &[1; 48], &EvaluateOptions::default(), clock()).unwrap();
    let error = run(job, |_| {}).unwrap_err();
    assert_eq!(error.code(), "evaluation-failed", "{error}");
}

#[test]
fn the_choice_says_why() {
    let asked = block_on(choose(Wanted::WebGpu, GpuOptions::default())).unwrap();
    assert!(asked.gpu.is_some() && asked.finding.is_none());
    let cpu = block_on(choose(Wanted::Cpu, GpuOptions::default())).unwrap();
    assert!(cpu.gpu.is_none() && cpu.finding.is_none());
    let auto = block_on(choose(Wanted::Auto, GpuOptions::default())).unwrap();
    if asked.gpu.unwrap().adapter().software {
        // The CPU does it faster than a program on it that plays a GPU.
        assert!(auto.gpu.is_none());
        assert_eq!(auto.finding.unwrap().code, "backend-cpu");
    } else {
        assert!(auto.gpu.is_some());
    }
    let absent = || GpuOptions { absent: Some("no such thing here".into()), ..GpuOptions::default() };
    let error = block_on(choose(Wanted::WebGpu, absent())).err().unwrap();
    assert_eq!((error.code(), error.to_string().contains("no such thing here")), ("no-gpu", true));
    assert!(block_on(choose(Wanted::Auto, absent())).unwrap().reason.contains("no such thing here"));
}

/// A backend that computes something else is refused with the numbers.
#[test]
fn the_self_check_sees_a_wrong_number() {
    #[derive(Clone)]
    struct Wrong(statepress::Cpu);
    impl Backend for Wrong {
        type Matrix = <statepress::Cpu as Backend>::Matrix;
        type Network = <statepress::Cpu as Backend>::Network;
        type Runner = <statepress::Cpu as Backend>::Runner;
        fn matrix(
            &self,
            name: &str,
            mut tensor: statepress_core::Tensor,
        ) -> Result<Self::Matrix, BackendError> {
            if let statepress_core::Packed::F16(bits) = &mut tensor.data {
                bits[7] ^= 0x0200;
            }
            self.0.matrix(name, tensor)
        }
        fn network(
            &self,
            network: statepress_kernels::network::Network<Self::Matrix>,
        ) -> Result<Self::Network, BackendError> {
            self.0.network(network)
        }
        fn runner(
            &self,
            network: &std::rc::Rc<Self::Network>,
            exact: bool,
        ) -> Result<Self::Runner, BackendError> {
            self.0.runner(network, exact)
        }
    }
    let error = block_on(self_check(&Wrong(statepress::Cpu), "a wrong one")).unwrap_err();
    assert_eq!(error.code(), "gpu-self-check");
    assert!(error.to_string().contains("a wrong one") && error.to_string().contains("allowed"), "{error}");
}

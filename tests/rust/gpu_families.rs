//! Every model family on the GPU: the reference's logits, the CPU's texts, and what a token costs.

use pollster::block_on;
use serde_json::json;
use statepress::{
    Checkpoint, Gpu, GpuOptions, Loaded, Model, Moments, OpenOptions, Recipe, Runner, explain, recipes, run,
};
use statepress_core::Role;
use statepress_engine::calibrate::entered;
use statepress_kernels::backend::Stretch;
use statepress_kernels::program::MatrixId;
use statepress_tests::edit::Edit;
use statepress_tests::families::{Sample, existing, samples};
use statepress_tests::files::{fixture, open_folder};
use statepress_tests::golden::assert_close;
use statepress_tests::gpu::{compressed, greedy, logits_in_steps, on, open_gpu};

/// `|a - b| / (1 + |b|)`: f32 sums in another order, and exp of a few units in the last place.
const TOLERANCE: f32 = 1e-3;

fn with_goldens() -> impl Iterator<Item = Sample> {
    // Containers and spellings differ in how they are read, which the GPU has no part in.
    samples().into_iter().filter(|sample| sample.golden.is_some() && !sample.name.contains('.'))
}

fn check(gpu: &Gpu, sample: &Sample) {
    let golden = sample.golden.as_ref().unwrap();
    let model: Model<Gpu> = on(gpu, &open_folder(&sample.folder));
    for (len, steps) in [(40, [40, 13, 1]), (7, [7, 3, 1])] {
        let ids = golden.ids(&format!("len{len}/ids"));
        let exact = existing(&golden.f32(&format!("len{len}/logits")), sample.vocab_rows, sample.vocab);
        for step in steps {
            let what = format!("{}, {len} tokens in steps of {step}", sample.name);
            assert_close(&what, &logits_in_steps(&model, &ids, step), &exact, TOLERANCE);
        }
    }
}

#[test]
fn every_family_gives_the_references_logits() {
    let gpu = open_gpu(GpuOptions::default());
    let checked = with_goldens().map(|sample| check(&gpu, &sample)).count();
    assert!(checked >= 22, "only {checked} families");
}

/// The list without any fusion, against which the fused one is held.
#[test]
fn every_family_gives_the_references_logits_op_by_op() {
    let gpu = open_gpu(GpuOptions { op_by_op: true, ..GpuOptions::default() });
    let checked = with_goldens().map(|sample| check(&gpu, &sample)).count();
    assert!(checked >= 22, "only {checked} families");
}

/// What is left of a model that was pruned has odd widths, and layers that are not alike.
#[test]
fn pruned_models_give_the_cpus_logits() {
    let gpu = open_gpu(GpuOptions::default());
    let mut checked = 0;
    for sample in with_goldens() {
        let base = open_folder(&sample.folder);
        let steps = ["inner", "state", "head", "attentionHead", "width", "experts"].map(|kind| {
            let step = json!({ "version": 1, "name": "t", "steps": [{ "prune": { "kind": kind, "keep": 0.6, "layers": [0] } }] });
            Recipe::from_json(&step.to_string()).unwrap()
        });
        let can = |recipe: &&Recipe| base.plan(recipe).is_ok_and(|plan| !plan.pruned[0].places.is_empty());
        let mut all = steps.iter().filter(can).cloned().collect::<Vec<_>>();
        let Some(mut whole) = all.pop() else { continue };
        whole.steps.extend(all.into_iter().flat_map(|recipe| recipe.steps));
        let pruned = compressed(&base, &whole);
        let ids = sample.golden.as_ref().unwrap().ids("len7/ids");
        let exact = logits_in_steps(&pruned.model().unwrap(), &ids, 7);
        let model = on(&gpu, &pruned);
        for step in [7, 1] {
            let found = logits_in_steps(&model, &ids, step);
            assert_close(&format!("{} pruned, in steps of {step}", sample.name), &found, &exact, TOLERANCE);
        }
        checked += 1;
    }
    assert!(checked >= 22, "only {checked} families");
}

/// What lost parts of its layers has layers that are not alike.
#[test]
fn models_without_parts_of_layers_give_the_cpus_logits() {
    let gpu = open_gpu(GpuOptions::default());
    for name in ["llama-gqa", "granite-moe", "jamba-dense", "falcon-h1", "gpt2"] {
        let base = open_folder(&fixture(&format!("families/{name}")));
        let parts = base.model().unwrap().program().sublayers().len();
        let keep = (parts - 1) as f64 / parts as f64;
        let step = json!([{ "prune": { "kind": "sublayers", "keep": keep, "by": "loss" } }]);
        let (_, pruned) = crate::layers::pruned(&base, step, &crate::layers::text(&base));
        let ids: Vec<u32> = (0..7).collect();
        let exact = logits_in_steps(&pruned.model().unwrap(), &ids, 7);
        let model = on(&gpu, &pruned);
        for step in [7, 1] {
            let found = logits_in_steps(&model, &ids, step);
            assert_close(&format!("{name}, in steps of {step}"), &found, &exact, TOLERANCE);
        }
    }
}

#[test]
fn thirty_two_greedy_tokens_are_the_cpus_packed_or_not() {
    let gpu = open_gpu(GpuOptions::default());
    for sample in with_goldens() {
        let base = open_folder(&sample.folder);
        let prompt = sample.golden.as_ref().unwrap().ids("greedy/prompt");
        let room = base.model().unwrap().info.max_tokens.map_or(32, |most| most - prompt.len());
        for (recipe, count) in [("none", 32), ("int8", 8), ("mixed-aggressive", 8)] {
            let count = room.min(count);
            let checkpoint = compressed(&base, &recipes::find(recipe).unwrap());
            let cpu = checkpoint.model().unwrap();
            // Texts may part where two tokens are equally likely; logits may not.
            let model = on(&gpu, &checkpoint);
            let ids = greedy(&model, &prompt, count);
            let exact = logits_in_steps(&cpu, &ids, ids.len());
            let found = logits_in_steps(&model, &ids, ids.len());
            assert_close(&format!("{} {recipe}", sample.name), &found, &exact, TOLERANCE);
            if recipe == "none" {
                assert_eq!(ids, greedy(&cpu, &prompt, count), "{}", sample.name);
            }
        }
    }
}

/// Dispatches of a token, counted from what is recorded: so many a layer, and three.
#[test]
fn a_token_takes_few_dispatches() {
    let gpu = open_gpu(GpuOptions::default());
    for (name, a_layer) in [
        ("mamba-default", 4),
        ("mamba-odd", 4),
        ("mamba2-one-group", 4),
        ("mamba2-groups", 4),
        ("llama-gqa", 5),
        ("qwen2", 5),
        ("qwen3", 5),
    ] {
        let model = on(&gpu, &open_folder(&fixture(&format!("families/{name}"))));
        let rows = explain(model.network());
        let dispatches: usize = rows.iter().map(|row| row.dispatches).sum();
        let layers = open_folder(&fixture(&format!("families/{name}"))).model().unwrap().program().n_layers();
        assert_eq!(dispatches, a_layer * layers + 3, "{name}: {rows:#?}");
    }
}

/// Many workgroups of a fused product: what they write must not be what others still read. Experts
/// stand between the norm and this product, so it reads a value whose place is free behind it.
#[test]
fn a_wide_network_behind_experts_is_not_written_over_its_input() {
    let mut file = Edit::folder(&fixture("families/granite-moe"));
    for layer in 0..3 {
        let key = |part: &str| format!("model.layers.{layer}.shared_mlp.{part}_linear.weight");
        file.tensor(&key("input")).shape[0] = 2 * 3000;
        file.tensor(&key("output")).shape[1] = 3000;
    }
    let text = std::fs::read_to_string(fixture("families/granite-moe").join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(file.write(), OpenOptions::default().config_text(&text)).unwrap();
    let (cpu, gpu) = (checkpoint.model().unwrap(), on(&open_gpu(GpuOptions::default()), &checkpoint));
    let ids: Vec<u32> = (0..20).map(|i| i * 29 % 48).collect();
    assert_close(
        "token by token",
        &logits_in_steps(&gpu, &ids, 1),
        &logits_in_steps(&cpu, &ids, 20),
        TOLERANCE,
    );
}

/// States in several goes, a convolution of one tap, more states than a workgroup holds.
#[test]
fn unusual_widths_run_or_are_refused_by_what_is_too_wide() {
    let gpu = open_gpu(GpuOptions::default());
    let edited = |name: &str, change: &dyn Fn(&mut Edit)| {
        let mut file = Edit::folder(&fixture(&format!("families/{name}")));
        change(&mut file);
        let text = std::fs::read_to_string(fixture(&format!("families/{name}")).join("config.json")).unwrap();
        Checkpoint::open(file.write(), OpenOptions::default().config_text(&text)).unwrap()
    };
    let checkpoint = edited("mamba-default", &|file| {
        for stored in &mut file.0 {
            match &stored.name {
                name if name.ends_with("A_log") => stored.shape[1] = 37,
                name if name.ends_with("x_proj.weight") => stored.shape[0] = 2 + 2 * 37,
                name if name.ends_with("conv1d.weight") => stored.shape[2] = 1,
                _ => {}
            }
        }
    });
    let ids: Vec<u32> = (0..20).map(|i| i * 29 % 48).collect();
    let cpu = logits_in_steps(&checkpoint.model().unwrap(), &ids, 20);
    let model = on(&gpu, &checkpoint);
    for step in [1, 7, 20] {
        assert_close("37 states", &logits_in_steps(&model, &ids, step), &cpu, TOLERANCE);
    }
    let checkpoint = edited("mamba2-groups", &|file| {
        for stored in &mut file.0 {
            match &stored.name {
                name if name.contains("conv1d") => stored.shape[0] = 45 + 2 * 3 * 5000,
                name if name.contains("in_proj") => stored.shape[0] = 2 * 45 + 2 * 3 * 5000 + 9,
                _ => {}
            }
        }
    });
    assert!(checkpoint.model().is_ok());
    let error = run(checkpoint.load_into(gpu.clone()).unwrap(), |_| {}).err().unwrap().to_string();
    assert!(error.contains("states") && error.contains("5000") && error.contains("4096"), "{error}");
}

/// A cache of keys and values grows with the sequence, and what it held stays.
#[test]
fn a_sequence_longer_than_its_cache_goes_on() {
    let gpu = open_gpu(GpuOptions::default());
    let checkpoint = open_folder(&fixture("families/llama-rope3"));
    let (cpu, gpu) = (checkpoint.model().unwrap(), on(&gpu, &checkpoint));
    let ids: Vec<u32> = (0..400).map(|i| i * 29 % 50).collect();
    let exact = logits_in_steps(&cpu, &ids, 400);
    assert_close("in steps of 100", &logits_in_steps(&gpu, &ids, 100), &exact, TOLERANCE);
}

/// What enters the products of every family, added up by a kernel, is what the CPU adds up.
#[test]
fn taps_of_every_family_are_the_cpus() {
    let gpu = open_gpu(GpuOptions::default());
    for sample in with_goldens() {
        let checkpoint = open_folder(&sample.folder);
        let (cpu, gpu) = (checkpoint.model().unwrap(), on(&gpu, &checkpoint));
        let program = cpu.program();
        let matrices = entered(program);
        let mut idle = 0;
        let ids = sample.golden.as_ref().unwrap().ids("len40/ids");
        for moments in [Moments::Squares, Moments::Gram] {
            let zeros = |id: &MatrixId| vec![0.0; moments.len(program.matrix(*id).cols)];
            let mut exact: Vec<_> = matrices.iter().map(zeros).collect();
            let mut found = exact.clone();
            let mut streams = (Vec::new(), Vec::new());
            // As a whole, and from stop to stop.
            let (stops, end) = (program.stops(), program.nodes.len());
            let halves = stops[stops.len() / 2];
            for nodes in [0..end, 0..halves, halves..end].into_iter().filter(|nodes| nodes.end > 0) {
                let stretch = |stream| Stretch { nodes: nodes.clone(), stream };
                let (mut cpu, mut gpu) = (cpu.runner(true).unwrap(), gpu.runner(true).unwrap());
                block_on(cpu.moments(&ids, stretch(&mut streams.0), &matrices, moments, &mut exact)).unwrap();
                block_on(gpu.moments(&ids, stretch(&mut streams.1), &matrices, moments, &mut found)).unwrap();
                assert_close(&sample.name, &streams.1, &streams.0, TOLERANCE);
                // What the final norm gives stays.
                if nodes.end == end {
                    let mut hidden = (Vec::new(), Vec::new());
                    block_on(cpu.hidden(0..ids.len(), &mut hidden.0)).unwrap();
                    block_on(gpu.hidden(0..ids.len(), &mut hidden.1)).unwrap();
                    assert_close(&sample.name, &hidden.1, &hidden.0, TOLERANCE);
                }
            }
            for (id, (found, exact)) in matrices.iter().zip(found.iter().zip(&exact)) {
                let what = format!("{} {moments:?} {}", sample.name, program.matrix(*id).key);
                // An expert may be sent no token.
                let is_expert = matches!(program.matrix(*id).role, Role::ExpertIn | Role::ExpertOut);
                let is_idle = exact.iter().all(|sum| *sum == 0.0);
                assert!(!is_idle || is_expert, "{what}");
                idle += usize::from(is_idle);
                assert_close(&what, found, exact, TOLERANCE);
            }
        }
        assert!(idle <= matrices.len() / 2, "{}: {idle} of {}", sample.name, matrices.len());
        let (mut cpu, mut gpu) = (cpu.runner(true).unwrap(), gpu.runner(true).unwrap());
        block_on(cpu.forward(&ids, None)).unwrap();
        block_on(gpu.forward(&ids, None)).unwrap();
        let (mut exact, mut found) = (Vec::new(), Vec::new());
        for rows in [0..ids.len(), 3..4, 5..ids.len()] {
            block_on(cpu.hidden(rows.clone(), &mut exact)).unwrap();
            block_on(gpu.hidden(rows, &mut found)).unwrap();
            assert_close(&sample.name, &found, &exact, TOLERANCE);
        }
    }
}

//! Pruning by what a text sends through a model: what it gains on trained weights, that every family goes through, and what
//! the report says of it.

use serde_json::{Value, json};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, Evaluate, EvaluateOptions, MemorySink, OpenOptions,
    Recipe, report, run, sequence_logits,
};
use statepress_tests::edit::Edit;
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, heldout_ids, open, open_folder};

fn recipe(steps: Value) -> Recipe {
    Recipe::from_json(&json!({ "version": 1, "name": "t", "steps": steps }).to_string()).unwrap()
}

fn prune(kind: &str, keep: f64, by: &str, repair: bool) -> Value {
    json!({ "prune": { "kind": kind, "keep": keep, "by": by, "repair": repair } })
}

/// What a recipe leaves, and its report; what needs no text gets none.
fn pruned(base: &Checkpoint, steps: Value, ids: &[u32]) -> (report::CompressReport, Checkpoint) {
    let (recipe, sink) = (recipe(steps), MemorySink::default());
    let model = base.model().unwrap();
    let needs = recipe.needs_calibration();
    let job = match needs {
        true => {
            base.compress_calibrated(&recipe, Box::new(sink.clone()), Calibration::new(&model, ids)).unwrap()
        }
        false => base.compress(&recipe, Box::new(sink.clone())).unwrap(),
    };
    let report = run(job, |_| {}).unwrap();
    (report, Checkpoint::open(sink.take(), OpenOptions::default()).unwrap())
}

fn divergence(base: &Checkpoint, other: &Checkpoint, ids: &[u32]) -> f64 {
    let (base, other) = (base.model().unwrap(), other.model().unwrap());
    let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
    run(Compare::new(&base, &other, ids, options, || 0.0).unwrap(), |_| {}).unwrap().kl.mean
}

/// Text to read, and other text to judge by.
fn halves(ids: &[u32]) -> (&[u32], &[u32]) {
    (&ids[..6144], &ids[ids.len() - 1024..])
}

/// On text that was not read; the study that this follows has half of what is cut back at a half of the width.
#[test]
fn what_is_left_makes_up_for_what_went() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = heldout_ids();
    let (read, judged) = halves(&ids);
    let cost = |steps: Value| divergence(&base, &pruned(&base, steps, read).1, judged);
    for (kind, keep) in [("width", 0.5), ("inner", 0.75)] {
        let magnitude = cost(json!([prune(kind, keep, "l2", false)]));
        let ranked = cost(json!([prune(kind, keep, "loss", false)]));
        let repaired = cost(json!([prune(kind, keep, "loss", true)]));
        let active = cost(json!([prune(kind, keep, "activation", true)]));
        assert!(ranked < magnitude, "{kind}: {ranked} by loss, {magnitude} by magnitude");
        assert!(repaired < ranked / 2.0, "{kind}: {repaired} repaired, {ranked} not");
        assert!(repaired < active && active < magnitude, "{kind}: {repaired}, {active} by activation");
    }
}

/// The step size is a mean over rows, for which a few do: 1.16x for next to nothing.
#[test]
fn four_rows_make_the_step_sizes_of_all() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = heldout_ids();
    let (read, judged) = halves(&ids);
    let (report, smaller) = pruned(&base, json!([prune("delta", 4.0, "loss", true)]), read);
    let [step] = &report.plan.pruned[..] else { panic!("{:?}", report.plan.pruned) };
    assert!(step.params_before as f64 / step.params_after as f64 > 1.15);
    for place in &step.places {
        assert_eq!((place.before, place.after, place.removed.len()), (256, 4, 0));
        assert!(place.error.unwrap() < 1e-3, "{place:?}");
    }
    assert!(divergence(&base, &smaller, judged) < 1.5e-3);
}

/// Three steps, then bits whose errors are made up for on what the steps have left.
#[test]
fn steps_follow_one_another_and_bits_come_last() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = heldout_ids();
    let (read, judged) = halves(&ids);
    let quantize = json!({ "quantize": { "rules": [{ "match": "role:norm", "precision": "fp16" }], "otherwise": "nf4",
        "errorCompensation": "gptq" } });
    let steps = [
        prune("delta", 4.0, "loss", true),
        prune("width", 0.5, "loss", true),
        prune("inner", 0.9, "loss", true),
    ];
    let all = json!([steps[0], steps[1], steps[2], quantize]);
    let (report, smaller) = pruned(&base, all, read);
    assert_eq!(report.plan.pruned.len(), 3);
    assert!(report.plan.bytes.ratio > 8.0, "{}", report.plan.bytes.ratio);
    let told = |code: &str| report.plan.findings.iter().any(|finding| finding.code == code);
    assert!(told("compensated"), "{:?}", report.plan.findings);
    let cost = divergence(&base, &smaller, judged);
    assert!(cost < 0.05, "{cost}");
    let odd: Vec<usize> = report.plan.pruned[2].places.iter().map(|place| place.after).collect();
    assert_eq!(odd, [230; 4]);
}

/// A search follows one recipe after another that begin alike: what is told and written is that of each followed by itself.
#[test]
fn what_first_steps_have_left_is_gone_on_from() {
    let file = fixture("fixtures/il_moe.safetensors");
    let ids: Vec<u32> = (0..600u32).map(|t| (t * t * 31 + t * 7) % 50).collect();
    let base = open(&file, &[]);
    base.keep_first_steps(true);
    let follow = |of: &Checkpoint, kind: &str, bits: &str, ids: &[u32]| {
        let quantize = json!({ "quantize": { "rules": [], "otherwise": bits, "errorCompensation": "gptq" } });
        let recipe = recipe(json!([prune(kind, 0.5, "loss", true), { "center": {} }, quantize]));
        let (model, sink, mut read) = (of.model().unwrap(), MemorySink::default(), 0);
        let calibration = Calibration::new(&model, ids);
        let job = of.compress_calibrated(&recipe, Box::new(sink.clone()), calibration).unwrap();
        let report = run(job, |progress| read += usize::from(progress.stage == "prune")).unwrap();
        (sink.take(), report.plan, read)
    };
    follow(&base, "width", "int8", &ids);
    for (kind, ids, goes_on) in [
        ("width", &ids[..], true),
        ("width", &ids[..500], false),
        ("width", &ids[..], false),
        ("inner", &ids[..], false),
        ("inner", &ids[..], true),
    ] {
        let (bytes, plan, read) = follow(&base, kind, "nf4", ids);
        let (alone, plan_alone, read_alone) = follow(&open(&file, &[]), kind, "nf4", ids);
        assert!(bytes == alone, "{kind}, {} ids", ids.len());
        assert_eq!(plan, plan_alone);
        assert!(read == if goes_on { 0 } else { read_alone }, "{kind}, {} ids: {read}", ids.len());
    }
    base.keep_first_steps(false);
    assert!(follow(&base, "inner", "nf4", &ids).2 > 0, "let go of");
    assert!(follow(&base, "inner", "nf4", &ids).2 > 0, "and not kept again");
}

/// Also where nothing is quantized: the weights that read what went were fitted to the text.
#[test]
fn what_was_fitted_to_a_text_says_so_when_it_is_judged_by_it() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let ids: Vec<u32> = (0..600u32).map(|t| (t * t * 31 + t * 7) % 50).collect();
    let warns = |by: &str| {
        let (_, smaller) = pruned(&base, json!([prune("width", 0.5, by, false)]), &ids);
        let (options, part) = (EvaluateOptions::default(), &ids[..400]);
        let found =
            run(Evaluate::new(&smaller.model().unwrap(), part, &options, || 0.0).unwrap(), |_| {}).unwrap();
        found.findings.iter().any(|finding| finding.code == "calibration-text")
    };
    assert!(warns("loss"));
    assert!(!warns("l2"), "by magnitude no text is read");
}

#[test]
fn what_is_no_number_is_not_fitted_to() {
    let mut edit = Edit::file(&fixture("fixtures/il_moe.safetensors"));
    edit.tensor("layers.0.ssm.in_proj.weight").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let base = Checkpoint::open(edit.write(), OpenOptions::default()).unwrap();
    let ids: Vec<u32> = (0..600u32).map(|t| (t * t * 31 + t * 7) % 50).collect();
    for kind in ["delta", "inner"] {
        let job = base.compress_calibrated(
            &recipe(json!([prune(kind, 2.0, "loss", true)])),
            Box::new(MemorySink::default()),
            Calibration::new(&base.model().unwrap(), &ids),
        );
        let error = run(job.unwrap(), |_| {}).err().unwrap().to_string();
        assert!(error.contains("is not a number somewhere in the calibration text"), "{kind}: {error}");
    }
}

/// Nothing reads what comes of the last layer's step sizes but the head.
#[test]
fn a_step_size_of_numbers_that_are_none_is_refused_by_name() {
    let file = fixture("fixtures/il_moe.safetensors");
    let names = open(&file, &[]).inspection().tensors.into_iter().map(|tensor| tensor.name);
    let last = names.filter(|name| name.ends_with("delta_proj.weight")).max().unwrap();
    let mut edit = Edit::file(&file);
    edit.tensor(&last).bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let base = Checkpoint::open(edit.write(), OpenOptions::default()).unwrap();
    let ids: Vec<u32> = (0..600u32).map(|t| (t * t * 31 + t * 7) % 50).collect();
    let job = base.compress_calibrated(
        &recipe(json!([prune("delta", 2.0, "loss", true)])),
        Box::new(MemorySink::default()),
        Calibration::new(&base.model().unwrap(), &ids),
    );
    let error = run(job.unwrap(), |_| {}).err().unwrap().to_string();
    assert!(error.contains(&format!("{last} has numbers that are not finite")), "{error}");
    assert!(error.contains("leave out pruning of kind delta"), "{error}");
}

/// Whatever is ranked by a text, and fitted to it, leaves a model that runs, in every family.
#[test]
fn every_family_goes_through() {
    let mut checked = 0;
    let families =
        samples().into_iter().filter(|sample| sample.golden.is_some() && !sample.name.contains('.'));
    let mut bases: Vec<(String, Checkpoint)> =
        families.map(|sample| (sample.name, open_folder(&sample.folder))).collect();
    for name in ["il_moe", "il_odd", "tf"] {
        bases.push((name.into(), open(&fixture(&format!("fixtures/{name}.safetensors")), &[])));
    }
    for (name, base) in bases {
        let vocab = base.model().unwrap().info.vocab_size as u32;
        let ids: Vec<u32> = (0..600u32).map(|t| (t * t * 31 + t * 7) % vocab).collect();
        for kind in ["inner", "state", "head", "attentionHead", "width", "experts"] {
            for (by, repair) in [("loss", true), ("activation", false), ("l1", true)] {
                let repair = repair && kind != "experts";
                let steps = json!([prune(kind, 0.7, by, repair)]);
                if base.plan(&recipe(steps.clone())).is_err() || kind == "experts" && by == "l1" {
                    continue;
                }
                let (report, smaller) = pruned(&base, steps, &ids);
                let places = &report.plan.pruned[0].places;
                assert!(
                    places.iter().all(|place| place.error.is_none_or(|error| (0.0..=1.5).contains(&error))),
                    "{name} {kind} {by}: {places:?}"
                );
                let logits =
                    pollster::block_on(sequence_logits(&smaller.model().unwrap(), &ids[..8])).unwrap();
                assert!(logits.iter().all(|x| x.is_finite()), "{name} {kind} {by}");
                checked += 1;
            }
        }
    }
    assert!(checked > 150, "{checked}");
}

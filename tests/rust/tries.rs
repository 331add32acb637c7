//! A search whole: what is tried after what was measured, and a checkpoint that comes of it.

use serde_json::json;
use statepress::report::{SearchCosts, SearchNext, SearchTarget, SearchTry};
use statepress::{
    Checkpoint, MemorySink, OpenOptions, Recipe, SearchOptions, allocate, next_try, recipe::Step, run,
    split_text,
};
use statepress_core::Role;
use statepress_tests::files::{demo, fixture, open};

/// Two matrices of 1,000 numbers, of 10,000 bytes in all: in 2, 4 or 8 bits each.
fn costs(coded: bool) -> SearchCosts {
    let tensor = |name: &str, times: f64| {
        let cost = |precision: &str, bytes: u64, kl: f64| json!({ "precision": precision, "bytes": bytes, "kl": times * kl, "measured": true });
        let choices = [cost("int2", 250, 0.4), cost("int4", 500, 0.04), cost("int8", 1000, 0.004)];
        json!({ "tensor": name, "role": null, "params": 1000, "choices": choices })
    };
    let quantize = json!({ "quantize": { "rules": [], "otherwise": "nf4", "coded": coded } });
    let base = json!({ "version": 1, "name": "searched", "steps": [quantize] });
    let tensors = [tensor("a", 1.0), tensor("b", 2.0)];
    serde_json::from_value(json!({ "base": base, "bytesBefore": 10_000, "fixedBytes": 0, "tensors": tensors, "tokens": 512, "window": 256 }))
        .unwrap()
}

fn tried(bytes: u64, kl: f64) -> SearchTry {
    SearchTry { bytes, kl, perplexity_change: 100.0 * kl.exp_m1() }
}

const NONE: SearchTarget = SearchTarget { ratio: None, bytes: None, max_kl: None, max_loss: None };

#[test]
fn a_miss_aims_closer_and_the_best_is_kept() {
    let costs = costs(false);
    let target = SearchTarget { max_kl: Some(0.5), ..NONE };
    let first = next_try(&costs, &target, &[]).unwrap();
    assert_eq!((first.best, first.reached), (None, false));
    let first = first.next.unwrap();
    assert_eq!(first, allocate(&costs, &target).unwrap(), "single costs predict the first");
    assert_eq!(first.chosen.bytes, 750, "{:?}", first.chosen);
    // It is done where it reaches its target, however far it stays below.
    let done = next_try(&costs, &target, &[tried(750, 0.1)]).unwrap();
    assert_eq!((done.next, done.best, done.reached), (None, Some(0), true));
    // Four times too much: single costs are asked for a quarter, and a little less.
    let closer = next_try(&costs, &target, &[tried(750, 2.0)]).unwrap();
    assert_eq!((closer.best, closer.reached), (Some(0), false));
    let closer = closer.next.unwrap();
    let quarter = SearchTarget { max_kl: Some(0.5 * 0.99 / 4.0), ..NONE };
    assert_eq!(closer, allocate(&costs, &quarter).unwrap());
    // Missed by a hair: what is asked for is the same again, so the next larger one is tried.
    let hair = next_try(&costs, &target, &[tried(750, 0.501)]).unwrap().next.unwrap();
    assert_eq!(hair.chosen.bytes, 1000, "{:?}", hair.chosen);
    // Missed by so much that none is predicted to reach it: the closest.
    let closest = next_try(&costs, &target, &[tried(750, 1e6)]).unwrap().next.unwrap();
    assert_eq!(closest.chosen.bytes, 2000);
    // Nothing is closer than that: it is over, missed, and the best is what lost least.
    let missed = next_try(&costs, &target, &[tried(750, 1e6), tried(2000, 9.0)]).unwrap();
    assert_eq!((missed.next, missed.best, missed.reached), (None, Some(1), false));
}

#[test]
fn what_is_scaled_may_be_the_same_again_and_the_closest_is_not_always_the_last() {
    let mut costs = costs(false);
    // One after the other on the way to the closest: 8, 3.6, 3.3 and 3.2 nats.
    let saved = [(4.4, 0.0), (0.3, 0.0), (0.1, 0.0), (3.2, 3.2)];
    costs.tensors = saved.iter().enumerate().map(|(n, (coarse, fine))| {
        let cost = |bytes: u64, kl: &f64| json!({ "precision": "int4", "bytes": bytes, "kl": kl, "measured": true });
        serde_json::from_value(json!({ "tensor": n.to_string(), "role": null, "params": 1, "choices": [cost(10, coarse), cost(20, fine)] })).unwrap()
    }).collect();
    let target = SearchTarget { max_kl: Some(4.0), ..NONE };
    let walked = |losses: [f64; 4]| {
        let mut all = Vec::new();
        loop {
            let next = next_try(&costs, &target, &all).unwrap();
            let Some(asked) = next.next else {
                let bytes: Vec<u64> = all.iter().map(|it: &SearchTry| it.bytes).collect();
                return (bytes, next.best.unwrap(), next.reached);
            };
            let bytes = asked.chosen.bytes;
            all.push(tried(bytes, losses[(bytes as usize - 40) / 10]));
        }
    };
    assert_eq!(walked([9.0, 3.0, 2.0, 1.0]), (vec![50], 0, true));
    assert_eq!(walked([9.0, 4.1, 3.9, 1.0]), (vec![50, 60], 1, true));
    assert_eq!(walked([9.0, 40.0, 30.0, 1.0]), (vec![50, 70], 1, true));
    assert_eq!(walked([9.0, 4.3, 4.1, 4.2]), (vec![50, 60, 70], 1, false));
}

#[test]
fn a_size_is_filled_and_kept() {
    // Without a coder, bytes are what they were predicted to be.
    let target = SearchTarget { ratio: Some(6.6), ..NONE };
    let plain = costs(false);
    assert_eq!(next_try(&plain, &target, &[]).unwrap().next.unwrap().chosen.bytes, 1500);
    let done = next_try(&plain, &target, &[tried(1500, 0.1)]).unwrap();
    assert_eq!((done.next, done.reached), (None, true));
    // A coder leaves room, which is filled; what is too large then is let go of.
    let coded = costs(true);
    let filled = next_try(&coded, &target, &[tried(1100, 0.1)]).unwrap();
    assert_eq!((filled.best, filled.reached), (Some(0), true));
    assert_eq!(filled.next.unwrap().chosen.bytes, 2000);
    let fell_back = next_try(&coded, &target, &[tried(1100, 0.1), tried(1600, 0.05)]).unwrap();
    assert_eq!((fell_back.next, fell_back.best, fell_back.reached), (None, Some(0), true));
    let better = next_try(&coded, &target, &[tried(1100, 0.1), tried(1510, 0.05)]).unwrap();
    assert_eq!((better.next, better.best, better.reached), (None, Some(1), true));
    // A size below all that are known is tried with the smallest of them; what is missed to the end is refused.
    let small = SearchTarget { bytes: Some(300.0), ..NONE };
    assert!(allocate(&coded, &small).is_err());
    assert_eq!(next_try(&coded, &small, &[]).unwrap().next.unwrap().chosen.bytes, 500);
    assert!(next_try(&coded, &small, &[tried(290, 0.1)]).unwrap().reached);
    let error = next_try(&coded, &small, &[tried(310, 0.1)]).unwrap_err().to_string();
    assert!(
        error.contains("option target is 300 bytes; allowed: up to 32.26x, from 310 bytes on"),
        "{error}"
    );
}

#[test]
fn there_is_an_end_and_no_more_than_was_asked_for() {
    let mut costs = costs(false);
    // Twelve tensors that save as much for a byte, and each recipe misses by a hair: there would be twelve to try.
    let unit = |n: usize| {
        let cost =
            |bytes: u64, kl: f64| json!({ "precision": "int4", "bytes": bytes, "kl": kl, "measured": true });
        json!({ "tensor": n.to_string(), "role": null, "params": 1, "choices": [cost(10, 1.0), cost(20, 0.0)] })
    };
    costs.tensors = (0..12).map(|n| serde_json::from_value(unit(n)).unwrap()).collect();
    let target = SearchTarget { max_kl: Some(11.5), ..NONE };
    let mut all = Vec::new();
    let end = loop {
        match next_try(&costs, &target, &all).unwrap() {
            SearchNext { next: Some(next), .. } => all.push(tried(next.chosen.bytes, 11.501)),
            end => break end,
        }
    };
    assert_eq!((all.len(), end.best, end.reached), (5, Some(0), false), "{all:?}");
    all.push(tried(1, 0.1));
    let error = next_try(&costs, &target, &all).unwrap_err().to_string();
    assert!(error.contains("option tried is more measurements; allowed: 5: one of each recipe"), "{error}");
    let error = next_try(&costs, &NONE, &[]).unwrap_err().to_string();
    assert!(error.contains("one of ratio, bytes, maxKl and maxLoss"), "{error}");
}

#[test]
fn a_size_is_not_tried_twice() {
    let coded = costs(true);
    let target = SearchTarget { bytes: Some(1500.0), ..NONE };
    // It misses, the next one leaves room, and what is asked for then is the first again.
    let first = next_try(&coded, &target, &[]).unwrap().next.unwrap().chosen.bytes;
    let second = next_try(&coded, &target, &[tried(1530, 0.1)]).unwrap().next.unwrap().chosen.bytes;
    assert!(second < first, "{second} {first}");
    let over = next_try(&coded, &target, &[tried(1530, 0.1), tried(1150, 0.2)]).unwrap();
    assert_eq!((over.next, over.best, over.reached), (None, Some(1), true));
}

#[test]
fn a_text_is_parted_for_reading_and_judging() {
    let ids: Vec<u32> = (0..40_003).collect();
    let (read, judged) = split_text(&ids[..11]);
    assert_eq!((read, judged), (&ids[..9], &ids[9..11]));
    let (read, judged) = split_text(&ids);
    assert_eq!((read.len(), judged.first(), judged.len()), (30_003, Some(&30_003), 4096));
    assert_eq!(split_text(&[]), (&[][..], &[][..]));
}

fn prune() -> Step {
    serde_json::from_value(json!({ "prune": { "kind": "width", "keep": 0.75 } })).unwrap()
}

#[test]
fn a_search_leaves_a_checkpoint_that_its_recipe_makes_again() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let ids: Vec<u32> = (0..128).map(|i| (i * 37 + 11) % 50).collect();
    for (target, coded, first) in [
        (SearchTarget { ratio: Some(4.0), ..NONE }, false, vec![]),
        (SearchTarget { ratio: Some(4.0), ..NONE }, true, vec![prune()]),
        (SearchTarget { max_loss: Some(20.0), ..NONE }, false, vec![prune()]),
    ] {
        let options = SearchOptions { fast: true, coded, first: first.clone(), fisher: None };
        let mut stages = Vec::new();
        let found = base
            .search(&ids, &target, &options, |progress| {
                if stages.last() != Some(&progress.stage) {
                    stages.push(progress.stage.clone());
                }
            })
            .unwrap();
        let bytes = found.report.plan.bytes;
        assert!(found.reached && bytes.after == found.measured.bytes, "{:?}", found.measured);
        if let Some(ratio) = target.ratio {
            assert!(bytes.ratio >= ratio, "{}", bytes.ratio);
        }
        assert!(["load", "compare"].iter().all(|stage| stages.iter().any(|it| it == stage)), "{stages:?}");
        assert_eq!(&found.recipe.steps[..first.len()], &first[..], "what comes first is in the recipe");
        // Anybody can follow it again, by the same text.
        let (model, sink) = (base.model().unwrap(), MemorySink::default());
        let (read, _) = split_text(&ids);
        let calibration = statepress::Calibration::new(&model, read);
        run(base.compress_calibrated(&found.recipe, Box::new(sink.clone()), calibration).unwrap(), |_| {})
            .unwrap();
        assert!(sink.take() == found.bytes, "other bytes");
        let compressed = Checkpoint::open(found.bytes, OpenOptions::default()).unwrap();
        assert_eq!(compressed.inspection().recipe.unwrap().steps, found.recipe.steps);
        compressed.model().unwrap();
    }
}

#[test]
fn what_comes_first_is_what_a_coder_wants_as_far_as_it_can_be_had() {
    let first = |base: &Checkpoint, steps: Vec<Step>, coded| {
        let recipe = Recipe { version: 1, name: "first".into(), description: None, steps };
        base.search_steps(recipe, coded)
    };
    let names = |steps: &[Step]| serde_json::to_value(steps).unwrap();
    let tied = open(&demo().join("model.safetensors"), &[]);
    let pruned = first(&tied, vec![prune()], false).unwrap();
    assert_eq!((pruned.first.steps, pruned.reads_text), (vec![prune()], false));
    assert_eq!(pruned.findings[0].code, "predicts-rounding");
    let ready = first(&tied, vec![], true).unwrap();
    assert_eq!(names(&ready.first.steps), json!([{ "center": {} }, { "basis": { "windows": 16 } }]));
    assert!(ready.reads_text && ready.findings.is_empty());
    // What is there already is not done again.
    assert_eq!(first(&tied, ready.first.steps.clone(), true).unwrap(), ready);
    // A head of its own rules a basis out.
    let untied = open(&fixture("fixtures/tf.untied.pt"), &[]);
    let head = first(&untied, vec![], true).unwrap();
    assert_eq!((names(&head.first.steps), head.reads_text), (json!([{ "center": {} }]), false));
    let [finding] = &head.findings[..] else { panic!("{:?}", head.findings) };
    let is_head = |it: &statepress::report::TensorReport| it.role == Some(Role::Head);
    let name = untied.inspection().tensors.into_iter().find(is_head).map(|it| it.name);
    assert_eq!((finding.code.as_str(), &finding.tensor), ("no-basis", &name));
    let quantize =
        serde_json::from_value(json!({ "quantize": { "rules": [], "otherwise": "nf4" } })).unwrap();
    let error = first(&tied, vec![quantize], false).unwrap_err().to_string();
    assert!(error.contains("option first is with a quantize step"), "{error}");
}

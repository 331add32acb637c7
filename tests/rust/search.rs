//! The search for the best recipe: what each tensor costs is measured, the recipe reaches its target, and its prediction holds.

use statepress::report::{SearchCosts, SearchTarget, TensorCosts};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, CostsOptions, MemorySink, OpenOptions, allocate, run,
};
use statepress_core::Role;
use statepress_tests::edit::Edit;
use statepress_tests::files::{demo, fixture, open};
use statepress_tests::golden::Golden;
use statepress_tests::yardstick::recipe;

fn costs(base: &Checkpoint, texts: (&[u32], &[u32]), options: &CostsOptions) -> SearchCosts {
    let model = base.model().unwrap();
    let calibration = Calibration::new(&model, texts.0);
    run(base.search_costs(calibration, texts.1, options, Vec::new()).unwrap(), |_| {}).unwrap()
}

#[test]
fn a_budget_is_kept_and_the_prediction_holds() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = Golden::open(&fixture("trained/itera-tiny.safetensors")).ids("input_ids");
    let (read, judged) = ids.split_at(ids.len() / 2);
    let costs = costs(&base, (read, judged), &CostsOptions::new(true, false));
    for tensor in &costs.tensors {
        let pairs = tensor.choices.windows(2);
        assert!(pairs.clone().all(|pair| pair[0].bytes < pair[1].bytes), "{tensor:?}");
        assert!(tensor.choices.iter().all(|cost| cost.kl >= 0.0 && cost.kl.is_finite()), "{tensor:?}");
        assert_eq!(tensor.choices.iter().filter(|cost| cost.measured).count(), 1, "{tensor:?}");
    }
    let small = allocate(&costs, &SearchTarget { ratio: Some(9.0), ..SearchTarget::default() }).unwrap();
    assert!(small.chosen.ratio >= 9.0 && small.chosen.ratio < 9.2, "{:?}", small.chosen);
    for pair in small.front.windows(2) {
        assert!(pair[0].bytes < pair[1].bytes && pair[0].kl > pair[1].kl, "{pair:?}");
    }
    let (report, divergence) = measured(&base, &small.recipe, (read, judged), costs.window);
    assert_eq!(report.plan.bytes.after, small.chosen.bytes, "the size is what was predicted");
    let off = divergence / small.chosen.kl;
    assert!((0.5..2.0).contains(&off), "{divergence} nats, predicted {}", small.chosen.kl);

    let close = SearchTarget { max_kl: Some(small.chosen.kl / 4.0), ..SearchTarget::default() };
    let close = allocate(&costs, &close).unwrap().chosen;
    assert!(close.kl <= small.chosen.kl / 4.0 && close.ratio < small.chosen.ratio, "{close:?}");
    let change = close.perplexity_change * (1.0 + 1e-9);
    let loss = SearchTarget { max_loss: Some(change), ..SearchTarget::default() };
    assert_eq!(allocate(&costs, &loss).unwrap().chosen, close, "the same said otherwise");
}

fn measured(
    base: &Checkpoint,
    recipe: &statepress::Recipe,
    (read, judged): (&[u32], &[u32]),
    window: u64,
) -> (statepress::report::CompressReport, f64) {
    let (model, sink) = (base.model().unwrap(), MemorySink::default());
    let job =
        base.compress_calibrated(recipe, Box::new(sink.clone()), Calibration::new(&model, read)).unwrap();
    let report = run(job, |_| {}).unwrap();
    let compressed = Checkpoint::open(sink.take(), OpenOptions::default()).unwrap().model().unwrap();
    let options = CompareOptions { window: Some(window as usize), ..CompareOptions::default() };
    let card = run(Compare::new(&model, &compressed, judged, options, || 0.0).unwrap(), |_| {}).unwrap();
    (report, card.kl.mean)
}

/// With codes to be entropy-coded, steps are chosen: far smaller files than any number of bits gives at that divergence.
#[test]
fn a_coded_search_chooses_steps() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = Golden::open(&fixture("trained/itera-tiny.safetensors")).ids("input_ids");
    let (read, judged) = ids.split_at(ids.len() / 2);
    let options = CostsOptions::new(true, true);
    let steps = costs(&base, (read, judged), &options);
    for tensor in &steps.tensors {
        assert!(tensor.choices.iter().all(|cost| cost.step.is_some()), "{tensor:?}");
        for pair in tensor.choices.windows(2) {
            assert!(pair[0].step > pair[1].step && pair[0].bytes <= pair[1].bytes && pair[0].kl > pair[1].kl);
        }
    }
    // Numbers that no product goes over take fewer bits than 16, too, and so do the small matrices of states.
    let small = ["layers.0.ssm.conv1d.weight", "layers.0.ssm.ssm.B", "layers.0.ssm.ssm.C"];
    assert!(small.iter().all(|name| steps.tensors.iter().any(|it| it.tensor == *name)), "{small:?}");
    let target = SearchTarget { ratio: Some(11.0), ..SearchTarget::default() };
    let found = allocate(&steps, &target).unwrap();
    let (report, divergence) = measured(&base, &found.recipe, (read, judged), steps.window);
    for it in report.plan.tensors.iter().filter(|it| small.contains(&&*it.name)) {
        let (step, off) = (it.step.unwrap(), it.error.unwrap().max_abs.unwrap());
        assert!(it.bytes_after < 12 * it.params / 8, "{it:?}");
        // What no product goes over is rounded to the nearest level; a byte stores how far apart those are.
        assert!(off > 0.4 * step && (off < 0.55 * step || it.role != Some(Role::Conv)), "{it:?}");
    }
    assert!(report.plan.tensors.iter().any(|it| it.rule == "embedding.weight"), "a rule for each tensor");
    assert!(report.plan.bytes.after < report.plan.bytes.memory / 2, "{:?}", report.plan.bytes);
    let (size, off) = (report.plan.bytes.ratio / 11.0, divergence / found.chosen.kl);
    assert!((0.95..1.15).contains(&size), "{} times smaller, predicted 11", report.plan.bytes.ratio);
    assert!((0.4..2.0).contains(&off), "{divergence} nats, predicted {}", found.chosen.kl);
    // Fixed widths lose more at that size, by their own prediction.
    let fixed = costs(&base, (read, judged), &CostsOptions { coded: false, ..options });
    let fixed = allocate(&fixed, &target).unwrap().chosen;
    assert!(divergence < 0.6 * fixed.kl, "{divergence} nats, {} without coding", fixed.kl);
}

#[test]
fn every_precision_that_a_tensor_takes_is_measured_or_follows() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let ids: Vec<u32> = (0..96).map(|i| (i * 37 + 11) % 50).collect();
    let costs = costs(&base, ids.split_at(48), &CostsOptions { windows: 1, ..CostsOptions::default() });
    assert!(!costs.tensors.is_empty());
    for tensor in &costs.tensors {
        let names: Vec<_> = tensor.choices.iter().map(|cost| cost.precision.name()).collect();
        let expected = ["lm2", "lm3", "nf4", "int5", "int6", "int8"];
        // What no product goes over may also stay in sixteen bits, as the base has it; a scale for each of so short rows has INT8
        // take no less.
        match matches!(tensor.role, Some(Role::Conv | Role::Dynamics)) {
            true => assert_eq!(names, [&expected[..5], &["fp16"]].concat(), "{}", tensor.tensor),
            false => assert_eq!(names, expected, "{}", tensor.tensor),
        }
        assert!(tensor.choices.iter().take(3).all(|cost| cost.measured), "{}", tensor.tensor);
        for pair in tensor.choices[3..].windows(2).filter(|pair| pair[1].precision.bits() <= 8) {
            let bits = pair[1].precision.bits() - pair[0].precision.bits();
            let quarter = pair[0].kl / 4f64.powi(bits as i32);
            assert!((pair[1].kl - quarter).abs() <= 1e-9 * quarter.abs(), "{tensor:?}");
        }
    }
}

#[test]
fn a_measurement_goes_on_where_it_stopped_and_recipes_can_be_made_of_what_is_there() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let ids: Vec<u32> = (0..96).map(|i| (i * 37 + 11) % 50).collect();
    let (texts, options) = (ids.split_at(48), CostsOptions::new(true, false));
    let whole = costs(&base, texts, &options);
    let model = base.model().unwrap();
    let resumed = |known| base.search_costs(Calibration::new(&model, texts.0), texts.1, &options, known);
    let (first, others) = whole.tensors.split_at(2);
    let job = resumed(first.to_vec()).unwrap();
    let part = job.so_far();
    assert_eq!((&part.tensors[..], part.unmeasured), (first, others.len() as u64));
    // What is not measured yet is stored as the base says, and counted in the size.
    let stored = |it: &TensorCosts| match it.role {
        Some(Role::Conv | Role::Dynamics) => 2 * it.params,
        _ => it.choices.iter().find(|cost| cost.precision.name() == "nf4").unwrap().bytes,
    };
    assert!(others.iter().any(|it| it.role == Some(Role::Conv)), "numbers that no product goes over, too");
    assert_eq!(part.fixed_bytes, whole.fixed_bytes + others.iter().map(stored).sum::<u64>());
    let small = allocate(&part, &SearchTarget { bytes: Some(1e9), ..SearchTarget::default() }).unwrap();
    assert_eq!(small.front.len(), 1 + first.iter().map(|it| it.choices.len() - 1).sum::<usize>());
    assert_eq!(run(job, |_| {}).unwrap(), whole, "as if it had been measured in one go");
    assert_eq!(run(resumed(whole.tensors.clone()).unwrap(), |_| {}).unwrap(), whole);

    // Whichever are known, the others are measured; what is not of this model is refused by name.
    assert_eq!(run(resumed(others.to_vec()).unwrap(), |_| {}).unwrap(), whole);
    let foreign = TensorCosts { tensor: "of.another".into(), ..first[0].clone() };
    let odd = resumed(vec![foreign]).err().unwrap().to_string();
    assert!(odd.contains("option costs is of.another"), "{odd}");
}

#[test]
fn a_target_that_is_none_or_out_of_reach_is_refused_with_what_can_be_had() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let ids: Vec<u32> = (0..96).map(|i| (i * 37 + 11) % 50).collect();
    let costs = costs(&base, ids.split_at(48), &CostsOptions::new(true, false));
    let refused = |target: SearchTarget| allocate(&costs, &target).unwrap_err().to_string();
    let none = SearchTarget::default();
    assert!(refused(none).contains("one of ratio, bytes, maxKl and maxLoss"), "{}", refused(none));
    let two = SearchTarget { ratio: Some(4.0), max_kl: Some(0.1), ..none };
    assert!(refused(two).contains("one of ratio"), "{}", refused(two));
    for (target, why) in [
        (SearchTarget { ratio: Some(1.0), ..none }, "option ratio is 1; allowed: a number above 1"),
        (SearchTarget { max_kl: Some(f64::NAN), ..none }, "option maxKl is NaN"),
        (SearchTarget { max_loss: Some(-1.0), ..none }, "option maxLoss is -1"),
        (SearchTarget { ratio: Some(1e4), ..none }, "option target is 10000x; allowed: up to "),
        (SearchTarget { bytes: Some(10.0), ..none }, "10 bytes"),
        (SearchTarget { max_kl: Some(1e-300), ..none }, "at "),
    ] {
        assert!(refused(target).contains(why), "{}", refused(target));
    }
    let model = base.model().unwrap();
    let whole = CostsOptions::default();
    for (options, why) in [
        (CostsOptions { windows: 0, ..whole }, "windows is 0; allowed: 1 to 64"),
        (CostsOptions { tokens: 0, ..whole }, "tokens is 0; allowed: 1 and more"),
    ] {
        let calibration = Calibration::new(&model, &ids[..48]);
        let error =
            base.search_costs(calibration, &ids[48..], &options, Vec::new()).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
    for (at, part) in [(20, "is read has 20 tokens"), (73, "judges has 23 tokens")] {
        let short = base.search_costs(
            Calibration::new(&model, &ids[..at]),
            &ids[at..],
            &CostsOptions::default(),
            Vec::new(),
        );
        let error = short.err().unwrap().to_string();
        assert!(error.contains(part) && error.contains("fewer than a window of 24"), "{error}");
        assert!(error.contains("at least 96 tokens"), "{error}");
    }
}

#[test]
fn codes_that_a_tensor_has_already_cost_nothing_and_are_kept() {
    let base = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let nf4 = recipe(&[("role:norm", "fp16"), ("*", "nf4")], r#","nf4":{"block":64,"doubleQuant":true}"#);
    let (job, bytes) = base.compress_to_memory(&nf4).unwrap();
    run(job, |_| {}).unwrap();
    let quantized = Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap();
    let ids: Vec<u32> = (0..96).map(|i| (i * 37 + 11) % 50).collect();
    for fast in [true, false] {
        let costs = costs(
            &quantized,
            ids.split_at(48),
            &CostsOptions { windows: 1, ..CostsOptions::new(fast, false) },
        );
        for tensor in &costs.tensors {
            let of = |name| tensor.choices.iter().find(|cost| cost.precision.name() == name).unwrap();
            assert!(of("nf4").measured && of("nf4").kl == 0.0, "{tensor:?}");
            assert!(of("lm3").kl > 0.0 && of("int5").kl > 0.0, "what is rounded anew is not: {tensor:?}");
        }
        let least = SearchTarget { max_kl: Some(1e-300), ..SearchTarget::default() };
        let found = allocate(&costs, &least).unwrap();
        assert_eq!(found.chosen.kl, 0.0);
        let (report, divergence) = measured(&quantized, &found.recipe, ids.split_at(48), costs.window);
        assert!(divergence < 1e-3, "{divergence}: of the small ones alone");
        let rounded = report
            .plan
            .tensors
            .iter()
            .filter(|it| it.error.is_some_and(|error| error.mse.is_some_and(|mse| mse > 0.0)));
        let chosen = |name: &str| costs.tensors.iter().any(|it| it.tensor == name);
        assert_eq!(rounded.filter(|it| chosen(&it.name)).count(), 0, "none was rounded again");
    }
}

/// A transformer whose head is not its table, with a number of the table that is not finite: the first of row `token`.
fn with_nan(token: usize) -> Checkpoint {
    let mut file = Edit::file(&fixture("fixtures/tf.untied.pt"));
    let table = file.tensor("embedding.weight");
    let at = token * table.shape[1] * 4;
    table.bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    Checkpoint::open(file.write(), OpenOptions::default()).unwrap()
}

#[test]
fn numbers_that_are_none_are_refused_and_not_taken_for_no_cost() {
    let base = with_nan(7);
    let model = base.model().unwrap();
    let refused = |read: &[u32], judged: &[u32]| {
        let options = CostsOptions::new(true, false);
        run(base.search_costs(Calibration::new(&model, read), judged, &options, Vec::new()).unwrap(), |_| {})
            .unwrap_err()
            .to_string()
    };
    let without: Vec<u32> = (0..64).map(|i| 8 + i % 20).collect();
    let with: Vec<u32> = (0..64).map(|i| 7 + i % 20).collect();
    let judged = refused(&without, &with);
    assert!(judged.contains("the logits are not numbers"), "{judged}");
    let table = refused(&without, &without);
    assert!(table.contains("embedding.weight") && table.contains("NaN"), "{table}");
}

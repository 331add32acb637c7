//! Work that several do their share of comes to the same, to the byte, as work that one does.

use std::rc::Rc;

use pollster::block_on;
use statepress::recipe::Step;
use statepress::report::{CompressReport, SearchCosts, TensorCosts};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, ComparedShare, CostsOptions, Evaluate, EvaluateOptions,
    MemorySink, Offset, OpenOptions, Recipe, Share, ShareReport, Shares, Work, recipes, run,
};
use statepress_core::recipe::{ErrorCompensation, GptqOptions};
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, open, open_folder};

fn whole(checkpoint: &Checkpoint, recipe: &Recipe, ids: &[u32]) -> (CompressReport, Vec<u8>) {
    let (model, sink) = (checkpoint.model().unwrap(), MemorySink::default());
    let calibration = Calibration::new(&model, ids);
    let job = checkpoint.compress_calibrated(recipe, Box::new(sink.clone()), calibration).unwrap();
    (run(job, |_| {}).unwrap(), sink.take())
}

/// Each share as a worker does it, which sends its report as JSON.
fn shares(checkpoint: &Checkpoint, recipe: &Recipe, ids: &[u32], of: usize) -> Vec<(ShareReport, Vec<u8>)> {
    let share = |index| {
        let (model, sink) = (checkpoint.model().unwrap(), MemorySink::default());
        let (calibration, work) = (Calibration::new(&model, ids), Work::Share(Share { index, count: of }));
        let mut job = checkpoint.compress_shared(recipe, Box::new(sink.clone()), calibration, work).unwrap();
        while block_on(statepress::Job::step(&mut job)).unwrap().is_some() {}
        let json = serde_json::to_string(&job.finish_share().unwrap()).unwrap();
        (serde_json::from_str(&json).unwrap(), sink.take())
    };
    (0..of).map(share).collect()
}

fn joined(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    ids: &[u32],
    shares: Vec<(ShareReport, Vec<u8>)>,
) -> Result<(CompressReport, Vec<u8>), statepress::Error> {
    let mut parts = Shares::default();
    for (report, bytes) in shares {
        parts.add(Rc::new(bytes), report)?;
    }
    let (model, sink) = (checkpoint.model()?, MemorySink::default());
    let (calibration, work) = (Calibration::new(&model, ids), Work::Join(Box::new(parts)));
    let job = checkpoint.compress_shared(recipe, Box::new(sink.clone()), calibration, work)?;
    Ok((run(job, |_| {})?, sink.take()))
}

/// What does not depend on who did the work, as JSON; numbers that went through JSON are within a rounding of what they were.
fn same(report: &CompressReport) -> String {
    let mut report = CompressReport { seconds: 0.0, peak_memory: 0, ..report.clone() };
    for error in report.plan.tensors.iter_mut().filter_map(|tensor| tensor.error.as_mut()) {
        for number in [&mut error.mse, &mut error.max_abs, &mut error.cosine].into_iter().flatten() {
            *number = f64::from(*number as f32);
        }
    }
    serde_json::to_string(&report).unwrap()
}

fn check(what: &str, checkpoint: &Checkpoint, recipe: &Recipe, ids: &[u32], workers: &[usize]) {
    let (report, bytes) = whole(checkpoint, recipe, ids);
    for &of in workers {
        let shares = shares(checkpoint, recipe, ids, of);
        let tensors = shares.iter().map(|(share, _)| share.tensors.len());
        assert!(of == 1 || tensors.clone().filter(|&count| count > 0).count() > 1, "{what}: work is shared");
        let (of_all, written) = joined(checkpoint, recipe, ids, shares).unwrap();
        assert!(written == bytes, "{what}: {of} write what one writes");
        let (told, expected) = (same(&of_all), same(&report));
        let at = told.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
        assert!(
            told == expected,
            "{what}: {of} tell what one tells: {} {}",
            &told[at..(at + 200).min(told.len())],
            &expected[at..(at + 200).min(expected.len())]
        );
    }
}

fn ids(vocab: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 37 + i * i % 11) % vocab) as u32).collect()
}

#[test]
fn every_family_is_compressed_by_several_as_by_one() {
    for sample in samples().iter().filter(|sample| sample.golden.is_some()) {
        let mut recipe = statepress::recipes::find("int8").unwrap();
        for step in &mut recipe.steps {
            if let Step::Quantize(quantize) = step {
                quantize.error_compensation = ErrorCompensation::Gptq;
                quantize.gptq = Some(GptqOptions { windows: 2, window: 32, ..GptqOptions::default() });
            }
        }
        check(&sample.name, &open_folder(&sample.folder), &recipe, &ids(sample.vocab, 64), &[2]);
    }
}

/// Steps before the last, classes of rows, codes for the entropy coder, a percentile, a table that is read and multiplied by.
#[test]
fn recipes_of_every_kind_are_followed_by_several_as_by_one() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let untied = open(&fixture("fixtures/il_ffn.untied.pt"), &[]);
    let gptq = r#""errorCompensation":"gptq","gptq":{"windows":2,"window":64}"#;
    let rules = |rules: &str, more: &str| {
        format!(
            r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[{rules}],"otherwise":"fp32"{more},{gptq}}}}}]}}"#
        )
    };
    let stepped = rules(r#"{"match":"*","precision":"int8","step":0.3}"#, r#","coded":true"#);
    let based = stepped.replacen(r#"[{"quantize""#, r#"[{"center":{}},{"basis":{}},{"quantize""#, 1);
    let pruned = rules(r#"{"match":"*","precision":"int4"}"#, "").replacen(
        r#"[{"quantize""#,
        r#"[{"prune":{"kind":"state","keep":0.75}},{"quantize""#,
        1,
    );
    let rows = r#"{"match":"role:table","precision":"lm3","rows":[{"count":3,"precision":"fp16"}]},{"match":"*","precision":"nf4"}"#;
    let clipped =
        rules(r#"{"match":"*","precision":"int8"}"#, r#","int8":{"granularity":"row","percentile":99.5}"#);
    let by_activations = r#"{"version":1,"name":"t","steps":[{"quantize":{"rules":[{"match":"*in_proj*","precision":"nf4"}],
        "otherwise":"int8","nf4":{"clip":"activation"},"gptq":{"windows":2,"window":64}}}]}"#;
    let cases = [
        ("coded", &base, stepped.clone(), 500),
        ("in a basis", &base, based, 500),
        ("pruned", &base, pruned, 500),
        ("rows", &base, rules(rows, ""), 500),
        ("rows of a table alone", &untied, rules(rows, ""), 50),
        ("coded, untied", &untied, stepped, 50),
        ("clipped", &untied, clipped, 50),
        ("clipped by activations", &untied, by_activations.into(), 50),
    ];
    for (what, checkpoint, recipe, vocab) in cases {
        check(what, checkpoint, &Recipe::from_json(&recipe).unwrap(), &ids(vocab, 300), &[1, 3]);
    }
}

#[test]
fn a_share_that_lacks_what_it_tells_of_is_an_error() {
    let base = open(&fixture("fixtures/il_ffn.safetensors"), &[]);
    let recipe = statepress::recipes::find("int8").unwrap();
    let ids = ids(50, 64);
    let mut shares = shares(&base, &recipe, &ids, 2);
    let first = shares[0].0.tensors[0].tensor.clone();
    shares[0].1 = shares[1].1.clone();
    let error = joined(&base, &recipe, &ids, shares).unwrap_err().to_string();
    assert!(error.contains(&first), "{error}");
}

#[test]
fn costs_are_measured_by_several_as_by_one() {
    // The table of the demo is large enough to be measured in classes of rows.
    let cases = [
        ("il_moe", open(&fixture("fixtures/il_moe.safetensors"), &[]), 96, &[false, true][..]),
        ("il_moe, tied", open(&fixture("fixtures/il_moe.tied.safetensors"), &[]), 96, &[false, true]),
        ("the demo", open(&demo().join("model.safetensors"), &[]), 512, &[false]),
    ];
    for (name, base, tokens, kinds) in cases {
        let (model, ids) = (base.model().unwrap(), ids(50, tokens));
        let (read, judged) = ids.split_at(tokens / 2);
        for &coded in kinds {
            let measured = |share, known: &[TensorCosts]| {
                let options = CostsOptions { windows: 1, share, ..CostsOptions::new(true, coded) };
                let calibration = Calibration::new(&model, read);
                run(base.search_costs(calibration, judged, &options, known.to_vec()).unwrap(), |_| {})
                    .unwrap()
            };
            let whole = measured(Share::default(), &[]);
            let known = &whole.tensors[whole.tensors.len() - 2..];
            assert_eq!(name == "the demo", whole.tensors.iter().any(|it| it.rows.is_some()), "{name}");
            for of in if name == "the demo" { 2..=2 } else { 2..=3 } {
                let shares: Vec<SearchCosts> =
                    (0..of).map(|index| measured(Share { index, count: of }, known)).collect();
                let mut all: Vec<TensorCosts> = Vec::new();
                for share in &shares {
                    assert!(
                        share.unmeasured > 0 && share.tensors.len() > known.len(),
                        "{name}: work is shared"
                    );
                    all.extend(share.tensors.iter().filter(|it| !known.contains(it)).cloned());
                }
                all.extend(known.to_vec());
                assert_eq!(all.len(), whole.tensors.len(), "{name}: everything is measured once");
                assert_eq!(measured(Share::default(), &all), whole, "{name}, {of} workers, coded: {coded}");
            }
        }
    }
}

#[test]
fn models_compared_in_shares_have_the_card_of_one_comparison() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let (job, sink) = base.compress_to_memory(&recipes::find("nf4").unwrap()).unwrap();
    run(job, |_| {}).unwrap();
    let nf4 = Checkpoint::open(sink.take(), OpenOptions::default()).unwrap().model().unwrap();
    let base = base.model().unwrap();
    let ids: Vec<u32> = (0..640).map(|i| (i * 37 + i * i % 11) % 50).collect();
    let options = CompareOptions { window: Some(128), ..CompareOptions::default() };
    let compare = |ids: &[u32]| Compare::new(&base, &nf4, ids, options.clone(), || 0.0).unwrap();
    let whole = run(compare(&ids), |_| {}).unwrap();
    assert!(whole.kl.mean > 0.0 && whole.noise_floor > 0.0 && whole.a.windows == 5);
    for count in [1, 2, 7] {
        let share = |index| {
            let mut job = compare(&ids).share(Share { index, count });
            let mut last = None;
            while let Some(progress) = block_on(statepress::Job::step(&mut job)).unwrap() {
                last = Some(progress);
            }
            assert!(last.is_none_or(|it| it.done == it.total), "a share counts its own windows");
            job.finish_share().unwrap()
        };
        let shares: Vec<ComparedShare> = (0..count).map(share).collect();
        let joined = shares.iter().cloned().try_fold(compare(&ids), Compare::join).unwrap();
        assert_eq!(run(joined, |_| {}).unwrap(), whole, "{count} shares");
        // Windows that nobody has measured are measured by whoever joins the shares.
        let rest = shares.iter().skip(1).cloned().try_fold(compare(&ids), Compare::join).unwrap();
        assert_eq!(run(rest, |_| {}).unwrap(), whole, "{count} shares without the first");
        // A share of another text has windows that this one has not.
        let less = shares.iter().cloned().try_fold(compare(&ids[..512]), Compare::join).err().unwrap();
        assert!(less.to_string().contains("window 4 was measured elsewhere, of 4"), "{less}");
    }
    let early = compare(&ids).share(Share { index: 1, count: 2 }).finish_share().unwrap_err();
    assert!(early.to_string().contains("finished after 0 of 2 windows"), "{early}");
}

#[test]
fn a_model_evaluated_in_shares_has_the_numbers_of_one_evaluation() {
    let model = open(&demo().join("model.safetensors"), &[]).model().unwrap();
    let ids: Vec<u32> = (0..640).map(|i| (i * 37 + i * i % 11) % 50).collect();
    for offset in [Offset::Model, Offset::Detect] {
        let options = EvaluateOptions { window: Some(128), offset, ..EvaluateOptions::default() };
        let evaluate = |ids: &[u32]| Evaluate::new(&model, ids, &options, || 0.0).unwrap();
        let whole = run(evaluate(&ids), |_| {}).unwrap();
        assert_eq!(whole.windows, 5);
        for count in [1, 2, 7] {
            let share = |index| {
                let mut job = evaluate(&ids).share(Share { index, count });
                while block_on(statepress::Job::step(&mut job)).unwrap().is_some() {}
                job.finish_share().unwrap()
            };
            let mut joined = (0..count).map(share).try_fold(evaluate(&ids), Evaluate::join).unwrap();
            assert!(block_on(statepress::Job::step(&mut joined)).unwrap().is_none(), "all is measured");
            assert_eq!(run(joined, |_| {}).unwrap(), whole, "{count} shares");
        }
        let last = evaluate(&ids).share(Share { index: 4, count: 5 });
        let early = last.finish_share().unwrap_err();
        assert!(early.to_string().contains("finished after 0 of 1 windows"), "{early}");
    }
}

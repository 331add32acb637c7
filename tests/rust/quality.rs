//! Compressing and judging: perplexity against PyTorch's, the produced bytes, the quality card.

use pollster::block_on;
use statepress::{
    Checkpoint, Compare, CompareOptions, Evaluate, EvaluateOptions, Job, Model, Offset, OpenOptions, Recipe,
    recipes, report, run, sequence_logits,
};
use statepress_tests::files::{demo, fixture, load, open, shared};
use statepress_tests::golden::{Golden, assert_close};

fn now() -> f64 {
    statepress::Clock::default().seconds()()
}

fn evaluate(model: &Model, ids: &[u32], options: &EvaluateOptions) -> report::Evaluation {
    run(Evaluate::new(model, ids, options, now).unwrap(), |_| {}).unwrap()
}

fn compress(checkpoint: &Checkpoint, recipe: &Recipe) -> (report::CompressReport, Vec<u8>) {
    let (job, bytes) = checkpoint.compress_to_memory(recipe).unwrap();
    (run(job, |_| {}).unwrap(), bytes.take())
}

fn reopen(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::open(bytes, OpenOptions::default()).unwrap()
}

/// Two windows of the test text, position by position, against PyTorch's values.
#[test]
fn the_demo_model_matches_pytorch() {
    let golden = Golden::open(&fixture("trained/itera-tiny.safetensors"));
    let model = load(&demo().join("model.safetensors"), &[("top_k_experts", 2), ("prediction_offset", 1)]);
    let (ids, expected, sums) = (golden.ids("input_ids"), golden.f32("nll"), golden.f32("logsumexp"));
    for window in 0..2 {
        let ids = &ids[window * 256..][..256];
        let logits = block_on(sequence_logits(&model, ids)).unwrap();
        let mut found = Vec::new();
        let mut found_sums = Vec::new();
        for (t, row) in logits.chunks_exact(8000).enumerate() {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
            let log_sum_exp = f64::from(largest) + sum.ln();
            found_sums.push(log_sum_exp as f32);
            if t < 255 {
                found.push((log_sum_exp - f64::from(row[ids[t + 1] as usize])) as f32);
            }
        }
        assert_close("nll", &found, &expected[window * 255..][..255], 1e-4);
        assert_close("logsumexp", &found_sums, &sums[window * 256..][..256], 1e-4);
        let evaluation = evaluate(&model, ids, &EvaluateOptions::default());
        let mean = expected[window * 255..][..255].iter().map(|&nll| f64::from(nll)).sum::<f64>() / 255.0;
        assert!((evaluation.nll - mean).abs() < 1e-4, "{} against {mean}", evaluation.nll);
        assert_eq!(evaluation.tokens, 255);
    }
}

fn test_ids() -> Option<Vec<u32>> {
    let bytes = std::fs::read(shared("data/wikitext2-test.bpe8000.u16.bin")?).unwrap();
    Some(bytes.as_chunks().0.iter().map(|bytes| u32::from(u16::from_le_bytes(*bytes))).collect())
}

/// The whole test text, in two halves side by side: the figure in `metrics.json` within 0.01 %.
#[test]
fn perplexity_of_the_demo_model_is_the_published_one() {
    let Some(ids) = test_ids() else { return };
    let metrics = std::fs::read_to_string(fixture("trained/itera-tiny.metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    let expected = metrics["test"]["ppl"].as_f64().unwrap();
    let (first, second) = ids.split_at(ids.len() / 512 * 256);
    let half = |ids: &[u32]| {
        let model = load(&demo().join("model.safetensors"), &[]);
        let found = evaluate(&model, ids, &EvaluateOptions { window: Some(256), ..Default::default() });
        (found.tokens, found.nll * found.tokens as f64)
    };
    let (a, b) = std::thread::scope(|scope| {
        let first = scope.spawn(|| half(first));
        let second = half(second);
        (first.join().unwrap(), second)
    });
    let tokens = a.0 + b.0;
    assert_eq!(tokens, metrics["test"]["tokens_predicted"].as_u64().unwrap());
    let perplexity = ((a.1 + b.1) / tokens as f64).exp();
    assert!((perplexity / expected - 1.0).abs() < 1e-4, "{perplexity} against {expected}");
}

/// Held-out perplexity of the distilled model at every offset, as PyTorch measured it. There
/// every position of a window is scored, so windows overlap by the offset here.
#[test]
fn the_prediction_offset_is_detected() {
    let ids = Golden::open(&fixture("models/heldout_ids.safetensors")).ids("ids");
    let model = load(&fixture("itera-lite/itera_lite_micro_distilled.pt"), &[("prediction_offset", 1)]);
    let options = EvaluateOptions { offset: Offset::Detect, ..Default::default() };
    let found = evaluate(&model, &ids, &options);
    assert_eq!(found.offset, 2);
    assert!(found.findings.iter().any(|finding| finding.code == "offset"), "{:?}", found.findings);
    let by_offset: Vec<f64> = found.nll_by_offset.unwrap().iter().map(|nll| nll.exp()).collect();
    for (offset, expected) in [2190.97, 913.92, 2.4124, 2647.30].into_iter().enumerate() {
        // Fewer positions of each window are scored than in the reference: 128 - offset of 128.
        assert!((by_offset[offset] / expected - 1.0).abs() < 0.05, "offset {offset}: {}", by_offset[offset]);
    }
    let wrong = evaluate(&model, &ids, &EvaluateOptions { limit: Some(1280), ..Default::default() });
    assert!(wrong.perplexity > 500.0);
}

/// Where the model understands nothing, the lowest of four numbers is chance.
#[test]
fn an_offset_that_nothing_speaks_for_is_not_taken() {
    let model = load(&demo().join("model.safetensors"), &[("prediction_offset", 2)]);
    let ids: Vec<u32> = (0..600u32).map(|i| i.wrapping_mul(2_654_435_761) % 8000).collect();
    let options = EvaluateOptions { offset: Offset::Detect, window: Some(128), ..Default::default() };
    let found = evaluate(&model, &ids, &options);
    assert_eq!(found.offset, 2);
    let by_offset = found.nll_by_offset.unwrap();
    assert!(by_offset.iter().all(|nll| *nll > 8000f64.ln()), "{by_offset:?}");
    assert!(by_offset[2] > by_offset.iter().copied().fold(f64::INFINITY, f64::min), "{by_offset:?}");
    assert!(found.findings.iter().any(|finding| finding.code == "offset-unclear"), "{:?}", found.findings);
}

/// itera-lite.md 5.4 on the distilled model: bytes exactly, perplexity to the third decimal.
#[test]
fn recipes_cost_what_the_research_should_have_measured() {
    let json = std::fs::read_to_string(fixture("misc/quality.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ids = Golden::open(&fixture("models/heldout_ids.safetensors")).ids("ids");
    let checkpoint = open(&fixture("itera-lite/itera_lite_micro_distilled.pt"), &[]);
    for (recipe, row) in [("fp16", "f16 everything"), ("bf16", "bf16 everything")] {
        let expected = &json["models"]["micro_distilled"][row];
        let (report, bytes) = compress(&checkpoint, &recipes::find(recipe).unwrap());
        assert_eq!(report.plan.bytes.after, expected["bytes"].as_u64().unwrap(), "{recipe}");
        let model = reopen(bytes).model().unwrap();
        assert_eq!(model.info.bytes, report.plan.bytes.after);
        assert_eq!(model.info.offset, 2, "the offset travels with the file");
        // Every position scored at offset 2, as the reference does: labels reach past the window.
        let mut sum = 0.0;
        let mut positions = 0;
        for start in (0..).step_by(128).take_while(|start| start + 130 < ids.len()) {
            let logits = block_on(sequence_logits(&model, &ids[start..start + 128])).unwrap();
            for (t, row) in logits.chunks_exact(2000).enumerate() {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
                sum += f64::from(largest) + total.ln() - f64::from(row[ids[start + t + 2] as usize]);
                positions += 1;
            }
        }
        assert_eq!(positions, 2816);
        let perplexity = (sum / f64::from(positions)).exp();
        let expected = expected["ppl"].as_f64().unwrap();
        assert!((perplexity / expected - 1.0).abs() < 1e-4, "{recipe}: {perplexity} against {expected}");
    }
}

#[test]
fn produced_files_are_the_same_bytes_each_time_and_reopen_as_themselves() {
    let checkpoint = open(&fixture("fixtures/il_moe.zip.pt"), &[]);
    for recipe in recipes::builtin().unwrap() {
        let (report, bytes) = compress(&checkpoint, &recipe);
        assert_eq!(report.file_bytes, bytes.len() as u64);
        assert_eq!(compress(&checkpoint, &recipe).1, bytes, "{}", recipe.name);
        let again = reopen(bytes);
        let inspection = again.inspection();
        assert_eq!(inspection.bytes, report.plan.bytes.after, "{}", recipe.name);
        assert_eq!(inspection.recipe.as_ref(), Some(&recipe));
        assert_eq!(inspection.params, 16_336);
        let assumed = &inspection.spec["top_k_experts"];
        assert_eq!(assumed.origin, statepress::spec::Origin::Assumed, "an assumption does not become a fact");
        let model = again.model().unwrap();
        assert_eq!(block_on(sequence_logits(&model, &[1, 2, 3])).unwrap().len(), 150);
    }
}

#[test]
fn the_quality_card_of_a_model_against_itself_is_clean_and_of_a_worse_one_is_not() {
    let ids = Golden::open(&fixture("models/heldout_ids.safetensors")).ids("ids");
    let checkpoint = open(&fixture("itera-lite/itera_lite_micro_distilled.pt"), &[]);
    let base = checkpoint.model().unwrap();
    let compare = |other: &Model| {
        let job = Compare::new(&base, other, &ids, CompareOptions::default(), now).unwrap();
        run(job, |_| {}).unwrap()
    };
    let same = compare(&base);
    assert_eq!(same.kl.max, 0.0);
    assert_eq!(same.top1_agreement, 1.0);
    assert_eq!(same.perplexity_change, 0.0);
    assert!(same.by_layer.iter().all(|layer| layer.relative_error == 0.0) && same.by_layer.len() == 4);
    assert!(same.noise_floor > 0.0 && same.noise_floor < 1e-8, "{}", same.noise_floor);
    assert_eq!(same.verdict.result, report::VerdictResult::Failure, "nothing was compressed");

    let (_, bytes) = compress(&checkpoint, &recipes::find("int4").unwrap());
    let int4 = compare(&reopen(bytes).model().unwrap());
    assert!(int4.kl.mean > 1e-4 && int4.kl.mean < 0.1, "{:?}", int4.kl);
    assert!(int4.kl.median <= int4.kl.p99 && int4.kl.p99 <= int4.kl.max);
    assert!(int4.top1_agreement > 0.8 && int4.top1_agreement < 1.0, "{}", int4.top1_agreement);
    assert!(int4.delta_p.rms > 0.0 && int4.delta_p.p01 < 0.0 && int4.delta_p.p99 > 0.0, "{:?}", int4.delta_p);
    assert!(int4.by_layer.iter().all(|layer| layer.relative_error > 0.0 && layer.relative_error < 0.5));
    assert_eq!(int4.by_position.len(), 16);
    assert_eq!(int4.by_position[15].to, 126, "the last two positions of a window have no label");
    let weighted: f64 = int4.by_position.iter().map(|drift| drift.kl * (drift.to - drift.from) as f64).sum();
    assert!((weighted / 126.0 / int4.kl.mean - 1.0).abs() < 1e-3, "{weighted}");
    assert!(int4.a.tokens == int4.b.tokens && int4.a.tokens == 22 * 126);
    assert_eq!(int4.verdict.result, report::VerdictResult::Success, "{:?}", int4);
}

#[test]
fn a_failed_evaluation_is_an_error() {
    let mut bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    // The data starts with the embedding: make the first number of token 0 infinite.
    let at = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let model = Checkpoint::open(bytes, OpenOptions::default()).unwrap().model().unwrap();
    let job = Evaluate::new(&model, &[0; 48], &EvaluateOptions::default(), now).unwrap();
    let error = run(job, |_| {}).unwrap_err();
    assert_eq!(error.code(), "evaluation-failed", "{error}");
}

#[test]
fn short_texts_and_wide_windows_are_refused_with_what_is_allowed() {
    let model = load(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    let error = |ids: &[u32], window| {
        let options = EvaluateOptions { window, ..Default::default() };
        Evaluate::new(&model, ids, &options, now).err().unwrap().to_string()
    };
    assert!(error(&[1; 48], Some(25)).contains("2 to 24"), "{}", error(&[1; 48], Some(25)));
    assert!(error(&[1; 10], None).contains("10 tokens do not fill one window of 24"));
    assert!(error(&[1; 1], None).contains("1 token does not fill one window of 24"));
    assert!(block_on(sequence_logits(&model, &[50])).unwrap_err().to_string().contains("vocabulary of 50"));
}

#[test]
fn offsets_and_limits_that_leave_nothing_to_score_are_refused_by_name() {
    let model = load(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    let ids = [1; 48];
    let blamed = |error: statepress::Error| {
        let option = error.facts().into_iter().find(|(fact, _)| *fact == "option").map(|(_, option)| option);
        (error.code(), option, error.to_string())
    };
    for offset in [24, usize::MAX] {
        let options = EvaluateOptions { offset: Offset::Given(offset), ..Default::default() };
        let (code, option, message) =
            blamed(Evaluate::new(&model, &ids, &options, now).err().unwrap().into());
        assert_eq!((code, option.as_deref()), ("bad-option", Some("offset")), "{message}");
        assert!(message.contains("less than the model's 24 positions"), "{message}");
        let options = CompareOptions { offset: Some(offset), ..Default::default() };
        let error = Compare::new(&model, &model, &ids, options, now).err().unwrap();
        assert_eq!(blamed(error.into()).1.as_deref(), Some("offset"));
    }
    for limit in [0, 23] {
        let options = EvaluateOptions { limit: Some(limit), ..Default::default() };
        let (code, option, message) =
            blamed(Evaluate::new(&model, &ids, &options, now).err().unwrap().into());
        assert_eq!((code, option.as_deref()), ("bad-option", Some("limit")), "{message}");
        assert!(message.contains("24 (one window) or more"), "{message}");
    }
    // A text that is too short by itself is not the limit's fault.
    let options = EvaluateOptions { limit: Some(24), ..Default::default() };
    let error = Evaluate::new(&model, &ids[..10], &options, now).err().unwrap();
    assert_eq!(error.code(), "bad-ids", "{error}");
}

/// The small Itera-Lite with its final norm, and so its logits, multiplied.
fn loud(factor: f32) -> Model {
    let mut bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    for name in ["norm.weight", "norm.bias"] {
        let place = &header[name]["data_offsets"];
        let [from, to] = [0, 1].map(|i| data + place[i].as_u64().unwrap() as usize);
        for number in bytes[from..to].as_chunks_mut().0 {
            *number = (f32::from_le_bytes(*number) * factor).to_le_bytes();
        }
    }
    reopen(bytes).model().unwrap()
}

#[test]
fn a_perplexity_beyond_numbers_is_an_error() {
    let ids: Vec<u32> = (0..48).collect();
    let loudest = loud(1e5);
    let error = run(Evaluate::new(&loudest, &ids, &EvaluateOptions::default(), now).unwrap(), |_| {});
    let error = error.unwrap_err();
    assert_eq!(error.code(), "evaluation-failed", "{error}");
    assert!(error.to_string().contains("perplexity is no number"), "{error}");
    for (a, b) in [(&loud(1.0), &loudest), (&loudest, &loud(1.0))] {
        let error = run(Compare::new(a, b, &ids, CompareOptions::default(), now).unwrap(), |_| {});
        assert_eq!(error.unwrap_err().code(), "evaluation-failed");
    }
    // Loud, but still a number.
    let found = evaluate(&loud(30.0), &ids, &EvaluateOptions::default());
    assert!(found.perplexity.is_finite() && found.perplexity > 1e6, "{}", found.perplexity);
}

#[test]
fn an_evaluation_that_is_cut_short_is_no_result() {
    let model = load(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    let ids = [1; 48];
    for steps in [0, 1] {
        let mut evaluate = Evaluate::new(&model, &ids, &EvaluateOptions::default(), now).unwrap();
        let mut compare = Compare::new(&model, &model, &ids, CompareOptions::default(), now).unwrap();
        for _ in 0..steps {
            block_on(evaluate.step()).unwrap();
            block_on(compare.step()).unwrap();
        }
        for error in [evaluate.finish().unwrap_err(), compare.finish().unwrap_err()] {
            assert_eq!(error.code(), "evaluation-failed");
            assert!(error.to_string().contains(&format!("finished after {steps} of 2 windows")), "{error}");
        }
    }
}

#[test]
fn a_model_of_another_offset_than_the_base_says_so() {
    let ids: Vec<u32> = (0..48).collect();
    let at = |offset| load(&fixture("fixtures/il_ffn.zip.pt"), &[("prediction_offset", offset)]);
    let findings = |a: &Model, b: &Model, offset| {
        let options = CompareOptions { offset, ..CompareOptions::default() };
        let card = run(Compare::new(a, b, &ids, options, now).unwrap(), |_| {}).unwrap();
        let told = |findings: &[statepress::Finding]| findings.iter().any(|finding| finding.code == "offset");
        (told(&card.a.findings), told(&card.b.findings))
    };
    assert_eq!(findings(&at(1), &at(1), None), (false, false));
    assert_eq!(findings(&at(1), &at(2), None), (false, true));
    assert_eq!(findings(&at(1), &at(1), Some(2)), (false, false), "as asked for");
    assert_eq!(findings(&at(1), &at(2), Some(2)), (false, true));
}

#[test]
fn targets_that_are_no_numbers_are_refused_by_name() {
    let model = load(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    let usual = CompareOptions::default();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (option, options) in [
            ("ratioTarget", CompareOptions { ratio_target: bad, ..usual.clone() }),
            ("lossTarget", CompareOptions { loss_target: bad, ..usual.clone() }),
        ] {
            let error = Compare::new(&model, &model, &[1; 48], options, now).err().unwrap();
            assert_eq!(error.to_string(), format!("option {option} is {bad}; allowed: a finite number"));
        }
    }
}

//! Rows of the token table that go: of ids that stay nothing changes to the last bit, the others are read as the unknown token, and
//! probabilities are still those of all ids.

use pollster::block_on;
use serde_json::{Value, json};
use statepress::report::CompressReport;
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, Evaluate, EvaluateOptions, ExportTarget, Generate,
    GenerateOptions, GgufOptions, GpuOptions, Loaded, MemorySink, OpenOptions, PlainOptions, Runner, run,
    sequence_logits,
};
use statepress_tests::files::{demo, fixture, heldout_ids, open, open_folder};
use statepress_tests::golden::assert_close;
use statepress_tests::gpu::{on, open_gpu};

use crate::exports::export;
use crate::layers::{File, bases, logits, made, pruned, recipe};

fn keep(keep: f64) -> Value {
    json!({ "prune": { "kind": "vocabulary", "keep": keep, "by": "usage" } })
}

fn finding(report: &CompressReport, code: &str) -> Option<String> {
    report.plan.findings.iter().find(|finding| finding.code == code).map(|finding| finding.message.clone())
}

fn vocab(base: &Checkpoint) -> usize {
    base.model().unwrap().info.vocab_size
}

fn log_softmax(row: &[f32]) -> Vec<f32> {
    let most = row.iter().fold(f32::MIN, |a, &b| a.max(b));
    let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
    row.iter().map(|x| x - most - sum.ln() as f32).collect()
}

/// How unlikely each id is behind the one before it.
fn nll(model: &impl Loaded, ids: &[u32]) -> Vec<f32> {
    let mut runner = model.runner(true).unwrap();
    block_on(runner.forward(ids, None)).unwrap();
    block_on(runner.nll(&[&ids[1..]])).unwrap().remove(0)
}

/// A text of every third id, and a few special ones.
fn thirds(vocab: usize) -> Vec<u32> {
    (0..600).map(|t| ((t * t * 31 + t * 7) % vocab / 3 * 3) as u32).collect()
}

#[test]
fn what_stays_of_every_family_is_the_same_to_the_last_bit() {
    let mut checked = 0;
    for (what, base) in bases() {
        // A copy of the table that is the head is found when it is read, and not when it is planned.
        let base = File::of(&base).open();
        let (size, text) = (vocab(&base), thirds(vocab(&base)));
        let planned = base.plan(&recipe(json!([keep(0.5)]))).unwrap();
        let (report, smaller) = pruned(&base, json!([keep(0.5)]), &text);
        assert_eq!(planned.bytes, report.plan.bytes, "{what}");
        assert!(
            finding(&report, "fewer-ids").unwrap().contains("logits of such a text stay the same"),
            "{what}"
        );
        let step = &report.plan.pruned[0];
        assert_eq!(smaller.inspection().params, step.params_after, "{what}");
        assert!(step.params_after < step.params_before, "{what}");
        assert_eq!(step.places[0].before, step.places[0].after + step.places[0].removed.len(), "{what}");
        let model = smaller.model().unwrap();
        assert_eq!(model.info.vocab_size, size, "{what}");
        let rows = model.program().vocab_size;
        assert!(rows < size && rows == step.places[0].after, "{what}: {rows} of {size}");
        let ids = &text[..12];
        let (of_all, of_some) = (logits(&base, ids), logits(&smaller, ids));
        let spec = smaller.inspection().spec;
        // Rows that pad the table are of no id.
        let gone: Vec<usize> = step.places[0].removed.iter().copied().filter(|&id| id < size).collect();
        let unknown = spec["unknown_token_id"].value.as_u64().unwrap() as usize;
        let share = spec["unknown_share"].value.as_f64().unwrap();
        for (all, some) in of_all.chunks_exact(size).zip(of_some.chunks_exact(size)) {
            let left = (0..size).filter(|id| !gone.contains(id));
            for id in left {
                assert_eq!(some[id].to_bits(), all[id].to_bits(), "{what}: id {id}");
            }
            let of_gone: f64 = gone.iter().map(|&id| f64::from(log_softmax(some)[id]).exp()).sum();
            assert!((of_gone - share).abs() < 1e-4 * share, "{what}: {of_gone} {share}");
        }
        // What went is read as the unknown token.
        let odd: Vec<u32> = [gone[0], ids[1] as usize, gone[gone.len() - 1]].map(|id| id as u32).to_vec();
        let read: Vec<u32> = [unknown, ids[1] as usize, unknown].map(|id| id as u32).to_vec();
        assert_eq!(logits(&smaller, &odd), logits(&smaller, &read), "{what}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// Perplexity, divergence and generated text, by every way that a runner is asked.
#[test]
fn the_demo_model_loses_nothing_on_a_text_without_what_went() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = heldout_ids();
    let (read, judged) = ids.split_at(4096);
    let judged = &judged[..1024];
    // The ids of both texts stay, which is less than half of all.
    let text: Vec<u32> = read.iter().chain(judged).copied().collect();
    let (report, smaller) = pruned(&base, json!([keep(0.5)]), &text);
    assert!(report.plan.bytes.ratio > 1.3, "{}", report.plan.bytes.ratio);
    let (model, whole) = (smaller.model().unwrap(), base.model().unwrap());
    let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
    let comparison = run(Compare::new(&whole, &model, judged, options, || 0.0).unwrap(), |_| {}).unwrap();
    // Nothing but what ids that never occur took is shared out otherwise.
    assert!(comparison.kl.mean < 0.2, "{:?}", comparison.kl);
    assert!(comparison.b.perplexity < comparison.a.perplexity, "{comparison:?}");
    let evaluated = |window| {
        let options = EvaluateOptions { window: Some(window), ..EvaluateOptions::default() };
        run(Evaluate::new(&model, judged, &options, || 0.0).unwrap(), |_| {}).unwrap().perplexity
    };
    assert!((evaluated(256) - comparison.b.perplexity).abs() < 1e-3 * comparison.b.perplexity);

    let written = |model: &_| {
        let options = GenerateOptions { max_tokens: 24, temperature: 0.0, ..GenerateOptions::default() };
        let mut job = Generate::new(model, &judged[..16], options).unwrap();
        let mut ids = Vec::new();
        loop {
            let tokens = block_on(job.step(4)).unwrap();
            if tokens.is_empty() {
                return ids;
            }
            ids.extend(tokens.iter().map(|token| token.id));
        }
    };
    let ids: Vec<u32> = written(&model);
    assert!(ids.iter().all(|id| !report.plan.pruned[0].places[0].removed.contains(&(*id as usize))));
    let sampled = {
        let options = GenerateOptions { max_tokens: 1, temperature: 0.0, ..GenerateOptions::default() };
        block_on(Generate::new(&model, &judged[..16], options).unwrap().step(1)).unwrap().remove(0)
    };
    let row = logits(&smaller, &judged[..16]);
    let expected = log_softmax(&row[row.len() - 8000..])[sampled.id as usize].exp();
    assert!((sampled.probability as f32 - expected).abs() < 1e-3, "{sampled:?} {expected}");
    let same = ids.iter().zip(written(&whole)).take_while(|(a, b)| **a == *b).count();
    assert!(same > 4, "{same}");
}

#[test]
fn a_gpu_gives_what_the_cpu_gives() {
    let gpu = open_gpu(GpuOptions::default());
    for name in ["mamba-default", "llama-gqa"] {
        let base = open_folder(&fixture(&format!("families/{name}")));
        let text = thirds(vocab(&base));
        let (_, smaller) = pruned(&base, json!([keep(0.5)]), &text);
        let (model, exact) = (on(&gpu, &smaller), smaller.model().unwrap());
        let ids: Vec<u32> = (0..12).collect();
        let found = block_on(sequence_logits(&model, &ids)).unwrap();
        assert_close(name, &found, &logits(&smaller, &ids), 1e-3);
        let of_gpu = nll(&model, &ids);
        let of_cpu = nll(&exact, &ids);
        assert_close(name, &of_gpu, &of_cpu, 1e-3);
        let size = vocab(&base);
        let by_logits: Vec<f32> = logits(&smaller, &ids)
            .chunks_exact(size)
            .zip(&ids[1..])
            .map(|(row, &label)| -log_softmax(row)[label as usize])
            .collect();
        assert_close(name, &of_cpu, &by_logits, 1e-4);
    }
}

/// Once more, of what has lost some; and other steps see what is left.
#[test]
fn rows_go_twice_and_other_steps_follow() {
    let base = open(&fixture("fixtures/il_odd.safetensors"), &[]);
    let (size, text) = (vocab(&base), thirds(vocab(&base)));
    let (_, once) = pruned(&base, json!([keep(0.7)]), &text);
    let (_, twice) = pruned(&once, json!([keep(0.6)]), &text);
    let (_, chained) = pruned(&base, json!([keep(0.7), keep(0.6)]), &text);
    assert_eq!(logits(&twice, &text[..8]), logits(&chained, &text[..8]));
    assert_eq!(vocab(&twice), size);
    let rows = |checkpoint: &Checkpoint| checkpoint.model().unwrap().program().vocab_size;
    assert!(rows(&twice) < rows(&once));

    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = &heldout_ids()[..2048];
    let nf4 = json!({ "quantize": {
        "rules": [{ "match": "*norm*", "precision": "fp32" }],
        "otherwise": "nf4",
        "errorCompensation": "gptq",
    } });
    let (report, coded) = pruned(&base, json!([keep(0.5), { "center": {} }, nf4]), ids);
    assert!(finding(&report, "fewer-ids").is_some());
    let table = report.plan.tensors.iter().find(|tensor| tensor.name == "embedding.weight").unwrap();
    assert!(table.error.is_some_and(|error| error.cosine.unwrap() > 0.98), "{:?}", table.error);
    let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
    let (whole, model) = (base.model().unwrap(), coded.model().unwrap());
    let judged = &heldout_ids()[4096..5120];
    let comparison = run(Compare::new(&whole, &model, judged, options, || 0.0).unwrap(), |_| {}).unwrap();
    assert!(comparison.b.perplexity.is_finite() && comparison.kl.mean < 1.0, "{comparison:?}");
}

#[test]
fn what_is_odd_is_refused_or_told() {
    let base = open(&fixture("fixtures/il_odd.safetensors"), &[]);
    let (size, text) = (vocab(&base), thirds(vocab(&base)));
    let (report, _) = pruned(&base, json!([keep(4.0)]), &text);
    assert!(finding(&report, "fewer-ids").unwrap().contains("of the text are of them: an approximation"));
    assert!(finding(&report, "fewer-ids").unwrap().contains("read as token 1, which is assumed"));
    let (report, two) = pruned(&base, json!([keep(2.0)]), &text);
    assert!(two.model().is_ok(), "the unknown token stays: {:?}", report.plan.pruned);
    let (report, _) = pruned(&base, json!([keep(1.0)]), &text);
    assert!(finding(&report, "nothing-removed").is_some());
    let error = base.compress_to_memory(&recipe(json!([keep(0.5)]))).err().unwrap().to_string();
    assert!(error.contains("calibration") && error.contains("not given"), "{error}");
    let steps = recipe(json!([keep(0.5)]));
    let model = base.model().unwrap();
    let odd = [text.clone(), vec![size as u32]].concat();
    let sink = MemorySink::default();
    let job = base.compress_calibrated(&steps, Box::new(sink.clone()), Calibration::new(&model, &odd));
    let error = job.and_then(|job| Ok(run(job, |_| {})?)).err().unwrap().to_string();
    assert!(error.contains(&format!("token {size}")) && error.contains("outside the vocabulary"), "{error}");
    assert!(sink.take().is_empty());
    // What was assumed stays an assumption.
    let spec = two.inspection().spec;
    let from = &spec["unknown_token_id"];
    assert!(from.from.contains("assumed when this file was written"), "{from:?}");
    for odd in [json!(-1), json!(1.5), json!(true), json!(size)] {
        let set = [("unknown_token_id".to_string(), odd)].into_iter().collect();
        let error = Checkpoint::open(File::of(&base).bytes, OpenOptions { set, ..OpenOptions::default() });
        assert!(error.err().unwrap().to_string().contains("unknown_token_id"));
    }
    // The unknown token is a field that can be set.
    let options = OpenOptions {
        set: [("unknown_token_id".to_string(), json!(2))].into_iter().collect(),
        ..OpenOptions::default()
    };
    let other = Checkpoint::open(File::of(&base).bytes, options).unwrap();
    let (report, smaller) = pruned(&other, json!([keep(0.5)]), &text);
    assert!(
        finding(&report, "fewer-ids").unwrap().contains("read as token 2, and are"),
        "{:?}",
        finding(&report, "fewer-ids")
    );
    assert_eq!(smaller.inspection().spec["unknown_token_id"].value, json!(2));
}

/// A file whose ids are none, as what wrote it may have had mistakes.
#[test]
fn ids_that_cannot_be_are_refused_by_name() {
    let base = open(&fixture("fixtures/il_odd.safetensors"), &[]);
    let (report, bytes) = made(&base, json!([keep(0.5)]), &thirds(vocab(&base)));
    let gone = report.plan.pruned[0].places[0].removed[0];
    let file = File::read(bytes);
    let with = |ids: &dyn Fn(&mut [u8])| {
        let mut file = file.clone();
        file.change("embedding.ids", ids);
        file.open().model().err().unwrap().to_string()
    };
    let told = with(&|ids| ids[..4].copy_from_slice(&(-1i32).to_le_bytes()));
    assert!(told.contains("embedding.ids has -1; allowed: ids from 0 to"), "{told}");
    let told = with(&|ids| ids.copy_within(0..4, 4));
    assert!(told.contains("allowed: ids that ascend"), "{told}");
    let set = [("unknown_token_id".to_string(), json!(gone))].into_iter().collect();
    let other = Checkpoint::open(file.bytes.clone(), OpenOptions { set, ..OpenOptions::default() }).unwrap();
    let told = other.model().err().unwrap().to_string();
    assert!(told.contains(&format!("lacks the unknown token {gone}")), "{told}");
    let padded = open_folder(&fixture("families/llama-gqa"));
    let (_, padded) = pruned(&padded, json!([keep(0.5)]), &thirds(vocab(&padded)));
    let odd = File::of(&padded).saying("vocab_size", json!(20)).open();
    let told = odd.model().err().unwrap().to_string();
    assert!(told.contains("vocab_size is 20") && told.contains("each row of a table"), "{told}");
    for share in [json!(0), json!(1e-320), json!(1), json!("half")] {
        let set = [("unknown_share".to_string(), share)].into_iter().collect();
        let error = Checkpoint::open(file.bytes.clone(), OpenOptions { set, ..OpenOptions::default() });
        let error = error.err().unwrap().to_string();
        assert!(error.contains("unknown_share") && error.contains("above 0 and below 1"), "{error}");
    }
}

#[test]
fn what_has_rows_for_some_ids_is_exported_as_what_it_is_or_not_at_all() {
    let base = open_folder(&fixture("families/qwen3"));
    let (_, smaller) = pruned(&base, json!([keep(0.5)]), &thirds(vocab(&base)));
    let config = std::fs::read_to_string(fixture("families/qwen3/config.json")).unwrap();
    let config = serde_json::from_str(&config).ok();
    let (exported, bytes) =
        export(&smaller, &ExportTarget::Plain(PlainOptions { config, ..PlainOptions::default() })).unwrap();
    let told = exported.report.findings.iter().find(|finding| finding.code == "not-in-transformers").unwrap();
    assert!(told.message.contains("rows for some ids only"), "{}", told.message);
    let config = exported.config.unwrap();
    let again = Checkpoint::open(bytes, OpenOptions::default().config_text(&config)).unwrap();
    assert_eq!(logits(&again, &[1, 2, 3]), logits(&smaller, &[1, 2, 3]));
    let error = export(&smaller, &ExportTarget::Gguf(GgufOptions::default())).err().unwrap().to_string();
    assert!(
        error.contains("rows for some ids only") && error.contains("no GGUF of it is written"),
        "{error}"
    );
}

//! Centering: the table loses its mean row and the model predicts what it did, in every family; and what is quantized
//! afterwards loses less.

use serde_json::{Value, json};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, MemorySink, OpenOptions, Recipe, report, run,
    sequence_logits,
};
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, heldout_ids, open, open_folder};

/// The report of a recipe, and the file that it makes.
fn written(base: &Checkpoint, steps: &Value) -> (report::CompressReport, Vec<u8>) {
    let recipe =
        Recipe::from_json(&json!({ "version": 1, "name": "t", "steps": steps }).to_string()).unwrap();
    let sink = MemorySink::default();
    let report = run(base.compress(&recipe, Box::new(sink.clone())).unwrap(), |_| {}).unwrap();
    (report, sink.take())
}

fn opened(file: Vec<u8>) -> Checkpoint {
    Checkpoint::open(file, OpenOptions::default()).unwrap()
}

/// The logarithms of what is predicted at each of the ids.
fn log_probabilities(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    let model = checkpoint.model().unwrap();
    let logits = pollster::block_on(sequence_logits(&model, ids)).unwrap();
    let rows = logits.chunks_exact(logits.len() / ids.len());
    let normal = |row: &[f32]| {
        let most = row.iter().fold(f32::MIN, |a, b| a.max(*b));
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        row.iter().map(|x| x - most - sum.ln() as f32).collect::<Vec<f32>>()
    };
    rows.flat_map(normal).collect()
}

/// Float32 numbers of a tensor of a safetensors file.
fn numbers(file: &[u8], name: &str) -> Vec<f32> {
    let length = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let head: Value = serde_json::from_slice(&file[8..length]).unwrap();
    let about = &head[name];
    assert_eq!(about["dtype"], "F32", "{name}");
    let [begin, end]: [usize; 2] = serde_json::from_value(about["data_offsets"].clone()).unwrap();
    file[length..][begin..end].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn every_family_predicts_what_it_did() {
    let mut seen = 0;
    for sample in samples().into_iter().filter(|sample| sample.golden.is_some()) {
        let base = open_folder(&sample.folder);
        let ids: Vec<u32> = (0..9).map(|i| (i * 7 + 3) % sample.vocab as u32).collect();
        let (report, file) = written(&base, &json!([{ "center": {} }]));
        let centered = opened(file.clone());
        let said: Vec<_> = report.plan.findings.iter().filter(|it| it.code == "centered").collect();
        assert!(!said.is_empty() && said[0].message.contains("was moved to"), "{}: {said:?}", sample.name);
        let (before, after) = (log_probabilities(&base, &ids), log_probabilities(&centered, &ids));
        for (a, b) in after.iter().zip(&before) {
            assert!((a - b).abs() < 2e-4 * (1.0 + b.abs()), "{}: {a} {b}", sample.name);
        }
        // The mean is gone, and gone where the finding says.
        let name = said[0].tensor.clone().unwrap();
        let table = numbers(&file, &name);
        let cols = table.len() / sample.vocab_rows;
        for col in 0..cols {
            let column = table.chunks_exact(cols).take(sample.vocab).map(|row| f64::from(row[col]));
            assert!(
                (column.sum::<f64>() / sample.vocab as f64).abs() < 1e-6,
                "{}: column {col}",
                sample.name
            );
        }
        let bias = name.replace("weight", "bias");
        let has_bias = centered.inspection().tensors.iter().any(|tensor| tensor.name == bias);
        assert!(has_bias && said[0].message.contains(&bias), "{}: {said:?}", sample.name);
        // Twice is once.
        let again = opened(written(&centered, &json!([{ "center": {} }])).1);
        let tensors = |of: &Checkpoint| of.inspection().tensors.len();
        assert_eq!(tensors(&again), tensors(&centered), "{}", sample.name);
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_plan_says_what_will_be_there_and_other_steps_go_on_from_it() {
    let base = open(&fixture("fixtures/il_moe.zip.pt"), &[]);
    let steps = json!([
        { "center": {} },
        { "prune": { "kind": "width", "keep": 0.5 } },
        { "quantize": { "rules": [], "otherwise": "int8" } },
    ]);
    let recipe = json!({ "version": 1, "name": "t", "steps": steps });
    let plan = base.plan(&Recipe::from_json(&recipe.to_string()).unwrap()).unwrap();
    let (report, file) = written(&base, &steps);
    assert_eq!(plan.bytes, report.plan.bytes);
    assert_eq!(report.plan.pruned.len(), 1);
    assert!(opened(file).model().is_ok());
    let after = json!({ "version": 1, "name": "t", "steps": [
        { "quantize": { "rules": [], "otherwise": "int8" } },
        { "center": {} },
    ] });
    let error = Recipe::from_json(&after.to_string()).unwrap_err().to_string();
    assert!(error.contains("center after quantize"), "{error}");
}

#[test]
fn of_a_trained_model_a_coded_table_takes_fewer_bytes_for_what_it_loses() {
    let (base, ids) = (open_folder(&demo()), heldout_ids());
    let model = base.model().unwrap();
    let (read, judged) = ids.split_at(ids.len() / 2);
    // What the table takes, in bits a number, and what is lost.
    let lost = |first: Value| {
        let rule = json!({ "match": "role:table", "precision": "int8", "step": 0.35 });
        let quantize =
            json!({ "rules": [rule], "otherwise": "fp32", "coded": true, "errorCompensation": "gptq" });
        let steps = match first {
            Value::Null => json!([{ "quantize": quantize }]),
            first => json!([first, { "quantize": quantize }]),
        };
        let recipe = json!({ "version": 1, "name": "t", "steps": steps });
        let (recipe, sink) = (Recipe::from_json(&recipe.to_string()).unwrap(), MemorySink::default());
        let job = base
            .compress_calibrated(&recipe, Box::new(sink.clone()), Calibration::new(&model, read))
            .unwrap();
        let report = run(job, |_| {}).unwrap();
        let table = report.plan.tensors.iter().find(|tensor| tensor.name == "embedding.weight").unwrap();
        let made = opened(sink.take()).model().unwrap();
        let options = CompareOptions { window: Some(256), limit: Some(1024), ..CompareOptions::default() };
        let card = run(Compare::new(&model, &made, judged, options, || 0.0).unwrap(), |_| {}).unwrap();
        (8.0 * table.bytes_after as f64 / 1_024_000.0, card.kl.mean)
    };
    let (plain, centered) = (lost(Value::Null), lost(json!({ "center": {} })));
    // A bit more divides the divergence by four.
    let worth = |(bits, kl): (f64, f64)| kl * 4f64.powf(bits);
    assert!(worth(centered) < 0.8 * worth(plain), "{centered:?} {plain:?}");
}

//! A basis of its own for the table: the model predicts what it did, in every family, and on the GPU; a coded table then loses less.

use serde_json::{Value, json};
use statepress::{
    Calibration, Checkpoint, GpuOptions, MemorySink, Model, OpenOptions, Recipe, report, run, sequence_logits,
};
use statepress_tests::families::samples;
use statepress_tests::files::{fixture, open, open_folder};
use statepress_tests::golden::assert_close;
use statepress_tests::gpu::{logits_in_steps, on, open_gpu};

/// The report of a recipe that reads `ids`, and the checkpoint that it makes.
fn made(
    base: &Checkpoint,
    steps: &Value,
    ids: &[u32],
) -> Result<(report::CompressReport, Checkpoint), statepress::Error> {
    let recipe = Recipe::from_json(&json!({ "version": 1, "name": "t", "steps": steps }).to_string())?;
    let model = base.model()?;
    let sink = MemorySink::default();
    let job = base.compress_calibrated(&recipe, Box::new(sink.clone()), Calibration::new(&model, ids))?;
    let report = run(job, |_| {})?;
    Ok((report, Checkpoint::open(sink.take(), OpenOptions::default())?))
}

fn logits(model: &Model, ids: &[u32]) -> Vec<f32> {
    pollster::block_on(sequence_logits(model, ids)).unwrap()
}

fn text(vocab: usize) -> Vec<u32> {
    (0..600).map(|i: u32| (i * i + 7 * i + 3) % vocab as u32).collect()
}

/// Whether the table is the head as well, as the file has it.
fn is_tied(base: &Checkpoint) -> bool {
    let program = base.model().unwrap().info.program.clone();
    program.head.matrix == program.table
}

#[test]
fn every_family_predicts_what_it_did_or_says_why_not() {
    let gpu = open_gpu(GpuOptions::default());
    let (mut turned, mut refused) = (0, 0);
    for sample in samples().into_iter().filter(|sample| sample.golden.is_some()) {
        let (base, ids) = (open_folder(&sample.folder), text(sample.vocab));
        let result = made(&base, &json!([{ "basis": { "windows": 4 } }]), &ids);
        if !is_tied(&base) {
            let error = result.err().unwrap().to_string();
            assert!(
                error.contains("basis") && error.contains("is a matrix of its own"),
                "{}: {error}",
                sample.name
            );
            refused += 1;
            continue;
        }
        let (report, written) = result.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let said = report.plan.findings.iter().find(|it| it.code == "own-basis").unwrap();
        let name = said.tensor.clone().unwrap();
        let tensors = written.inspection().tensors;
        let basis = tensors.iter().find(|it| it.name == name.replace("weight", "basis")).unwrap();
        assert_eq!(
            (basis.role.map(|role| role.name()), basis.shape.len()),
            (Some("basis"), 2),
            "{}",
            sample.name
        );
        let (before, after) =
            (logits(&base.model().unwrap(), &ids[..9]), logits(&written.model().unwrap(), &ids[..9]));
        assert_eq!(before.len(), after.len());
        for (a, b) in after.iter().zip(&before) {
            assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{}: {a} {b}", sample.name);
        }
        let on_gpu = logits_in_steps(&on(&gpu, &written), &ids[..9], 4);
        assert_close(&format!("{} on the GPU", sample.name), &on_gpu, &after, 1e-3);
        let error = made(&written, &json!([{ "basis": {} }]), &ids).err().unwrap().to_string();
        assert!(error.contains("has a basis of its own"), "{}: {error}", sample.name);
        turned += 1;
    }
    assert!(turned > 10 && refused > 2, "{turned} {refused}");
}

#[test]
fn a_plan_says_what_will_be_there_and_what_does_not_go_with_it() {
    let base = open(&fixture("fixtures/il_moe.zip.pt"), &[]);
    let ids = text(base.model().unwrap().info.vocab_size);
    let int8 = json!({ "quantize": { "rules": [], "otherwise": "int8" } });
    let steps =
        json!([{ "center": {} }, { "basis": {} }, { "prune": { "kind": "width", "keep": 0.5 } }, int8]);
    let recipe = json!({ "version": 1, "name": "t", "steps": steps }).to_string();
    let plan = base.plan(&Recipe::from_json(&recipe).unwrap()).unwrap();
    let (report, written) = made(&base, &steps, &ids).unwrap();
    assert_eq!(plan.bytes, report.plan.bytes);
    assert!(written.model().is_ok());
    let error = |steps: Value| made(&base, &steps, &ids).err().unwrap().to_string();
    let hidden = json!({ "prune": { "kind": "hidden", "keep": 0.5, "by": "loss" } });
    assert!(error(json!([{ "basis": {} }, hidden])).contains("basis"), "hidden goes first");
    assert!(error(json!([int8, { "basis": {} }])).contains("basis after quantize"));
    assert!(error(json!([{ "basis": { "windows": 0 } }])).contains("basis.windows is 0; allowed: 1 to 4096"));
    let recipe = json!({ "version": 1, "name": "t", "steps": [{ "basis": {} }] }).to_string();
    let without = base.compress(&Recipe::from_json(&recipe).unwrap(), Box::new(MemorySink::default()));
    assert!(without.err().unwrap().to_string().contains("a text"), "a text is asked for");
}

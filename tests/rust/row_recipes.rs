//! Recipes that give some rows another precision: which rows they are, what the rest is, and what is refused.

use statepress::{Calibration, Checkpoint, MemorySink, OpenOptions, Recipe, recipes, report, run};
use statepress_core::{Packed, Tensor};
use statepress_formats::{open as open_index, read_tensor};
use statepress_kernels::codecs::{self, Clip};
use statepress_tests::files::{demo, fixture, open, open_folder};
use statepress_tests::golden::Golden;

/// A recipe of one rule; all else is kept.
fn recipe(pattern: &str, precision: &str, rows: &str, options: &str) -> Result<Recipe, String> {
    let rule = format!(r#"{{"match":"{pattern}","precision":"{precision}","rows":[{rows}]}}"#);
    let json = format!(
        r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[{rule}],"otherwise":"fp32"{options}}}}}]}}"#
    );
    Recipe::from_json(&json).map_err(|error| error.to_string())
}

const GPTQ: &str = r#","errorCompensation":"gptq""#;

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let label = r#"{"label":"dt","precision":"fp16"}"#;
    let count = r#"{"count":3,"precision":"fp16"}"#;
    for (rows, options, why) in [
        (label, r#","coded":true"#, "none with coded"),
        (count, "", "labels alone without errorCompensation gptq"),
        (r#"{"count":0,"precision":"fp16"}"#, GPTQ, "rules.rows.count is 0; allowed: 1 or more"),
        (r#"{"precision":"fp16"}"#, GPTQ, "each with a label or a count, one of them"),
        (r#"{"label":"z","count":3,"precision":"fp16"}"#, GPTQ, "each with a label or a count, one of them"),
        (&format!("{label},{count}"), GPTQ, "labels for all of them or counts for all of them"),
        (&format!("{label},{label}"), "", r#"rules.rows.label is "dt"; allowed: each part's name once"#),
        (r#"{"label":"","precision":"fp16"}"#, "", "each part's name once"),
        (&[count; 8].join(","), GPTQ, "rules.rows is 8; allowed: at most 7"),
        (r#"{"label":"dt","precision":"fp16","from":2}"#, "", "from"),
        (r#"{"label":"dt"}"#, "", "precision"),
    ] {
        let error = recipe("a", "nf4", rows, options).unwrap_err();
        assert!(error.contains(why), "{rows}: {error}");
    }
    let stepped = r#"{"version":1,"name":"t","steps":[{"quantize":{"rules":[{"match":"a","precision":"int8","step":0.1,
        "rows":[{"count":3,"precision":"fp16"}]}],"otherwise":"int8","errorCompensation":"gptq"}}]}"#;
    assert!(Recipe::from_json(stepped).unwrap_err().to_string().contains("none with step"));
    let kept = recipe("a", "nf4", label, "").unwrap();
    assert!(!kept.needs_calibration());
    assert_eq!(Recipe::from_json(&serde_json::to_string(&kept).unwrap()).unwrap(), kept);
    assert!(recipe("a", "nf4", count, GPTQ).unwrap().needs_calibration());
}

fn plain(checkpoint: &Checkpoint, recipe: &Recipe) -> (report::CompressReport, Vec<u8>) {
    let (job, bytes) = checkpoint.compress_to_memory(recipe).unwrap();
    (run(job, |_| {}).unwrap(), bytes.take())
}

fn reopen(bytes: &[u8]) -> Checkpoint {
    Checkpoint::open(bytes.to_vec(), OpenOptions::default()).unwrap()
}

fn tensor(bytes: &[u8], name: &str) -> Tensor {
    let bytes = bytes.to_vec();
    read_tensor(&bytes, open_index(&bytes).unwrap().get(name).unwrap()).unwrap()
}

fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    pollster::block_on(statepress::sequence_logits(&checkpoint.model().unwrap(), ids)).unwrap()
}

fn told<'a>(plan: &'a report::Plan, code: &str) -> Vec<&'a str> {
    plan.findings.iter().filter(|it| it.code == code).map(|it| it.message.as_str()).collect()
}

#[test]
fn the_step_sizes_of_mamba_2_stay_finer_than_what_is_beside_them() {
    let base = open_folder(&fixture("families/mamba2-groups"));
    let inspection = base.inspection();
    let it = inspection.tensors.iter().find(|it| it.name.ends_with("layers.0.mixer.in_proj.weight")).unwrap();
    let [.., dt] = it.segments.as_slice() else { panic!("{it:?}") };
    assert_eq!(dt.label, "dt");
    let (rows, cols) = (it.shape[0], it.shape[1]);
    let precise = recipe("*in_proj.weight", "nf4", r#"{"label":"dt","precision":"fp32"}"#, "").unwrap();
    let planned = base.plan(&precise).unwrap();
    let (report, bytes) = plain(&base, &precise);
    assert_eq!(report.plan.bytes, planned.bytes, "bytes are known beforehand");
    let plan = report.plan.tensors.iter().find(|tensor| tensor.name == it.name).unwrap();
    let classes: Vec<_> =
        plan.rows.iter().map(|class| (class.precision.name(), class.rows as usize)).collect();
    assert_eq!(classes, [("fp32", dt.rows), ("nf4", rows - dt.rows)]);
    assert_eq!(plan.precision.name(), "nf4", "that of most rows");
    let index = rows.div_ceil(8) as u64;
    assert_eq!(plan.bytes_after, index + plan.rows.iter().map(|class| class.bytes).sum::<u64>());
    assert!(plan.error.unwrap().mse.unwrap() > 0.0);
    let shares: u64 = report.plan.precisions.iter().map(|share| share.bytes).sum();
    assert_eq!(shares, report.plan.bytes.after);

    let (_, kept) = plain(&base, &recipes::find("none").unwrap());
    let (original, found) = (codecs::decode(&tensor(&kept, &it.name)), tensor(&bytes, &it.name));
    assert_eq!(found.bytes(), plan.bytes_after);
    let found = codecs::decode(&found);
    let above = (rows - dt.rows) * cols;
    assert_eq!(found[above..], original[above..], "dt as it was");
    let options = statepress::recipe::Codecs::default();
    let nf4 = options.encoding(serde_json::from_str(r#""nf4""#).unwrap());
    let alone = codecs::encode(&original[..above], &[rows - dt.rows, cols], nf4, Clip::Absmax).unwrap();
    assert_eq!(found[..above], codecs::decode(&alone.tensor), "the rest as if there were nothing else");

    // It opens, says what it is, runs, and is kept bit for bit by whoever changes nothing.
    let again = reopen(&bytes);
    let it = again.inspection().tensors.into_iter().find(|found| found.name == it.name).unwrap();
    assert_eq!((it.dtype.as_str(), it.bytes), ("FP32+NF4", plan.bytes_after));
    let ids = [1, 5, 2, 9, 3, 3, 7];
    let all_nf4 = plain(&base, &recipe("*in_proj.weight", "nf4", "", "").unwrap()).1;
    let exact = logits(&base, &ids);
    let off = |bytes: &[u8]| -> f32 {
        logits(&reopen(bytes), &ids).iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum()
    };
    assert!(off(&bytes) > 0.0 && off(&bytes) < off(&all_nf4), "{} and {}", off(&bytes), off(&all_nf4));
    let (report, same) = plain(&again, &recipes::find("none").unwrap());
    assert_eq!(tensor(&same, &it.name), tensor(&bytes, &it.name));
    assert_eq!(report.plan.bytes.before, report.plan.bytes.after);
    // Codes of codes are told of.
    let (report, _) = plain(&again, &recipe("*in_proj.weight", "int8", "", "").unwrap());
    assert!(told(&report.plan, "recoded")[0].contains("quantized before (fp32+nf4)"));
}

#[test]
fn rows_that_decide_nothing_are_told() {
    let base = open_folder(&fixture("families/mamba2-groups"));
    for (pattern, rows, options, why) in [
        (
            "*in_proj.weight",
            r#"{"label":"experts","precision":"fp16"}"#,
            "",
            "no part of it is called experts (z, x",
        ),
        ("*out_proj.weight", r#"{"label":"dt","precision":"fp16"}"#, "", "(no part has a name)"),
        ("*A_log", r#"{"label":"dt","precision":"fp16"}"#, "", "only a matrix"),
        (
            "*in_proj.weight",
            r#"{"count":3,"precision":"fp16"}"#,
            GPTQ,
            "only rows of the token table and the head",
        ),
    ] {
        let plan = base.plan(&recipe(pattern, "nf4", rows, options).unwrap()).unwrap();
        let found = told(&plan, "unused-rows");
        assert!(found.len() == 1 && found[0].contains(why), "{pattern}: {found:?}");
        assert!(plan.tensors.iter().all(|tensor| tensor.rows.is_empty()));
    }
    // Counts beyond the vocabulary.
    let rows = r#"{"count":9,"precision":"fp16"},{"count":99999999,"precision":"int8"},{"count":1,"precision":"fp16"}"#;
    let plan = base.plan(&recipe("role:table", "nf4", rows, GPTQ).unwrap()).unwrap();
    assert!(told(&plan, "unused-rows")[0].contains("are taken by the counts before"));
    assert_eq!(told(&plan, "needs-calibration").len(), 1);
    let table = plan.tensors.iter().find(|tensor| !tensor.rows.is_empty()).unwrap();
    let params = table.params;
    assert_eq!(table.rows.len(), 2);
    assert_eq!(table.rows[0].rows, 9);
    assert_eq!(params % (table.rows[0].rows + table.rows[1].rows), 0);
}

/// How much each row of the head matters by the logits of a window: `mean p (1 - p)`.
fn alpha(logits: &[f32], vocab: usize) -> Vec<f64> {
    let mut alpha = vec![0.0; vocab];
    for row in logits.chunks(vocab) {
        let most = row.iter().fold(f32::MIN, |a, &b| a.max(b));
        let exps: Vec<f64> = row.iter().map(|x| f64::from(x - most).exp()).collect();
        let sum: f64 = exps.iter().sum();
        alpha.iter_mut().zip(exps).for_each(|(alpha, e)| *alpha += e / sum * (1.0 - e / sum));
    }
    alpha
}

#[test]
fn the_rows_that_are_used_most_are_the_finest() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = Golden::open(&fixture("trained/itera-tiny.safetensors")).ids("input_ids");
    let read = &ids[..256];
    let rows = r#"{"count":125,"precision":"fp32"},{"count":375,"precision":"int6"}"#;
    let finer =
        recipe("role:table", "lm3", rows, &format!(r#"{GPTQ},"groups":{{"group":64,"scale":"log8"}}"#))
            .unwrap();
    let error = base.compress(&finer, Box::new(MemorySink::default())).map(drop).unwrap_err();
    assert!(error.to_string().contains("calibration"), "{error}");
    let (model, sink) = (base.model().unwrap(), MemorySink::default());
    let job =
        base.compress_calibrated(&finer, Box::new(sink.clone()), Calibration::new(&model, read)).unwrap();
    let report = run(job, |_| {}).unwrap();
    assert_eq!(report.plan.bytes, base.plan(&finer).unwrap().bytes, "bytes are known beforehand");
    let bytes = sink.take();
    let (_, kept) = plain(&base, &recipes::find("none").unwrap());
    let name = &report.plan.tensors.iter().find(|tensor| !tensor.rows.is_empty()).unwrap().name;
    let (original, found) = (tensor(&kept, name), tensor(&bytes, name));
    let Packed::Rows(classed) = &found.data else { panic!("rows") };
    let kinds: Vec<_> = classed.parts().iter().map(|part| part.encoding().name()).collect();
    assert_eq!(kinds, ["fp32", "int6", "lm3"]);
    let (vocab, cols) = found.matrix();
    let values = [codecs::decode(&original), codecs::decode(&found)];
    let exact: Vec<bool> =
        (0..vocab).map(|row| values[0][row * cols..][..cols] == values[1][row * cols..][..cols]).collect();
    // A row of a class of floats is as it was; the others are not.
    assert_eq!(exact.iter().filter(|exact| **exact).count(), 125);
    let alpha = alpha(&logits(&base, read), vocab);
    let least = (0..vocab).filter(|&row| exact[row]).map(|row| alpha[row]).fold(f64::MAX, f64::min);
    let above = (0..vocab).filter(|&row| !exact[row] && alpha[row] > 1.001 * least);
    assert_eq!(
        above.collect::<Vec<_>>(),
        Vec::<usize>::new(),
        "rows that are used more, and are not of the first class"
    );
    assert!(report.plan.findings.iter().all(|it| it.code != "unused-rows"));
}

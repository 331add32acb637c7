//! Parts of layers that go: what is left computes what the model does with those parts silenced, in every family; which go is what
//! measuring says; and the file says what is not there.

use serde_json::{Value, json};
use statepress::program::Program;
use statepress::{
    Checkpoint, Compare, CompareOptions, ExportTarget, GgufOptions, OpenOptions, PlainOptions, run,
};
use statepress_tests::files::{demo, fixture, heldout_ids, open, open_folder};
use statepress_tests::golden::assert_close;

use crate::exports::export;
use crate::layers::{File, TOLERANCE, bases, logits, pruned, recipe, removed, text};

fn keep(keep: f64) -> Value {
    json!({ "prune": { "kind": "sublayers", "keep": keep, "by": "loss" } })
}

/// The share that leaves so many of all.
fn share(left: usize, of: usize) -> Value {
    keep(left as f64 / of as f64)
}

fn silenced(file: &File, program: &Program, parts: &[usize]) -> Checkpoint {
    let all = program.sublayers();
    file.silenced(program, |at| parts.iter().any(|&part| all[part].nodes.contains(&at)))
}

fn field(checkpoint: &Checkpoint) -> Value {
    checkpoint.inspection().spec["pruned_tensors"].value.clone()
}

#[test]
fn every_part_of_every_family_goes_as_if_it_were_silenced() {
    let (mut checked, mut others) = (0, 0);
    for (what, base) in bases() {
        let (model, file, ids) = (base.model().unwrap(), File::of(&base), text(&base));
        let parts = model.program().sublayers();
        if parts.windows(2).all(|pair| pair[0].layer != pair[1].layer) {
            continue;
        }
        for part in 0..parts.len() {
            let silent = silenced(&file, model.program(), &[part]);
            let (report, smaller) = pruned(&silent, json!([share(parts.len() - 1, parts.len())]), &ids);
            if removed(&report) != [part] {
                // The last of its kind in a hybrid, or the only one of its layer.
                others += 1;
                continue;
            }
            let step = &report.plan.pruned[0];
            assert!(step.places[0].error.unwrap() < 1e-7, "{what} {part}: {:?}", step.places[0].error);
            assert_eq!(smaller.inspection().params, step.params_after, "{what} {part}");
            assert!(step.params_after < step.params_before, "{what} {part}");
            let gone = field(&smaller).as_object().unwrap().len();
            assert_eq!(gone, step.places[0].tensors.len(), "{what} {part}");
            assert_eq!(
                smaller.inspection().tensors.len() + gone,
                silent.inspection().tensors.len(),
                "{what} {part}"
            );
            assert_eq!(smaller.model().unwrap().program().n_layers(), model.program().n_layers());
            let ids = &ids[..ids.len().min(model.info.max_tokens.unwrap_or(40)).min(40)];
            assert_close(&what, &logits(&smaller, ids), &logits(&silent, ids), TOLERANCE);
            checked += 1;
        }
    }
    assert!(checked > 60 && others < checked / 4, "{checked} {others}");
}

/// On the very windows that are read; and each layer keeps a part.
#[test]
fn the_part_goes_that_is_missed_least() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = &heldout_ids()[..256];
    let (model, file) = (base.model().unwrap(), File::of(&base));
    let parts = model.program().sublayers();
    let lost = |gone: &[usize]| {
        let other = silenced(&file, model.program(), gone).model().unwrap();
        let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
        run(Compare::new(&model, &other, ids, options, || 0.0).unwrap(), |_| {}).unwrap().kl.mean
    };
    let mut gone: Vec<usize> = Vec::new();
    for left in (parts.len() - 2..parts.len()).rev() {
        let can = |part: usize| !gone.iter().any(|&other| parts[other].layer == parts[part].layer);
        let losses = (0..parts.len()).filter(|&part| can(part)).map(|part| {
            let without: Vec<usize> = gone.iter().copied().chain([part]).collect();
            (lost(&without), part)
        });
        let (least, part) = losses.min_by(|(a, _), (b, _)| a.total_cmp(b)).unwrap();
        gone.push(part);
        let (report, _) = pruned(&base, json!([share(left, parts.len())]), ids);
        let mut expected = gone.clone();
        expected.sort_unstable();
        assert_eq!(removed(&report), expected);
        let found = report.plan.pruned[0].places[0].error.unwrap();
        assert!((found - least).abs() < 0.01 * least, "{found} is told, {least} is measured");
    }
}

/// Layers are counted anew, also those of which the file says what they lack; and other steps see what is left.
#[test]
fn layers_and_widths_go_from_what_lost_parts() {
    let base = File::of(&open(&fixture("fixtures/il_odd.safetensors"), &[])).open();
    let ids = text(&base);
    let parts = base.model().unwrap().program().sublayers();
    let (layers, last) = (base.model().unwrap().program().n_layers(), parts.len() - 1);
    // The second part of the last layer is silent, and then the whole first layer.
    let file = File::of(&base);
    let first = parts.iter().filter(|part| part.layer == 0).count();
    let silent = silenced(&file, base.model().unwrap().program(), &[last]);
    let (report, one) = pruned(&silent, json!([share(last, parts.len())]), &ids);
    assert_eq!(removed(&report), [last]);
    let all: Vec<usize> = (0..first).chain([last]).collect();
    let silent = silenced(&file, base.model().unwrap().program(), &all);
    let steps = json!([
        share(last, parts.len()),
        { "prune": { "kind": "layers", "keep": (layers - 1) as f64 / layers as f64, "by": "loss" } },
    ]);
    let (report, both) = pruned(&silent, steps, &ids);
    if removed(&report) == [last] {
        let before = format!("layers.{}.", layers - 1);
        assert!(
            field(&one).as_object().unwrap().keys().all(|key| key.starts_with(&before)),
            "{}",
            field(&one)
        );
        assert_eq!(report.plan.pruned[1].places[0].removed, [0]);
    }
    assert_close("both", &logits(&both, &ids[..12]), &logits(&silent, &ids[..12]), TOLERANCE);

    let narrow = json!({ "prune": { "kind": "width", "keep": 0.5 } });
    let (report, narrow) = pruned(&base, json!([share(last, parts.len()), narrow]), &ids);
    assert_eq!(report.plan.pruned[0].params_after, report.plan.pruned[1].params_before);
    assert_eq!(narrow.inspection().params, report.plan.pruned[1].params_after);
    // And once more, of what has lost some already.
    let (report, fewer) = pruned(&narrow, json!([share(last - 1, last)]), &ids);
    let gone = field(&narrow).as_object().unwrap().len() + report.plan.pruned[0].places[0].tensors.len();
    assert_eq!(field(&fewer).as_object().unwrap().len(), gone);
}

#[test]
fn what_cannot_go_is_refused_by_name() {
    let refused = |base: &Checkpoint, steps: Value| base.plan(&recipe(steps)).unwrap_err().to_string();
    let mamba = open_folder(&fixture("families/mamba-default"));
    let error = refused(&mamba, json!([keep(0.5)]));
    assert!(
        error.contains("prune.kind is sublayers") && error.contains("each of the model's is one part"),
        "{error}"
    );
    let llama = open_folder(&fixture("families/llama-gqa"));
    let parts = llama.model().unwrap().program().sublayers().len();
    let error = refused(&llama, json!([share(1, parts)]));
    assert!(error.contains("prune.keep is") && error.contains(&format!("at least {}", parts / 2)), "{error}");
    let narrow =
        json!([share(parts - 1, parts), { "prune": { "kind": "hidden", "keep": 0.75, "by": "loss" } }]);
    let error = refused(&llama, narrow);
    assert!(error.contains("prune.kind is hidden; allowed: before parts of layers go"), "{error}");
    let all = llama.plan(&recipe(json!([keep(1.0)]))).unwrap();
    assert!(all.findings.iter().any(|finding| finding.code == "nothing-removed"), "{:?}", all.findings);
}

/// What a file says of tensors that it lacks has to be whole parts of its layers.
#[test]
fn what_is_said_to_be_gone_has_to_be_parts_of_layers() {
    let base = open_folder(&fixture("families/llama-gqa"));
    let parts = base.model().unwrap().program().sublayers().len();
    let (_, smaller) = pruned(&base, json!([share(parts - 1, parts)]), &text(&base));
    let finding = |checkpoint: &Checkpoint, code: &str| {
        let all = &checkpoint.inspection().findings;
        all.iter().find(|finding| finding.code == code).map(|finding| finding.message.clone())
    };
    assert!(finding(&smaller, "pruned-sublayers").unwrap().contains("1 part of a layer was taken out"));
    let with = |value: Value| {
        let file = File::of(&smaller);
        file.saying("pruned_tensors", value).open()
    };
    let said = field(&smaller);
    let mut fewer = said.as_object().unwrap().clone();
    let (key, _) = fewer.clone().into_iter().next().unwrap();
    fewer.remove(&key);
    let cannot = |value: Value| finding(&with(value), "cannot-run").unwrap();
    let told = cannot(fewer.into());
    assert!(told.contains(&key), "{told}");
    let mut more = said.as_object().unwrap().clone();
    more.insert("model.layers.9.mlp.up_proj.weight".into(), json!([4, 4]));
    let told = cannot(more.into());
    assert!(told.contains("model.layers."), "{told}");
    for odd in [json!(3), json!({ "a": "b" }), json!({ "a": [0] }), json!({ "a": [1u64 << 40] })] {
        let told = cannot(odd);
        assert!(told.contains("pruned_tensors is") && told.contains("shapes by key"), "{told}");
    }
    assert!(with(said).model().is_ok());
}

#[test]
fn what_lacks_parts_is_exported_as_what_it_is_or_not_at_all() {
    let base = open_folder(&fixture("families/qwen3"));
    let parts = base.model().unwrap().program().sublayers().len();
    let (_, smaller) = pruned(&base, json!([share(parts - 1, parts)]), &text(&base));
    let config = std::fs::read_to_string(fixture("families/qwen3/config.json")).unwrap();
    let config = serde_json::from_str(&config).ok();
    let (exported, bytes) =
        export(&smaller, &ExportTarget::Plain(PlainOptions { config, ..PlainOptions::default() })).unwrap();
    let told = exported.report.findings.iter().find(|finding| finding.code == "not-in-transformers").unwrap();
    assert!(told.message.contains("lacks parts of layers"), "{}", told.message);
    let config = exported.config.unwrap();
    let again = Checkpoint::open(bytes, OpenOptions::default().config_text(&config)).unwrap();
    assert_eq!(logits(&again, &[1, 2, 3]), logits(&smaller, &[1, 2, 3]));
    let error = export(&smaller, &ExportTarget::Gguf(GgufOptions::default())).err().unwrap().to_string();
    assert!(error.contains("lacks parts of layers") && error.contains("no GGUF of it is written"), "{error}");
}

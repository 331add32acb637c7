//! Whole layers that go: what is left computes what the model does with those layers silenced, in every family; which go is what
//! measuring says; and all else of the file stays as it was.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use statepress::program::{Expert, Op, Program, VectorSource};
use statepress::report::{CompressReport, Fisher, OutputFisher};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, ExportTarget, MemorySink, OpenOptions, PlainOptions,
    Recipe, recipes, run, sequence_logits,
};
use statepress_tests::edit::Edit;
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, heldout_ids, open, open_folder};
use statepress_tests::golden::assert_close;

use crate::exports::export;

/// `|a - b| / (1 + |b|)`.
pub(crate) const TOLERANCE: f32 = 1e-5;

/// A safetensors file whose tensors can be silenced where they lie.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    /// First byte and bytes of every array.
    arrays: BTreeMap<String, (usize, usize)>,
}

impl File {
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let (job, bytes) = checkpoint.compress_to_memory(&recipes::find("none").unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        Self::read(bytes.take())
    }

    pub(crate) fn read(bytes: Vec<u8>) -> Self {
        let begin = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let head: Map<String, Value> = serde_json::from_slice(&bytes[8..begin]).unwrap();
        let arrays = head.iter().filter(|(name, _)| *name != "__metadata__").map(|(name, about)| {
            let at: Vec<usize> = serde_json::from_value(about["data_offsets"].clone()).unwrap();
            (name.clone(), (begin + at[0], at[1] - at[0]))
        });
        Self { arrays: arrays.collect(), bytes }
    }

    fn array(&self, name: &str) -> &[u8] {
        let (begin, len) = self.arrays[name];
        &self.bytes[begin..begin + len]
    }

    /// The same with another value of a field of the configuration that it carries.
    pub(crate) fn saying(&self, field: &str, value: Value) -> Self {
        let begin = 8 + u64::from_le_bytes(self.bytes[..8].try_into().unwrap()) as usize;
        let mut head: Map<String, Value> = serde_json::from_slice(&self.bytes[8..begin]).unwrap();
        let mut config: Map<String, Value> =
            serde_json::from_str(head["__metadata__"]["config"].as_str().unwrap()).unwrap();
        config.insert(field.into(), value);
        head["__metadata__"]["config"] = Value::String(serde_json::to_string(&config).unwrap());
        let head = serde_json::to_vec(&head).unwrap();
        let len = (head.len() as u64).to_le_bytes();
        Self::read([&len[..], &head, &self.bytes[begin..]].concat())
    }

    /// Changes the bytes of an array.
    pub(crate) fn change(&mut self, name: &str, change: impl Fn(&mut [u8])) {
        let (begin, len) = self.arrays[name];
        change(&mut self.bytes[begin..begin + len]);
    }

    /// Zeroes a tensor, which may lack what usual keys begin with, or have a prefix.
    fn silence(&mut self, key: &str) {
        let dotted = |name: &str| format!(".{name}");
        let is_key =
            |name: &&String| dotted(key).ends_with(&dotted(name)) || dotted(name).ends_with(&dotted(key));
        let name = self.arrays.keys().find(is_key).unwrap_or_else(|| panic!("no {key}"));
        let (begin, len) = self.arrays[name];
        self.bytes[begin..begin + len].fill(0);
    }

    pub(crate) fn open(&self) -> Checkpoint {
        Checkpoint::open(self.bytes.clone(), OpenOptions::default()).unwrap()
    }

    /// The same with layers that add nothing to the residual stream.
    fn without(&self, program: &Program, layers: &[usize]) -> Checkpoint {
        self.silenced(program, |at| program.nodes[at].layer.is_some_and(|n| layers.contains(&n)))
    }

    /// The same with nodes that add nothing to the residual stream.
    pub(crate) fn silenced(&self, program: &Program, is_silent: impl Fn(usize) -> bool) -> Checkpoint {
        let mut silenced = self.clone();
        for (at, node) in program.nodes.iter().enumerate() {
            if node.op.writes() != program.hidden || !is_silent(at) {
                continue;
            }
            let (matrices, bias) = match &node.op {
                Op::Linear(op) if op.add => (vec![op.w], op.bias),
                Op::Experts(op) => (op.experts.iter().map(|Expert { down, .. }| *down).collect(), None),
                other => panic!("{other:?} writes to the residual stream"),
            };
            matrices.iter().for_each(|&id| silenced.silence(&program.matrix(id).key));
            if let Some(VectorSource::Key(key)) = bias.map(|id| &program.vector(id).source) {
                silenced.silence(key);
            }
        }
        silenced.open()
    }
}

pub(crate) fn recipe(steps: Value) -> Recipe {
    Recipe::from_json(&json!({ "version": 1, "name": "t", "steps": steps }).to_string()).unwrap()
}

fn keep(keep: f64) -> Value {
    json!({ "prune": { "kind": "layers", "keep": keep, "by": "loss" } })
}

/// The share that leaves so many of all.
fn share(left: usize, of: usize) -> Value {
    keep(left as f64 / of as f64)
}

pub(crate) fn made(base: &Checkpoint, steps: Value, ids: &[u32]) -> (CompressReport, Vec<u8>) {
    let model = base.model().unwrap();
    made_by(base, steps, Calibration::new(&model, ids))
}

fn made_by(base: &Checkpoint, steps: Value, calibration: Calibration) -> (CompressReport, Vec<u8>) {
    let sink = MemorySink::default();
    let job = base.compress_calibrated(&recipe(steps), Box::new(sink.clone()), calibration).unwrap();
    (run(job, |_| {}).unwrap(), sink.take())
}

pub(crate) fn pruned(base: &Checkpoint, steps: Value, ids: &[u32]) -> (CompressReport, Checkpoint) {
    let (report, bytes) = made(base, steps, ids);
    (report, Checkpoint::open(bytes, OpenOptions::default()).unwrap())
}

pub(crate) fn removed(report: &CompressReport) -> Vec<usize> {
    let [place] = &report.plan.pruned[0].places[..] else { panic!("{:?}", report.plan.pruned) };
    place.removed.clone()
}

pub(crate) fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    pollster::block_on(sequence_logits(&checkpoint.model().unwrap(), ids)).unwrap()
}

pub(crate) fn text(base: &Checkpoint) -> Vec<u32> {
    let vocab = base.model().unwrap().info.vocab_size as u32;
    (0..600u32).map(|t| (t * t * 31 + t * 7) % vocab).collect()
}

/// Checkpoints of every family; but one whose scores are divided by the number of their layer.
pub(crate) fn bases() -> Vec<(String, Checkpoint)> {
    let families =
        samples().into_iter().filter(|sample| sample.golden.is_some() && sample.name != "gpt2-odd");
    let mut all: Vec<_> = families.map(|sample| (sample.name, open_folder(&sample.folder))).collect();
    for name in ["il_ffn", "il_moe", "il_odd", "tf"] {
        all.push((name.into(), open(&fixture(&format!("fixtures/{name}.safetensors")), &[])));
    }
    all
}

/// Whether no other layer has what this one has of attention and state spaces: a hybrid without it is none.
fn is_last_of_its_kind(program: &Program, layer: usize) -> bool {
    let with = |is: fn(&Op) -> bool| {
        let mut layers: Vec<_> =
            program.nodes.iter().filter(|node| is(&node.op)).filter_map(|node| node.layer).collect();
        layers.dedup();
        layers
    };
    let attend = with(|op| matches!(op, Op::Attention(_)));
    let scan = with(|op| matches!(op, Op::Ssd(_) | Op::SelectiveScan { .. }));
    let is_hybrid = !attend.is_empty() && !scan.is_empty();
    is_hybrid && [attend, scan].iter().any(|layers| layers[..] == [layer])
}

#[test]
fn every_layer_of_every_family_goes_as_if_it_were_silenced() {
    let (mut checked, mut last) = (0, 0);
    for (what, base) in bases() {
        let (model, file, ids) = (base.model().unwrap(), File::of(&base), text(&base));
        let layers = model.program().n_layers();
        for layer in (0..layers).filter(|_| layers > 1) {
            let silenced = file.without(model.program(), &[layer]);
            let steps = json!([share(layers - 1, layers)]);
            let planned = silenced.plan(&recipe(steps.clone())).unwrap();
            let (report, smaller) = pruned(&silenced, steps, &ids);
            if removed(&report) != [layer] {
                assert!(
                    is_last_of_its_kind(model.program(), layer),
                    "{what} {layer}: {:?}",
                    removed(&report)
                );
                last += 1;
                continue;
            }
            let step = &report.plan.pruned[0];
            assert!(step.places[0].error.unwrap() < 1e-7, "{what} {layer}: {:?}", step.places[0].error);
            assert_eq!(smaller.inspection().params, step.params_after, "{what} {layer}");
            assert_eq!(smaller.inspection().family, base.inspection().family, "{what} {layer}");
            assert_eq!(smaller.model().unwrap().program().n_layers(), layers - 1, "{what} {layer}");
            if !planned.findings.iter().any(|finding| finding.code == "estimated") {
                assert_eq!(planned.bytes, report.plan.bytes, "{what} {layer}");
            }
            let ids = &ids[..ids.len().min(model.info.max_tokens.unwrap_or(40)).min(40)];
            assert_close(&what, &logits(&smaller, ids), &logits(&silenced, ids), TOLERANCE);
            checked += 1;
        }
    }
    assert!(checked > 50 && last > 0, "{checked} {last}");
}

/// What was not silenced beforehand, and more than one.
#[test]
fn several_layers_go_as_if_they_were_silenced() {
    let mut checked = 0;
    for (what, base) in bases() {
        let (model, ids) = (base.model().unwrap(), text(&base));
        let layers = model.program().n_layers();
        if layers < 3 {
            continue;
        }
        let steps = json!([share(layers - 2, layers)]);
        let Ok(_) = base.plan(&recipe(steps.clone())) else { continue };
        let (report, smaller) = pruned(&base, steps, &ids);
        assert_eq!(removed(&report).len(), 2, "{what}");
        let silenced = File::of(&base).without(model.program(), &removed(&report));
        let ids = &ids[..ids.len().min(model.info.max_tokens.unwrap_or(40)).min(40)];
        assert_close(&what, &logits(&smaller, ids), &logits(&silenced, ids), TOLERANCE);
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}

/// On the very windows that are read.
#[test]
fn the_layer_goes_that_is_missed_least() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = &heldout_ids()[..256];
    let (model, file) = (base.model().unwrap(), File::of(&base));
    let layers = model.program().n_layers();
    let lost = |gone: &[usize]| {
        let other = file.without(model.program(), gone).model().unwrap();
        let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
        run(Compare::new(&model, &other, ids, options, || 0.0).unwrap(), |_| {}).unwrap().kl.mean
    };
    let mut gone: Vec<usize> = Vec::new();
    for left in (1..layers).rev() {
        let losses = (0..layers).filter(|layer| !gone.contains(layer)).map(|layer| {
            let without: Vec<usize> = gone.iter().copied().chain([layer]).collect();
            (lost(&without), layer)
        });
        let (least, layer) = losses.min_by(|(a, _), (b, _)| a.total_cmp(b)).unwrap();
        gone.push(layer);
        let (report, _) = pruned(&base, json!([share(left, layers)]), ids);
        let mut expected = gone.clone();
        expected.sort_unstable();
        assert_eq!(removed(&report), expected);
        let found = report.plan.pruned[0].places[0].error.unwrap();
        assert!((found - least).abs() < 0.01 * least, "{found} is told, {least} is measured");
        let told = report.plan.findings.iter().find(|finding| finding.code == "shortened").unwrap();
        let order: Vec<String> = gone.iter().map(usize::to_string).collect();
        assert!(told.message.contains(&format!("in this order: {}.", order.join(", "))), "{}", told.message);
    }
}

/// The name of an array after `gone` went, where its layer's number stands behind `before`.
fn moved(name: &str, before: &str, gone: &[usize]) -> Option<String> {
    let Some(inside) = name.strip_prefix(before) else { return Some(name.into()) };
    let (number, rest) = inside.split_once('.').unwrap();
    let number: usize = number.parse().unwrap();
    let less = gone.iter().filter(|&&other| other < number).count();
    (!gone.contains(&number)).then(|| format!("{before}{}.{rest}", number - less))
}

#[test]
fn what_stays_stays_byte_for_byte() {
    for (name, before, packs) in [
        ("families/granite-moe", "model.layers.", "nf4"),
        ("families/mamba-default", "backbone.layers.", "int8"),
        ("families/gpt2", "transformer.h.", "none"),
    ] {
        let original = open_folder(&fixture(name));
        let (job, bytes) = original.compress_to_memory(&recipes::find(packs).unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        let file = File::read(bytes.take());
        let base = file.open();
        let layers = base.model().unwrap().program().n_layers();
        let (report, bytes) = made(&base, json!([share(layers - 1, layers)]), &text(&base));
        let (gone, smaller) = (removed(&report), File::read(bytes));
        let left: Vec<_> =
            file.arrays.keys().filter_map(|name| Some((name, moved(name, before, &gone)?))).collect();
        assert!(left.len() < file.arrays.len(), "{name}");
        assert_eq!(left.len(), smaller.arrays.len(), "{name}");
        for (old, new) in left {
            assert_eq!(file.array(old), smaller.array(&new), "{name}: {old} as {new}");
        }
        assert!(
            !report.plan.findings.iter().any(|it| it.code == "dequantized"),
            "{:?}",
            report.plan.findings
        );
    }
}

/// Prefixes, wrappers within keys, and another model in the same file.
#[test]
fn layers_are_counted_anew_under_the_names_of_the_file() {
    let mut edit = Edit::file(&fixture("fixtures/il_ffn.safetensors"));
    let copy = edit.clone();
    for tensor in &mut edit.0 {
        let name = match tensor.name.strip_prefix("layers.") {
            Some(inside) => format!("layers.{}", inside.replacen('.', "._orig_mod.", 1)),
            None => tensor.name.clone(),
        };
        tensor.name = format!("module.net.{name}");
    }
    edit.0.extend(copy.0.into_iter().map(|mut tensor| {
        tensor.name = format!("teacher.{}", tensor.name);
        tensor
    }));
    let base = Checkpoint::open(edit.write(), OpenOptions::default()).unwrap();
    let layers = base.model().unwrap().program().n_layers();
    let (report, bytes) = made(&base, json!([share(layers - 1, layers)]), &text(&base));
    let gone = removed(&report);
    let names = |bytes: Vec<u8>| File::read(bytes).arrays.into_keys();
    let expected: Vec<String> =
        names(edit.write()).filter_map(|name| moved(&name, "module.net.layers.", &gone)).collect();
    assert_eq!(names(bytes.clone()).collect::<Vec<_>>(), expected);
    assert!(
        logits(&Checkpoint::open(bytes, OpenOptions::default()).unwrap(), &[1, 2, 3])
            .iter()
            .all(|x| x.is_finite())
    );
}

#[test]
fn what_a_configuration_says_of_layers_and_of_their_number_stays_true() {
    let value = |checkpoint: &Checkpoint, field: &str| checkpoint.inspection().spec[field].value.clone();
    let bamba = open_folder(&fixture("families/bamba"));
    assert_eq!(value(&bamba, "attn_layer_indices"), json!([1]));
    let (report, smaller) = pruned(&bamba, json!([share(2, 3)]), &text(&bamba));
    let attends = usize::from(removed(&report) == [2]);
    assert_eq!(value(&smaller, "attn_layer_indices"), json!([attends]));
    assert_eq!(value(&smaller, "num_hidden_layers"), json!(2));

    let granite = open_folder(&fixture("families/granite-dense"));
    let kinds: Vec<Value> = serde_json::from_value(value(&granite, "layer_types")).unwrap();
    let (report, smaller) = pruned(&granite, json!([share(kinds.len() - 1, kinds.len())]), &text(&granite));
    let gone = removed(&report);
    let left: Vec<_> = (0..kinds.len()).filter(|n| !gone.contains(n)).map(|n| kinds[n].clone()).collect();
    assert_eq!(value(&smaller, "layer_types"), json!(left));
    assert!(!smaller.inspection().findings.iter().any(|finding| finding.code == "config-disagrees"));

    let lite = open(&fixture("fixtures/il_ffn.safetensors"), &[("prediction_offset", 2)]);
    let (_, smaller) = pruned(&lite, json!([keep(0.5)]), &text(&lite));
    assert_eq!(value(&smaller, "prediction_offset"), json!(2));
}

/// The configuration that an original came with says more of layers than our fields do.
#[test]
fn what_is_exported_says_of_layers_what_is_left_of_them() {
    let exported = |name: &str, left: usize, of: usize| {
        let base = open_folder(&fixture(&format!("families/{name}")));
        let (_, smaller) = pruned(&base, json!([share(left, of)]), &text(&base));
        let config = std::fs::read_to_string(fixture(&format!("families/{name}/config.json"))).unwrap();
        let config = serde_json::from_str(&config).ok();
        let (exported, bytes) =
            export(&smaller, &ExportTarget::Plain(PlainOptions { config, ..PlainOptions::default() }))
                .unwrap();
        let config = exported.config.unwrap();
        let again = Checkpoint::open(bytes, OpenOptions::default().config_text(&config)).unwrap();
        assert_eq!(logits(&again, &[1, 2, 3]), logits(&smaller, &[1, 2, 3]), "{name}");
        (again, serde_json::from_str::<Value>(&config).unwrap())
    };
    let (jamba, config) = exported("jamba-dense", 3, 4);
    let number = |field: &str| config[field].as_u64().unwrap() as usize;
    for layer in 0..3 {
        let attends = jamba
            .model()
            .unwrap()
            .program()
            .nodes
            .iter()
            .any(|node| node.layer == Some(layer) && matches!(node.op, Op::Attention(_)));
        let is_said = layer % number("attn_layer_period") == number("attn_layer_offset");
        assert_eq!(attends, is_said, "{config}");
    }
    let (_, config) = exported("qwen3", 1, 2);
    assert_eq!((&config["num_hidden_layers"], config.get("layer_types")), (&json!(1), None));
    let (_, config) = exported("granite-dense", 3, 4);
    assert_eq!(config["layer_types"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_asked_too_much_is_refused_and_nothing_is_told() {
    let bamba = open_folder(&fixture("families/bamba"));
    let refused = |base: &Checkpoint, steps: Value| base.plan(&recipe(steps)).unwrap_err().to_string();
    let error = refused(&bamba, json!([share(1, 3)]));
    assert!(error.contains("prune.keep is") && error.contains("at least 2 layers"), "{error}");
    let all = bamba.plan(&recipe(json!([keep(1.0)]))).unwrap();
    assert!(all.findings.iter().any(|finding| finding.code == "nothing-removed"), "{:?}", all.findings);
    let (report, same) = pruned(&bamba, json!([keep(12.0)]), &text(&bamba));
    assert!(report.plan.pruned[0].places.is_empty());
    assert!(report.plan.findings.iter().any(|finding| finding.code == "nothing-removed"));
    assert_eq!(logits(&same, &[1, 2, 3]), logits(&bamba, &[1, 2, 3]));
    let planned = bamba.plan(&recipe(json!([share(2, 3)]))).unwrap();
    for code in ["estimated", "needs-calibration"] {
        assert!(planned.findings.iter().any(|finding| finding.code == code), "{:?}", planned.findings);
    }
    let error = bamba.compress_to_memory(&recipe(json!([share(2, 3)]))).err().unwrap().to_string();
    assert!(error.contains("calibration") && error.contains("not given"), "{error}");
    let unknown = open_folder(&fixture("families/rwkv7-small"));
    let error = refused(&unknown, json!([keep(0.5)]));
    assert!(error.contains("cannot be run cannot be pruned"), "{error}");
}

/// What the text ranks is pruned, and floats stay floats: there are no errors to make up for.
#[test]
fn what_is_left_may_be_floats() {
    let base = open(&fixture("fixtures/il_ffn.safetensors"), &[]);
    let steps = |precision| json!([keep(0.5), { "quantize": { "rules": [], "otherwise": precision } }]);
    let (half, _) = pruned(&base, steps("fp16"), &text(&base));
    let (whole, _) = pruned(&base, steps("fp32"), &text(&base));
    assert_eq!(removed(&half), removed(&whole));
    assert_eq!(2 * half.plan.bytes.after, whole.plan.bytes.after);
}

/// Scores of GPT-2 can be divided by the number of their layer: none goes but from the end.
#[test]
fn a_layer_that_depends_on_its_number_keeps_it() {
    let base = open_folder(&fixture("families/gpt2-odd"));
    let (report, _) = pruned(&base, json!([share(1, 3)]), &text(&base));
    assert_eq!(removed(&report), [1, 2]);
}

/// Other steps follow, of which a report counts what each tensor was; what gradients say goes along with the layers.
#[test]
fn other_steps_see_the_layers_that_are_left() {
    // What is written has no copies of the table any more.
    let base = File::of(&open(&fixture("fixtures/il_odd.safetensors"), &[])).open();
    let (model, ids) = (base.model().unwrap(), text(&base));
    let program = model.program();
    let layers = program.n_layers();
    let quantize =
        json!({ "quantize": { "rules": [{ "match": "*norm*", "precision": "fp32" }], "otherwise": "int8" } });
    let narrow = json!({ "prune": { "kind": "width", "keep": 0.5 } });
    let (report, smaller) = pruned(&base, json!([share(layers - 1, layers), narrow, quantize]), &ids);
    let gone = removed(&report);
    assert_eq!(report.plan.pruned[0].params_after, report.plan.pruned[1].params_before);
    assert_eq!(smaller.inspection().params, report.plan.pruned[1].params_after);
    let before: BTreeMap<String, u64> = base
        .plan(&recipes::find("none").unwrap())
        .unwrap()
        .tensors
        .into_iter()
        .filter_map(|tensor| Some((moved(&tensor.name, "layers.", &gone)?, tensor.bytes_before)))
        .collect();
    for tensor in &report.plan.tensors {
        assert_eq!(tensor.bytes_before, before[&tensor.name], "{}", tensor.name);
    }

    let mut random = fastrand::Rng::with_seed(1);
    let outputs = program.matrices.iter().map(|matrix| OutputFisher {
        key: matrix.key.clone(),
        part: 0,
        rows: (0..matrix.rows).map(|_| random.f32()).collect(),
    });
    let outputs: Vec<_> = outputs.collect();
    let d = program.hidden_size();
    let looked_up: Vec<f32> = (0..d * d).map(|at| f32::from(u8::from(at % (d + 1) == 0))).collect();
    let fisher = Fisher { tokens: 1, looked_up, outputs };
    // Steps of rows are as large as the loss can bear.
    let coded = json!({ "quantize": {
        "rules": [{ "match": "*", "precision": "int8", "step": 0.3 }],
        "otherwise": "fp32",
        "coded": true,
        "errorCompensation": "gptq",
    } });
    let calibrated =
        |model, fisher: Fisher| Calibration { fisher: Some(fisher.into()), ..Calibration::new(model, &ids) };
    let (_, once) =
        made_by(&base, json!([share(layers - 1, layers), coded]), calibrated(&model, fisher.clone()));
    let (_, first) = pruned(&base, json!([share(layers - 1, layers)]), &ids);
    let outputs = fisher
        .outputs
        .iter()
        .filter_map(|it| Some(OutputFisher { key: moved(&it.key, "layers.", &gone)?, ..it.clone() }));
    let fisher = Fisher { outputs: outputs.collect(), ..fisher.clone() };
    let (_, twice) = made_by(&first, json!([coded]), calibrated(&first.model().unwrap(), fisher));
    let (once, twice) = (File::read(once), File::read(twice));
    assert!(once.arrays.keys().eq(twice.arrays.keys()));
    for name in once.arrays.keys() {
        assert_eq!(once.array(name), twice.array(name), "{name}");
    }
}

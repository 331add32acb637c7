//! Pruning: a pruned model computes what its original does with the removed slices zeroed, for everything that can be
//! removed of every family; and what cannot be is refused, with the reason.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use statepress::program::{AxisId, AxisName, Dim, Layout, Op, Program, VectorSource};
use statepress::{Checkpoint, Observe, OpenOptions, Recipe, Workspace, recipes, report, run};
use statepress_tests::families::samples;
use statepress_tests::files::{fixture, open, open_folder};
use statepress_tests::golden::assert_close;

/// `|a - b| / (1 + |b|)`.
const TOLERANCE: f32 = 1e-5;

/// The share of everything that stays.
const KEEP: f64 = 0.7;

/// A safetensors file whose numbers are changed where they lie.
#[derive(Clone)]
struct File {
    bytes: Vec<u8>,
    /// Shape and first byte of every tensor, and bytes of a number.
    tensors: BTreeMap<String, (Vec<usize>, usize, usize)>,
}

impl File {
    fn of(checkpoint: &Checkpoint) -> Self {
        let (job, bytes) = checkpoint.compress_to_memory(&recipes::find("none").unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        let bytes = bytes.take();
        let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let head: Map<String, Value> = serde_json::from_slice(&bytes[8..length]).unwrap();
        let tensors = head.iter().filter(|(name, _)| *name != "__metadata__").map(|(name, about)| {
            let shape: Vec<usize> = serde_json::from_value(about["shape"].clone()).unwrap();
            let at: Vec<usize> = serde_json::from_value(about["data_offsets"].clone()).unwrap();
            let size = (at[1] - at[0]) / shape.iter().product::<usize>().max(1);
            (name.clone(), (shape, length + at[0], size))
        });
        let tensors = tensors.collect();
        Self { bytes, tensors }
    }

    /// Zeroes all numbers of a tensor whose index along a dimension is one of these.
    fn zero(&mut self, name: &str, dim: usize, indexes: &[usize]) {
        let (shape, begin, size) = &self.tensors[name];
        let inner: usize = shape[dim + 1..].iter().product();
        for at in 0..shape.iter().product() {
            if indexes.contains(&(at / inner % shape[dim])) {
                self.bytes[begin + at * size..begin + (at + 1) * size].fill(0);
            }
        }
    }

    fn open(&self, eps: Option<&str>) -> Checkpoint {
        let set = eps.iter().map(|eps| ((*eps).to_string(), json!(1e-30))).collect();
        let options = OpenOptions { set, ..OpenOptions::default() };
        Checkpoint::open(self.bytes.clone(), options).unwrap()
    }
}

/// Logits of each position.
fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    let model = checkpoint.model().unwrap();
    pollster::block_on(statepress::sequence_logits(&model, ids)).unwrap()
}

fn recipe(steps: Value) -> Recipe {
    Recipe::from_json(&json!({ "version": 1, "name": "t", "steps": steps }).to_string()).unwrap()
}

fn pruned(checkpoint: &Checkpoint, steps: Value) -> (report::CompressReport, Checkpoint) {
    let (job, bytes) = checkpoint.compress_to_memory(&recipe(steps)).unwrap();
    let report = run(job, |_| {}).unwrap();
    (report, Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap())
}

/// The kinds of which a family's axes are, but experts and step sizes.
const KINDS: [(&str, AxisName); 6] = [
    ("inner", AxisName::Inner),
    ("state", AxisName::State),
    ("head", AxisName::Head),
    ("attentionHead", AxisName::KvHead),
    ("attentionHead", AxisName::QueryHead),
    ("width", AxisName::Ffn),
];

/// Elements to be removed, of every part as many, in no pattern: others for every seed.
fn chosen(size: usize, parts: usize, seed: usize) -> Vec<usize> {
    let part = size / parts;
    let goes = part - ((KEEP * part as f64 + 1e-6).floor() as usize).max(1);
    let mut random = fastrand::Rng::with_seed(seed as u64);
    let mut all: Vec<usize> = Vec::new();
    for first in (0..size).step_by(part.max(1)) {
        let mut of_part: Vec<usize> = (first..first + part).collect();
        random.shuffle(&mut of_part);
        all.extend(&of_part[..goes]);
    }
    all.sort_unstable();
    all
}

/// Indexes of a dimension that belong to elements of an axis.
fn indexes(dim: &Dim, axis: AxisId, elements: &[usize]) -> Vec<usize> {
    let (mut all, mut first) = (Vec::new(), 0);
    for segment in &dim.0 {
        let belongs =
            |at: &usize| segment.axis == axis && elements.contains(&(at / segment.inner % segment.size));
        all.extend((0..segment.len()).filter(belongs).map(|at| first + at));
        first += segment.len();
    }
    all
}

/// Zeroes everything that mentions elements of an axis.
fn mask(file: &mut File, program: &Program, axis: AxisId, elements: &[usize]) {
    for matrix in &program.matrices {
        for (dim, meaning) in matrix.dims.iter().enumerate() {
            let at = match matrix.layout {
                Layout::Plain => dim,
                Layout::Transposed => 1 - dim,
                Layout::Part { .. } => 1 + dim,
            };
            let all = indexes(meaning, axis, elements);
            if !all.is_empty() {
                file.zero(&matrix.key, at, &all);
            }
        }
    }
    for vector in &program.vectors {
        let VectorSource::Key(key) = &vector.source else { continue };
        for (dim, meaning) in vector.dims.iter().enumerate() {
            let all = indexes(meaning, axis, elements);
            if !all.is_empty() {
                file.zero(key, dim, &all);
            }
        }
    }
}

/// What is removed of an axis, and of those that go with it, zeroed; what a report has to say of it.
fn masked(file: &mut File, program: &Program, name: AxisName) -> Vec<(Option<usize>, Vec<usize>)> {
    let mut all = Vec::new();
    for (at, axis) in program.axes.iter().enumerate() {
        if axis.name != name || axis.size == 0 || axis.with.is_some() {
            continue;
        }
        let goes = chosen(axis.size, axis.parts, program.axes.len() + at);
        if goes.is_empty() {
            continue;
        }
        mask(file, program, AxisId(at), &goes);
        for (other, along) in program.axes.iter().enumerate() {
            if along.with == Some(AxisId(at)) {
                let each = along.size / axis.size;
                let along: Vec<usize> = goes.iter().flat_map(|&at| at * each..(at + 1) * each).collect();
                mask(file, program, AxisId(other), &along);
            }
        }
        all.push((axis.layer, goes));
    }
    all
}

/// What norms with weights run over has fewer numbers in their mean square, which weights make up for but for an eps: it is
/// set to nearly nothing, so that the rest can be seen to be exact.
fn eps(checkpoint: &Checkpoint) -> Option<&'static str> {
    let spec = checkpoint.inspection().spec;
    ["layer_norm_epsilon", "rms_norm_eps"].into_iter().find(|name| spec.contains_key(*name))
}

/// Prunes everything of one kind, and holds it against what is zeroed. Answers how many places there were.
fn check(what: &str, base: &Checkpoint, ids: &[u32], (kind, name): (&str, AxisName)) -> usize {
    let model = base.model().unwrap();
    let mut file = File::of(base);
    if !model
        .program()
        .matrices
        .iter()
        .all(|matrix| file.tensors.contains_key(&matrix.key) || matrix.key.contains("embed"))
    {
        return 0;
    }
    let removed = masked(&mut file, model.program(), name);
    if removed.is_empty() {
        return 0;
    }
    let zeroed = file.open(eps(base));
    let planned = zeroed.plan(&recipe(json!([{ "prune": { "kind": kind, "keep": KEEP } }])));
    if what.starts_with("falcon-mamba") && kind == "state" {
        let error = planned.unwrap_err().to_string();
        assert!(error.contains("takes the mean of all states, and has no weights"), "{what} {kind}: {error}");
        return 0;
    }
    let planned = planned.unwrap_or_else(|error| panic!("{what} {kind}: {error}"));
    let (report, smaller) = pruned(&zeroed, json!([{ "prune": { "kind": kind, "keep": KEEP } }]));
    let [step] = &report.plan.pruned[..] else { panic!("{what} {kind}: {:?}", report.plan.pruned) };
    let found: Vec<_> = step.places.iter().map(|place| (place.layer, place.removed.clone())).collect();
    assert_eq!(found, removed, "{what} {kind}");
    assert!(step.params_after < step.params_before, "{what} {kind}");
    assert_eq!(smaller.inspection().params, step.params_after, "{what} {kind}");
    assert_eq!(planned.bytes, report.plan.bytes, "{what} {kind}");
    assert_eq!(planned.pruned[0].params_after, step.params_after, "{what} {kind}");
    assert_eq!(smaller.inspection().family, base.inspection().family, "{what} {kind}");
    assert_close(&format!("{what} {kind}"), &logits(&smaller, ids), &logits(&zeroed, ids), TOLERANCE);
    removed.len()
}

#[test]
fn every_axis_of_every_family_goes_as_if_it_were_zeroed() {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<(String, Checkpoint, Vec<u32>)> = Vec::new();
    for sample in samples() {
        let Some(golden) = &sample.golden else { continue };
        all.push((sample.name, open_folder(&sample.folder), golden.ids("len40/ids")));
    }
    for name in ["il_ffn", "il_moe", "il_odd", "tf"] {
        let base = open(&fixture(&format!("fixtures/{name}.safetensors")), &[]);
        all.push((name.into(), base, vec![1, 5, 2, 9, 30, 7, 7, 3]));
    }
    for (name, base, ids) in &all {
        for kind in KINDS {
            *places.entry(kind.0).or_default() += check(name, base, ids, kind);
        }
    }
    for (kind, least) in [("inner", 20), ("state", 20), ("head", 10), ("attentionHead", 20), ("width", 20)] {
        assert!(places[kind] >= least, "{kind}: {places:?}");
    }
}

/// Router logits of one layer.
struct Routed(usize, Vec<f32>);

impl Observe for Routed {
    fn value(&mut self, layer: Option<usize>, quantity: &'static str, values: &[f32]) {
        if layer == Some(self.0) && quantity.ends_with("router_logits") {
            self.1.extend_from_slice(values);
        }
    }
}

/// What is left without an expert is the same as long as no token asks for it.
#[test]
fn experts_go_and_nothing_changes_until_they_are_asked() {
    let mut checked = 0;
    let bases = [
        open_folder(&fixture("families/granite-moe")),
        open(&fixture("fixtures/il_moe.safetensors"), &[]),
        open(&fixture("fixtures/il_odd.safetensors"), &[]),
    ];
    for base in bases {
        let model = base.model().unwrap();
        let program = model.program();
        let vocab = program.vocab_size as u32;
        let ids: Vec<u32> = (0..16u32).map(|t| (t * 7 + 3) % vocab).collect();
        let ops = program.nodes.iter().filter_map(|node| match &node.op {
            Op::Experts(op) => Some((node.layer.unwrap(), op)),
            _ => None,
        });
        for (layer, op) in ops {
            let count = op.experts.len();
            if count <= op.top_k {
                continue;
            }
            let mut seen = Routed(layer, Vec::new());
            model.forward(&ids, &mut model.start(), &mut Workspace::exact(), Some(&mut seen)).unwrap();
            let asked = |token: &[f32], m: usize| {
                let better = (0..count).filter(|&k| token[k] > token[m] || token[k] == token[m] && k < m);
                better.count() < op.top_k
            };
            let until = |m: usize| seen.1.chunks_exact(count).take_while(|token| !asked(token, m)).count();
            let (m, tokens) = (0..count).map(|m| (m, until(m))).max_by_key(|(_, tokens)| *tokens).unwrap();
            assert!(tokens > 0);
            // It does nothing, so that it goes first; but it is asked for all the same.
            let mut file = File::of(&base);
            for id in [op.experts[m].up, op.experts[m].down] {
                let matrix = program.matrix(id);
                match matrix.layout {
                    Layout::Part { index, .. } => file.zero(&matrix.key, 0, &[index]),
                    _ => file.zero(&matrix.key, 0, &(0..matrix.rows).collect::<Vec<_>>()),
                }
            }
            let zeroed = file.open(None);
            let step =
                json!({ "kind": "experts", "keep": (count - 1) as f64 / count as f64, "layers": [layer] });
            let (report, smaller) = pruned(&zeroed, json!([{ "prune": step }]));
            assert_eq!(report.plan.pruned[0].places[0].removed, [m]);
            let (found, expected) = (logits(&smaller, &ids), logits(&zeroed, &ids));
            let same = tokens * program.vocab_size;
            assert_close("without an expert", &found[..same], &expected[..same], TOLERANCE);
            if tokens < ids.len() {
                assert_ne!(found[same..], expected[same..], "it was asked for");
            }
            checked += 1;
        }
        let step = json!([{ "prune": { "kind": "experts", "keep": 0.01 } }]);
        let error = base.plan(&recipe(step)).unwrap_err().to_string();
        assert!(error.contains("goes every token"), "{error}");
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn what_a_model_lacks_or_cannot_lose_is_refused_by_name() {
    let mamba = open_folder(&fixture("families/mamba-default"));
    let refused = |checkpoint: &Checkpoint, step: Value| {
        let error = checkpoint.plan(&recipe(json!([{ "prune": step }]))).unwrap_err();
        assert_eq!(error.code(), "bad-option");
        error.to_string()
    };
    let error = refused(&mamba, json!({ "kind": "head", "keep": 0.5 }));
    assert!(error.contains("no heads of a state space; it has inner, state"), "{error}");
    let mixture = open(&fixture("fixtures/il_moe.safetensors"), &[]);
    let error = refused(&mixture, json!({ "kind": "experts", "keep": 0.5, "layers": [0] }));
    assert!(error.contains("prune.layers is 0; allowed: layers with experts: 1"), "{error}");
    let all = mamba.plan(&recipe(json!([{ "prune": { "kind": "inner", "keep": 1 } }]))).unwrap();
    assert!(all.findings.iter().any(|finding| finding.code == "nothing-removed"), "{:?}", all.findings);
    let error = refused(&mamba, json!({ "kind": "inner", "keep": 0.5, "layers": [0, 99] }));
    assert!(error.contains("prune.layers is 99; allowed: layers from 0 to"), "{error}");
    let groups = open_folder(&fixture("families/mamba2-groups"));
    let error = refused(&groups, json!({ "kind": "head", "keep": 4 }));
    assert!(error.contains("a multiple of the"), "{error}");
    let calibrated =
        recipe(json!([{ "prune": { "kind": "inner", "keep": 0.5, "by": "loss", "repair": true } }]));
    let plan = mamba.plan(&calibrated).unwrap();
    assert!(plan.findings.iter().any(|finding| finding.code == "needs-calibration"), "{:?}", plan.findings);
    let error = mamba.compress_to_memory(&calibrated).err().unwrap().to_string();
    assert!(error.contains("calibration") && error.contains("not given"), "{error}");
    let unknown = open_folder(&fixture("families/rwkv7-small"));
    let error = unknown.plan(&calibrated).unwrap_err().to_string();
    assert!(error.contains("cannot be run cannot be pruned"), "{error}");
}

/// Codes are decoded to be cut, which is said.
#[test]
fn what_was_quantized_is_decoded_first() {
    let base = open(&fixture("fixtures/il_moe.int8dyn_per_channel.pt"), &[]);
    let (report, smaller) = pruned(&base, json!([{ "prune": { "kind": "width", "keep": 0.5 } }]));
    let told = report.plan.findings.iter().find(|finding| {
        finding.code == "dequantized"
            && finding.message.contains("quantized tensors were decoded to be changed")
    });
    assert!(told.is_some(), "{:?}", report.plan.findings);
    assert!(logits(&smaller, &[1, 2, 3]).iter().all(|x| x.is_finite()));
}

/// Structure and bits in one recipe, in one report; what was there before is what is compared with.
#[test]
fn structure_and_bits_go_in_one_recipe() {
    let base = open_folder(&fixture("families/mamba-default"));
    let quantize =
        json!({ "quantize": { "rules": [{ "match": "*norm*", "precision": "fp32" }], "otherwise": "int8" } });
    let prune = |kind: &str, keep: f64| json!({ "prune": { "kind": kind, "keep": keep } });
    let steps = json!([prune("inner", 0.5), prune("state", 0.5), quantize]);
    let (report, smaller) = pruned(&base, steps.clone());
    let (whole, _) = pruned(&base, json!([quantize]));
    assert_eq!(report.plan.pruned.len(), 2);
    assert_eq!(report.plan.pruned[0].params_after, report.plan.pruned[1].params_before);
    assert_eq!(report.plan.bytes.before, whole.plan.bytes.before);
    assert_eq!(report.plan.bytes.fp32, whole.plan.bytes.fp32);
    assert!(report.plan.bytes.after < whole.plan.bytes.after);
    assert_eq!(smaller.inspection().recipe, Some(recipe(steps)));
    let sizes = smaller.inspection().spec;
    assert_eq!(
        sizes["intermediate_size"].value,
        json!(base.inspection().spec["intermediate_size"].value.as_u64().unwrap() / 2)
    );
    assert!(logits(&smaller, &[1, 2, 3]).iter().all(|x| x.is_finite()));
}

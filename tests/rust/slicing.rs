//! Fewer directions of the residual stream: where a stream has no more than stay, nothing changes, in every family; where it has,
//! what is left runs, and least squares make up for a part of what went.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use statepress::program::{AxisId, AxisName, Layout, NormKind, Op, Program, VectorSource};
use statepress::{
    Calibration, Checkpoint, Compare, CompareOptions, MemorySink, OpenOptions, Recipe, recipes, report, run,
};
use statepress_tests::families::samples;
use statepress_tests::files::{demo, fixture, heldout_ids, open, open_folder};
use statepress_tests::golden::assert_close;

/// `|a - b| / (1 + |b|)`: two streams of float32 that differ in every number.
const TOLERANCE: f32 = 5e-5;

/// By what streams are longer than in the fixtures, so that no eps of a norm is seen beside them.
const LENGTH: f64 = 1024.0;

/// A safetensors file whose float32 numbers are changed where they lie.
struct File {
    bytes: Vec<u8>,
    /// Shape and first byte of every tensor.
    tensors: BTreeMap<String, (Vec<usize>, usize)>,
}

impl File {
    fn of(checkpoint: &Checkpoint) -> Self {
        let (job, bytes) = checkpoint.compress_to_memory(&recipes::find("none").unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        let bytes = bytes.take();
        let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let head: Map<String, Value> = serde_json::from_slice(&bytes[8..length]).unwrap();
        let tensors = head.iter().filter(|(name, about)| *name != "__metadata__" && about["dtype"] == "F32");
        let tensors = tensors.map(|(name, about)| {
            let shape = serde_json::from_value(about["shape"].clone()).unwrap();
            let at: Vec<usize> = serde_json::from_value(about["data_offsets"].clone()).unwrap();
            (name.clone(), (shape, length + at[0]))
        });
        Self { tensors: tensors.collect(), bytes }
    }

    /// What the file calls a key: the original code has a table of another name.
    fn name(&self, key: &str) -> Option<String> {
        let other = key.replace("embeddings", "embedding");
        [key, &other].into_iter().find(|name| self.tensors.contains_key(*name)).map(str::to_string)
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut [f64], &[usize])) {
        let (shape, begin) = &self.tensors[name];
        let bytes = &mut self.bytes[*begin..][..4 * shape.iter().product::<usize>()];
        let mut numbers: Vec<f64> =
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect();
        change(&mut numbers, shape);
        for (bytes, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            bytes.copy_from_slice(&(number as f32).to_le_bytes());
        }
    }

    fn open(&self) -> Checkpoint {
        Checkpoint::open(self.bytes.clone(), OpenOptions::default()).unwrap()
    }
}

/// Logits of each position.
fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    pollster::block_on(statepress::sequence_logits(&checkpoint.model().unwrap(), ids)).unwrap()
}

fn recipe(steps: Value) -> Recipe {
    Recipe::from_json(&json!({ "version": 1, "name": "t", "steps": steps }).to_string()).unwrap()
}

fn slice(keep: impl Into<Value>, repair: bool) -> Value {
    json!([{ "prune": { "kind": "hidden", "keep": keep.into(), "by": "loss", "repair": repair } }])
}

fn sliced(base: &Checkpoint, steps: Value, ids: &[u32]) -> (report::CompressReport, Checkpoint) {
    let (sink, model) = (MemorySink::default(), base.model().unwrap());
    let job = base
        .compress_calibrated(&recipe(steps), Box::new(sink.clone()), Calibration::new(&model, ids))
        .unwrap();
    let report = run(job, |_| {}).unwrap();
    (report, Checkpoint::open(sink.take(), OpenOptions::default()).unwrap())
}

/// Checkpoints of every family, with ids for them.
fn bases() -> Vec<(String, Checkpoint, Vec<u32>)> {
    let families = samples().into_iter().filter(|sample| sample.golden.is_some());
    let mut all: Vec<(String, Checkpoint)> =
        families.map(|sample| (sample.name, open_folder(&sample.folder))).collect();
    for name in ["il_ffn", "il_moe", "il_odd", "tf"] {
        all.push((name.into(), open(&fixture(&format!("fixtures/{name}.safetensors")), &[])));
    }
    let with_ids = all.into_iter().map(|(name, base)| {
        let vocab = base.model().unwrap().info.vocab_size as u32;
        (name, base, (0..600u32).map(|t| (t * t * 31 + t * 7) % vocab).collect())
    });
    with_ids.collect()
}

/// A projection `[d, d]` onto `count` directions, among which the mean of all channels is.
fn projection(d: usize, count: usize) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed((d * count) as u64);
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for n in 0..count {
        let mut row: Vec<f64> = (0..d).map(|_| if n == 0 { 1.0 } else { random.f64() - 0.5 }).collect();
        for other in &rows {
            let along: f64 = row.iter().zip(other).map(|(x, y)| x * y).sum();
            row.iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.push(row.iter().map(|x| x / length).collect());
    }
    let entry = |at: usize| rows.iter().map(|row| row[at / d] * row[at % d]).sum();
    (0..d * d).map(entry).collect()
}

/// Projects one dimension of numbers of that shape.
fn project(numbers: &mut [f64], shape: &[usize], dim: usize, q: &[f64]) {
    let (d, inner) = (shape[dim], shape[dim + 1..].iter().product::<usize>());
    for block in numbers.chunks_exact_mut(d * inner) {
        for l in 0..inner {
            let old: Vec<f64> = (0..d).map(|j| block[j * inner + l]).collect();
            (0..d).for_each(|k| block[k * inner + l] = (0..d).map(|j| old[j] * q[j * d + k]).sum());
        }
    }
}

/// The same model whose residual stream has `count` directions: what is written is projected. Biases of norms are made such as
/// fewer directions can have, and a table that is the head gets a final norm that treats all channels alike. `None` where tensors have other names than the program says.
fn narrowed(base: &Checkpoint, count: usize) -> Option<Checkpoint> {
    // A head that is a copy of the table is left out of what is written.
    let mut file = File::of(base);
    let model = file.open().model().unwrap();
    let program: &Program = model.program();
    let d = program.hidden_size();
    let q = projection(d, count);
    let axis = AxisId(program.axes.iter().position(|axis| axis.name == AxisName::Hidden)?);
    let is_tied = program.head.matrix == program.table;
    let mut done: Vec<String> = Vec::new();
    for (at, matrix) in program.matrices.iter().enumerate() {
        let is_looked_up = matrix.dims[1].0[0].axis == axis
            && (at == program.table.0
                || matrix.key.contains("position")
                || matrix.key.contains("wpe")
                || is_tied && matrix.dims[0] == program.matrix(program.table).dims[0]);
        let dim = match (matrix.dims[0].0[0].axis == axis, is_looked_up, matrix.layout) {
            (true, _, Layout::Plain) => 0,
            (true, _, Layout::Transposed) => 1,
            (true, _, Layout::Part { .. }) => 1,
            (_, true, _) => 1,
            _ => continue,
        };
        let name = file.name(&matrix.key)?;
        if !done.contains(&name) {
            file.change(&name, |numbers, shape| {
                project(numbers, shape, dim, &q);
                numbers.iter_mut().for_each(|x| *x *= LENGTH);
            });
            done.push(name);
        }
    }
    let key = |id: statepress::program::VectorId| match &program.vector(id).source {
        VectorSource::Key(key) => Some(key.clone()),
        VectorSource::Constant(_) => None,
    };
    let norms = program.nodes.iter().filter_map(|node| match &node.op {
        Op::Norm { norm, x, .. } if x.value == program.hidden => Some(*norm),
        _ => None,
    });
    let norms: Vec<_> = norms.chain(program.head.norm).collect();
    let of_norms: Vec<String> = norms
        .iter()
        .flat_map(|norm| {
            let bias = match norm.kind {
                NormKind::Layer { bias } => Some(bias),
                NormKind::Rms => None,
            };
            [norm.weight, bias]
        })
        .filter_map(|id| key(id?))
        .collect();
    for vector in &program.vectors {
        let VectorSource::Key(key) = &vector.source else { continue };
        let is_here = vector.dims.iter().any(|dim| dim.0.first().is_some_and(|it| it.axis == axis));
        if is_here && !of_norms.contains(key) {
            file.change(&file.name(key)?, |numbers, shape| {
                project(numbers, shape, 0, &q);
                numbers.iter_mut().for_each(|x| *x *= LENGTH);
            });
        }
    }
    for norm in &norms {
        let mut weight = vec![1.0; d];
        if let Some(key) = norm.weight.and_then(key) {
            file.change(&file.name(&key)?, |numbers, _| {
                if Some(*norm) == program.head.norm && is_tied {
                    numbers.fill(0.75 / LENGTH);
                }
                weight.copy_from_slice(numbers);
            });
        }
        if let NormKind::Layer { bias } = norm.kind {
            file.change(&file.name(&key(bias)?)?, |numbers, shape| {
                let length = if Some(*norm) == program.head.norm && is_tied { LENGTH } else { 1.0 };
                numbers.iter_mut().zip(&weight).for_each(|(x, weight)| *x /= weight * length);
                project(numbers, shape, 0, &q);
                numbers.iter_mut().zip(&weight).for_each(|(x, weight)| *x *= weight);
            });
        }
    }
    Some(file.open())
}

/// Directions that nothing is in can go: readers, writers, norms and their biases, table and head are turned alike.
#[test]
fn a_stream_that_is_narrow_already_loses_nothing() {
    let mut checked = Vec::new();
    for (name, base, ids) in bases() {
        let d = base.model().unwrap().program().hidden_size();
        let count = d * 5 / 8;
        let Some(base) = narrowed(&base, count) else { continue };
        let expected = logits(&base, &ids[..19]);
        for repair in [false, true] {
            let (report, smaller) = sliced(&base, slice(count, repair), &ids);
            assert_eq!(smaller.model().unwrap().program().hidden_size(), count, "{name}");
            let said = report.plan.findings.iter().find(|finding| finding.code == "sliced").unwrap();
            assert!(said.message.contains("100.0 % of that of what norms read"), "{name}: {}", said.message);
            let what = format!("{name}, repair {repair}");
            assert_close(&what, &logits(&smaller, &ids[..19]), &expected, TOLERANCE);
        }
        checked.push(name);
    }
    for family in [
        "mamba-",
        "mamba2-",
        "falcon-mamba",
        "llama-",
        "qwen",
        "gpt2",
        "granite-",
        "bamba",
        "jamba",
        "falcon-h1",
        "il_",
        "tf",
    ] {
        assert!(checked.iter().any(|name| name.starts_with(family)), "{family}: {checked:?}");
    }
}

/// Whatever is lost, what is left is a model of the same family, as narrow as planned.
#[test]
fn every_family_runs_at_half_its_width() {
    for (name, base, ids) in bases() {
        let steps = slice(0.5, true);
        let planned = base.plan(&recipe(steps.clone())).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (report, smaller) = sliced(&base, steps, &ids);
        let [step] = &report.plan.pruned[..] else { panic!("{name}: {:?}", report.plan.pruned) };
        let [place] = &step.places[..] else { panic!("{name}: {:?}", step.places) };
        let d = base.model().unwrap().program().hidden_size();
        assert_eq!((place.before, place.after, place.layer), (d, d / 2, None), "{name}");
        assert!((0.0..=1.5).contains(&place.error.unwrap()), "{name}: {place:?}");
        // A head that is a copy of the table is known for one, and left out, only when it is read.
        if !planned.findings.iter().any(|finding| finding.code == "may-be-tied") {
            assert_eq!(planned.bytes, report.plan.bytes, "{name}");
            assert_eq!(smaller.inspection().params, step.params_after, "{name}");
        }
        assert_eq!(planned.pruned[0].params_after, step.params_after, "{name}");
        assert_eq!(smaller.inspection().family, base.inspection().family, "{name}");
        assert!(logits(&smaller, &ids[..8]).iter().all(|x| x.is_finite()), "{name}");
    }
}

/// On text that was not read.
#[test]
fn what_reads_the_stream_makes_up_for_what_went() {
    let base = open(&demo().join("model.safetensors"), &[]);
    let ids = heldout_ids();
    let (read, judged) = (&ids[..3072], &ids[ids.len() - 1024..]);
    let cost = |steps: Value| {
        let smaller = sliced(&base, steps, read).1;
        let (base, smaller) = (base.model().unwrap(), smaller.model().unwrap());
        let options = CompareOptions { window: Some(256), ..CompareOptions::default() };
        run(Compare::new(&base, &smaller, judged, options, || 0.0).unwrap(), |_| {}).unwrap().kl.mean
    };
    let [cut, repaired] = [false, true].map(|repair| cost(slice(96, repair)));
    assert!(repaired < cut && cut < 0.03, "{repaired} repaired, {cut} not");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let mamba = open_folder(&fixture("families/mamba-default"));
    let ids: Vec<u32> = (0..300).map(|t| t % 50).collect();
    let step = |about: Value| {
        let mut step = json!({ "kind": "hidden", "keep": 0.5, "by": "loss" });
        step.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
        json!({ "version": 1, "name": "t", "steps": [{ "prune": step }] }).to_string()
    };
    for (about, told) in [
        (json!({ "by": "l2" }), "prune.by is l2; allowed: loss of kind hidden"),
        (json!({ "layers": [1] }), "prune.layers is given; allowed: nothing of kind hidden"),
    ] {
        let error = Recipe::from_json(&step(about)).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let error = mamba.compress_to_memory(&recipe(slice(0.5, false))).err().unwrap().to_string();
    assert!(error.contains("calibration") && error.contains("not given"), "{error}");
    // A LayerNorm of one number is nothing.
    let transformer = open(&fixture("fixtures/tf.safetensors"), &[]);
    let error = transformer.plan(&recipe(slice(0.01, false))).unwrap_err().to_string();
    assert!(error.contains("prune.keep is 0.01; allowed: what leaves 2 directions or more"), "{error}");
    // All of them may stay, which is said.
    let (report, same) = sliced(&mamba, slice(1, false), &ids);
    assert!(report.plan.findings.iter().any(|finding| finding.code == "nothing-removed"));
    assert_eq!(logits(&same, &ids[..9]), logits(&mamba, &ids[..9]));
}

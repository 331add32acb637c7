//! Recipes: plans against the research's own counts, the bytes of the yardstick, and what is written.

use std::rc::Rc;

use statepress::{Checkpoint, Clock, Level, MemorySink, OpenOptions, Recipe, recipes, report, run};
use statepress_core::encoding::Granularity;
use statepress_core::index::{AffineScales, Extent, Stored, Strided};
use statepress_core::{DType, Encoding, Index, Source, StoredAs, Tensor};
use statepress_engine::families::{Hints, infer};
use statepress_engine::techniques::plan::plan;
use statepress_engine::techniques::shares::Work;
use statepress_engine::techniques::{self, compress::Compress};
use statepress_formats::read_tensor;
use statepress_tests::files::{demo, fixture, open, shared};
use statepress_tests::yardstick::{recipe, yardstick};

#[test]
fn bytes_are_those_of_the_yardstick_to_the_byte() {
    let json = std::fs::read_to_string(fixture("trained/yardstick.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (model, path) in [
        ("itera-tiny", Some(demo().join("model.safetensors"))),
        ("transformer-tiny", shared("checkpoints/trained/transformer-tiny/model.safetensors")),
        ("mamba-micro", shared("checkpoints/trained/mamba-micro/model.safetensors")),
    ] {
        let Some(path) = path else { continue };
        let checkpoint = open(&path, &[]);
        let rows = json["models"][model]["rows"].as_array().unwrap();
        let recipes = yardstick();
        assert_eq!(rows.len(), recipes.len());
        for row in rows {
            let (name, recipe) = recipes.iter().find(|(name, _)| row["variant"] == *name).unwrap();
            let plan = checkpoint.plan(recipe).unwrap();
            assert_eq!(plan.bytes.after, row["bytes"].as_u64().unwrap(), "{model}: {name}");
            assert_eq!(plan.bytes.fp32, json["models"][model]["fp32_bytes"].as_u64().unwrap(), "{model}");
        }
    }
}

/// itera-lite.md 4.5: the two upstream maps on the model whose experts were lost.
#[test]
fn the_seed_maps_give_the_seed_counts_and_their_warning() {
    let Some(path) = shared("checkpoints/itera-lite/itera_lite_mixed_precision.pt") else { return };
    let checkpoint = open(&path, &[]);
    for (name, expected, ratio) in [
        ("seed-conservative", [("fp32", 313_600), ("fp16", 400_416), ("int8", 1_040_384)], 2.2669),
        ("seed-aggressive", [("fp32", 313_600), ("fp16", 7_200), ("int8", 1_433_600)], 2.597),
    ] {
        let plan = checkpoint.plan(&recipes::find(name).unwrap()).unwrap();
        let found: Vec<_> =
            plan.precisions.iter().map(|share| (share.precision.name(), share.params)).collect();
        assert_eq!(found, expected, "{name}");
        assert!((plan.nominal.ratio - ratio).abs() < 1e-3, "{name}: {}", plan.nominal.ratio);
        assert_eq!(plan.unmatched.params, 313_600);
        let warning = plan.findings.iter().find(|finding| finding.code == "unmatched").unwrap();
        assert!(
            warning.level == Level::Warning && warning.message.contains("313600 parameters (17.9 %)"),
            "{warning:?}"
        );
        let unused = plan.findings.iter().filter(|finding| finding.code == "unused-pattern").count();
        assert_eq!(unused, 9, "{name}");
    }
}

/// The maps' counts on the complete micro model, which ships with the tests: there over 27 % of
/// the parameters match no pattern.
#[test]
fn the_seed_maps_count_the_micro_model_as_upstream_would() {
    let checkpoint = open(&fixture("itera-lite/itera_lite_micro_distilled.pt"), &[]);
    let plan = checkpoint.plan(&recipes::find("seed-conservative").unwrap()).unwrap();
    let found: Vec<_> = plan.precisions.iter().map(|share| share.params).collect();
    assert_eq!(found, [81_024, 76_440, 136_192]);
    assert!((plan.nominal.ratio - 1.916).abs() < 1e-3, "{}", plan.nominal.ratio);
    let plan = checkpoint.plan(&recipes::find("seed-aggressive").unwrap()).unwrap();
    assert!((plan.nominal.ratio - 2.178).abs() < 1e-3, "{}", plan.nominal.ratio);
}

/// Every parameter of four models, one by one, against the precision upstream's maps give it.
#[test]
fn the_seed_maps_decide_every_parameter_as_upstream_does() {
    let json = std::fs::read_to_string(fixture("misc/precision_maps.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut checked = 0;
    for model in json["models"].as_object().unwrap().values() {
        for map in ["conservative", "aggressive"] {
            let recipe = recipes::find(&format!("seed-{map}")).unwrap();
            let statepress::recipe::Step::Quantize(quantize) = &recipe.steps[0] else {
                panic!("one quantize step")
            };
            for row in model[map]["keys"].as_array().unwrap() {
                let name = row[0].as_str().unwrap();
                let rule =
                    quantize.rules.iter().find(|rule| statepress::recipe::matches(&rule.pattern, name));
                let precision = rule.map_or(quantize.otherwise, |rule| rule.precision);
                assert_eq!(precision.name(), row[3].as_str().unwrap(), "{map}: {name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn builtin_recipes_decide_every_tensor_on_purpose() {
    let checkpoint = open(&demo().join("model.safetensors"), &[]);
    for recipe in recipes::builtin().unwrap() {
        if recipe.name.starts_with("seed-") {
            continue;
        }
        let plan = checkpoint.plan(&recipe).unwrap();
        assert_eq!(plan.unmatched.tensors, 0, "{}", recipe.name);
        let loud: Vec<_> = plan.findings.iter().filter(|finding| finding.level != Level::Info).collect();
        assert!(loud.is_empty(), "{}: {loud:?}", recipe.name);
    }
}

#[test]
fn too_much_unmatched_is_a_warning_and_refused_shapes_say_what_was_done() {
    let checkpoint = open(&fixture("fixtures/il_odd.zip.pt"), &[]);
    let plan = checkpoint.plan(&recipe(&[("embedding.weight", "int8")], "")).unwrap();
    assert!(plan.unmatched.percent > 30.0);
    let warning = plan.findings.iter().find(|finding| finding.code == "unmatched").unwrap();
    assert!(warning.level == Level::Warning && warning.message.contains("over 30 %"), "{warning:?}");

    let plan = checkpoint.plan(&recipes::find("int4").unwrap()).unwrap();
    let refused =
        plan.findings.iter().find(|finding| finding.tensor.as_deref() == Some("embedding.weight")).unwrap();
    assert_eq!(refused.message, "int4 refused: rows of 12 and groups of 32 do not divide; stored as int8");
}

#[test]
fn a_recipe_that_cannot_be_followed_is_refused_by_name() {
    let checkpoint = open(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    let json = r#"{"version":1,"name":"p","steps":[{"prune":{"kind":"experts","keep":0.5,"by":"usage"}}]}"#;
    let error = checkpoint.plan(&Recipe::from_json(json).unwrap()).unwrap_err();
    assert_eq!(error.code(), "bad-option");
    assert!(error.to_string().contains("prune.kind is experts"), "{error}");
    let step = r#"{"quantize":{"rules":[],"otherwise":"int8"}}"#;
    let json = format!(r#"{{"version":1,"name":"p","steps":[{step},{step}]}}"#);
    let error = checkpoint.plan(&Recipe::from_json(&json).unwrap()).unwrap_err();
    assert_eq!(error.code(), "unsupported-step");
    assert!(error.to_string().contains("second quantize"), "{error}");
}

#[test]
fn recovery_comes_last_and_is_for_who_trains() {
    let read = |steps: &str| Recipe::from_json(&format!(r#"{{"version":1,"name":"r","steps":[{steps}]}}"#));
    let (int8, last) = (r#"{"quantize":{"rules":[],"otherwise":"int8"}}"#, r#"{"recover":{}}"#);
    let refused = |steps: &str| read(steps).unwrap_err().to_string();
    assert_eq!(
        refused(last),
        "recipe option steps is recover at first; allowed: what it makes up for before it"
    );
    let after = refused(&format!("{int8},{last},{int8}"));
    assert_eq!(after, "recipe option steps is quantize after recover; allowed: recover as the last step");
    let twice = refused(&format!("{int8},{last},{last}"));
    assert_eq!(twice, "recipe option steps is recover after recover; allowed: recover as the last step");
    for (options, told) in [
        (r#""steps":0"#, "recover.steps is 0; allowed: a whole number from 1"),
        (r#""alpha":1.5"#, "recover.alpha is 1.5; allowed: a number from 0 to 1"),
        (r#""learningRate":0"#, "recover.learningRate is 0; allowed: a number above 0, and at most 1"),
        (r#""weights":"codes""#, "unknown variant `codes`, expected `vectors` or `all`"),
    ] {
        let error = refused(&format!(r#"{int8},{{"recover":{{{options}}}}}"#));
        assert!(error.contains(told), "{error}");
    }
    let recipe = read(&format!("{int8},{last}")).unwrap();
    assert!(recipe.trains() && !recipe.needs_calibration());
    let checkpoint = open(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    let (trained, plain) =
        (checkpoint.plan(&recipe).unwrap(), checkpoint.plan(&read(int8).unwrap()).unwrap());
    assert_eq!(trained.bytes.after, plain.bytes.after);
    assert!(trained.findings.iter().any(|it| it.code == "needs-training-text"), "{:?}", trained.findings);
    let error = checkpoint.compress(&recipe, Box::new(MemorySink::default())).err().unwrap();
    assert_eq!(error.code(), "unsupported-step");
    assert!(error.to_string().contains("follow the steps before"), "{error}");
}

/// Compresses by an index that a test has changed.
fn compress(bytes: &[u8], index: &Index, recipe: &Recipe) -> (report::CompressReport, Vec<u8>) {
    let spec = infer(index, &Hints::default()).unwrap();
    let of = techniques::Checkpoint { source: Rc::new(bytes.to_vec()), index: Rc::new(index.clone()), spec };
    let (sink, clock) = (MemorySink::default(), Clock::default().seconds());
    let job = Compress::new(of, recipe, Box::new(sink.clone()), clock, None, Work::Whole).unwrap();
    (run(job, |_| {}).unwrap(), sink.take())
}

/// Makes tensor `name` another name of the storage of `first`.
fn share(index: &mut Index, name: &str, first: &str) {
    let stored = index.get(first).unwrap().stored.clone();
    let entry = index.tensors.iter_mut().find(|entry| entry.name == name).unwrap();
    (entry.stored, entry.tied_to) = (stored, Some(first.into()));
}

fn read(source: &dyn Source, index: &Index, name: &str) -> Tensor {
    read_tensor(source, index.get(name).unwrap()).unwrap()
}

#[test]
fn layers_that_share_their_storage_are_all_written() {
    let bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    let mut index = statepress_formats::open(&bytes).unwrap();
    let before: u64 = index.tensors.iter().map(|entry| entry.bytes()).sum();
    let names: Vec<String> = index.tensors.iter().map(|entry| entry.name.clone()).collect();
    let mut shared = 0;
    for name in names.iter().filter(|name| name.starts_with("layers.1.")) {
        let first = name.replace("layers.1.", "layers.0.");
        shared += index.get(&first).unwrap().bytes();
        share(&mut index, name, &first);
    }
    share(&mut index, "lm_head.weight", "embedding.weight");
    let head = index.get("lm_head.weight").unwrap().bytes();
    let (report, written) = compress(&bytes, &index, &recipes::find("none").unwrap());
    assert_eq!(report.plan.bytes.before, before - shared - head, "a storage is opened once");
    assert_eq!(report.plan.bytes.after, before - head, "and written for each name but the head's");
    assert!(
        report.plan.findings.iter().any(|finding| finding.code == "untied"),
        "{:?}",
        report.plan.findings
    );

    let again = Checkpoint::open(written.clone(), OpenOptions::default()).unwrap();
    assert_eq!(again.inspection().spec["num_layers"].value, 2);
    assert_eq!(again.inspection().bytes, report.plan.bytes.after);
    again.model().unwrap();
    let reread = statepress_formats::open(&written).unwrap();
    for name in names.iter().filter(|name| *name != "lm_head.weight") {
        assert_eq!(read(&written, &reread, name), read(&bytes, &index, name), "{name}");
    }
}

/// A head that is a copy of the table is not written: what that saves is part of the ratio, as it is
/// when the two files are compared.
#[test]
fn a_head_that_is_left_out_was_opened_all_the_same() {
    let base = open(&fixture("fixtures/il_moe.int8dyn.pt"), &[]);
    let (job, written) = base.compress_to_memory(&recipes::find("int8").unwrap()).unwrap();
    let report = run(job, |_| {}).unwrap();
    let finding = report.plan.findings.iter().find(|finding| finding.code == "tied-again");
    assert!(finding.is_some(), "{:?}", report.plan.findings);
    let produced = Checkpoint::open(written.take(), OpenOptions::default()).unwrap();
    assert_eq!(report.plan.bytes.before, base.inspection().bytes);
    assert_eq!(report.plan.bytes.after, produced.inspection().bytes);
}

#[test]
fn of_a_shared_head_only_what_a_reader_rebuilds_is_left_out() {
    let bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    let none = recipes::find("none").unwrap();
    let has = |index: &Index, name: &str| {
        let planned = plan(index, &infer(index, &Hints::default()).unwrap(), &none, &[]).unwrap().plan;
        planned.tensors.iter().any(|tensor| tensor.name == name)
    };
    // The head comes first in the file: the table is the one that is tied.
    let mut index = statepress_formats::open(&bytes).unwrap();
    share(&mut index, "embedding.weight", "lm_head.weight");
    assert!(has(&index, "embedding.weight") && !has(&index, "lm_head.weight"));
    let (report, written) = compress(&bytes, &index, &none);
    assert_eq!(report.plan.bytes.after, report.plan.bytes.before);
    Checkpoint::open(written, OpenOptions::default()).unwrap().model().unwrap();

    // A head that is tied to something else than the table.
    let mut index = statepress_formats::open(&bytes).unwrap();
    index.tensors.iter_mut().find(|entry| entry.name == "lm_head.weight").unwrap().tied_to =
        Some("norm.weight".into());
    assert!(has(&index, "lm_head.weight"));

    // No reader of another family knows what its head is tied to.
    let mut index = statepress_formats::open(&bytes).unwrap();
    index.tensors.retain(|entry| !entry.name.contains(".ssm."));
    share(&mut index, "lm_head.weight", "embedding.weight");
    assert!(has(&index, "lm_head.weight"));
}

/// Tensors as torch quantizes them, through recipe `none`.
#[test]
fn quantized_tensors_are_kept_as_they_are_or_as_the_numbers_they_stand_for() {
    let mut bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    let float = statepress_formats::open(&bytes).unwrap();
    let mut append = |dtype: DType, data: Vec<u8>| {
        let storage = Extent { offset: bytes.len() as u64, len: data.len() as u64 };
        bytes.extend(data);
        move |strides: &[u64]| Strided { dtype, storage, first: 0, strides: strides.to_vec(), negated: false }
    };
    let [i8s, u8s, i32s] = [(DType::I8, 1), (DType::U8, 1), (DType::I32, 4)]
        .map(|(dtype, size)| append(dtype, (0..128 * size).map(|i| (37 * i % 251) as u8).collect()));
    let scales = append(DType::F32, (1..=8u8).flat_map(|i| (f32::from(i) / 100.0).to_le_bytes()).collect());
    let [zeros, shifted] =
        [0, 1].map(|last| append(DType::I64, (0..8i64).flat_map(|i| (i / 7 * last).to_le_bytes()).collect()));
    let per_tensor = |zero_point| AffineScales::PerTensor { scale: 0.01, zero_point };
    let per_row = |zero_points| AffineScales::PerRow { scales: scales(&[1]), zero_points };
    let none = recipes::find("none").unwrap();
    for (shape, codes, scales, expected) in [
        (&[8, 16][..], i8s(&[16, 1]), per_tensor(0), Some(Granularity::Tensor)),
        (&[8, 16], u8s(&[16, 1]), per_tensor(0), None),
        (&[8, 16], i32s(&[16, 1]), per_tensor(0), None),
        (&[8, 16], i8s(&[16, 1]), per_tensor(3), None),
        (&[8, 16], i8s(&[16, 1]), per_row(zeros(&[1])), Some(Granularity::Row)),
        (&[8, 16], i8s(&[16, 1]), per_row(shifted(&[1])), None),
        // One scale of one row is a scale per row.
        (&[1, 16], i8s(&[16, 1]), per_tensor(0), Some(Granularity::Row)),
        (&[16], i8s(&[1]), per_tensor(0), None),
    ] {
        let what = format!("{shape:?} {} {scales:?}", codes.dtype.name());
        let mut index = float.clone();
        let entry = &mut index.tensors[0];
        (entry.name, entry.shape) = ("odd".into(), shape.to_vec());
        entry.stored = Stored::Affine { codes, scales };
        let (report, written) = compress(&bytes, &index, &none);
        let tensor = report.plan.tensors.iter().find(|tensor| tensor.name == "odd").unwrap();
        assert_eq!(tensor.error.unwrap().mse, Some(0.0), "{what}");
        let reread = statepress_formats::open(&written).unwrap();
        let read = read(&written, &reread, "odd");
        assert_eq!(read, self::read(&bytes, &index, "odd"), "{what}");
        let encoding = expected.map_or(Encoding::Fp32, Encoding::int8);
        assert_eq!(
            (read.encoding(), tensor.precision),
            (encoding, StoredAs::Coded(encoding.precision())),
            "{what}"
        );
        let told = report.plan.findings.iter().any(|finding| finding.code == "dequantized");
        assert_eq!(told, expected.is_none(), "{what}");
    }
}

#[test]
fn whole_numbers_are_kept_bit_for_bit_by_every_recipe() {
    let mut bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    let headers = statepress_formats::open(&bytes).unwrap();
    let numbers = [7i64, (1 << 24) + 1, -(1 << 40) - 1, i64::MIN, 0, 1];
    let storage = Extent { offset: bytes.len() as u64, len: 48 };
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    for (strides, order) in [(vec![2, 1], [0, 1, 2, 3, 4, 5]), (vec![1, 3], [0, 3, 1, 4, 2, 5])] {
        let mut index = headers.clone();
        let entry = &mut index.tensors[0];
        (entry.name, entry.shape) = ("steps".into(), vec![3, 2]);
        entry.stored =
            Stored::Strided(Strided { dtype: DType::I64, storage, first: 0, strides, negated: false });
        for recipe in recipes::builtin().unwrap() {
            let (report, written) = compress(&bytes, &index, &recipe);
            let reread = statepress_formats::open(&written).unwrap();
            let Stored::Strided(view) = &reread.get("steps").unwrap().stored else { panic!("strided") };
            let at = view.storage.offset as usize;
            let found =
                written[at..at + 48].as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes));
            assert_eq!(
                (view.dtype, found.collect::<Vec<_>>()),
                (DType::I64, order.map(|i| numbers[i]).to_vec())
            );
            let steps = report.plan.tensors.iter().find(|tensor| tensor.name == "steps").unwrap();
            assert_eq!((steps.precision, steps.rule.as_str()), (StoredAs::Kept, "(whole numbers)"));
            assert!(
                report.plan.precisions.iter().all(|share| share.precision != StoredAs::Kept),
                "no weight"
            );
            assert_eq!(
                report.plan.matched.tensors + report.plan.unmatched.tensors + 1,
                match recipe.steps.len() {
                    0 => 1,
                    _ => report.plan.tensors.len() as u64,
                }
            );
        }
    }
}

/// The small Itera-Lite, whose head is a copy of the table, with changes.
fn with_head(config: serde_json::Value, change: impl Fn(&mut Vec<u8>, &mut Index)) -> (Vec<u8>, Index) {
    let mut bytes = std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap();
    let mut index = statepress_formats::open(&bytes).unwrap();
    index.config = config.as_object().cloned();
    change(&mut bytes, &mut index);
    (bytes, index)
}

#[test]
fn a_head_that_is_a_copy_is_announced_left_out_and_said_to_be_tied() {
    let untied = serde_json::json!({ "tie_word_embeddings": false });
    let int8 = recipes::find("int8").unwrap();
    let told = |plan: &report::Plan, code: &str| plan.findings.iter().any(|finding| finding.code == code);
    let written_head =
        |plan: &report::Plan| plan.tensors.iter().any(|tensor| tensor.name == "lm_head.weight");
    let head_at = |index: &Index| {
        let Stored::Strided(view) = &index.get("lm_head.weight").unwrap().stored else { panic!("strided") };
        view.storage.offset as usize
    };

    let (bytes, index) = with_head(untied.clone(), |_, _| ());
    let before = plan(&index, &infer(&index, &Hints::default()).unwrap(), &int8, &[]).unwrap().plan;
    assert!(told(&before, "may-be-tied") && written_head(&before));
    let (report, written) = compress(&bytes, &index, &int8);
    assert!(told(&report.plan, "tied-copy") && !told(&report.plan, "may-be-tied"));
    assert!(!written_head(&report.plan));
    let again = Checkpoint::open(written, OpenOptions::default()).unwrap().inspection();
    assert!(!again.findings.iter().any(|finding| finding.code == "config-disagrees"), "{:?}", again.findings);
    assert_eq!(again.spec["tie_word_embeddings"].value, true);

    // One number decides, in whichever row it is.
    for row in [0, 20, 49] {
        let (bytes, index) = with_head(untied.clone(), |bytes, index| {
            let at = head_at(index) + 4 * (16 * row + 3);
            bytes[at..at + 4].copy_from_slice(&1e-3f32.to_le_bytes());
        });
        let (report, written) = compress(&bytes, &index, &int8);
        assert!(written_head(&report.plan) && !told(&report.plan, "may-be-tied"), "row {row}");
        let again = Checkpoint::open(written.clone(), OpenOptions::default()).unwrap().inspection();
        assert_eq!(again.spec["tie_word_embeddings"].value, false);

        // The same of packed ones.
        let mut index = statepress_formats::open(&written).unwrap();
        assert!(written_head(&compress(&written, &index, &int8).0.plan), "row {row}, packed");
        let table = index.get("embedding.weight").unwrap().stored.clone();
        index.tensors.iter_mut().find(|entry| entry.name == "lm_head.weight").unwrap().stored = table;
        assert!(!written_head(&compress(&written, &index, &int8).0.plan), "row {row}, packed copy");
    }

    // Views in another order than the file's, and a rounding by torch.
    let (bytes, index) = with_head(untied.clone(), |_, index| {
        for name in ["embedding.weight", "lm_head.weight"] {
            let entry = index.tensors.iter_mut().find(|entry| entry.name == name).unwrap();
            let Stored::Strided(view) = &mut entry.stored else { panic!("strided") };
            (view.strides, entry.shape) = (vec![1, 16], vec![16, 50]);
        }
        index.tensors.retain(|entry| !entry.name.starts_with("position"));
    });
    assert!(!written_head(&compress(&bytes, &index, &recipes::find("none").unwrap()).0.plan));
    for file in ["il_moe.int8dyn.pt", "il_moe.int8dyn_per_channel.pt"] {
        let (job, _) = open(&fixture(&format!("fixtures/{file}")), &[]).compress_to_memory(&int8).unwrap();
        let report = run(job, |_| {}).unwrap();
        assert!(told(&report.plan, "tied-copy") && !written_head(&report.plan), "{file}");
    }

    // Without a reader that would rebuild it, a copy stays.
    let (bytes, index) = with_head(untied, |_, index| {
        index.tensors.retain(|entry| !entry.name.contains(".ssm."));
    });
    assert!(!told(
        &plan(&index, &infer(&index, &Hints::default()).unwrap(), &int8, &[]).unwrap().plan,
        "may-be-tied"
    ));
    assert!(written_head(&compress(&bytes, &index, &int8).0.plan));
}

/// How INT8 clips is no matter of other grids.
#[test]
fn a_percentile_is_asked_of_int8_alone() {
    let checkpoint = open(&fixture("fixtures/il_ffn.zip.pt"), &[]);
    for grid in ["nf4", "int3", "lm2"] {
        let bytes = [r#","int8":{"clip":"percentile","percentile":90}"#, ""].map(|options| {
            let (job, sink) = checkpoint.compress_to_memory(&recipe(&[("*", grid)], options)).unwrap();
            let report = run(job, |_| {}).unwrap();
            let told = report.plan.findings.iter().filter(|finding| finding.code == "clipped").count();
            let bytes = sink.take();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            (bytes[8 + header..].to_vec(), told)
        });
        assert!(bytes[0] == bytes[1], "{grid}");
    }
    for codec in ["int4", "nf4", "groups"] {
        let json = format!(
            r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[],"otherwise":"nf4","{codec}":{{"clip":"percentile"}}}}}}]}}"#
        );
        let error = Recipe::from_json(&json).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{codec}.clip is percentile; allowed: minmax, mse, activation")),
            "{error}"
        );
    }
}

/// A search of scales is asked of each codec by itself, and loses less of every tensor at the same size.
#[test]
fn scales_of_every_codec_clip_where_the_squared_error_is_least() {
    let checkpoint = open(&demo().join("model.safetensors"), &[]);
    for (codec, grid) in
        [("int8", "int8"), ("int4", "int4"), ("nf4", "nf4"), ("groups", "int3"), ("groups", "lm2")]
    {
        let compress = |options: &str| {
            let (job, sink) = checkpoint.compress_to_memory(&recipe(&[("*", grid)], options)).unwrap();
            (run(job, |_| {}).unwrap(), sink.take())
        };
        let (plain, searched) = (compress("").0, compress(&format!(r#","{codec}":{{"clip":"mse"}}"#)).0);
        assert_eq!(plain.plan.bytes, searched.plan.bytes, "{grid}");
        let errors = |report: &report::CompressReport| -> Vec<f64> {
            report.plan.tensors.iter().filter_map(|it| it.error?.mse).collect()
        };
        let (before, after) = (errors(&plain), errors(&searched));
        assert!(before.len() > 40 && before.iter().zip(&after).all(|(a, b)| *b <= a * 1.001), "{grid}");
        let total = |errors: &[f64]| errors.iter().sum::<f64>();
        // Scales of 8 bits have hardly anything to gain.
        let gains = if grid == "int8" { 1.0 } else { 0.97 };
        assert!(total(&after) < gains * total(&before), "{grid}: {} of {}", total(&after), total(&before));
        let told: Vec<_> = searched.plan.findings.iter().filter(|it| it.code == "clipped").collect();
        assert!(
            told.len() == 1 && told[0].message.contains("the limit of the least squared error"),
            "{told:?}"
        );
        let other = if codec == "nf4" { "int4" } else { "nf4" };
        let untouched = compress(&format!(r#","{other}":{{"clip":"mse"}}"#)).0;
        assert_eq!(errors(&untouched), before, "{grid}: what {other} does is no matter of it");
    }
}

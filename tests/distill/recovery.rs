//! Codes that are trained: passes compute with what the file holds, before the first step and after the last, in every encoding.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use statepress_core::index::Stored;
use statepress_core::job;
use statepress_core::report::TrainingStop;
use statepress_core::{Entry, Packed, Recipe, Tensor, shape};
use statepress_distill::{
    Batch, Device, Distill, Distilled, Mixture, Objective, Student, Teacher, Train, TrainOptions, Trained,
    Trains, rounded_rate, trained_checkpoint,
};
use statepress_distill_tests::golden::{Golden, assert_close};
use statepress_distill_tests::{Opened, Written, engine_logits, fixture, text};
use statepress_engine::models::Model;
use statepress_engine::techniques::find;
use statepress_kernels::codecs::{self, scales};

fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

fn original() -> Opened {
    Opened::file(&fixture("fixtures/il_moe.safetensors"), &[])
}

/// A small model in every encoding that weights can have; the names say in which.
fn compressed() -> Vec<(String, Opened)> {
    let recipe = |name: &str, rules: &str, otherwise: &str, options: &str| {
        let quantize = format!(r#"{{"rules":[{rules}],"otherwise":"{otherwise}"{options}}}"#);
        let json = format!(r#"{{"version":1,"name":"{name}","steps":[{{"quantize":{quantize}}}]}}"#);
        Recipe::from_json(&json).unwrap()
    };
    let all = |name: &str, precision: &str, options: &str| {
        // Vectors take no codes: they are left to 16 bits.
        let vectors = r#"{"match":"*norm*","precision":"fp16"},{"match":"*bias","precision":"bf16"}"#;
        recipe(name, vectors, precision, options)
    };
    let mut recipes = vec![
        all("int8 by row", "int8", ""),
        all("int8 by tensor", "int8", r#","int8":{"granularity":"tensor"}"#),
        all("int4", "int4", r#","int4":{"group":16,"scale":"fp16"}"#),
        all("nf4, scales coded twice", "nf4", r#","nf4":{"block":32,"doubleQuant":true}"#),
        all("nf4", "nf4", r#","nf4":{"block":32,"doubleQuant":false,"absmax":"fp16"}"#),
        recipe(
            "steps",
            r#"{"match":"*in_proj.weight","precision":"int8","step":0.2},{"match":"*embedding.weight","precision":"int8","step":0.1}"#,
            "fp16",
            r#","coded":true,"errorCompensation":"gptq""#,
        ),
        recipe(
            "classes of rows",
            r#"{"match":"*embedding.weight","precision":"lm2","rows":[{"count":7,"precision":"int8"},{"count":9,"precision":"bf16"}]}"#,
            "fp16",
            r#","groups":{"group":16,"scale":"log8"},"errorCompensation":"gptq""#,
        ),
    ];
    for precision in ["int6", "int5", "int3", "lm3", "int2", "lm2"] {
        for scale in ["log8", "fp16", "fp32"] {
            let options = format!(r#","groups":{{"group":32,"scale":"{scale}"}}"#);
            recipes.push(all(&format!("{precision}, scales in {scale}"), precision, &options));
        }
    }
    let original = original();
    let made = |recipe: &Recipe| Opened::new(original.written_reading(recipe, &text(2000, 3)), None, &[]);
    recipes.iter().map(|recipe| (recipe.name.clone(), made(recipe))).collect()
}

fn options() -> TrainOptions {
    TrainOptions {
        steps: 3,
        batch: 2,
        window: 16,
        objective: Objective { mixture: Mixture { alpha: 1.0, temperature: 1.0 }, balance: 0.0 },
        trains: Trains::Rounded,
        // So that many codes change.
        learning_rate: 3e-2,
        warm_up: 1,
        validate_every: 3,
        ..TrainOptions::default()
    }
}

fn run(original: &Opened, student: &Opened, options: TrainOptions) -> Trained {
    let (text, held_out) = (text(2000, 1), text(200, 2));
    let teacher = Teacher::Packed(original.engine());
    let train =
        Train::new(student.trainable(Device::Flex), Some(teacher), (&text, &held_out), 1, options, || 0.0);
    wait(job::run(train.unwrap(), |_| ())).unwrap()
}

fn read(of: &Opened, entry: &Entry) -> Tensor {
    statepress_formats::read_tensor(&*of.source, of.index.get(&entry.name).unwrap()).unwrap()
}

fn is_coded(entry: &Entry) -> bool {
    entry.coded_bytes() > 0
}

#[test]
fn before_the_first_step_the_model_is_the_compressed_one_in_every_encoding() {
    let ids = text(24, 5);
    for (name, compressed) in compressed() {
        for &device in Device::ALL {
            let mut model = compressed.trainable(device);
            wait(model.round(Trains::Rounded)).unwrap();
            let found = wait(model.evaluate().logits(&Batch::new(&[&ids]).unwrap())).unwrap();
            assert_close(&name, &found, &engine_logits(&compressed.engine(), &ids), 1e-4);
        }
    }
}

/// Whatever numbers become, passes take the nearest that the codes and scales of the file can stand for.
#[test]
fn numbers_that_have_moved_are_rounded_to_the_nearest_of_what_codes_reach() {
    let mut random = fastrand::Rng::with_seed(7);
    for (name, compressed) in compressed() {
        let key = "embedding.weight";
        let entry = compressed.spec.names.get(&compressed.index, key).unwrap();
        let stored = read(&compressed, entry);
        let Packed::Codes(codes) = &stored.data else { continue };
        let before = codecs::decode(&stored);
        let far = before.iter().fold(0.0_f32, |far, x| far.max(x.abs()));
        let moved: Vec<f32> = before.iter().map(|x| x + far * (random.f32() - 0.5)).collect();
        let mut model = compressed.trainable(Device::Flex);
        model.set(key, moved.clone()).unwrap();
        wait(model.round(Trains::Rounded)).unwrap();
        let of = (compressed.source.clone(), &*compressed.index, &compressed.spec);
        let (source, index) = wait(trained_checkpoint(&model, Trains::Rounded, of)).unwrap();
        let spec = compressed.spec.clone();
        let found = codecs::decode(&read(&Opened { source, index: Rc::new(index), spec }, entry));
        let size = codes.group.size(&stored.shape);
        let levels: Vec<f32> =
            (0..1_u16 << codes.grid.bits()).map(|code| codes.grid.level(code as u8)).collect();
        for (at, (&moved, &found)) in moved.iter().zip(&found).enumerate() {
            let scale = scales::get(&codes.scales, at / size);
            let least = levels.iter().map(|level| (level * scale - moved).abs()).fold(f32::MAX, f32::min);
            let off = (found - moved).abs();
            assert!(off <= least * (1.0 + 1e-5) + 1e-6, "{name}: {moved} became {found}, {off} > {least}");
        }
    }
}

#[test]
fn what_is_written_is_what_the_last_pass_computed_with_in_as_many_bytes() {
    let original = original();
    for (name, compressed) in compressed() {
        let trained = run(&original, &compressed, options());
        // Whether three steps so large made it better does not matter here.
        let of = (compressed.source.clone(), &*compressed.index, &compressed.spec);
        let (source, index) = wait(trained_checkpoint(&trained.model, Trains::Rounded, of)).unwrap();
        let held = Opened { source, index: Rc::new(index), spec: compressed.spec.clone() };
        let file = Opened::new(held.written(&find("none").unwrap()), None, &[]);
        let some_coded = compressed.index.tensors.iter().any(is_coded);
        assert_eq!(some_coded, name == "steps", "{name}");
        for entry in &compressed.index.tensors {
            let (was, is) = (read(&compressed, entry), read(&file, entry));
            assert_eq!((was.encoding(), &was.shape), (is.encoding(), &is.shape), "{name}: {}", entry.name);
            let now = file.index.get(&entry.name).unwrap();
            match is_coded(entry) {
                true => assert!(now.bytes() < entry.bytes() * 11 / 10 + 64, "{name}: {}", entry.name),
                false => assert_eq!(now.bytes(), entry.bytes(), "{name}: {}", entry.name),
            }
        }
        for (key, of) in trained.model.keys() {
            let entry = compressed.spec.names.get(&compressed.index, key).unwrap();
            let computed = wait(trained.model.values(key)).unwrap();
            assert_eq!(computed.len(), shape::elements(of).unwrap());
            assert_eq!(computed, codecs::decode(&read(&file, entry)), "{name}: {key}");
        }
    }
}

fn distilled(original: &Opened, compressed: &Opened, options: TrainOptions) -> (Distilled, Opened) {
    distilled_as(original, compressed.checkpoint().into(), options)
}

fn distilled_as(original: &Opened, student: Student, options: TrainOptions) -> (Distilled, Opened) {
    let (sink, bytes) = Written::new();
    let (text, held_out) = (text(2000, 1), text(200, 2));
    let teacher = (Teacher::Packed(original.engine()), &original.checkpoint());
    let texts = (&text[..], &held_out[..]);
    let job = Distill::new(student, teacher, texts, options, Device::Flex, Box::new(sink), || 0.0).unwrap();
    let done = wait(job::run(job, |_| ())).unwrap();
    (done, Opened::new(bytes.take(), None, &[]))
}

#[test]
fn a_recovery_says_what_changed_and_heals_more_than_vectors_do() {
    let original = {
        let model = original();
        let labels = Objective { mixture: Mixture { alpha: 0.0, temperature: 1.0 }, balance: 0.01 };
        let options = TrainOptions {
            steps: 60,
            batch: 4,
            learning_rate: 1e-2,
            trains: Trains::All,
            objective: labels,
            validate_every: 60,
            ..options()
        };
        distilled(&model, &model, options).1
    };
    for (precision, scale) in [("lm2", "log8"), ("int3", "fp16")] {
        let json = format!(
            r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[{{"match":"*norm*","precision":"fp16"}}],
            "otherwise":"{precision}","coded":true,"groups":{{"group":16,"scale":"{scale}"}}}}}}]}}"#
        );
        let compressed = Opened::new(original.written(&Recipe::from_json(&json).unwrap()), None, &[]);
        let rate = rounded_rate(&compressed.index);
        assert!((2e-5..=2e-4).contains(&rate), "{rate}");
        let options =
            TrainOptions { steps: 150, batch: 4, learning_rate: 5e-3, validate_every: 50, ..options() };
        let (all, file) = distilled(&original, &compressed, options.clone());
        let (vectors, _) =
            distilled(&original, &compressed, TrainOptions { trains: Trains::Vectors, ..options });
        let kl = |done: &Distilled| (done.training.validation[0].kl.unwrap(), done.training.best.kl.unwrap());
        let ((before, after), (same, less)) = (kl(&all), kl(&vectors));
        assert!((before - same).abs() < 1e-6, "{before} {same}");
        assert!(
            after < 0.7 * less && after < 0.5 * before,
            "{precision}: {before} -> {after}, vectors {less}"
        );
        assert_eq!(all.training.stopped, TrainingStop::Finished);
        let changed = all.training.codes_changed.unwrap();
        assert!(changed > 0.001 && changed < 0.9, "{changed}");
        assert_eq!(vectors.training.codes_changed, None);
        // The best is what the teacher finds best.
        let least = all.training.validation.iter().map(|it| it.kl.unwrap()).fold(f64::MAX, f64::min);
        assert_eq!(all.training.best.kl, Some(least));
        let told = divergence(&original.engine(), &file.engine(), &text(200, 2));
        assert!((told / after - 1.0).abs() < 1e-3, "{told} {after}");
    }
}

/// Of a pruned checkpoint the original has no numbers to begin beside: what pruning left has.
#[test]
fn codes_begin_beside_what_they_were_rounded_from_and_the_file_says_what_made_it() {
    let original = original();
    let json = |quantize: &str| {
        let steps = format!(r#"[{{"prune":{{"kind":"inner","keep":0.5}}}}{quantize}]"#);
        Recipe::from_json(&format!(r#"{{"version":1,"name":"t","steps":{steps}}}"#)).unwrap()
    };
    let pruned = Opened::new(original.written(&json("")), None, &[]);
    let quantize = r#",{"quantize":{"rules":[{"match":"*norm*","precision":"fp16"}],"otherwise":"int3"}}"#;
    let compressed = Opened::new(original.written(&json(quantize)), None, &[]);
    let key = "layers.0.ssm.in_proj.weight";
    let entry = compressed.spec.names.get(&compressed.index, key).unwrap();
    let codes = codecs::decode(&read(&compressed, entry));
    let begun = |uncoded: &Opened| {
        let mut model = compressed.trainable(Device::Flex);
        model.begin_beside(&uncoded.checkpoint()).unwrap();
        wait(model.values(key)).unwrap()
    };
    assert_eq!(begun(&original), codes);
    let (beside, was) = (begun(&pruned), codecs::decode(&read(&pruned, entry)));
    let apart = |of: &[f32]| of.iter().zip(&was).map(|(x, was)| (x - was).abs()).sum::<f32>();
    assert!(apart(&beside) < 0.3 * apart(&codes), "{} {}", apart(&beside), apart(&codes));

    let made_by =
        json(&format!(r#"{quantize},{{"recover":{{"weights":"all","steps":20,"learningRate":0.003}}}}"#));
    let options = TrainOptions { steps: 20, learning_rate: 3e-3, validate_every: 5, ..options() };
    let trained = |uncoded: Option<&Opened>| {
        let student = Student { uncoded: uncoded.map(Opened::checkpoint), ..compressed.checkpoint().into() };
        distilled_as(&original, student, options.clone())
    };
    let (beside, alone) = (trained(Some(&pruned)), trained(None));
    let loss = |(done, _): &(Distilled, Opened)| done.training.validation[1].kl;
    assert_ne!(loss(&beside), loss(&alone));
    assert_eq!(Recipe::recorded(&beside.1.index.metadata), Some(made_by));
    // What only converts the file leaves what it says.
    let converted = Opened::new(beside.1.written(&find("none").unwrap()), None, &[]);
    assert_eq!(converted.index.metadata.get(Recipe::KEY), beside.1.index.metadata.get(Recipe::KEY));
}

/// Mean divergence of windows of 16 tokens, nats.
fn divergence(original: &Model, other: &Model, ids: &[u32]) -> f64 {
    let vocab = original.info.vocab_size;
    let (mut sum, mut count) = (0.0, 0);
    for window in ids[..ids.len() - 1].chunks_exact(16) {
        let [p, q] = [original, other].map(|model| engine_logits(model, window));
        for (p, q) in p.chunks(vocab).zip(q.chunks(vocab)) {
            let total = |row: &[f32]| row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
            let (p_total, q_total) = (total(p), total(q));
            let terms = p.iter().zip(q).map(|(&p, &q)| {
                let p = f64::from(p) - p_total;
                p.exp() * (p - (f64::from(q) - q_total))
            });
            sum += terms.sum::<f64>();
            count += 1;
        }
    }
    sum / f64::from(count)
}

#[test]
fn damaged_and_other_files_are_refused_by_the_tensor_that_is_wrong() {
    let compressed = compressed().into_iter().find(|(name, _)| name == "steps").unwrap().1;
    let entry = compressed.index.tensors.iter().find(|entry| is_coded(entry)).unwrap();
    let Stored::Packed { parts, .. } = &entry.stored else { unreachable!() };
    let mut bytes = vec![0; compressed.source.len() as usize];
    compressed.source.read_at(0, &mut bytes).unwrap();
    bytes[parts[0].offset as usize + parts[0].len as usize / 2] ^= 0x10;
    let damaged = Opened::new(bytes, None, &[]);
    let load = statepress_distill::Trainable::load;
    let error = load(&*damaged.source, &damaged.index, &damaged.spec, Device::Flex).err().unwrap();
    assert!(error.to_string().contains(&entry.name), "{error}");

    // What was trained is put into the file that it is of.
    let model = compressed.trainable(Device::Flex);
    let other = Opened::file(&fixture("fixtures/il_odd.safetensors"), &[("top_k_experts", 1)]);
    let of = (other.source.clone(), &*other.index, &other.spec);
    let error = wait(trained_checkpoint(&model, Trains::Rounded, of)).err().unwrap();
    assert!(error.to_string().contains("embedding.weight"), "{error}");
}

#[test]
fn numbers_that_are_none_end_training_at_what_was_best() {
    let (original, compressed) = (original(), compressed().swap_remove(0).1);
    let adam = statepress_distill::Adam { eps: 1e-10, clip: 1e30, ..TrainOptions::default().adam };
    let wild = TrainOptions { steps: 40, learning_rate: 1.0, adam, validate_every: 5, ..options() };
    let trained = run(&original, &compressed, wild);
    assert!(trained.report.best.kl.unwrap().is_finite());
    assert!(trained.report.best.kl <= trained.report.validation[0].kl);
}

/// The benchmark runs; no speed and no quality is checked here.
#[test]
fn the_recovery_benchmark_runs() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "--manifest-path", manifest, "-p", "statepress-distill-tests", "--examples"]);
    said(cargo.args((!cfg!(debug_assertions)).then_some("--release")));
    let folder = std::env::temp_dir().join(format!("statepress-recover-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo/itera-tiny");
    let ids = Golden::open(&fixture("trained/itera-tiny.safetensors")).ids("input_ids");
    let write = |name: &str, bytes: Vec<u8>| {
        std::fs::write(folder.join(name), bytes).unwrap();
        folder.join(name).to_string_lossy().into_owned()
    };
    let words = |ids: &[u32]| ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect();
    let (train, test) = (write("train.bin", words(&ids)), write("test.bin", words(&ids[..512])));
    let int4 = Opened::folder(&demo).written(&find("int4").unwrap());
    let file = write("int4.safetensors", int4);
    let own = std::env::current_exe().unwrap();
    let name = format!("recover{}", std::env::consts::EXE_SUFFIX);
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let said = said(Command::new(path).args([&train, &test, &*demo.to_string_lossy(), &file, "--tiny"]));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(said.contains("int4.safetensors before: ") && said.contains("of the codes changed"), "{said}");
    let bytes: Vec<&str> =
        said.lines().filter_map(|line| line.split(": ").nth(1)?.split(" bytes").next()).collect();
    assert!(bytes.len() >= 2 && bytes[0] == bytes[bytes.len() - 1], "{said}");
}

//! Training runs: they learn, are the same each time, keep the best, stop when told, and leave a checkpoint like any other.

use std::rc::Rc;

use statepress_core::Recipe;
use statepress_core::job::{self, Job};
use statepress_core::report::{Training, TrainingPoint, TrainingStop};
use statepress_distill::{
    Adam, Device, Distill, Init, Mixture, Objective, Student, Teacher, Train, TrainOptions, Trained, Trains,
    trained_checkpoint,
};
use statepress_distill_tests::golden::assert_close;
use statepress_distill_tests::{Opened, Written, engine_logits, fixture, text};
use statepress_engine::calibrate::Marks;
use statepress_engine::models::Model;
use statepress_engine::techniques::{Checkpoint, find};

fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

fn opened(name: &str) -> Opened {
    Opened::file(&fixture(&format!("fixtures/{name}.safetensors")), &[])
}

fn options() -> TrainOptions {
    TrainOptions {
        steps: 60,
        batch: 4,
        window: 16,
        objective: Objective { mixture: Mixture { alpha: 0.0, temperature: 1.0 }, balance: 0.01 },
        learning_rate: 1e-2,
        warm_up: 5,
        validate_every: 20,
        ..TrainOptions::default()
    }
}

fn train(opened: &Opened, device: Device, teacher: Option<Teacher>, options: TrainOptions) -> Trained {
    let (text, held_out) = (text(2000, 1), text(200, 2));
    let student = opened.trainable(device);
    let run = Train::new(student, teacher, (&text, &held_out), 1, options, || 0.0).unwrap();
    wait(job::run(run, |_| ())).unwrap()
}

/// The bytes of a trained model, written by a recipe.
fn written(opened: &Opened, trained: &Trained, trains: Trains, recipe: &Recipe) -> Vec<u8> {
    let of = (opened.source.clone(), &*opened.index, &opened.spec);
    let (source, index) = wait(trained_checkpoint(&trained.model, trains, of)).unwrap();
    Opened { source, index: Rc::new(index), spec: opened.spec.clone() }.written(recipe)
}

/// Mean negative log-likelihood, nats, of a model that the engine runs.
fn nll(model: &Model, ids: &[u32], window: usize) -> f64 {
    let vocab = model.info.vocab_size;
    let (mut sum, mut count) = (0.0, 0);
    for at in 0..(ids.len() - 1) / window {
        let logits = engine_logits(model, &ids[at * window..][..window]);
        for (row, &label) in logits.chunks(vocab).zip(&ids[at * window + 1..]) {
            let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            sum += total.ln() - f64::from(row[label as usize]);
            count += 1;
        }
    }
    sum / f64::from(count)
}

fn held_out(curve: &[TrainingPoint]) -> Vec<f64> {
    curve.iter().map(|point| point.nll).collect()
}

#[test]
fn a_run_learns_is_repeatable_and_leaves_a_checkpoint() {
    for &device in Device::ALL {
        for name in ["il_moe", "tf"] {
            let opened = opened(name);
            let trained = train(&opened, device, None, options());
            let curve = held_out(&trained.report.validation);
            assert_eq!(
                trained.report.validation.iter().map(|point| point.step).collect::<Vec<_>>(),
                [0, 20, 40, 60]
            );
            assert!(curve[3] < 0.5 * curve[0], "{name}, {}: {curve:?}", device.name());
            assert_eq!(
                (trained.report.stopped.clone(), trained.report.best.step),
                (TrainingStop::Finished, 60)
            );
            assert_eq!(trained.report.tokens, 60 * 4 * 16);
            assert_eq!(
                curve,
                held_out(&train(&opened, device, None, options()).report.validation),
                "the same each time"
            );
            let other = train(&opened, device, None, TrainOptions { seed: 1, ..options() });
            assert_ne!(curve, held_out(&other.report.validation), "another order of windows");

            let file =
                Opened::new(written(&opened, &trained, Trains::All, &find("none").unwrap()), None, &[]);
            let found = nll(&file.engine(), &text(200, 2), 16);
            assert_close(name, &[found as f32], &[trained.report.best.nll as f32], 1e-4);
            let names = |opened: &Opened| opened.spec.names.iter().map(str::to_string).collect::<Vec<_>>();
            assert_eq!(names(&file).len(), file.index.tensors.len());
        }
    }
}

#[test]
fn a_student_learns_from_its_teacher_alone() {
    let teacher = train(&opened("il_moe"), Device::Flex, None, options());
    let teacher = {
        let bytes = written(&opened("il_moe"), &teacher, Trains::All, &find("none").unwrap());
        Opened::new(bytes, None, &[]).engine()
    };
    let objective = Objective { mixture: Mixture { alpha: 1.0, temperature: 2.0 }, balance: 0.0 };
    let trained = train(
        &opened("il_ffn"),
        Device::Flex,
        Some(Teacher::Packed(teacher.clone())),
        TrainOptions { objective, ..options() },
    );
    let curve = held_out(&trained.report.validation);
    assert!(curve[3] < 0.6 * curve[0], "{curve:?}");
    assert!(trained.report.best.nll < nll(&teacher, &text(200, 2), 16) + 0.3, "{curve:?}");
}

/// Norms, biases and dynamics make up for codes, which stay what they are, bit for bit.
#[test]
fn vectors_recover_what_codes_lost() {
    let original = {
        let trained = train(&opened("il_moe"), Device::Flex, None, options());
        Opened::new(written(&opened("il_moe"), &trained, Trains::All, &find("none").unwrap()), None, &[])
    };
    let coded = Opened::new(original.written(&find("int4").unwrap()), None, &[]);
    let objective = Objective { mixture: Mixture { alpha: 1.0, temperature: 1.0 }, balance: 0.0 };
    let options = TrainOptions { objective, trains: Trains::Vectors, learning_rate: 2e-3, ..options() };
    let trained =
        train(&coded, Device::Flex, Some(Teacher::Numbers(original.trainable(Device::Flex))), options);
    assert!(trained.report.best.step > 0, "{:?}", trained.report.validation);
    let file = Opened::new(written(&coded, &trained, Trains::Vectors, &find("none").unwrap()), None, &[]);
    let [before, after] = [&coded, &file].map(|it| nll(&it.engine(), &text(200, 2), 16));
    assert!(after < before, "{before} {after}");
    let mut kept = 0;
    for entry in &coded.index.tensors {
        let read = |opened: &Opened| {
            let entry = opened.index.get(&entry.name).unwrap();
            statepress_formats::read_tensor(&*opened.source, entry).unwrap()
        };
        let (was, is) = (read(&coded), read(&file));
        assert_eq!(was.encoding(), is.encoding(), "{}", entry.name);
        if matches!(was.encoding(), statepress_core::Encoding::Codes(_)) {
            assert_eq!(was, is, "{}", entry.name);
            kept += 1;
        }
    }
    assert!(kept > 10, "{kept}");
}

#[test]
fn a_run_stops_when_it_is_no_better_and_when_it_diverges() {
    let adam = Adam { clip: 1e6, ..TrainOptions::default().adam };
    let steep =
        TrainOptions { learning_rate: 1.0, warm_up: 1, adam, steps: 400, patience: Some(2), ..options() };
    let trained = train(&opened("il_ffn"), Device::Flex, None, steep);
    let better =
        trained.report.validation.iter().position(|point| point.step == trained.report.best.step).unwrap();
    match &trained.report.stopped {
        TrainingStop::NoBetter => assert_eq!(trained.report.validation.len(), better + 3),
        TrainingStop::Diverged { what, .. } => assert!(!what.is_empty()),
        other => panic!("{other:?}: {:?}", trained.report.validation),
    }
    let (text, held_out) = (text(500, 1), text(50, 2));
    let student = opened("il_ffn").trainable(Device::Flex);
    let mut run = Train::<Model>::new(student, None, (&text, &held_out), 1, options(), || 0.0).unwrap();
    while run.curve().len() < 2 {
        wait(run.step()).unwrap();
    }
    run.stop();
    assert_eq!(wait(run.step()).unwrap(), None);
    let stopped = run.finish().unwrap();
    assert_eq!((stopped.report.stopped, stopped.report.best.step), (TrainingStop::Asked, 20));

    let opened = opened("il_ffn");
    let mut student = opened.trainable(Device::Flex);
    let key = "layers.1.ssm.norm.weight";
    student.set(key, vec![f32::NAN; 16]).unwrap();
    let run = Train::<Model>::new(student, None, (&text, &held_out), 1, options(), || 0.0).unwrap();
    let error = wait(job::run(run, |_| ())).err().unwrap();
    assert_eq!(error.code(), "evaluation-failed", "there is no good state to go back to: {error}");
}

#[test]
fn bad_options_and_texts_are_refused() {
    let opened = opened("il_ffn");
    let refused = |options: TrainOptions, len: usize, teacher: Option<Teacher>| {
        let (text, held_out) = (text(len, 1), text(200, 2));
        let student = opened.trainable(Device::Flex);
        match Train::new(student, teacher, (&text, &held_out), 1, options, || 0.0) {
            Ok(_) => panic!("not refused"),
            Err(error) => error.to_string(),
        }
    };
    let with = |change: fn(&mut TrainOptions)| {
        let mut options = options();
        change(&mut options);
        refused(options, 500, None)
    };
    assert_eq!(with(|it| it.steps = 0), "option steps is 0; allowed: 1 or more");
    assert_eq!(with(|it| it.window = 25), "option window is 25; allowed: 1 to 24 (the model's positions)");
    assert_eq!(with(|it| it.warm_up = 60), "option warmUp is 60; allowed: less than the 60 steps");
    assert_eq!(
        with(|it| it.objective.mixture.alpha = 0.5),
        "option alpha is 0.5; allowed: 0, as there is no teacher"
    );
    assert!(with(|it| it.learning_rate = f64::NAN).starts_with("option learningRate is NaN"));
    let large = with(|it| it.most_bytes = Some(100_000));
    assert!(
        large.starts_with("option batch is 4, of windows of 16 tokens, with which training takes about"),
        "{large}"
    );
    let short = refused(options(), 16, None);
    assert!(short.starts_with("the training text has 16 tokens; one window of 16 and the 1 that"), "{short}");
    let teacher = Opened::file(&fixture("fixtures/il_odd.safetensors"), &[("top_k_experts", 1)]).engine();
    let mut half = options();
    half.objective.mixture.alpha = 0.5;
    let other = refused(half, 500, Some(Teacher::Packed(teacher)));
    assert_eq!(other, "option teacher is a model of 37 ids; allowed: one of 50, as the student has");
}

#[test]
fn a_distillation_leaves_a_file_that_says_what_was_done_and_knows_its_text() {
    let teacher = opened("il_ffn");
    let student = Opened::new(teacher.written(&Recipe::from_json(HALF).unwrap()), None, &[]);
    let (text, held_out) = (text(2000, 1), text(200, 2));
    let checkpoint = |it: &Opened| Checkpoint {
        source: it.source.clone(),
        index: it.index.clone(),
        spec: it.spec.clone(),
    };
    let distilled = |held_out: &[u32], init| {
        let (sink, bytes) = Written::new();
        let of = (Teacher::Packed(teacher.engine()), &checkpoint(&teacher));
        let job = Distill::new(
            Student { init, ..checkpoint(&student).into() },
            of,
            (&text, held_out),
            options(),
            Device::Flex,
            Box::new(sink),
            || 0.0,
        );
        job.and_then(|job| wait(job::run(job, |_| ()))).map(|done| (done, bytes.take()))
    };
    let (done, bytes) = distilled(&held_out, Init::Given).unwrap();
    let Training { best, steps, params, trained_params, .. } = done.training;
    assert_eq!((steps, params), (60, trained_params));
    assert!(done.written.plan.bytes.ratio > 1.0 && done.written.plan.bytes.before == teacher_bytes(&teacher));
    let read = Opened::new(bytes, None, &[]);
    assert_close("the file", &[nll(&read.engine(), &held_out, 16) as f32], &[best.nll as f32], 1e-4);
    assert!(Marks::read(&read.index.metadata).unwrap().told(&text).is_some());
    // Numbers drawn anew know nothing: every id is as likely as any other, nearly.
    let (fresh, _) = distilled(&held_out, Init::Fresh).unwrap();
    let first = fresh.training.validation[0].nll;
    let vocab = student.spec.program.as_ref().unwrap().vocab_size;
    assert!((first - (vocab as f64).ln()).abs() < 0.3, "{first}");
    let refused = distilled(&text[100..300], Init::Given).err().unwrap();
    assert!(refused.to_string().contains("among the text that is trained on"), "{refused}");
}

#[test]
fn what_a_model_in_training_says_is_what_its_file_says() {
    let model = opened("il_ffn");
    let (prompt, trainable) = (text(5, 3), model.trainable(Device::Flex));
    let vocab = model.engine().info.vocab_size;
    // Position `t` may predict another token than the next one.
    for offset in [1, 2, 3] {
        let said = wait(trainable.sample(&prompt, 12, offset)).unwrap();
        let mut ids = prompt.clone();
        for _ in 0..12 {
            let logits = engine_logits(&model.engine(), &ids);
            let row = &logits[(ids.len() - offset) * vocab..][..vocab];
            ids.push((0..vocab).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32);
        }
        assert_eq!(said, ids[prompt.len()..]);
    }
    for (count, offset) in [(0, 1), (5, 0), (5, prompt.len() + 1)] {
        assert_eq!(wait(trainable.sample(&prompt, count, offset)).unwrap(), [0_u32; 0]);
    }
    let empty = wait(trainable.sample(&[], 3, 1)).unwrap_err();
    assert!(empty.to_string().contains("no token ids"), "{empty}");
}

const HALF: &str = r#"{"version":1,"name":"half","steps":[{"prune":{"kind":"inner","keep":0.5}}]}"#;

fn teacher_bytes(teacher: &Opened) -> u64 {
    teacher.index.tensors.iter().filter(|it| it.tied_to.is_none()).map(|it| it.bytes()).sum()
}

#[test]
fn a_limited_time_is_kept_though_looks_take_a_part_of_it() {
    // A clock that goes on by a second whenever it is asked: once for each step and look, and twice to begin.
    fn clock() -> f64 {
        static NOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        NOW.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as f64
    }
    let (text, held_out) = (text(2000, 1), text(200, 2));
    let student = opened("il_ffn").trainable(Device::Flex);
    let limited = TrainOptions { steps: 100_000, seconds: Some(120.0), ..options() };
    let run = Train::<Model>::new(student, None, (&text, &held_out), 1, limited, clock).unwrap();
    let Training { steps, seconds, stopped, validation, .. } = wait(job::run(run, |_| ())).unwrap().report;
    assert_eq!(stopped, TrainingStop::Finished);
    assert!(steps > 8 && steps < 1000, "{steps}");
    assert!((3..=13).contains(&validation.len()), "{}", validation.len());
    assert!(seconds > 0.0);
}

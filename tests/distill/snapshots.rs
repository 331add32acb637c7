//! A training run that was written down goes on as if it had never been interrupted.

use serde_json::{Value, json};
use statepress_core::job::{self, Job};
use statepress_core::report::TrainingPoint;
use statepress_distill::{
    Device, Mixture, Objective, Snapshot, Teacher, Train, TrainOptions, Trained, Trains,
};
use statepress_distill_tests::{Opened, fixture, text};
use statepress_engine::models::Model;
use statepress_engine::techniques::find;

fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

fn opened(name: &str) -> Opened {
    Opened::file(&fixture(&format!("fixtures/{name}.safetensors")), &[])
}

fn options(trains: Trains) -> TrainOptions {
    TrainOptions {
        steps: 20,
        batch: 3,
        window: 16,
        objective: Objective { mixture: Mixture { alpha: 0.5, temperature: 1.5 }, balance: 0.01 },
        trains,
        learning_rate: 1e-2,
        warm_up: 5,
        validate_every: 8,
        ..TrainOptions::default()
    }
}

fn begun(student: &Opened, device: Device, options: TrainOptions) -> Train {
    let (text, held_out) = (text(400, 1), text(200, 2));
    let teacher = Teacher::Packed(opened("il_moe").engine());
    Train::new(student.trainable(device), Some(teacher), (&text, &held_out), 1, options, || 0.0).unwrap()
}

/// Everything that a run gives: its curve, and what passes compute with at the end.
fn given(trained: &Trained) -> (Vec<TrainingPoint>, Vec<Vec<f32>>) {
    let keys: Vec<String> = trained.model.keys().map(|(key, _)| key.to_string()).collect();
    let values = keys.iter().map(|key| wait(trained.model.values(key)).unwrap()).collect();
    (trained.report.validation.clone(), values)
}

#[test]
fn a_run_goes_on_to_the_very_numbers_wherever_it_was_interrupted() {
    let coded = Opened::new(opened("il_moe").written(&find("int4").unwrap()), None, &[]);
    for &device in Device::ALL {
        for (student, trains) in
            [(&opened("il_moe"), Trains::All), (&coded, Trains::Rounded), (&coded, Trains::Vectors)]
        {
            let whole = given(&wait(job::run(begun(student, device, options(trains)), |_| ())).unwrap());
            assert_eq!(whole.0.len(), 4);
            // Before the first look, within one, between two, within a reading of the text and after it, at the last look.
            for steps in [0, 2, 6, 9, 13, 24, 30] {
                let mut run = begun(student, device, options(trains));
                for _ in 0..steps {
                    wait(run.step()).unwrap();
                }
                let bytes = wait(run.snapshot("half of it")).unwrap().unwrap();
                drop(run);
                let snapshot = Snapshot::open(bytes).unwrap();
                assert_eq!(snapshot.student(), "half of it");
                assert_eq!(
                    (snapshot.text().unwrap(), snapshot.held_out().unwrap()),
                    (text(400, 1), text(200, 2))
                );
                let mut run = begun(student, device, snapshot.options().clone());
                wait(run.go_on(&snapshot)).unwrap();
                let after = given(&wait(job::run(run, |_| ())).unwrap());
                assert!(
                    after == whole,
                    "{}, {trains:?}, after {steps}: {:?} {:?}",
                    device.name(),
                    after.0,
                    whole.0
                );
            }
        }
    }
}

#[test]
fn what_is_no_snapshot_of_this_run_is_refused() {
    let student = opened("il_moe");
    let mut run = begun(&student, Device::Flex, options(Trains::All));
    while run.curve().is_empty() {
        wait(run.step()).unwrap();
    }
    let bytes = wait(run.snapshot("")).unwrap().unwrap();
    run.stop();
    assert!(wait(run.snapshot("")).unwrap().is_none(), "a run that has ended does not go on");
    let snapshot = Snapshot::open(bytes.clone()).unwrap();
    let refused = |mut run: Train<Model>| wait(run.go_on(&snapshot)).unwrap_err().to_string();
    let other = Opened::new(student.written(&find("fp16").unwrap()), None, &[]);
    let other = refused(begun(&other, Device::Flex, options(Trains::All)));
    assert!(other.contains("of a training that began with another model"), "{other}");
    let (words, held_out) = (text(400, 3), text(200, 2));
    let teacher = Teacher::Packed(opened("il_moe").engine());
    let read_other = Train::new(
        student.trainable(Device::Flex),
        Some(teacher),
        (&words, &held_out),
        1,
        options(Trains::All),
        || 0.0,
    );
    let read_other = refused(read_other.unwrap());
    assert!(read_other.contains("of another text"), "{read_other}");

    let error = |bytes: Vec<u8>| Snapshot::open(bytes).err().unwrap().to_string();
    let file = error(student.written(&find("none").unwrap()));
    assert!(
        file.starts_with("option resume is a file without statepress.training in its metadata"),
        "{file}"
    );
    // What no run can be is refused when it is opened, prepared or gone on from.
    let gone_on = |snapshot: Snapshot| {
        let (text, held_out) = (snapshot.text()?, snapshot.held_out()?);
        let teacher = Teacher::Packed(opened("il_moe").engine());
        let options = snapshot.options().clone();
        let trainable = student.trainable(Device::Flex);
        let mut run = Train::new(trainable, Some(teacher), (&text, &held_out), 1, options, || 0.0)?;
        wait(run.go_on(&snapshot))
    };
    assert!(gone_on(Snapshot::open(bytes.clone()).unwrap()).is_ok());
    // As the first version was: what it began with was a number.
    let first = edited(&edited(&bytes, "", "began", &json!(7)), "", "version", &json!(1));
    let first = error(first);
    assert!(first.contains("of version 1, where this one reads 2"), "{first}");
    let huge = u64::from(u32::MAX) << 16;
    for (of, field, value) in [
        ("", "done", json!(huge)),
        ("", "done", json!(7)),
        ("", "updates", json!(vec![9; 4096])),
        ("", "starts", json!([100_000])),
        ("", "version", json!(1)),
        ("began", "student", json!(1)),
        ("began", "teacher", json!([0.5])),
        ("options", "window", json!(huge)),
        ("options", "batch", json!(huge)),
        ("options", "steps", json!(0)),
        ("options", "learningRate", json!("fast")),
    ] {
        let opened = Snapshot::open(edited(&bytes, of, field, &value));
        assert!(opened.and_then(gone_on).is_err(), "{field} {value}");
    }
    // Whatever of it is cut or changed anywhere: nothing panics.
    assert!(!error(bytes[..bytes.len() / 2].to_vec()).is_empty());
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in (8..header).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let _ = Snapshot::open(damaged).and_then(gone_on);
    }
}

/// A snapshot with something else in its state, or in an object of it.
fn edited(bytes: &[u8], of: &str, field: &str, value: &Value) -> Vec<u8> {
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut json: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let state = &mut json["__metadata__"]["statepress.training"];
    let mut inner: Value = serde_json::from_str(state.as_str().unwrap()).unwrap();
    let place = if of.is_empty() { &mut inner } else { &mut inner[of] };
    assert!(place.get(field).is_some(), "{field}");
    place[field] = value.clone();
    *state = Value::String(inner.to_string());
    let mut text = json.to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[header..]].concat()
}

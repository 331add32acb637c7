//! Distils a student from a teacher, natively: what it costs and what it brings, look by look.
//!
//! ```sh
//! cargo run --release -p statepress-distill --example distill -- \
//!     --teacher DIR --recipe prune.json --text train.u16.bin --held-out valid.u16.bin --out student.safetensors
//! ```
//!
//! `DIR` has `model.safetensors` and `config.json`; ids are little-endian u16. The student is the teacher after a recipe
//! that prunes, or `--student FILE`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Instant;

use serde_json::{Map, Value};
use statepress_core::job::{self, Job};
use statepress_core::report::Training;
use statepress_core::source::SourceError;
use statepress_core::{Recipe, Sink};
use statepress_distill::{
    Device, Distill, Distilled, Mixture, Objective, Teacher, TrainOptions, Trainable, Trains,
};
use statepress_engine::calibrate::Calibration;
use statepress_engine::families::{Hints, fit, infer, is_model};
use statepress_engine::models::{Cpu, Load, Model};
use statepress_engine::techniques::follow::{Begun, Follow};
use statepress_engine::techniques::shares::Work;
use statepress_engine::techniques::{Checkpoint, find};
use statepress_formats::{Choice, open_with};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn clock() -> f64 {
    START.elapsed().as_secs_f64()
}

fn main() -> Result<()> {
    let mut given = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        given.insert(
            name.trim_start_matches('-').to_string(),
            words.next().ok_or(format!("{name} needs a value"))?,
        );
    }
    let path = |name: &str| given.get(name).ok_or(format!("--{name} is missing"));
    let number = |name: &str, usual: f64| given.get(name).map_or(Ok(usual), |value| value.parse::<f64>());

    let folder = Path::new(path("teacher")?);
    let config = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
    let teacher = open(std::fs::read(folder.join("model.safetensors"))?, Some(config))?;
    let (text, held_out) = (ids(path("text")?)?, ids(path("held-out")?)?);
    let model = load(&teacher)?;
    let student = match given.get("student") {
        Some(path) => open(std::fs::read(path)?, None)?,
        None => open(follow(&teacher, &recipe(path("recipe")?)?, &model, &text)?, None)?,
    };
    let device = match given.get("device") {
        None => Device::Flex,
        Some(name) => {
            let known: Vec<_> = Device::ALL.iter().map(|it| it.name()).collect();
            let found = Device::ALL.iter().find(|it| it.name() == name);
            *found.ok_or(format!("--device is {name}; there are: {}", known.join(", ")))?
        }
    };
    let usual = TrainOptions::default();
    let options = TrainOptions {
        steps: number("steps", 1000.0)? as usize,
        batch: number("batch", 2.0)? as usize,
        window: number("window", 256.0)? as usize,
        objective: Objective {
            mixture: Mixture { alpha: number("alpha", 0.5)?, temperature: number("temperature", 1.0)? },
            balance: number("balance", 0.0)?,
        },
        trains: if given.contains_key("vectors") { Trains::Vectors } else { Trains::All },
        learning_rate: number("rate", 3e-3)?,
        warm_up: number("warm-up", 50.0)? as usize,
        validate_every: number("look", 100.0)? as usize,
        seed: number("seed", 0.0)? as u64,
        ..usual
    };
    let most = held_out.len().min(number("held-out-tokens", 16385.0)? as usize);
    let batch = options.batch * options.window;
    let sink = Collected::default();
    let numbers = Trainable::load(&*teacher.source, &teacher.index, &teacher.spec, device)?;
    let mut run = Distill::<Model>::new(
        student.into(),
        // Natively its logits are made twice as fast where the student's are.
        (Teacher::Numbers(numbers), &teacher),
        (&text, &held_out[..most]),
        options,
        device,
        Box::new(sink.clone()),
        clock,
    )?;
    let mut shown = 0;
    let Distilled { training, .. } = pollster::block_on(async {
        while run.step().await?.is_some() {
            for point in &run.curve()[shown..] {
                println!(
                    "step {:5}  {:7.1} s  loss {:7.4}  held out {:.4}, perplexity {:.2}  {:.0} tokens/s",
                    point.step,
                    point.seconds,
                    point.loss.unwrap_or(f64::NAN),
                    point.nll,
                    point.perplexity,
                    (point.step as usize * batch) as f64 / point.seconds.max(1e-9)
                );
                shown += 1;
            }
        }
        run.finish()
    })?;
    let Training { params, trained_params, best, stopped, memory, .. } = training;
    println!(
        "{params} parameters, {trained_params} trained, in about {} MB; {stopped:?}; best at step {}: {:.2}",
        memory / 1_000_000,
        best.step,
        best.perplexity
    );
    if let Some(out) = given.get("out") {
        std::fs::write(out, sink.0.take())?;
    }
    Ok(())
}

/// The checkpoint that these bytes are.
fn open(bytes: Vec<u8>, config: Option<Map<String, Value>>) -> Result<Checkpoint> {
    let choice = Choice { config: config.as_ref(), path: None, is_model: &is_model, fit: &fit };
    let index = open_with(&bytes, &choice)?;
    let file_bytes = bytes.len() as u64;
    let spec = infer(&index, &Hints { config, set: Map::new(), file_bytes })?;
    Ok(Checkpoint { source: Rc::new(bytes), index: Rc::new(index), spec })
}

fn load(of: &Checkpoint) -> Result<Model> {
    let load = Load::new(Cpu, of.source.clone(), of.index.clone(), of.spec.clone())?;
    Ok(pollster::block_on(job::run(load, |_| ()))?)
}

/// The bytes that a recipe makes of a checkpoint.
fn follow(of: &Checkpoint, recipe: &Recipe, model: &Model, text: &[u32]) -> Result<Vec<u8>> {
    let read = recipe.needs_calibration().then(|| Calibration::new(model, text));
    let sink = Collected::default();
    let follow =
        Follow::new(of.clone(), recipe, Box::new(sink.clone()), clock, read, &Begun::default(), Work::Whole)?;
    pollster::block_on(job::run(follow, |_| ()))?;
    Ok(sink.0.take())
}

/// Written bytes.
#[derive(Clone, Default)]
struct Collected(Rc<std::cell::RefCell<Vec<u8>>>);

impl Sink for Collected {
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<(), SourceError> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
}

/// A built-in recipe, or one in a file.
fn recipe(name: &str) -> Result<Recipe> {
    match std::fs::read_to_string(name) {
        Ok(text) => Ok(Recipe::from_json(&text)?),
        Err(_) => Ok(find(name)?),
    }
}

fn ids(path: &str) -> Result<Vec<u32>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair).into()).collect())
}

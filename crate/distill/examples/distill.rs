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

use statepress_core::{Index, Recipe, Sink, Source, job, source::SourceError};
use statepress_distill::{
    Device, Mixture, Objective, Teacher, Train, TrainOptions, Trainable, Trains, trained_checkpoint,
};
use statepress_engine::families::{Hints, ModelSpec, fit, infer, is_model};
use statepress_engine::models::{Cpu, Load, Model};
use statepress_engine::techniques::compress::Compress;
use statepress_engine::techniques::find;
use statepress_engine::techniques::follow::Follow;
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
    let teacher = Checkpoint::open(std::fs::read(folder.join("model.safetensors"))?, Some(config))?;
    let (text, held_out) = (ids(path("text")?)?, ids(path("held-out")?)?);
    let model = teacher.model()?;
    let student = match given.get("student") {
        Some(path) => Checkpoint::open(std::fs::read(path)?, None)?,
        None => Checkpoint::open(teacher.follow(&recipe(path("recipe")?)?, &model, &text)?, None)?,
    };
    let device = match given.get("device").map(String::as_str) {
        None | Some("flex") => Device::Flex,
        Some("ndarray") => Device::NdArray,
        Some(other) => return Err(format!("--device is {other}; there are: flex, ndarray").into()),
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
    let trainable = Trainable::load(&*student.source, &student.index, &student.spec, device)?;
    let numbers: usize = trainable.keys().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    println!("{numbers} parameters, {} bytes, on {}", student.source.len(), device.name());

    let (offset, trains) = (student.spec.offset, options.trains);
    let teacher = match given.contains_key("packed") {
        true => Teacher::Packed(model),
        false => Teacher::Numbers(Trainable::load(&*teacher.source, &teacher.index, &teacher.spec, device)?),
    };
    let mut run =
        Train::new(trainable, Some(teacher), (&text, &held_out[..most]), offset, options.clone(), clock)?;
    let mut shown = 0;
    let trained = pollster::block_on(async {
        use statepress_core::job::Job;
        while run.step().await?.is_some() {
            for point in &run.curve()[shown..] {
                let tokens = point.step * options.batch * options.window;
                println!(
                    "step {:5}  {:7.1} s  loss {:7.4}  held out {:.4}, perplexity {:.2}  {:.0} tokens/s",
                    point.step,
                    point.seconds,
                    point.loss.unwrap_or(f64::NAN),
                    point.held_out,
                    point.held_out.exp(),
                    tokens as f64 / point.seconds.max(1e-9)
                );
                shown += 1;
            }
        }
        run.finish()
    })?;
    println!("{:?}; best at step {}: {:.2}", trained.stopped, trained.best.step, trained.best.held_out.exp());
    if let Some(out) = given.get("out") {
        let of = (student.source.clone(), &*student.index, &student.spec);
        let (source, index) = pollster::block_on(trained_checkpoint(&trained.model, trains, of))?;
        let sink = Collected::default();
        let none = find("none")?;
        let write =
            Compress::new(source, Rc::new(index), &student.spec, &none, Box::new(sink.clone()), clock, None)?;
        pollster::block_on(job::run(write, |_| ()))?;
        std::fs::write(out, sink.0.take())?;
    }
    Ok(())
}

struct Checkpoint {
    source: Rc<dyn Source>,
    index: Rc<Index>,
    spec: ModelSpec,
}

impl Checkpoint {
    fn open(bytes: Vec<u8>, config: Option<serde_json::Map<String, serde_json::Value>>) -> Result<Self> {
        let choice = Choice { config: config.as_ref(), path: None, is_model: &is_model, fit: &fit };
        let index = open_with(&bytes, &choice)?;
        let file_bytes = bytes.len() as u64;
        let spec = infer(&index, &Hints { config, set: serde_json::Map::new(), file_bytes })?;
        Ok(Self { source: Rc::new(bytes), index: Rc::new(index), spec })
    }

    fn model(&self) -> Result<Model> {
        let load = Load::new(Cpu, self.source.clone(), self.index.clone(), self.spec.clone())?;
        Ok(pollster::block_on(job::run(load, |_| ()))?)
    }

    /// The bytes that a recipe makes of it.
    fn follow(&self, recipe: &Recipe, model: &Model, text: &[u32]) -> Result<Vec<u8>> {
        let read = recipe.needs_calibration().then_some((model, text));
        let sink = Collected::default();
        let (source, index) = (self.source.clone(), self.index.clone());
        let follow = Follow::new(source, index, &self.spec, recipe, Box::new(sink.clone()), clock, read)?;
        pollster::block_on(job::run(follow, |_| ()))?;
        Ok(sink.0.take())
    }
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

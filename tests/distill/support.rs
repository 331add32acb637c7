//! Checkpoints opened as the product does, and what PyTorch computes of them.

#[path = "../support/golden.rs"]
pub mod golden;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::source::SourceError;
use statepress_core::{Index, Recipe, Sink, Source, job};
use statepress_distill::{Device, Trainable};
use statepress_engine::calibrate::Calibration;
use statepress_engine::families::{Hints, ModelSpec, fit, infer, is_model};
use statepress_engine::models::{Cpu, Load, Model, sequence_logits};
use statepress_engine::techniques::Checkpoint;
use statepress_engine::techniques::follow::{Begun, Follow};
use statepress_engine::techniques::shares::Work;
use statepress_formats::{Choice, open_with};

/// A checkpoint in memory, and what it is.
#[derive(Clone)]
pub struct Opened {
    /// Its bytes.
    pub source: Rc<dyn Source>,
    /// Its tensors.
    pub index: Rc<Index>,
    /// Its model.
    pub spec: ModelSpec,
}

impl Opened {
    /// The checkpoint that these bytes are, with a configuration beside it and values for what it does not say.
    pub fn new(bytes: Vec<u8>, config: Option<Map<String, Value>>, set: &[(&str, u64)]) -> Self {
        let choice = Choice { config: config.as_ref(), path: None, is_model: &is_model, fit: &fit };
        let index = open_with(&bytes, &choice).unwrap();
        let set = set.iter().map(|(name, value)| ((*name).to_string(), (*value).into())).collect();
        let file_bytes = bytes.len() as u64;
        let spec = infer(&index, &Hints { config, set, file_bytes }).unwrap();
        Self { source: Rc::new(bytes), index: Rc::new(index), spec }
    }

    /// The checkpoint in a file.
    pub fn file(path: &Path, set: &[(&str, u64)]) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::new(bytes, None, set)
    }

    /// The weights in a folder, with the configuration beside them.
    pub fn folder(folder: &Path) -> Self {
        let names = ["model.safetensors", "pytorch_model.bin", "model.pth"];
        let weights = names.iter().map(|name| folder.join(name)).find(|path| path.exists());
        let weights = weights.unwrap_or_else(|| panic!("{}: no weights", folder.display()));
        // Python writes a bare word that JSON has not.
        let config = std::fs::read_to_string(folder.join("config.json")).ok().map(|text| {
            serde_json::from_str(&text.replace(" Infinity", r#" {"__float__": "Infinity"}"#)).unwrap()
        });
        Self::new(std::fs::read(weights).unwrap(), config, &[])
    }

    /// As the engine runs it.
    pub fn engine(&self) -> Model {
        let load = Load::new(Cpu, self.source.clone(), self.index.clone(), self.spec.clone()).unwrap();
        pollster::block_on(job::run(load, |_| ())).unwrap()
    }

    /// The file that a recipe makes of it, which reads no text.
    pub fn written(&self, recipe: &Recipe) -> Vec<u8> {
        self.written_by(recipe, None)
    }

    /// The file that a recipe makes of it, which reads a text where it needs one.
    pub fn written_reading(&self, recipe: &Recipe, ids: &[u32]) -> Vec<u8> {
        let model = self.engine();
        self.written_by(recipe, recipe.needs_calibration().then(|| Calibration::new(&model, ids)))
    }

    fn written_by(&self, recipe: &Recipe, read: Option<Calibration<'_>>) -> Vec<u8> {
        let (sink, bytes) = Written::new();
        let of = self.checkpoint();
        let follow =
            Follow::new(of, recipe, Box::new(sink), || 0.0, read, &Begun::default(), Work::Whole).unwrap();
        pollster::block_on(job::run(follow, |_| ())).unwrap();
        bytes.take()
    }

    /// As a step of a recipe has it.
    pub fn checkpoint(&self) -> Checkpoint {
        let Self { source, index, spec } = self.clone();
        Checkpoint { source, index, spec }
    }

    /// As it can be trained.
    pub fn trainable(&self, device: Device) -> Trainable {
        Trainable::load(&*self.source, &self.index, &self.spec, device).unwrap()
    }
}

/// Where a file is written to.
pub struct Written(Rc<RefCell<Vec<u8>>>);

impl Written {
    /// It, and the bytes that are written.
    pub fn new() -> (Self, Rc<RefCell<Vec<u8>>>) {
        let bytes = Rc::default();
        (Self(Rc::clone(&bytes)), bytes)
    }
}

impl Sink for Written {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
}

/// The engine's logits of a sequence.
pub fn engine_logits(model: &Model, ids: &[u32]) -> Vec<f32> {
    pollster::block_on(sequence_logits(model, ids)).unwrap()
}

/// A file that ships with the tests.
pub fn fixture(path: &str) -> PathBuf {
    let path = root().join("tests/fixtures").join(path);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A text that can be learned, of ids of 50, such as the fixtures have: four in a row, in one of five orders.
pub fn text(len: usize, seed: u64) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ids = Vec::new();
    while ids.len() < len {
        let first = 10 * random.u32(0..5);
        ids.extend([first, first + 3, first + 1, first + 7]);
    }
    ids.truncate(len);
    ids
}

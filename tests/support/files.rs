//! Where test data is: fixtures in the repository, and larger checkpoints beside it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use statepress::report::Fisher;
use statepress::{Checkpoint, FileSource, Model, OpenOptions};

/// A file that ships with the tests.
pub fn fixture(path: &str) -> PathBuf {
    let path = root().join("tests/fixtures").join(path);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// The demo checkpoint's folder.
pub fn demo() -> PathBuf {
    root().join("examples/demo/itera-tiny")
}

/// The demo's text in the demo's tokens.
pub fn heldout_ids() -> Vec<u32> {
    let bytes = std::fs::read(fixture("tokenizers/heldout.bpe8000.u16.bin")).unwrap();
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into()).collect()
}

/// A file of the data folder beside the repository (or in `STATEPRESS_SHARED`): checkpoints too
/// large to ship. `None` when this machine has none; the caller says so.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("STATEPRESS_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = folder.join(path);
    let found = path.exists();
    if !found {
        eprintln!("not checked: {path:?} is not on this machine");
    }
    found.then_some(path)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Opens a checkpoint with `--set` options given as `field=number`.
pub fn open(path: &Path, set: &[(&str, u64)]) -> Checkpoint {
    let set = set.iter().map(|(name, value)| ((*name).to_string(), (*value).into())).collect();
    let options = OpenOptions { set, ..OpenOptions::default() };
    let source = FileSource::open(path).unwrap();
    Checkpoint::open(source, options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Opens the weights in a folder, with the configuration beside them.
pub fn open_folder(folder: &Path) -> Checkpoint {
    let names = ["model.safetensors", "pytorch_model.bin", "model.pth"];
    let weights = names.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let weights = weights.unwrap_or_else(|| panic!("{}: no weights", folder.display()));
    let mut options = OpenOptions::default();
    if let Ok(text) = std::fs::read_to_string(folder.join("config.json")) {
        options = options.config_text(&text);
    }
    let source = FileSource::open(weights).unwrap();
    Checkpoint::open(source, options).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

/// Reads what takes gradients to know of a model, as JSON.
pub fn gradients(path: &str) -> Rc<Fisher> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Rc::new(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// Opens and loads a checkpoint.
pub fn load(path: &Path, set: &[(&str, u64)]) -> Model {
    open(path, set).model().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

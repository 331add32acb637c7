//! Checkpoints of the fixtures, changed: other shapes, other keys.

use std::path::Path;

use serde_json::{Map, Value, json};
use statepress::{Checkpoint, recipes, run};

use crate::files::{open, open_folder};

/// A tensor as a safetensors file has it.
#[derive(Clone)]
pub struct Stored {
    /// Its key.
    pub name: String,
    /// `F32`, `F16`, `BF16`, `I64`, `I32` or `I8`.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers. They are repeated or left out as another shape demands.
    pub bytes: Vec<u8>,
}

/// The tensors of a safetensors file, to be changed.
#[derive(Clone)]
pub struct Edit(pub Vec<Stored>);

impl Edit {
    /// The weights in a folder, whatever their container.
    pub fn folder(folder: &Path) -> Self {
        Self::of(&open_folder(folder))
    }

    /// The weights of a file, whatever its container.
    pub fn file(path: &Path) -> Self {
        Self::of(&open(path, &[]))
    }

    fn of(checkpoint: &Checkpoint) -> Self {
        let (job, bytes) = checkpoint.compress_to_memory(&recipes::find("none").unwrap()).unwrap();
        run(job, |_| {}).unwrap();
        Self::read(&bytes.take())
    }

    /// A safetensors file as it is.
    pub fn read(bytes: &[u8]) -> Self {
        let (length, rest) = bytes.split_at(8);
        let (head, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
        let head: Map<String, Value> = serde_json::from_slice(head).unwrap();
        let tensors = head.iter().filter(|(name, _)| *name != "__metadata__").map(|(name, about)| {
            let numbers = |field: &str| -> Vec<usize> {
                about[field].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
            };
            let at = numbers("data_offsets");
            let dtype = about["dtype"].as_str().unwrap().to_string();
            Stored { name: name.clone(), dtype, shape: numbers("shape"), bytes: data[at[0]..at[1]].to_vec() }
        });
        Self(tensors.collect())
    }

    /// A tensor.
    pub fn tensor(&mut self, name: &str) -> &mut Stored {
        self.0.iter_mut().find(|stored| stored.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The file, without a configuration.
    pub fn write(&self) -> Vec<u8> {
        let (mut head, mut data) = (Map::new(), Vec::new());
        for Stored { name, dtype, shape, bytes } in &self.0 {
            let size = match dtype.as_str() {
                "I64" => 8,
                "F32" | "I32" => 4,
                "I8" => 1,
                _ => 2,
            };
            let wanted = shape.iter().product::<usize>() * size;
            let from = data.len();
            if bytes.is_empty() {
                data.resize(from + wanted, 0);
            } else {
                data.extend(bytes.iter().cycle().take(wanted));
            }
            let about = json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, data.len()] });
            head.insert(name.clone(), about);
        }
        let head = serde_json::to_vec(&head).unwrap();
        [&(head.len() as u64).to_le_bytes()[..], &head, &data].concat()
    }
}

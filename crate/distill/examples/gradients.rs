//! Takes what the compressor wants to know of a model by gradients, natively, and writes it as JSON.
//!
//! ```sh
//! cargo run -p statepress-distill --example gradients -- DIR train.u16.bin gradients.json [WINDOWS]
//! ```
//!
//! `DIR` has `model.safetensors` and `config.json`; ids are little-endian u16.

use std::error::Error;
use std::path::Path;
use std::rc::Rc;

use statepress_core::job;
use statepress_distill::{Device, FisherOptions, TakeFisher, Trainable};
use statepress_engine::families::{Hints, fit, infer, is_model};
use statepress_formats::{Choice, open_with};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, text, out, windows @ ..] = words.as_slice() else {
        return Err("see the head of this file".into());
    };
    let folder = Path::new(folder);
    let bytes = Rc::new(std::fs::read(folder.join("model.safetensors"))?);
    let config = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
    let choice = Choice { config: Some(&config), path: None, is_model: &is_model, fit: &fit };
    let index = open_with(&*bytes, &choice)?;
    let hints = Hints { config: Some(config), file_bytes: bytes.len() as u64, ..Hints::default() };
    let spec = infer(&index, &hints)?;
    let model = Trainable::load(&*bytes, &index, &spec, Device::Flex)?;
    let ids = std::fs::read(text)?;
    let ids: Vec<u32> = ids.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair).into()).collect();
    let mut options = FisherOptions::default();
    if let Some(windows) = windows.first() {
        options.sample.windows = windows.parse()?;
    }
    let started = std::time::Instant::now();
    let job = TakeFisher::new(model, &ids, &options)?;
    let fisher = pollster::block_on(job::run(job, |_| ()))?;
    println!("{} tokens in {:.1} s", fisher.tokens, started.elapsed().as_secs_f64());
    std::fs::write(out, serde_json::to_vec(&fisher)?)?;
    Ok(())
}

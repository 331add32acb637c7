//! GPUs for the tests. A machine without one fails them: a software adapter (lavapipe, SwiftShader)
//! will do, and `pkg-scripts/setup gpu` installs one.

use pollster::block_on;
use statepress::{
    Checkpoint, Generate, GenerateOptions, Gpu, GpuOptions, Loaded, Model, OpenOptions, Recipe, run,
};

use crate::files::{demo, open};

/// A GPU.
pub fn open_gpu(options: GpuOptions) -> Gpu {
    block_on(Gpu::open(options)).expect("a GPU, be it a software one: pkg-scripts/setup gpu installs one")
}

/// The model of a checkpoint on a GPU.
pub fn on(gpu: &Gpu, checkpoint: &Checkpoint) -> Model<Gpu> {
    run(checkpoint.load_into(gpu.clone()).unwrap(), |_| {}).unwrap()
}

/// itera-tiny.
pub fn demo_checkpoint() -> Checkpoint {
    open(&demo().join("model.safetensors"), &[])
}

/// What a recipe makes of a checkpoint, opened from the produced bytes.
pub fn compressed(base: &Checkpoint, recipe: &Recipe) -> Checkpoint {
    let (job, bytes) = base.compress_to_memory(recipe).unwrap();
    run(job, |_| {}).unwrap();
    Checkpoint::open(bytes.take(), OpenOptions::default()).unwrap()
}

/// A prompt and the likeliest tokens after it, made in steps of different lengths.
pub fn greedy(model: &impl Loaded, prompt: &[u32], count: usize) -> Vec<u32> {
    let options = GenerateOptions { max_tokens: count, ..GenerateOptions::default() };
    let mut generate = Generate::new(model, prompt, options).unwrap();
    let mut ids = prompt.to_vec();
    loop {
        let tokens = block_on(generate.step(1 + ids.len() % 7)).unwrap();
        if tokens.is_empty() {
            return ids;
        }
        ids.extend(tokens.iter().map(|token| token.id));
    }
}

/// Seconds.
pub fn clock() -> fn() -> f64 {
    statepress::Clock::default().seconds()
}

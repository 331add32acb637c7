//! GPUs for the tests. A machine without one fails them: a software adapter (lavapipe, SwiftShader)
//! will do, and `pkg-scripts/setup gpu` installs one.

use pollster::block_on;
use statepress::{
    Checkpoint, Generate, GenerateOptions, Gpu, GpuOptions, Loaded, Model, OpenOptions, Recipe, Runner, run,
};

use statepress_gpu::One;
use statepress_kernels::shaders::{Block, Control, Kernel};

use crate::files::{demo, open};

/// A GPU.
pub fn open_gpu(options: GpuOptions) -> Gpu {
    block_on(Gpu::open(options)).expect("a GPU, be it a software one: pkg-scripts/setup gpu installs one")
}

/// GPUs for both ways of summing over lanes, where the adapter has them.
pub fn gpus() -> Vec<Gpu> {
    let plain = open_gpu(GpuOptions::default());
    let has = plain.adapter().features.iter().any(|feature| feature == "subgroups");
    let mut gpus = vec![plain];
    gpus.extend(has.then(|| open_gpu(GpuOptions { subgroups: true, ..GpuOptions::default() })));
    gpus
}

/// The memory of a dispatch of `n` tokens.
pub fn tokens(n: usize) -> One {
    let mut one = One::default();
    one.control = Control { n: n as u32, capacity: n as u32, ..Control::default() };
    one.ids = vec![0; 6 * n];
    one
}

/// One dispatch.
pub fn dispatch(
    gpu: &Gpu,
    one: &mut One,
    kernel: Kernel,
    overrides: &'static [&'static str],
    params: &impl Block,
    groups: [usize; 3],
) {
    let groups = groups.map(|count| count as u32);
    block_on(one.dispatch(gpu, kernel, overrides, params, groups)).unwrap();
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

/// Logits of a sequence that the model takes in `step` tokens at a time.
pub fn logits_in_steps(model: &impl Loaded, ids: &[u32], step: usize) -> Vec<f32> {
    block_on(async {
        let mut runner = model.runner(true).unwrap();
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        for ids in ids.chunks(step) {
            runner.forward(ids, None).await.unwrap();
            runner.logits(0..ids.len(), &mut rows).await.unwrap();
            all.extend_from_slice(&rows);
        }
        all
    })
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

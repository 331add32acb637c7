//! What a token costs on the GPU: `explain`, which counts dispatches as they are recorded, against
//! arithmetic over shapes and widths that knows nothing of kernels.

use statepress::report::TensorReport;
use statepress::{Explained, GpuOptions, explain, recipes};
use statepress_tests::gpu::{compressed, demo_checkpoint, on, open_gpu};

/// Sizes of itera-tiny.
const LAYERS: u64 = 4;
const D: u64 = 128;
const INNER: u64 = 256;
const STATES: u64 = 8;
const TAPS: u64 = 4;
const VOCAB: u64 = 8000;
const EXPERTS: u64 = 4;
const TOP_K: u64 = 2;

/// Bytes of a matrix as the built-in recipes store it: widths of codes, and of scales.
fn packed(tensor: &TensorReport) -> u64 {
    let numbers: u64 = tensor.shape.iter().map(|&dim| dim as u64).product();
    let blocks = numbers.div_ceil(64);
    match &*tensor.dtype {
        "F32" => 4 * numbers,
        "F16" | "BF16" => 2 * numbers,
        "INT8" => numbers + 4 * tensor.shape[0] as u64,
        "INT4" => numbers / 2 + 2 * numbers / 32,
        // An 8-bit absmax a block, an absmax for 256 of those, and their mean.
        "NF4" => numbers / 2 + blocks + 4 * blocks.div_ceil(256) + 4,
        other => panic!("{}: no recipe makes {other}", tensor.name),
    }
}

/// Bytes of weights that one token needs.
fn weights(tensors: &[TensorReport]) -> u64 {
    let bytes = tensors.iter().filter(|tensor| !tensor.buffer && tensor.tied_to.is_none()).map(|tensor| {
        let rows = tensor.shape[0] as u64;
        match &*tensor.name {
            // A row of it goes in, and all of it gives the logits.
            "embedding.weight" => packed(tensor) + packed(tensor) / rows,
            "position_embedding.weight" => packed(tensor) / rows,
            name if name.contains(".experts.") => packed(tensor) * TOP_K / EXPERTS,
            // Vectors run in f32, however they are stored.
            _ if tensor.shape.len() != 2 => 4 * tensor.params,
            _ => packed(tensor),
        }
    });
    bytes.sum()
}

/// Numbers that the steps of one token hand to each other, or keep for the next token.
fn activations() -> u64 {
    let projection = D + 2 * INNER;
    let remembered = (TAPS - 1) * INNER + STATES;
    // What is brought up to date is read and written.
    let ssm = 2 * INNER + 2 * remembered + 2 * D;
    let mixer = 2 * D;
    let head = D + VOCAB;
    // The logits and a random number; the token and its probability.
    let sample = VOCAB + 1 + 2;
    D + LAYERS * (projection + ssm + mixer) + head + sample
}

fn sum(rows: &[Explained], of: impl Fn(&Explained) -> u64) -> u64 {
    rows.iter().map(of).sum()
}

#[test]
fn a_token_of_every_recipe_moves_what_its_arithmetic_says() {
    let gpu = open_gpu(GpuOptions::default());
    let base = demo_checkpoint();
    let mut checked = 0;
    for recipe in recipes::builtin().unwrap() {
        let compressed = compressed(&base, &recipe);
        let rows = explain(on(&gpu, &compressed).network());
        let dispatches: usize = rows.iter().map(|row| row.dispatches).sum();
        let found = (sum(&rows, |row| row.weights), sum(&rows, |row| row.activations));
        eprintln!("{}: {dispatches} dispatches, {} + {} bytes", recipe.name, found.0, found.1);
        assert_eq!(dispatches as u64, 3 * LAYERS + 3, "{}: {rows:?}", recipe.name);
        let expected = (weights(&compressed.inspection().tensors), 4 * activations());
        assert_eq!(found, expected, "{}: {rows:?}", recipe.name);
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} recipes");
}

/// Op by op there are more dispatches, over the very same weights.
#[test]
fn what_is_not_fused_reads_the_same_weights() {
    let base = demo_checkpoint();
    let [fused, apart] = [false, true].map(|op_by_op| {
        let gpu = open_gpu(GpuOptions { op_by_op, ..GpuOptions::default() });
        explain(on(&gpu, &base).network())
    });
    assert_eq!(sum(&apart, |row| row.weights), sum(&fused, |row| row.weights), "{apart:?}");
    assert!(sum(&apart, |row| row.dispatches as u64) > sum(&fused, |row| row.dispatches as u64));
    assert!(sum(&apart, |row| row.activations) > sum(&fused, |row| row.activations), "{apart:?}");
}

// What every kernel has: its parameters, the memory of a sequence, the model's constants.

const THREADS = 256u;

// In the place of something that is not there.
const NONE = 0xffffffffu;

// A matrix [rows, cols] as stored: rows are padded to whole eights. A bank is several of one
// shape and precision, one after the other.
struct Matrix {
    rows: u32,
    cols: u32,
    // ceil(cols / 8)
    eights: u32,
    // Where the scales begin in `constants`, in words.
    scales: u32,
    // Numbers per scale; INT8 has one scale a row (block = cols), or one in all (block = 0).
    block: u32,
    // 1: no eight lies across two blocks.
    even: u32,
    // Scales of one matrix of a bank.
    bank_scales: u32,
    // Double quantization: where offset, table and nested absmax begin, in words.
    nested: u32,
}

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Rows of a part of a wider buffer: row t begins at `x + t * y` in `memory`. No struct, because a
// struct takes sixteen bytes of a uniform block.
alias Rows = vec2<u32>;

struct Norm {
    // [d], in `constants`; NONE: ones.
    weight: u32,
    // [d], in `constants`; NONE: this is RMSNorm, which takes no mean and adds nothing.
    bias: u32,
    eps: f32,
    d: u32,
}

// What changes from step to step.
struct Control {
    // Of the first token of this step.
    position: u32,
    // Tokens, or rows of logits, of this step.
    n: u32,
    // First row of the residual stream that logits are wanted of.
    row: u32,
    // Kept logits that were sampled last, and that the next ones replace.
    slot: u32,
    // Tokens sampled so far in this sequence.
    step: u32,
    // Tokens sampled in this submission.
    draw: u32,
    // Position of the first token of this submission.
    first: u32,
    // Tokens that fit into a step.
    capacity: u32,
    // [capacity] ids to take in, [capacity] ids that were sampled, [4, capacity] labels.
    ids: array<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> memory: array<f32>;
@group(0) @binding(2) var<storage, CONTROL_ACCESS> control: Control;
@group(0) @binding(3) var<storage, read> constants: array<u32>;

fn row_at(rows: Rows, t: u32) -> u32 {
    return rows.x + t * rows.y;
}

fn constant(i: u32) -> f32 {
    return bitcast<f32>(constants[i]);
}

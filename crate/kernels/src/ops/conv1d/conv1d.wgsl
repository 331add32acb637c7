// import: advance, causal, functions

// Causal depthwise convolution of n tokens: a thread per channel and token.

struct Params {
    // [n, D]
    x: Rows,
    // [n, D]
    y: Rows,
    // [k - 1, D]: the inputs before the first.
    tail: u32,
    // [k, D], in `constants`; the last tap multiplies the current input.
    taps: u32,
    // [D], in `constants`, or NONE.
    bias: u32,
    inner: u32,
    k: u32,
}

// SiLU of it.
override SILU: bool = false;
// Of one token: its input becomes the last of the tail.
override ADVANCE: bool = false;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    if (i >= params.inner || t >= control.n) {
        return;
    }
    var y = causal(params.x, params.tail, params.taps, params.bias, params.inner, params.k, t, i);
    if (SILU) {
        y = silu(y);
    }
    memory[row_at(params.y, t) + i] = y;
    if (ADVANCE) {
        advance(params.x, params.tail, params.inner, params.k, i);
    }
}

// Causal depthwise convolution, then SiLU, of n tokens: a thread per channel and token.

struct Params {
    // [n, 2 D]: the input is the first half.
    wide: u32,
    // [k - 1, D]: the inputs before the first.
    tail: u32,
    // [n, D]
    y: u32,
    // [k, D], in `constants`; the last tap multiplies the current input.
    taps: u32,
    // [D], in `constants`.
    bias: u32,
    inner: u32,
    k: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    let inner = params.inner;
    if (i >= inner || t >= control.n) {
        return;
    }
    let before = params.k - 1u;
    var sum = constant(params.bias + i);
    for (var j = 0u; j < params.k; j++) {
        // Row t + j of the tail followed by the inputs.
        let row = t + j;
        var x: f32;
        if (row < before) {
            x = memory[params.tail + row * inner + i];
        } else {
            x = memory[params.wide + (row - before) * 2u * inner + i];
        }
        sum += constant(params.taps + j * inner + i) * x;
    }
    memory[params.y + t * inner + i] = silu(sum);
}

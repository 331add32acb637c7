// Token t, channel i of a causal depthwise convolution: `tail` is the [k - 1, inner] inputs before
// those in x. In `constants`: taps [k, inner], the last of which multiplies the current input, and
// bias [inner] or NONE.

fn causal(x: Rows, tail: u32, taps: u32, bias: u32, inner: u32, k: u32, t: u32, i: u32) -> f32 {
    let before = k - 1u;
    var sum = 0.0;
    if (bias != NONE) {
        sum = constant(bias + i);
    }
    for (var j = 0u; j < k; j++) {
        // Row t + j of the tail followed by the inputs.
        let row = t + j;
        var v: f32;
        if (row < before) {
            v = memory[tail + row * inner + i];
        } else {
            v = memory[row_at(x, row - before) + i];
        }
        sum += constant(taps + j * inner + i) * v;
    }
    return sum;
}

// import: reduce

// LayerNorm or RMSNorm of a row, by a whole workgroup: mean and 1 / sqrt(var + eps) of d numbers.

fn norm_stats(norm: Norm, x: u32, thread: u32) -> vec2<f32> {
    var mean = 0.0;
    if (norm.bias != NONE) {
        var sum = 0.0;
        for (var i = thread; i < norm.d; i += THREADS) {
            sum += memory[x + i];
        }
        mean = run_sum(thread, sum, THREADS) / f32(norm.d);
    }
    var squares = 0.0;
    for (var i = thread; i < norm.d; i += THREADS) {
        let centred = memory[x + i] - mean;
        squares += centred * centred;
    }
    let variance = run_sum(thread, squares, THREADS) / f32(norm.d);
    return vec2(mean, 1.0 / sqrt(variance + norm.eps));
}

fn normed(norm: Norm, stats: vec2<f32>, i: u32, x: f32) -> f32 {
    var y = (x - stats.x) * stats.y;
    if (norm.weight != NONE) {
        y *= constant(norm.weight + i);
    }
    if (norm.bias != NONE) {
        y += constant(norm.bias + i);
    }
    return y;
}

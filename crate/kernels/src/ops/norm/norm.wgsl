// LayerNorm of a row, by a whole workgroup: mean and 1 / sqrt(var + eps) of d numbers.

fn norm_stats(norm: Norm, x: u32, thread: u32) -> vec2<f32> {
    var sum = 0.0;
    for (var i = thread; i < norm.d; i += THREADS) {
        sum += memory[x + i];
    }
    let mean = run_sum(thread, sum, THREADS) / f32(norm.d);
    var squares = 0.0;
    for (var i = thread; i < norm.d; i += THREADS) {
        let centred = memory[x + i] - mean;
        squares += centred * centred;
    }
    let variance = run_sum(thread, squares, THREADS) / f32(norm.d);
    return vec2(mean, 1.0 / sqrt(variance + norm.eps));
}

fn normed(norm: Norm, stats: vec2<f32>, i: u32, x: f32) -> f32 {
    return (x - stats.x) * stats.y * constant(norm.weight + i) + constant(norm.bias + i);
}

// import: causal, functions, norm, reduce

// An operand that is x, or x normalised, gated, convolved while it is loaded.

// Normalise x.
override NORM: bool = false;
// x SiLU(z z_scale). With NORM this is RMSNorm of runs of `norm.d` columns.
override GATED: bool = false;
// If GATED and NORM: normalise before the gate and not after it.
override NORM_FIRST: bool = false;
// SiLU of the causal convolution of x after its tail, which stays as it is.
override CONV: bool = false;

var<private> stats: vec2<f32>;
var<workgroup> group_scales: array<f32, MAX_NORM_GROUPS>;

fn gate_at(col: u32) -> f32 {
    return silu(memory[params.z + col] * params.z_scale);
}

// A column before the norm.
fn raw_at(x: u32, col: u32) -> f32 {
    if (CONV) {
        let inputs = Rows(x, 0u);
        let bias = params.conv_bias;
        return silu(causal(inputs, params.tail, params.taps, bias, params.w.cols, params.k, 0u, col));
    }
    let v = memory[x + col];
    if (GATED && !NORM_FIRST) {
        return v * gate_at(col);
    }
    return v;
}

// What has to be known of all of x.
fn prepare_operand(x: u32, thread: u32) {
    if (NORM && GATED) {
        let d = params.norm.d;
        for (var begin = 0u; begin < params.w.cols; begin += d) {
            var squares = 0.0;
            for (var i = thread; i < d; i += THREADS) {
                let v = raw_at(x, begin + i);
                squares += v * v;
            }
            let mean = run_sum(thread, squares, THREADS) / f32(d);
            if (thread == 0u) {
                group_scales[begin / d] = 1.0 / sqrt(mean + params.norm.eps);
            }
        }
        workgroupBarrier();
    } else if (NORM) {
        stats = norm_stats(params.norm, x, thread);
    }
}

fn operand_at(x: u32, col: u32) -> f32 {
    var v = raw_at(x, col);
    if (NORM) {
        if (GATED) {
            stats = vec2(0.0, group_scales[col / params.norm.d]);
        }
        v = normed(params.norm, stats, col, v);
    }
    if (GATED && NORM_FIRST) {
        v *= gate_at(col);
    }
    return v;
}

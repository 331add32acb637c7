// import: norm

// An operand that is x, or x normalised.

// x is the residual stream: normalise it first.
override NORM: bool = false;

var<private> stats: vec2<f32>;

// What has to be known of all of x.
fn prepare_operand(x: u32, thread: u32) {
    if (NORM) {
        stats = norm_stats(params.norm, x, thread);
    }
}

fn operand_at(x: u32, col: u32) -> f32 {
    let v = memory[x + col];
    if (NORM) {
        return normed(params.norm, stats, col, v);
    }
    return v;
}

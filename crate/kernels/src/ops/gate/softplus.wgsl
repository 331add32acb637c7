// import: step_size

// Step sizes of n tokens: a thread per number.

struct Params {
    // [n, width] each; y may be x.
    x: Rows,
    y: Rows,
    // [width], in `constants`, or NONE.
    bias: u32,
    least: f32,
    most: f32,
    width: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.width && id.y < control.n) {
        let x = memory[row_at(params.x, id.y) + id.x];
        memory[row_at(params.y, id.y) + id.x] = step_size(x, params.bias, params.least, params.most, id.x);
    }
}

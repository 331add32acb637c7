// The residual stream takes the experts' outputs, each with its share.

struct Params {
    // [n, d]
    hidden: u32,
    // [n k, d]
    outputs: u32,
    // [n, k]
    shares: u32,
    d: u32,
    top_k: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    if (i >= params.d || t >= control.n) {
        return;
    }
    var sum = 0.0;
    for (var slot = t * params.top_k; slot < (t + 1u) * params.top_k; slot++) {
        sum += memory[params.shares + slot] * memory[params.outputs + slot * params.d + i];
    }
    memory[params.hidden + t * params.d + i] += sum;
}

// import: rotation

// Norm and rotation of the queries and keys of n tokens, in place: a workgroup per head and token,
// query heads before those of keys.

struct Params {
    // [n, heads head]
    q: Rows,
    // [n, kv_heads head]
    k: Rows,
    heads: u32,
    // Values of a head.
    head: u32,
    // See rotation.wgsl.
    turns: u32,
    pairs: u32,
    rope_scale: f32,
    // Weights of norms, [head], in `constants`, or NONE.
    q_norm: u32,
    k_norm: u32,
    eps: f32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    var at = row_at(params.q, group.y) + group.x * params.head;
    var weight = params.q_norm;
    if (group.x >= params.heads) {
        at = row_at(params.k, group.y) + (group.x - params.heads) * params.head;
        weight = params.k_norm;
    }
    let x = rotated(at, weight, control.position + group.y, thread);
    if (thread < params.head) {
        memory[at + thread] = x;
    }
}

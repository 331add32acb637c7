// LayerNorm of n rows: a workgroup per row.

struct Params {
    norm: Norm,
    // [n, d]; from row `control.row` on.
    x: u32,
    // [n, d]
    y: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let d = params.norm.d;
    let x = params.x + (control.row + group.x) * d;
    let stats = norm_stats(params.norm, x, thread);
    for (var i = thread; i < d; i += THREADS) {
        memory[params.y + group.x * d + i] = normed(params.norm, stats, i, memory[x + i]);
    }
}

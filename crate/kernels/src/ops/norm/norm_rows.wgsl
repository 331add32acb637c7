// import: norm

// LayerNorm or RMSNorm of n rows: a workgroup per row.

struct Params {
    norm: Norm,
    // [n, d]; from row `control.row` on.
    x: Rows,
    // [n, d]; may be x.
    y: Rows,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let x = row_at(params.x, control.row + group.x);
    let y = row_at(params.y, group.x);
    let stats = norm_stats(params.norm, x, thread);
    for (var i = thread; i < params.norm.d; i += THREADS) {
        memory[y + i] = normed(params.norm, stats, i, memory[x + i]);
    }
}

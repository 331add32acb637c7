// import: functions, norm

// RMSNorm with a gate (Dao and Gu 2024, section 7): norm(x SiLU(z)), over groups of `norm.d`
// columns. A workgroup per group and row.

struct Params {
    // The weight is that of all groups.
    norm: Norm,
    // [n, groups d] each; y may be x or z.
    x: Rows,
    z: Rows,
    y: Rows,
    z_scale: f32,
}

// norm(x) SiLU(z)
override NORM_FIRST: bool = false;

fn gate_at(z: u32) -> f32 {
    return silu(memory[z] * params.z_scale);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let d = params.norm.d;
    let first = group.x * d;
    let x = row_at(params.x, group.y) + first;
    let z = row_at(params.z, group.y) + first;
    let y = row_at(params.y, group.y) + first;
    var squares = 0.0;
    for (var i = thread; i < d; i += THREADS) {
        var v = memory[x + i];
        if (!NORM_FIRST) {
            v *= gate_at(z + i);
        }
        squares += v * v;
    }
    let mean = run_sum(thread, squares, THREADS) / f32(d);
    let stats = vec2(0.0, 1.0 / sqrt(mean + params.norm.eps));
    for (var i = thread; i < d; i += THREADS) {
        let gate = gate_at(z + i);
        if (NORM_FIRST) {
            memory[y + i] = normed(params.norm, stats, first + i, memory[x + i]) * gate;
        } else {
            memory[y + i] = normed(params.norm, stats, first + i, memory[x + i] * gate);
        }
    }
}

// import: functions, reduce

// dt[t] = mean_i softplus(delta[t, i] + bias[i]): a workgroup per token.

struct Params {
    // [n, D]
    delta: u32,
    // [n]
    dt: u32,
    // [D], in `constants`.
    bias: u32,
    inner: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let t = group.x;
    var sum = 0.0;
    for (var i = thread; i < params.inner; i += THREADS) {
        sum += softplus(memory[params.delta + t * params.inner + i] + constant(params.bias + i));
    }
    let total = run_sum(thread, sum, THREADS);
    if (thread == 0u) {
        memory[params.dt + t] = total / f32(params.inner);
    }
}

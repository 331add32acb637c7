// import: advance

// The same recurrence over many positions at once (Blelloch 1990, section 1.4): a workgroup per
// state. h_t = p_t h_(t-1) + q_t is the map (p, q); maps compose to (p2 p1, p2 q1 + q2), and
// composing is associative. Each thread composes a run of positions, the workgroup composes the
// runs, and each thread goes over its run again from where the ones before it end.

// As in sequential.wgsl.
struct Params {
    x: Rows,
    dt: u32,
    bx: u32,
    h: u32,
    states: u32,
    a: u32,
    n_states: u32,
    tail: u32,
    inner: u32,
    k: u32,
}

var<workgroup> maps: array<vec2<f32>, THREADS>;

fn position_map(a: f32, state: u32, t: u32) -> vec2<f32> {
    let dt = memory[params.dt + t];
    return vec2(exp(dt * a), dt * memory[params.bx + t * params.n_states + state]);
}

// First `first`, then `second`.
fn compose(first: vec2<f32>, second: vec2<f32>) -> vec2<f32> {
    return vec2(second.x * first.x, second.x * first.y + second.y);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let state = group.x;
    let a = constant(params.a + state);
    let run = (control.n + THREADS - 1u) / THREADS;
    let begin = min(thread * run, control.n);
    let end = min(begin + run, control.n);
    var whole = vec2(1.0, 0.0);
    for (var t = begin; t < end; t++) {
        whole = compose(whole, position_map(a, state, t));
    }
    maps[thread] = whole;
    workgroupBarrier();
    for (var step = 1u; step < THREADS; step *= 2u) {
        var before = vec2(1.0, 0.0);
        if (thread >= step) {
            before = maps[thread - step];
        }
        workgroupBarrier();
        maps[thread] = compose(before, maps[thread]);
        workgroupBarrier();
    }
    let start = memory[params.h + state];
    var h = start;
    if (thread > 0u) {
        let before = maps[thread - 1u];
        h = before.x * start + before.y;
    }
    for (var t = begin; t < end; t++) {
        let map = position_map(a, state, t);
        h = map.x * h + map.y;
        memory[params.states + t * params.n_states + state] = h;
    }
    workgroupBarrier();
    storageBarrier();
    if (thread == 0u) {
        let end = maps[THREADS - 1u];
        memory[params.h + state] = end.x * start + end.y;
    }
    // Workgroups share the channels of the tail.
    for (var i = group.x * THREADS + thread; i < params.inner; i += params.n_states * THREADS) {
        advance(params.x, params.tail, params.inner, params.k, i);
    }
}

// import: advance, four, functions, step_size

// The scan of Mamba-2 (Dao and Gu 2024, section 3.1) of n tokens, one after the other:
//
//   h[i, s] = exp(dt[g] a[g]) h[i, s] + dt[g] u[i] b[s];  y[i] = sum_s h[i, s] c[s] + d u[i]
//
// where g is the head of channel i, and a group of heads shares b and c. A run of lanes per
// channel, each of which holds some of the states. They meet only after some tokens, so that there
// is no barrier for every token.

struct Params {
    // [n, heads head]
    u: Rows,
    // [n, groups N] each.
    b: Rows,
    c: Rows,
    // [n, heads]
    dt: Rows,
    // [n, heads head]
    y: Rows,
    // If ADVANCE: what the convolution took in, [n, conv].
    x: Rows,
    // [heads, head, N], brought up to date.
    h: u32,
    // [heads], in `constants`; negative.
    a: u32,
    // In `constants`: [heads], [heads head] if `d_per_channel` is 1; NONE: none.
    d: u32,
    d_per_channel: u32,
    // If SOFTPLUS: [heads], in `constants`, or NONE; limits of the step size.
    dt_bias: u32,
    dt_least: f32,
    dt_most: f32,
    heads: u32,
    // Channels of a head.
    head: u32,
    groups: u32,
    n_states: u32,
    // Threads to a channel, a power of two; LANE_STATES states each are enough for all.
    lanes: u32,
    // If ADVANCE: [k - 1, conv].
    tail: u32,
    conv: u32,
    k: u32,
}

// dt is what softplus is to make a step size of.
override SOFTPLUS: bool = false;
// Bring the convolution's tail up to date, which nobody reads any more in this step.
override ADVANCE: bool = false;

// Tokens after which lanes meet.
const BATCH = 8u;

// Each thread's part of y: [BATCH, THREADS].
var<workgroup> parts: array<f32, BATCH * THREADS>;

fn step_of(t: u32, head: u32) -> f32 {
    let dt = memory[row_at(params.dt, t) + head];
    if (SOFTPLUS) {
        return step_size(dt, params.dt_bias, params.dt_least, params.dt_most, head);
    }
    return dt;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lanes = params.lanes;
    let lane = thread & (lanes - 1u);
    // Channels of a workgroup.
    let across = THREADS / lanes;
    let channels = params.heads * params.head;
    let i = group.x * across + thread / lanes;
    let there = i < channels;
    let head = i / params.head;
    let n_states = params.n_states;
    let shared_at = head / (params.heads / params.groups) * n_states;
    var a = 0.0;
    // Neighbours hold neighbouring fours of states.
    var h: array<vec4<f32>, LANE_STATES / 4>;
    if (there) {
        a = constant(params.a + head);
        for (var q = 0u; q < LANE_STATESu / 4u; q++) {
            h[q] = four(params.h + i * n_states, 4u * (q * lanes + lane), n_states);
        }
    }
    for (var begin = 0u; begin < control.n; begin += BATCH) {
        let count = min(BATCH, control.n - begin);
        if (there) {
            for (var s = 0u; s < count; s++) {
                let t = begin + s;
                let dt = step_of(t, head);
                let decay = exp(dt * a);
                let drive = dt * memory[row_at(params.u, t) + i];
                let b = row_at(params.b, t) + shared_at;
                let c = row_at(params.c, t) + shared_at;
                var sum = vec4(0.0);
                for (var q = 0u; q < LANE_STATESu / 4u; q++) {
                    let state = 4u * (q * lanes + lane);
                    if (state < n_states) {
                        h[q] = decay * h[q] + drive * four(b, state, n_states);
                        sum += h[q] * four(c, state, n_states);
                    }
                }
                parts[s * THREADS + thread] = (sum.x + sum.y) + (sum.z + sum.w);
            }
        }
        workgroupBarrier();
        for (var out = thread; out < count * across; out += THREADS) {
            let s = out / across;
            let slot = out & (across - 1u);
            let channel = group.x * across + slot;
            if (channel < channels) {
                var y = 0.0;
                for (var other = 0u; other < lanes; other++) {
                    y += parts[s * THREADS + slot * lanes + other];
                }
                if (params.d != NONE) {
                    let d = params.d + select(channel / params.head, channel, params.d_per_channel == 1u);
                    y += constant(d) * memory[row_at(params.u, begin + s) + channel];
                }
                memory[row_at(params.y, begin + s) + channel] = y;
            }
        }
        workgroupBarrier();
    }
    if (there) {
        for (var q = 0u; q < LANE_STATESu / 4u; q++) {
            put_four(params.h + i * n_states, 4u * (q * lanes + lane), n_states, h[q]);
        }
    }
    if (ADVANCE) {
        // Workgroups share the channels of the tail.
        for (var j = group.x * THREADS + thread; j < params.conv; j += groups.x * THREADS) {
            advance(params.x, params.tail, params.conv, params.k, j);
        }
    }
}

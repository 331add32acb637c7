// import: advance, four, functions, step_size

// The selective scan (Gu and Dao 2023, algorithm 2) of n tokens, one after the other: a thread per
// channel, which holds sixteen of its states at a time.
//
//   h[i, s] = exp(dt[i] a[i, s]) h[i, s] + dt[i] u[i] b[s];  y[i] = sum_s h[i, s] c[s] + d[i] u[i]
//
// Channels are spread evenly over as many workgroups as there are, at the least one for every
// 256.

struct Params {
    // If DT_PROJ: [D, R].
    dt_proj: Matrix,
    // [n, D]
    u: Rows,
    // [n, N] each.
    b: Rows,
    c: Rows,
    // [n, D]; [n, R] if DT_PROJ.
    dt: Rows,
    // If GATE: [n, D].
    z: Rows,
    // [n, D]
    y: Rows,
    // If ADVANCE: what the convolution took in, [n, D].
    x: Rows,
    // [D, N], brought up to date.
    h: u32,
    // In `constants`: [D, N], negative; [D].
    a: u32,
    d: u32,
    // If SOFTPLUS: [D], in `constants`, or NONE; limits of the step size.
    dt_bias: u32,
    dt_least: f32,
    dt_most: f32,
    inner: u32,
    n_states: u32,
    // If ADVANCE: [k - 1, D].
    tail: u32,
    k: u32,
}

// dt is what softplus is to make a step size of.
override SOFTPLUS: bool = false;
// dt is what `dt_proj` is to be multiplied with.
override DT_PROJ: bool = false;
// y SiLU(z)
override GATE: bool = false;
// Bring the convolution's tail up to date, which nobody reads any more in this step.
override ADVANCE: bool = false;

fn step_of(t: u32, i: u32) -> f32 {
    let row = row_at(params.dt, t);
    var dt: f32;
    if (DT_PROJ) {
        let cols = params.dt_proj.cols;
        var sum = vec4(0.0);
        for (var e = 0u; e < params.dt_proj.eights; e++) {
            let w = dt_proj_eight(params.dt_proj, 0u, i, e);
            sum += w.low * four(row, 8u * e, cols) + w.high * four(row, 8u * e + 4u, cols);
        }
        dt = (sum.x + sum.y) + (sum.z + sum.w);
    } else {
        dt = memory[row + i];
    }
    if (SOFTPLUS) {
        dt = step_size(dt, params.dt_bias, params.dt_least, params.dt_most, i);
    }
    return dt;
}

fn scan_channel(i: u32) {
    let n_states = params.n_states;
    let h_at = params.h + i * n_states;
    for (var first = 0u; first < n_states; first += 16u) {
        var h: array<vec4<f32>, 4>;
        var a: array<vec4<f32>, 4>;
        for (var q = 0u; q < 4u; q++) {
            h[q] = four(h_at, first + 4u * q, n_states);
            for (var j = 0u; j < 4u; j++) {
                let s = first + 4u * q + j;
                if (s < n_states) {
                    a[q][j] = constant(params.a + i * n_states + s);
                }
            }
        }
        for (var t = 0u; t < control.n; t++) {
            let dt = step_of(t, i);
            let u = memory[row_at(params.u, t) + i];
            let b = row_at(params.b, t);
            let c = row_at(params.c, t);
            let drive = dt * u;
            var sum = vec4(0.0);
            for (var q = 0u; q < 4u && first + 4u * q < n_states; q++) {
                let s = first + 4u * q;
                h[q] = exp(dt * a[q]) * h[q] + drive * four(b, s, n_states);
                sum += h[q] * four(c, s, n_states);
            }
            let at = row_at(params.y, t) + i;
            var y = (sum.x + sum.y) + (sum.z + sum.w);
            if (first > 0u) {
                y += memory[at];
            }
            if (first + 16u >= n_states) {
                y += constant(params.d + i) * u;
                if (GATE) {
                    y *= silu(memory[row_at(params.z, t) + i]);
                }
            }
            memory[at] = y;
        }
        for (var q = 0u; q < 4u; q++) {
            put_four(h_at, first + 4u * q, n_states, h[q]);
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    prepare_tables(thread);
    workgroupBarrier();
    let each = (params.inner + groups.x - 1u) / groups.x;
    let i = group.x * each + thread;
    if (thread < each && i < params.inner) {
        scan_channel(i);
        if (ADVANCE) {
            advance(params.x, params.tail, params.inner, params.k, i);
        }
    }
}

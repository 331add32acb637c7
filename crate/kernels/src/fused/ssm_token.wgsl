// import: dot, functions, reduce

// The SSM block of Itera-Lite after its first projection, for one token, in one workgroup:
// convolution, step size, scan, gate, last projection, residual. For blocks so small that
// launching kernels would take longer than one workgroup needs; the others run op by op.

struct Params {
    // [D, D]
    delta: Matrix,
    // [N, D]
    b: Matrix,
    // [D, N]
    c: Matrix,
    // [d, D]
    proj: Matrix,
    // [2 D]: input and gate.
    xz: u32,
    // The residual stream, [d].
    hidden: u32,
    // [k - 1, D]
    tail: u32,
    // [N]
    h: u32,
    // In `constants`: [k, D], [D], [N], [D], [D].
    taps: u32,
    conv_bias: u32,
    a: u32,
    d: u32,
    delta_bias: u32,
    inner: u32,
    n_states: u32,
    k: u32,
    // Threads to a row, a power of two.
    lanes: u32,
}

// Room for `a` or `y`, [D], and behind it for h, [N]; each padded to whole eights with zeros.
const OPERAND = FUSED_OPERANDu;

var<workgroup> operand: array<vec4<f32>, OPERAND>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    prepare_tables(thread);
    let inner = params.inner;
    let lanes = params.lanes;
    let lane = thread & (lanes - 1u);
    let group = thread / lanes;
    let groups = THREADS / lanes;
    let states_at = 2u * params.delta.eights;

    // a = SiLU(conv(v) + bias), four channels at a time.
    for (var i = thread; i < states_at; i += THREADS) {
        var a = vec4(0.0);
        for (var j = 0u; j < 4u; j++) {
            let channel = 4u * i + j;
            if (channel < inner) {
                let v = memory[params.xz + channel];
                var sum = constant(params.conv_bias + channel);
                for (var tap = 0u; tap + 1u < params.k; tap++) {
                    let at = params.tail + tap * inner + channel;
                    sum += constant(params.taps + tap * inner + channel) * memory[at];
                    // The tail moves on.
                    if (tap > 0u) {
                        memory[at - inner] = memory[at];
                    }
                }
                sum += constant(params.taps + (params.k - 1u) * inner + channel) * v;
                if (params.k > 1u) {
                    memory[params.tail + (params.k - 2u) * inner + channel] = v;
                }
                a[j] = silu(sum);
            }
        }
        operand[i] = a;
    }
    for (var i = thread; i < 2u * params.c.eights; i += THREADS) {
        operand[states_at + i] = vec4(0.0);
    }
    workgroupBarrier();

    // dt = mean softplus(delta_proj a + bias)
    var steps = 0.0;
    for (var first = 0u; first < inner; first += groups) {
        let row = first + group;
        var sum = 0.0;
        if (row < inner) {
            sum = delta_dot(params.delta, 0u, row, 0u, params.delta.eights, 0u, lane, lanes);
        }
        sum = run_sum(thread, sum, lanes);
        if (row < inner && lane == 0u) {
            steps += softplus(sum + constant(params.delta_bias + row));
        }
    }
    let step = run_sum(thread, steps, THREADS) / f32(inner);

    // h = exp(dt A) h + dt (B a)
    for (var first = 0u; first < params.n_states; first += groups) {
        let row = first + group;
        var sum = 0.0;
        if (row < params.n_states) {
            sum = b_dot(params.b, 0u, row, 0u, params.b.eights, 0u, lane, lanes);
        }
        sum = run_sum(thread, sum, lanes);
        if (row < params.n_states && lane == 0u) {
            let h = exp(step * constant(params.a + row)) * memory[params.h + row] + step * sum;
            memory[params.h + row] = h;
        }
    }
    workgroupBarrier();
    storageBarrier();
    for (var i = thread; i < 2u * params.c.eights; i += THREADS) {
        var h = vec4(0.0);
        for (var j = 0u; j < 4u; j++) {
            if (4u * i + j < params.n_states) {
                h[j] = memory[params.h + 4u * i + j];
            }
        }
        operand[states_at + i] = h;
    }
    workgroupBarrier();

    // y = (C h + D a) SiLU(g), in the place of a.
    for (var i = thread; i < states_at; i += THREADS) {
        var y = vec4(0.0);
        let a = operand[i];
        for (var j = 0u; j < 4u; j++) {
            let row = 4u * i + j;
            if (row < inner) {
                let ch = c_dot(params.c, 0u, row, 0u, params.c.eights, states_at, 0u, 1u);
                let g = memory[params.xz + inner + row];
                y[j] = (ch + constant(params.d + row) * a[j]) * silu(g);
            }
        }
        operand[i] = y;
    }
    workgroupBarrier();

    // The residual stream takes out_proj y.
    for (var first = 0u; first < params.proj.rows; first += groups) {
        let row = first + group;
        var sum = 0.0;
        if (row < params.proj.rows) {
            sum = proj_dot(params.proj, 0u, row, 0u, params.proj.eights, 0u, lane, lanes);
        }
        sum = run_sum(thread, sum, lanes);
        if (row < params.proj.rows && lane == 0u) {
            memory[params.hidden + row] += sum;
        }
    }
}

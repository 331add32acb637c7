// import: advance

// h = exp(dt A) h + dt (B a) over n positions, one after the other: a thread per state. It also
// brings the convolution's tail up to date, which nobody reads any more in this step.

struct Params {
    // What the convolution takes in, [n, D].
    x: Rows,
    // [n]
    dt: u32,
    // B a, [n, N]
    bx: u32,
    // [N], brought up to date.
    h: u32,
    // [n, N]: h after each position.
    states: u32,
    // [N], in `constants`; negative.
    a: u32,
    n_states: u32,
    // [k - 1, D]
    tail: u32,
    inner: u32,
    k: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    let states = params.n_states;
    for (var s = thread; s < states; s += THREADS) {
        let a = constant(params.a + s);
        var h = memory[params.h + s];
        for (var t = 0u; t < control.n; t++) {
            let dt = memory[params.dt + t];
            h = exp(dt * a) * h + dt * memory[params.bx + t * states + s];
            memory[params.states + t * states + s] = h;
        }
        memory[params.h + s] = h;
    }
    for (var i = thread; i < params.inner; i += THREADS) {
        advance(params.x, params.tail, params.inner, params.k, i);
    }
}

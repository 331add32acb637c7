// import: advance

// The tail of a convolution takes the last inputs of a step in: a thread per channel.

struct Params {
    // What the convolution took in, [n, D].
    x: Rows,
    // [k - 1, D]
    tail: u32,
    inner: u32,
    k: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.inner) {
        advance(params.x, params.tail, params.inner, params.k, id.x);
    }
}

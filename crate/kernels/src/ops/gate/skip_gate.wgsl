// y = (y + d a) SiLU(g), for n tokens.

struct Params {
    // [n, D], in place.
    y: u32,
    // [n, D]: the input of the scan.
    a: u32,
    // [n, 2 D]: the gate is the second half.
    wide: u32,
    // [D], in `constants`.
    d: u32,
    inner: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    if (i >= params.inner || t >= control.n) {
        return;
    }
    let at = t * params.inner + i;
    let y = memory[params.y + at] + constant(params.d + i) * memory[params.a + at];
    memory[params.y + at] = y * silu(memory[params.wide + 2u * t * params.inner + params.inner + i]);
}

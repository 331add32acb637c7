// import: functions

// y = x SiLU(z z_scale), for n tokens: a thread per number.

struct Params {
    // [n slots, width] each; y may be x or z.
    x: Rows,
    z: Rows,
    y: Rows,
    // If SKIP: [n slots, width].
    a: Rows,
    // If SKIP: [width], in `constants`.
    d: u32,
    z_scale: f32,
    width: u32,
    // Rows to a token.
    slots: u32,
}

// (x + d a) in the place of x: the skip connection around a scan.
override SKIP: bool = false;
// No gate: what the skip connection gives.
override UNGATED: bool = false;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let t = id.y;
    if (i >= params.width || t >= control.n * params.slots) {
        return;
    }
    var x = memory[row_at(params.x, t) + i];
    if (SKIP) {
        x += constant(params.d + i) * memory[row_at(params.a, t) + i];
    }
    if (!UNGATED) {
        x *= silu(memory[row_at(params.z, t) + i] * params.z_scale);
    }
    memory[row_at(params.y, t) + i] = x;
}

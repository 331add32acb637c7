// import: activation

// An activation of n rows, in place: a thread per number.

struct Params {
    // [n slots, width]
    x: Rows,
    width: u32,
    // Rows to a token.
    slots: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.width && id.y < control.n * params.slots) {
        let at = row_at(params.x, id.y) + id.x;
        memory[at] = activated(memory[at]);
    }
}

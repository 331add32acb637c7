// Some columns of n rows become columns of others: a thread per number.

struct Params {
    // [n, width] each; of x from row `control.row` on.
    x: Rows,
    y: Rows,
    width: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.width && id.y < control.n) {
        memory[row_at(params.y, id.y) + id.x] = memory[row_at(params.x, control.row + id.y) + id.x];
    }
}

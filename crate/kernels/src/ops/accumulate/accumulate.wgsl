// What enters a matrix, as statistics of n rows: a thread per column, or per pair of columns.

struct Params {
    // [n, cols]
    x: Rows,
    // Sums of squares of columns, [cols]; all of X^T X, [cols, cols], if GRAM. Added to.
    sums: u32,
    cols: u32,
    // If ROUTED: where the number of an expert's slots stands, and where they are listed.
    counts: u32,
    lists: u32,
    // If ROUTED: slots to a row of x.
    slots: u32,
}

// Products of every two columns. A workgroup takes 16 by 16 of them.
override GRAM: bool = false;
// The rows of an expert's slots.
override ROUTED: bool = false;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var i = group.x * THREADS + thread;
    var j = i;
    var at = params.sums + i;
    if (GRAM) {
        i = group.y * 16u + thread / 16u;
        j = group.x * 16u + (thread & 15u);
        at = params.sums + i * params.cols + j;
    }
    if (i >= params.cols || j >= params.cols) {
        return;
    }
    var n = control.n;
    if (ROUTED) {
        n = u32(memory[params.counts]);
    }
    var sum = 0.0;
    for (var t = 0u; t < n; t++) {
        var at_row = t;
        if (ROUTED) {
            at_row = u32(memory[params.lists + t]) / params.slots;
        }
        let row = row_at(params.x, at_row);
        sum += memory[row + i] * memory[row + j];
    }
    memory[at] += sum;
}

// import: activation, affine, normed_operand

// One token: y = x W for a matrix stored [cols, rows], the transpose of what the others take: a
// thread takes eight columns of every `lanes`th row, so that neighbours read neighbours.

struct Params {
    // [cols, rows]: a row for each number of x, a column for each of y.
    w: Matrix,
    // Of x, if NORM.
    norm: Norm,
    affine: Affine,
    // [cols]
    x: u32,
    // [rows]
    y: u32,
    // Threads to eight columns, a power of two.
    lanes: u32,
}

// Add to y what is there.
override ADD: bool = false;

var<workgroup> low_sums: array<vec4<f32>, THREADS>;
var<workgroup> high_sums: array<vec4<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    prepare_tables(thread);
    prepare_operand(params.x, thread);
    workgroupBarrier();
    // Eights of columns of a workgroup.
    let across = THREADS / params.lanes;
    let first = (group.z * 65535u + group.x) * across;
    let i = first + (thread & (across - 1u));
    var low = vec4(0.0);
    var high = vec4(0.0);
    if (i < params.w.eights) {
        for (var row = thread / across; row < params.w.rows; row += params.lanes) {
            let w = w_eight(params.w, 0u, row, i);
            let x = operand_at(params.x, row);
            low += x * w.low;
            high += x * w.high;
        }
    }
    low_sums[thread] = low;
    high_sums[thread] = high;
    workgroupBarrier();
    for (var step = params.lanes / 2u; step > 0u; step /= 2u) {
        if (thread < step * across) {
            low_sums[thread] += low_sums[thread + step * across];
            high_sums[thread] += high_sums[thread + step * across];
        }
        workgroupBarrier();
    }
    for (var col = thread; col < 8u * across && 8u * first + col < params.w.cols; col += THREADS) {
        let row = 8u * first + col;
        let sum = select(low_sums[col / 8u][col & 3u], high_sums[col / 8u][col & 3u], (col & 4u) == 4u);
        var y = activated(scaled(params.affine, row, sum));
        if (ADD) {
            y += memory[params.y + row];
        }
        memory[params.y + row] = y;
    }
}

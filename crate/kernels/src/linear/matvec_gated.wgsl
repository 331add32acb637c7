// import: affine, functions, normed_operand, operand, product, reduce

// One token: y = SiLU(W_gate x) * (W_up x). A run of lanes per row. The two may be one matrix, of
// which each takes its part of the rows.

struct Params {
    // [gate_first + rows, cols] and [up_first + rows, cols], or more rows.
    gate: Matrix,
    up: Matrix,
    // Of x, if NORM.
    norm: Norm,
    gate_affine: Affine,
    up_affine: Affine,
    // [cols]
    x: u32,
    // [rows]
    y: u32,
    rows: u32,
    gate_first: u32,
    up_first: u32,
    // Threads to a row, a power of two.
    lanes: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    prepare_tables(thread);
    prepare_operand(params.x, thread);
    let lanes = params.lanes;
    let lane = thread & (lanes - 1u);
    // Rows beyond 65535 workgroups continue in the third dimension.
    let row = (group.z * 65535u + group.x) * (THREADS / lanes) + thread / lanes;
    let gate_row = params.gate_first + row;
    let up_row = params.up_first + row;
    var gate = 0.0;
    var up = 0.0;
    for (var begin = 0u; begin < params.gate.eights; begin += TILE) {
        let end = min(begin + TILE, params.gate.eights);
        load_operand(params.x, params.gate.cols, begin, thread);
        if (row < params.rows) {
            gate += gate_product(params.gate, 0u, gate_row, begin, end, lane, lanes);
            up += up_product(params.up, 0u, up_row, begin, end, lane, lanes);
        }
        workgroupBarrier();
    }
    gate = run_sum(thread, gate, lanes);
    up = run_sum(thread, up, lanes);
    if (lane == 0u && row < params.rows) {
        let open = silu(scaled(params.gate_affine, gate_row, gate));
        memory[params.y + row] = open * scaled(params.up_affine, up_row, up);
    }
}

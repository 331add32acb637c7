// import: affine, normed_operand, operand, product, reduce

// One token through three matrices: q, k, v = W_q x, W_k x, W_v x. A run of lanes per row; the
// rows of the three follow each other.

struct Params {
    // [rows, cols] each, of the same columns.
    q: Matrix,
    k: Matrix,
    v: Matrix,
    // Of x, if NORM.
    norm: Norm,
    q_affine: Affine,
    k_affine: Affine,
    v_affine: Affine,
    // [cols]
    x: u32,
    // [rows] each.
    q_y: u32,
    k_y: u32,
    v_y: u32,
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
    let q_row = (group.z * 65535u + group.x) * (THREADS / lanes) + thread / lanes;
    let k_row = q_row - params.q.rows;
    let v_row = k_row - params.k.rows;
    let is_q = q_row < params.q.rows;
    let is_k = !is_q && k_row < params.k.rows;
    let is_v = !is_q && !is_k && v_row < params.v.rows;
    var sum = 0.0;
    for (var begin = 0u; begin < params.q.eights; begin += TILE) {
        let end = min(begin + TILE, params.q.eights);
        load_operand(params.x, params.q.cols, begin, thread);
        if (is_q) {
            sum += q_product(params.q, 0u, q_row, begin, end, lane, lanes);
        } else if (is_k) {
            sum += k_product(params.k, 0u, k_row, begin, end, lane, lanes);
        } else if (is_v) {
            sum += v_product(params.v, 0u, v_row, begin, end, lane, lanes);
        }
        workgroupBarrier();
    }
    sum = run_sum(thread, sum, lanes);
    if (lane == 0u) {
        if (is_q) {
            memory[params.q_y + q_row] = scaled(params.q_affine, q_row, sum);
        } else if (is_k) {
            memory[params.k_y + k_row] = scaled(params.k_affine, k_row, sum);
        } else if (is_v) {
            memory[params.v_y + v_row] = scaled(params.v_affine, v_row, sum);
        }
    }
}

// import: activation, affine, any_operand, operand, product, reduce

// One token: y = W x, with what belongs to it before and after. A run of lanes per row.

struct Params {
    // [rows, cols], or a bank of them.
    w: Matrix,
    // Of x, if NORM.
    norm: Norm,
    affine: Affine,
    // [cols]; if ROUTED, rows of slots are `x_stride` apart.
    x: u32,
    // [rows]; for every slot, [slots, rows], if ROUTED.
    y: u32,
    // Threads to a row, a power of two.
    lanes: u32,
    // If ROUTED: where the expert of each slot stands, [slots].
    routes: u32,
    // If ROUTED: the first expert of the bank, and how many it has.
    first_expert: u32,
    n_experts: u32,
    // If ROUTED: from the x of one slot to that of the next; 0: all have the same.
    x_stride: u32,
    // If GATED: [cols].
    z: u32,
    z_scale: f32,
    // If CONV: the inputs before x, [k - 1, cols]; where the convolved row goes, [cols].
    tail: u32,
    convolved: u32,
    // If CONV, in `constants`: [k, cols]; [cols], or NONE.
    taps: u32,
    conv_bias: u32,
    k: u32,
    // If MAPPED, in `constants`: which row of y each row makes, [rows]; and how many of y are wanted.
    rows_of: u32,
    wanted: u32,
}

// Add to y what is there.
override ADD: bool = false;
// y is one of the rows of logits that are kept.
override KEPT: bool = false;
// The rows are some of those of y.
override MAPPED: bool = false;
// The workgroup's y counts slots of a token, each of which has its expert.
override ROUTED: bool = false;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    prepare_tables(thread);
    let slot = group.y;
    let cols = params.w.cols;
    var bank = 0u;
    var mine = true;
    var x = params.x;
    if (ROUTED) {
        let expert = u32(memory[params.routes + slot]);
        mine = expert >= params.first_expert && expert < params.first_expert + params.n_experts;
        bank = select(0u, expert - params.first_expert, mine);
        x += slot * params.x_stride;
    }
    prepare_operand(x, thread);
    let lanes = params.lanes;
    let lane = thread & (lanes - 1u);
    // Rows beyond 65535 workgroups continue in the third dimension.
    let row = (group.z * 65535u + group.x) * (THREADS / lanes) + thread / lanes;
    var sum = 0.0;
    for (var begin = 0u; begin < params.w.eights; begin += TILE) {
        let end = min(begin + TILE, params.w.eights);
        load_operand(x, cols, begin, thread);
        if (CONV && group.x == 0u && group.z == 0u) {
            // What the scan takes in.
            for (var i = thread; i < 8u * (end - begin) && 8u * begin + i < cols; i += THREADS) {
                memory[params.convolved + 8u * begin + i] = operand[i / 4u][i & 3u];
            }
        }
        if (row < params.w.rows && mine) {
            sum += w_product(params.w, bank, row, begin, end, lane, lanes);
        }
        workgroupBarrier();
    }
    sum = run_sum(thread, sum, lanes);
    if (lane == 0u && row < params.w.rows && mine) {
        var made = row;
        var rows = params.w.rows;
        if (MAPPED) {
            made = constants[params.rows_of + row];
            rows = params.wanted;
            if (made >= rows) {
                return;
            }
        }
        var at = params.y + made;
        if (ROUTED) {
            at += slot * params.w.rows;
        }
        if (KEPT) {
            at += control.slot * rows;
        }
        var y = activated(scaled(params.affine, made, sum));
        if (ADD) {
            y += memory[at];
        }
        memory[at] = y;
    }
}

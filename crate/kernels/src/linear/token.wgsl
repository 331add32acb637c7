// One token: y = W x, with what belongs to it before and after. A run of lanes per row.

struct Params {
    // [rows, cols], or a bank of them.
    w: Matrix,
    // Of x, if NORM.
    norm: Norm,
    // [cols]; for every slot, [slots, cols], if SLOTS > 1.
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
    // If ROUTED: 1 if every slot has an x of its own.
    x_per_slot: u32,
}

// x is the residual stream: normalise it first.
override NORM: bool = false;
override GELU: bool = false;
// Add to y what is there.
override ADD: bool = false;
// y is one of the rows of logits that are kept.
override KEPT: bool = false;
// The workgroup's y counts slots of a token, each of which has its expert.
override ROUTED: bool = false;

// Eights of x that are held at a time: one for each thread to round.
const TILE = THREADS;

var<workgroup> operand: array<vec4<f32>, 2u * TILE>;

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
        x += slot * params.x_per_slot * cols;
    }
    var stats = vec2(0.0, 1.0);
    if (NORM) {
        stats = norm_stats(params.norm, x, thread);
    }
    let lanes = params.lanes;
    let lane = thread & (lanes - 1u);
    // Rows beyond 65535 workgroups continue in the third dimension.
    let row = (group.z * 65535u + group.x) * (THREADS / lanes) + thread / lanes;
    var sum = 0.0;
    for (var begin = 0u; begin < params.w.eights; begin += TILE) {
        let end = min(begin + TILE, params.w.eights);
        for (var i = thread; i < 2u * TILE; i += THREADS) {
            var v = vec4(0.0);
            for (var j = 0u; j < 4u; j++) {
                let col = 8u * begin + 4u * i + j;
                if (col < cols) {
                    v[j] = memory[x + col];
                    if (NORM) {
                        v[j] = normed(params.norm, stats, col, v[j]);
                    }
                }
            }
            operand[i] = v;
        }
        workgroupBarrier();
        if (INTEGER) {
            round_operand(thread);
            workgroupBarrier();
        }
        if (row < params.w.rows && mine) {
            if (INTEGER) {
                sum += w_integer_dot(params.w, bank, row, begin, end, lane, lanes);
            } else {
                sum += w_dot(params.w, bank, row, begin, end, 0u, lane, lanes);
            }
        }
        workgroupBarrier();
    }
    sum = run_sum(thread, sum, lanes);
    if (lane == 0u && row < params.w.rows && mine) {
        var at = params.y + row;
        if (ROUTED) {
            at += slot * params.w.rows;
        }
        if (KEPT) {
            at += control.slot * params.w.rows;
        }
        if (GELU) {
            sum = gelu(sum);
        }
        if (ADD) {
            sum += memory[at];
        }
        memory[at] = sum;
    }
}

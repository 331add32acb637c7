// import: dot, functions, norm

// Norm, then a feed-forward network or the experts of one token, in one workgroup, and the
// residual. For networks so small that launching kernels would take longer; see ssm_token.wgsl.

struct Params {
    // Router, [E, d]; unused without experts.
    gate: Matrix,
    // Banks of [f, d] and [d, f]; of one without experts.
    w1: Matrix,
    w2: Matrix,
    norm: Norm,
    // The residual stream, [d].
    hidden: u32,
    n_experts: u32,
    // Experts a token goes through; 1 without experts.
    top_k: u32,
    // Threads to a row, a power of two.
    lanes: u32,
}

// Without experts every token goes through the only network there is.
override EXPERTS: bool = false;

const MAX_EXPERTS = FUSED_EXPERTSu;
// Room for the normed input, [d], and behind it GELU(w1 x) of each slot, [top_k, f]; each padded
// to whole eights with zeros.
const OPERAND = FUSED_OPERANDu;

var<workgroup> operand: array<vec4<f32>, OPERAND>;
var<workgroup> logits: array<f32, MAX_EXPERTS>;
var<workgroup> experts: array<u32, MAX_EXPERTS>;
var<workgroup> shares: array<f32, MAX_EXPERTS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    prepare_tables(thread);
    let d = params.norm.d;
    let lanes = params.lanes;
    let lane = thread & (lanes - 1u);
    let group = thread / lanes;
    let groups = THREADS / lanes;
    let middle_at = 2u * params.w1.eights;
    let middle_size = 2u * params.w2.eights;

    let stats = norm_stats(params.norm, params.hidden, thread);
    for (var i = thread; i < middle_at + params.top_k * middle_size; i += THREADS) {
        var x = vec4(0.0);
        for (var j = 0u; j < 4u; j++) {
            let col = 4u * i + j;
            if (col < d && i < middle_at) {
                x[j] = normed(params.norm, stats, col, memory[params.hidden + col]);
            }
        }
        operand[i] = x;
    }
    if (thread == 0u) {
        experts[0] = 0u;
        shares[0] = 1.0;
    }
    workgroupBarrier();

    if (EXPERTS) {
        for (var first = 0u; first < params.n_experts; first += groups) {
            let row = first + group;
            var sum = 0.0;
            if (row < params.n_experts) {
                sum = gate_dot(params.gate, 0u, row, 0u, params.gate.eights, 0u, lane, lanes);
            }
            sum = run_sum(thread, sum, lanes);
            if (row < params.n_experts && lane == 0u) {
                logits[row] = sum;
            }
        }
        workgroupBarrier();
        if (thread == 0u) {
            choose_experts();
        }
        workgroupBarrier();
    }

    // Four rows of w1 to a thread's run, so that it can write a whole vec4.
    for (var slot = 0u; slot < params.top_k; slot++) {
        for (var first = 0u; first < middle_size; first += groups) {
            let i = first + group;
            var values = vec4(0.0);
            for (var j = 0u; j < 4u; j++) {
                let row = 4u * i + j;
                var sum = 0.0;
                if (row < params.w1.rows) {
                    sum = w1_dot(params.w1, experts[slot], row, 0u, params.w1.eights, 0u, lane, lanes);
                }
                values[j] = gelu(run_sum(thread, sum, lanes));
            }
            if (i < middle_size && lane == 0u) {
                operand[middle_at + slot * middle_size + i] = values;
            }
        }
    }
    workgroupBarrier();

    for (var first = 0u; first < d; first += groups) {
        let row = first + group;
        var sum = 0.0;
        if (row < d) {
            for (var slot = 0u; slot < params.top_k; slot++) {
                let at = middle_at + slot * middle_size;
                let dot = w2_dot(params.w2, experts[slot], row, 0u, params.w2.eights, at, lane, lanes);
                sum += shares[slot] * dot;
            }
        }
        sum = run_sum(thread, sum, lanes);
        if (row < d && lane == 0u) {
            memory[params.hidden + row] += sum;
        }
    }
}

// The k largest logits, the lowest index of equals first; softmax over them alone.
fn choose_experts() {
    var sum = 0.0;
    for (var slot = 0u; slot < params.top_k; slot++) {
        var best = 0u;
        var found = false;
        for (var expert = 0u; expert < params.n_experts; expert++) {
            var taken = false;
            for (var before = 0u; before < slot; before++) {
                taken = taken || experts[before] == expert;
            }
            if (!taken && (!found || logits[expert] > logits[best])) {
                best = expert;
                found = true;
            }
        }
        experts[slot] = best;
        shares[slot] = exp(logits[best] - logits[experts[0]]);
        sum += shares[slot];
    }
    for (var slot = 0u; slot < params.top_k; slot++) {
        shares[slot] /= sum;
    }
}

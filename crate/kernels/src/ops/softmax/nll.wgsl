// import: softmax

// Negative log-likelihoods: a workgroup per row of logits, for up to four sets of labels.

struct Params {
    // [n, V]
    logits: u32,
    // [4, capacity], from row `control.row` on.
    nll: u32,
    vocab_size: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let logits = params.logits + group.x * params.vocab_size;
    let log_sum_exp = log_sum_exp_of(logits, params.vocab_size, thread);
    if (thread < 4u) {
        let row = thread * control.capacity + control.row + group.x;
        // NONE: the row is not scored in this set.
        let label = control.ids[2u * control.capacity + row];
        if (label != NONE) {
            memory[params.nll + row] = log_sum_exp - memory[logits + label];
        }
    }
}

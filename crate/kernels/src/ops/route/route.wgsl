// Routing of n tokens, in one workgroup: the k largest router logits of each token and softmax
// over those alone; then which slots (token t's j-th choice is slot t k + j) each expert has.
// Small whole numbers stand as f32.

struct Params {
    // [n, E]
    logits: u32,
    // [n, k]: the chosen experts.
    routes: u32,
    // [n, k]
    shares: u32,
    // [E]
    counts: u32,
    // [E, room]
    lists: u32,
    room: u32,
    n_experts: u32,
    top_k: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    let k = params.top_k;
    for (var t = thread; t < control.n; t += THREADS) {
        let logits = params.logits + t * params.n_experts;
        let routes = params.routes + t * k;
        let shares = params.shares + t * k;
        var sum = 0.0;
        for (var slot = 0u; slot < k; slot++) {
            var best = 0u;
            var found = false;
            for (var expert = 0u; expert < params.n_experts; expert++) {
                var taken = false;
                for (var before = 0u; before < slot; before++) {
                    taken = taken || u32(memory[routes + before]) == expert;
                }
                if (!taken && (!found || memory[logits + expert] > memory[logits + best])) {
                    best = expert;
                    found = true;
                }
            }
            memory[routes + slot] = f32(best);
            let share = exp(memory[logits + best] - memory[logits + u32(memory[routes])]);
            memory[shares + slot] = share;
            sum += share;
        }
        for (var slot = 0u; slot < k; slot++) {
            memory[shares + slot] /= sum;
        }
    }
    storageBarrier();
    for (var expert = thread; expert < params.n_experts; expert += THREADS) {
        var count = 0u;
        for (var slot = 0u; slot < control.n * k; slot++) {
            if (u32(memory[params.routes + slot]) == expert) {
                memory[params.lists + expert * params.room + count] = f32(slot);
                count++;
            }
        }
        memory[params.counts + expert] = f32(count);
    }
}

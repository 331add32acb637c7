// import: softmax

// Takes the next token from kept logits, in one workgroup, and hands it to the next step.

struct Params {
    // [kept, V]: the oldest row is the one of step mod kept.
    logits: u32,
    kept: u32,
    vocab_size: u32,
    // Where to put the token's probability, [capacity].
    probabilities: u32,
    // One number in [0, 1) per draw, [capacity].
    random: u32,
    // Ids from here on are never taken.
    usable: u32,
    // Sample among this many likeliest; 0: among all.
    top_k: u32,
    temperature: f32,
}

var<workgroup> histogram: array<atomic<u32>, THREADS>;
var<workgroup> threshold: u32;
var<workgroup> chosen: u32;

// Bits that have the order of the numbers.
fn ordered(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let slot = control.step % params.kept;
    let logits = params.logits + slot * params.vocab_size;
    let log_sum_exp = log_sum_exp_of(logits, params.vocab_size, thread);
    let likeliest = largest_of(logits, params.usable, thread);
    if (thread == 0u) {
        chosen = likeliest.at;
        threshold = 0u;
    }
    workgroupBarrier();

    if (params.temperature > 0.0) {
        if (params.top_k > 0u && params.top_k < params.usable) {
            find_threshold(logits, thread);
        }
        // Each thread goes through a run of ids; the one in whose run the random number falls
        // goes through it again.
        let run = (params.usable + THREADS - 1u) / THREADS;
        let begin = min(thread * run, params.usable);
        let end = min(begin + run, params.usable);
        var sum = 0.0;
        for (var i = begin; i < end; i++) {
            sum += weight(logits + i, likeliest.value);
        }
        largest_values[thread] = sum;
        workgroupBarrier();
        var before = 0.0;
        var total = 0.0;
        for (var other = 0u; other < THREADS; other++) {
            if (other < thread) {
                before += largest_values[other];
            }
            total += largest_values[other];
        }
        let target_sum = memory[params.random + control.draw] * total;
        if (sum > 0.0 && target_sum >= before && target_sum < before + sum) {
            var left = target_sum - before;
            var id = begin;
            for (var i = begin; i < end; i++) {
                let w = weight(logits + i, likeliest.value);
                if (w > 0.0) {
                    id = i;
                    if (left < w) {
                        break;
                    }
                    left -= w;
                }
            }
            chosen = id;
        }
        workgroupBarrier();
    }

    if (thread == 0u) {
        let id = chosen;
        let draw = control.draw;
        memory[params.probabilities + draw] = exp(memory[logits + id] - log_sum_exp);
        control.ids[0] = id;
        control.ids[control.capacity + draw] = id;
        control.position = control.first + draw;
        control.slot = slot;
        control.step += 1u;
        control.draw = draw + 1u;
    }
}

fn weight(at: u32, largest: f32) -> f32 {
    let logit = memory[at];
    if (ordered(logit) < threshold) {
        return 0.0;
    }
    return exp((logit - largest) / params.temperature);
}

// The k-th largest value, by its bits: eight of them at a time from the top, counting how many
// values have each.
fn find_threshold(logits: u32, thread: u32) {
    var left = params.top_k;
    for (var shift = 24u; ; shift -= 8u) {
        atomicStore(&histogram[thread], 0u);
        workgroupBarrier();
        let prefix = workgroupUniformLoad(&threshold);
        for (var i = thread; i < params.usable; i += THREADS) {
            let bits = ordered(memory[logits + i]);
            if (shift == 24u || (bits >> (shift + 8u)) == (prefix >> (shift + 8u))) {
                atomicAdd(&histogram[(bits >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        // Every thread does the same few steps.
        var digit = 255u;
        for (; digit > 0u; digit--) {
            let count = atomicLoad(&histogram[digit]);
            if (count >= left) {
                break;
            }
            left -= count;
        }
        workgroupBarrier();
        if (thread == 0u) {
            threshold = prefix | (digit << shift);
        }
        workgroupBarrier();
        if (shift == 0u) {
            break;
        }
    }
}

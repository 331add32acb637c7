// import: reduce

// Over a row of logits, by a whole workgroup: the largest value and its place, ln sum e^x.

struct Largest {
    value: f32,
    at: u32,
}

var<workgroup> largest_values: array<f32, THREADS>;
var<workgroup> largest_places: array<u32, THREADS>;

// The largest of the first `n` values from `x` on, the first of equals.
fn largest_of(x: u32, n: u32, thread: u32) -> Largest {
    var value = -3.4e38;
    var at = n;
    for (var i = thread; i < n; i += THREADS) {
        let candidate = memory[x + i];
        if (candidate > value || at == n) {
            value = candidate;
            at = i;
        }
    }
    largest_values[thread] = value;
    largest_places[thread] = at;
    workgroupBarrier();
    for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (thread < step) {
            let other = largest_values[thread + step];
            let place = largest_places[thread + step];
            let mine = largest_values[thread];
            if (other > mine || (other == mine && place < largest_places[thread])) {
                largest_values[thread] = other;
                largest_places[thread] = place;
            }
        }
        workgroupBarrier();
    }
    let largest = Largest(largest_values[0], min(largest_places[0], n - 1u));
    workgroupBarrier();
    return largest;
}

// ln sum e^x of `n` values from `x` on. A NaN or an infinity among them makes it NaN.
fn log_sum_exp_of(x: u32, n: u32, thread: u32) -> f32 {
    let largest = largest_of(x, n, thread).value;
    var sum = 0.0;
    for (var i = thread; i < n; i += THREADS) {
        sum += exp(memory[x + i] - largest);
    }
    return largest + log(run_sum(thread, sum, THREADS));
}

// Sums over threads, within a subgroup without shared memory.

var<workgroup> partial: array<f32, THREADS>;
var<private> subgroup_width: u32;

// The sum over each run of `lanes` threads (a power of two), for all of them.
fn run_sum(thread: u32, value: f32, lanes: u32) -> f32 {
    var sum = value;
    let within = min(lanes, subgroup_width);
    for (var step = within / 2u; step > 0u; step /= 2u) {
        sum += subgroupShuffleXor(sum, step);
    }
    partial[thread] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var at = thread & ~(lanes - 1u); at < (thread & ~(lanes - 1u)) + lanes; at += within) {
        sum += partial[at];
    }
    workgroupBarrier();
    return sum;
}

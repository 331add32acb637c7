// Sums over threads.

var<workgroup> partial: array<f32, THREADS>;

// The sum over each run of `lanes` threads (a power of two), for all of them.
fn run_sum(thread: u32, value: f32, lanes: u32) -> f32 {
    partial[thread] = value;
    workgroupBarrier();
    for (var step = lanes / 2u; step > 0u; step /= 2u) {
        if ((thread & (lanes - 1u)) < step) {
            partial[thread] += partial[thread + step];
        }
        workgroupBarrier();
    }
    let sum = partial[thread & ~(lanes - 1u)];
    workgroupBarrier();
    return sum;
}

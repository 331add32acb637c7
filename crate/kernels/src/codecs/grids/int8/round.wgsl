// INT8 rows times activations of 15 bits, in integers: two dot products of packed bytes for four
// columns, where f32 takes four conversions, four scalings and four products.
//
// Every 64 columns have their own unit, `largest magnitude / 32512`, so an outlier coarsens its
// own block only, as in linear/activations.rs. An activation is 256 high + low.

override INTEGER: bool = false;

var<workgroup> high: array<vec2<u32>, THREADS>;
var<workgroup> low: array<vec2<u32>, THREADS>;
var<workgroup> units: array<f32, THREADS / 8u>;

// Rounds the eights of the operand, one to a thread. A barrier has to follow.
fn round_operand(thread: u32) {
    let x = operand[2u * thread];
    let y = operand[2u * thread + 1u];
    let largest = max(abs(x), abs(y));
    partial[thread] = max(max(largest.x, largest.y), max(largest.z, largest.w));
    workgroupBarrier();
    let first = thread & ~7u;
    var most = 0.0;
    for (var i = 0u; i < 8u; i++) {
        most = max(most, partial[first + i]);
    }
    let unit = most / 32512.0;
    // Zeros, and what is so small that its unit vanishes.
    let scale = select(0.0, 32512.0 / most, most > 1e-30);
    let a = vec4<i32>(round(x * scale));
    let b = vec4<i32>(round(y * scale));
    let a_high = (a + vec4(128)) >> vec4(8u);
    let b_high = (b + vec4(128)) >> vec4(8u);
    high[thread] = vec2(pack4xI8(a_high), pack4xI8(b_high));
    low[thread] = vec2(pack4xI8(a - a_high * 256), pack4xI8(b - b_high * 256));
    // A NaN or an infinity in the block stays one.
    let sum = (x + y) * 0.0;
    if ((thread & 7u) == 0u) {
        units[thread / 8u] = unit;
    }
    partial[thread] = (sum.x + sum.y) + (sum.z + sum.w);
}

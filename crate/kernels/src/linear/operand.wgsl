// The operand of products with one token, in the memory of the workgroup, a part of it at a time.
// A kernel says what column `col` of it is: `operand_at`.

// Eights of x that are held at a time: one for each thread to round.
const TILE = THREADS;

var<workgroup> operand: array<vec4<f32>, 2u * TILE>;

// Eights `begin` to `begin + TILE`, of an operand of `cols` columns. Ends with a barrier.
fn load_operand(x: u32, cols: u32, begin: u32, thread: u32) {
    for (var i = thread; i < 2u * TILE; i += THREADS) {
        var v = vec4(0.0);
        for (var j = 0u; j < 4u; j++) {
            let col = 8u * begin + 4u * i + j;
            if (col < cols) {
                v[j] = operand_at(x, col);
            }
        }
        operand[i] = v;
    }
    workgroupBarrier();
    if (INTEGER) {
        round_operand(thread);
        workgroupBarrier();
    }
}

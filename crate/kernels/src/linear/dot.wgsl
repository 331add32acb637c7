// Rows of MATRIX times a vector in the memory of the workgroup.

// This lane's share of the product of a row with `operand` from `first` on: eights `from` to
// `to` of the row, of which a lane takes every `lanes`th.
fn MATRIX_dot(m: Matrix, bank: u32, row: u32, begin: u32, end: u32, first: u32, lane: u32, lanes: u32) -> f32 {
    var sum = vec4(0.0);
    for (var i = begin + lane; i < end; i += lanes) {
        let w = MATRIX_eight(m, bank, row, i);
        let at = first + 2u * (i - begin);
        sum += w.low * operand[at] + w.high * operand[at + 1u];
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

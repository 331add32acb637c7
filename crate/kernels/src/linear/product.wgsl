// As MATRIX_dot, of the operand as it is or rounded to integers.
fn MATRIX_product(m: Matrix, bank: u32, row: u32, begin: u32, end: u32, lane: u32, lanes: u32) -> f32 {
    if (INTEGER) {
        return MATRIX_integer_dot(m, bank, row, begin, end, lane, lanes);
    }
    return MATRIX_dot(m, bank, row, begin, end, 0u, lane, lanes);
}

// A matrix of two's complement integers of BITS bits, with a scale per group of the flattened matrix.

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    // Shifting right extends the sign.
    let left = vec4(32u - BITS);
    let low = bitcast<vec4<i32>>(MATRIX_four(m, bank, row, 2u * i) << left) >> left;
    let high = bitcast<vec4<i32>>(MATRIX_four(m, bank, row, 2u * i + 1u) << left) >> left;
    return MATRIX_scaled(m, bank, row, i, vec4<f32>(low), vec4<f32>(high));
}

// A matrix of two's complement nibbles, eight to a word, with a scale per group of the
// flattened matrix.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<u32>;

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let codes = MATRIX_codes[(bank * m.rows + row) * m.eights + i];
    // Of two values in a byte the first has the high half. Shifting right extends the sign.
    let low = bitcast<vec4<i32>>(vec4(codes) << vec4(24u, 28u, 16u, 20u)) >> vec4(28u);
    let high = bitcast<vec4<i32>>(vec4(codes) << vec4(8u, 12u, 0u, 4u)) >> vec4(28u);
    return MATRIX_scaled(m, bank, row, i, vec4<f32>(low), vec4<f32>(high));
}

// A matrix of INT8 codes, eight to two words, with a scale a row or one in all.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<vec2<u32>>;

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let codes = MATRIX_codes[(bank * m.rows + row) * m.eights + i];
    let scale = SCALE(m, bank * m.bank_scales + select(row, 0u, m.block == 0u));
    return Eight(vec4<f32>(unpack4xI8(codes.x)) * scale, vec4<f32>(unpack4xI8(codes.y)) * scale);
}

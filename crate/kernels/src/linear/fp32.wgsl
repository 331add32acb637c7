// A matrix of f32.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<vec4<f32>>;

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let at = 2u * ((bank * m.rows + row) * m.eights + i);
    return Eight(MATRIX_codes[at], MATRIX_codes[at + 1u]);
}

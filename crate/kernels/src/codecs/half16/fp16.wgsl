// A matrix of binary16, eight numbers to four words.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<vec4<u32>>;

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let codes = MATRIX_codes[(bank * m.rows + row) * m.eights + i];
    return Eight(
        vec4(unpack2x16float(codes.x), unpack2x16float(codes.y)),
        vec4(unpack2x16float(codes.z), unpack2x16float(codes.w)),
    );
}

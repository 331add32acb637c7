// A matrix of 4-bit NormalFloat codes, eight to a word, with an absmax per block of the
// flattened matrix. `nf4` is the table in the memory of the workgroup.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<u32>;

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let codes = MATRIX_codes[(bank * m.rows + row) * m.eights + i];
    // Of two values in a byte the first has the high half.
    let low = vec4(nf4[(codes >> 4u) & 15u], nf4[codes & 15u], nf4[(codes >> 12u) & 15u], nf4[(codes >> 8u) & 15u]);
    let high = vec4(nf4[(codes >> 20u) & 15u], nf4[(codes >> 16u) & 15u], nf4[codes >> 28u], nf4[(codes >> 24u) & 15u]);
    return MATRIX_scaled(m, bank, row, i, low, high);
}

// A matrix of codes of a table, with a scale per group of the flattened matrix. `TABLE` is the
// table in the memory of the workgroup.

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let a = MATRIX_four(m, bank, row, 2u * i);
    let b = MATRIX_four(m, bank, row, 2u * i + 1u);
    let low = vec4(TABLE[a.x], TABLE[a.y], TABLE[a.z], TABLE[a.w]);
    let high = vec4(TABLE[b.x], TABLE[b.y], TABLE[b.z], TABLE[b.w]);
    return MATRIX_scaled(m, bank, row, i, low, high);
}

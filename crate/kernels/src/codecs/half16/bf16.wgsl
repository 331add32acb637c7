// A matrix of bfloat16: the upper halves of f32, eight to four words.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<vec4<u32>>;

// Columns 8 i to 8 i + 7 of a row.
fn MATRIX_eight(m: Matrix, bank: u32, row: u32, i: u32) -> Eight {
    let codes = MATRIX_codes[(bank * m.rows + row) * m.eights + i];
    let even = bitcast<vec4<f32>>(codes << vec4(16u));
    let odd = bitcast<vec4<f32>>(codes & vec4(0xffff0000u));
    return Eight(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}

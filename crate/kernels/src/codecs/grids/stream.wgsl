// Codes of BITS bits as a stream that begins anew, with a word, in every row; the first code is in the lowest bits.

@group(0) @binding(BINDING) var<storage, read> MATRIX_codes: array<u32>;

// Columns 4 i to 4 i + 3 of a row.
fn MATRIX_four(m: Matrix, bank: u32, row: u32, i: u32) -> vec4<u32> {
    let words = (m.eights * BITS + 3u) / 4u;
    let bit = 4u * BITS * i;
    let at = (bank * m.rows + row) * words + bit / 32u;
    let shift = bit & 31u;
    var bits = MATRIX_codes[at] >> shift;
    if (shift + 4u * BITS > 32u) {
        bits |= MATRIX_codes[at + 1u] << (32u - shift);
    }
    return (vec4(bits) >> vec4(0u, BITS, 2u * BITS, 3u * BITS)) & vec4((1u << BITS) - 1u);
}

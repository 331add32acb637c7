// Eight values with the scales of their blocks, which run over the flattened matrix.

fn MATRIX_scaled(m: Matrix, bank: u32, row: u32, i: u32, low: vec4<f32>, high: vec4<f32>) -> Eight {
    let first = row * m.cols + 8u * i;
    let base = bank * m.bank_scales;
    if (m.even == 1u) {
        let scale = SCALE(m, base + first / m.block);
        let center = CENTER(m, base + first / m.block);
        return Eight(low * scale + center, high * scale + center);
    }
    // Columns past the end are padding; their scale is that of the last one.
    let last = row * m.cols + m.cols - 1u;
    var eight = array<f32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
    for (var j = 0u; j < 8u; j++) {
        let block = base + min(first + j, last) / m.block;
        eight[j] = eight[j] * SCALE(m, block) + CENTER(m, block);
    }
    return Eight(
        vec4(eight[0], eight[1], eight[2], eight[3]),
        vec4(eight[4], eight[5], eight[6], eight[7]),
    );
}

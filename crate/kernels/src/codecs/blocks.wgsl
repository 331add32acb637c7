// Eight values with the scales of their blocks, which run over the flattened matrix.

fn MATRIX_scaled(m: Matrix, bank: u32, row: u32, i: u32, low: vec4<f32>, high: vec4<f32>) -> Eight {
    let first = row * m.cols + 8u * i;
    let base = bank * m.bank_scales;
    if (m.even == 1u) {
        let scale = SCALE(m, base + first / m.block);
        return Eight(low * scale, high * scale);
    }
    // Columns past the end are padding; their scale is that of the last one.
    let last = row * m.cols + m.cols - 1u;
    var scales: array<f32, 8>;
    for (var j = 0u; j < 8u; j++) {
        scales[j] = SCALE(m, base + min(first + j, last) / m.block);
    }
    return Eight(
        low * vec4(scales[0], scales[1], scales[2], scales[3]),
        high * vec4(scales[4], scales[5], scales[6], scales[7]),
    );
}

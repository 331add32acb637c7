// As MATRIX_dot, of the operand as round.wgsl rounds it.
fn MATRIX_integer_dot(m: Matrix, bank: u32, row: u32, begin: u32, end: u32, lane: u32, lanes: u32) -> f32 {
    var sum = 0.0;
    for (var i = begin + lane; i < end; i += lanes) {
        let codes = MATRIX_codes[(bank * m.rows + row) * m.eights + i];
        let at = i - begin;
        let highs = dot4I8Packed(codes.x, high[at].x) + dot4I8Packed(codes.y, high[at].y);
        let lows = dot4I8Packed(codes.x, low[at].x) + dot4I8Packed(codes.y, low[at].y);
        sum += f32(highs * 256 + lows) * units[at / 8u] + partial[at];
    }
    return sum * SCALE(m, bank * m.bank_scales + select(row, 0u, m.block == 0u));
}

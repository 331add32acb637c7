// How scales are stored. `i` counts the scales of a bank.

fn scale_fp32(m: Matrix, i: u32) -> f32 {
    return constant(m.scales + i);
}

// With the center of the group behind each.
fn scale_affine(m: Matrix, i: u32) -> f32 {
    return constant(m.scales + 2u * i);
}

// What code 0 of a group stands for.
fn center_affine(m: Matrix, i: u32) -> f32 {
    return constant(m.scales + 2u * i + 1u);
}

fn center_zero(m: Matrix, i: u32) -> f32 {
    return 0.0;
}

// Two to a word.
fn scale_fp16(m: Matrix, i: u32) -> f32 {
    let pair = unpack2x16float(constants[m.scales + i / 2u]);
    return select(pair.x, pair.y, (i & 1u) == 1u);
}

// Double quantization: table[code] * nested[i / 256] + offset, four codes to a word. From
// `m.nested` on: a mean for each matrix of the bank, the table, the nested absmax values. A
// matrix has its own nested blocks, the last of which may be short.
fn scale_double(m: Matrix, i: u32) -> f32 {
    let bank = i / m.bank_scales;
    let block = i % m.bank_scales;
    let banks = constants[m.nested];
    let per_bank = (m.bank_scales + 255u) / 256u;
    let code = (constants[m.scales + i / 4u] >> (8u * (i & 3u))) & 255u;
    let nested = m.nested + 1u + banks + 256u + bank * per_bank + block / 256u;
    return constant(m.nested + 1u + banks + code) * constant(nested) + constant(m.nested + 1u + bank);
}

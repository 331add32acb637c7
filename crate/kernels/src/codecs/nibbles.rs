//! Two 4-bit codes a byte: value `2i` in the high half of byte `i`, `2i + 1` in the low half.

/// Packs codes; an odd number of them is padded with `padding`.
pub fn pack(codes: impl Iterator<Item = u8>, padding: u8) -> Vec<u8> {
    let mut codes = codes.peekable();
    let mut packed = Vec::with_capacity(codes.size_hint().0.div_ceil(2));
    while let Some(high) = codes.next() {
        let low = codes.next().unwrap_or(padding);
        packed.push(high << 4 | (low & 15));
    }
    packed
}

/// The code of value `index`.
#[inline(always)]
pub fn get(packed: &[u8], index: usize) -> u8 {
    let byte = packed[index / 2];
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

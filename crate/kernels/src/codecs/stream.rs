//! Codes of 2 to 8 bits as a stream of bits, the first code in the highest bits of the first byte.
//!
//! For codes of four bits this is bitsandbytes' order (value `2i` in the high half of byte `i`), for codes of eight a
//! byte each.

/// Packs codes of `bits` bits; what is left of the last byte is filled with the beginning of `padding`.
pub fn pack(codes: impl ExactSizeIterator<Item = u8>, bits: usize, padding: u8) -> Vec<u8> {
    let bytes = codes.len() / 8 * bits + (codes.len() % 8 * bits).div_ceil(8);
    let mut packed = Vec::with_capacity(bytes);
    // The bits that are not in a byte yet are the lowest `held` of `pending`.
    let (mut pending, mut held) = (0u32, 0);
    let mut codes = codes.chain(std::iter::repeat(padding));
    while packed.len() < bytes
        && let Some(code) = codes.next()
    {
        pending = pending << bits | u32::from(code & mask(bits));
        held += bits;
        if held >= 8 {
            held -= 8;
            packed.push((pending >> held) as u8);
        }
    }
    packed
}

/// The code of value `index`.
#[inline(always)]
pub fn get(packed: &[u8], bits: usize, index: usize) -> u8 {
    let at = index * bits;
    let (byte, within) = (at / 8, at % 8);
    let shift = 16 - bits - within;
    // A code lies in at most two bytes; the second is only there if it is needed.
    let two = u16::from(packed[byte]) << 8 | u16::from(packed.get(byte + 1).copied().unwrap_or(0));
    (two >> shift) as u8 & mask(bits)
}

/// The lowest `bits` bits.
const fn mask(bits: usize) -> u8 {
    (0xff_u16 >> (8 - bits)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_and_the_first_is_in_the_highest_bits() {
        for bits in 2..=8 {
            for n in 0..40 {
                let codes: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(37) & mask(bits)).collect();
                let packed = pack(codes.iter().copied(), bits, 0);
                assert_eq!(packed.len(), (n * bits).div_ceil(8), "{n} codes of {bits} bits");
                let back: Vec<u8> = (0..n).map(|i| get(&packed, bits, i)).collect();
                assert_eq!(back, codes, "{bits} bits");
            }
        }
        assert_eq!(pack([0b101, 0b010, 0b111].into_iter(), 3, 0), [0b1010_1011, 0b1000_0000]);
        assert_eq!(pack([1, 2, 3].into_iter(), 4, 7), [0x12, 0x37]);
    }
}

//! binary16 and bfloat16, rounded to nearest even by the `half` crate.

use half::{bf16, f16};
use statepress_core::Packed;

/// Rounds to binary16; counts finite values that became infinite.
pub fn encode_f16(values: &[f32]) -> (Packed, u64) {
    let bits: Vec<u16> = values.iter().map(|&value| f16::from_f32(value).to_bits()).collect();
    let overflowed =
        values.iter().zip(&bits).filter(|(value, bits)| value.is_finite() && **bits & 0x7fff == 0x7c00);
    let overflowed = overflowed.count() as u64;
    (Packed::F16(bits), overflowed)
}

/// Rounds to bfloat16; counts finite values that became infinite.
pub fn encode_bf16(values: &[f32]) -> (Packed, u64) {
    let bits: Vec<u16> = values.iter().map(|&value| bf16::from_f32(value).to_bits()).collect();
    let overflowed =
        values.iter().zip(&bits).filter(|(value, bits)| value.is_finite() && **bits & 0x7fff == 0x7f80);
    let overflowed = overflowed.count() as u64;
    (Packed::Bf16(bits), overflowed)
}

/// Widens binary16 bit patterns.
pub fn decode_f16(bits: &[u16], out: &mut [f32]) {
    for (out, &bits) in out.iter_mut().zip(bits) {
        *out = f16::from_bits(bits).to_f32();
    }
}

/// Widens bfloat16 bit patterns.
pub fn decode_bf16(bits: &[u16], out: &mut [f32]) {
    for (out, &bits) in out.iter_mut().zip(bits) {
        *out = bf16::from_bits(bits).to_f32();
    }
}

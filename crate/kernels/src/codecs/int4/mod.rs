//! INT4, symmetric groups: `code = clamp(round_half_even(value / scale), -8, 7)`,
//! `scale = absmax / 7` of the group. A scale that is stored in binary16 is rounded first, and
//! codes are made with the rounded one. A group of zeros, or one so small that its scale rounds
//! to zero, has scale 1 and codes 0.

use half::f16;
use statepress_core::Packed;
use statepress_core::encoding::ScaleType;
use statepress_core::tensor::Floats;

use super::int8::absmax;
use super::nibbles;

/// Codes a flattened tensor in groups; also counts the values beyond the last code, which a scale
/// too large for binary16, or rounded down among its subnormals, leaves out of reach.
pub fn encode(values: &[f32], group: usize, scale: ScaleType) -> (Packed, u64) {
    let scales: Vec<f32> = values
        .chunks(group)
        .map(|values| {
            let exact = absmax(values) / 7.0;
            let stored = match scale {
                ScaleType::Fp32 => exact,
                ScaleType::Fp16 => f16::from_f32(exact.min(f16::MAX.to_f32())).to_f32(),
            };
            if stored > 0.0 { stored } else { 1.0 }
        })
        .collect();
    let mut clipped = 0;
    let codes = values
        .chunks(group)
        .zip(&scales)
        .flat_map(|(values, scale)| values.iter().map(move |value| (value / scale).round_ties_even()));
    let codes = codes
        .inspect(|code| clipped += u64::from(!(-8.0..=7.0).contains(code)))
        .map(|code| code.clamp(-8.0, 7.0) as i8 as u8);
    let codes = nibbles::pack(codes, 0);
    let scales = match scale {
        ScaleType::Fp32 => Floats::F32(scales),
        ScaleType::Fp16 => Floats::F16(scales.iter().map(|&scale| f16::from_f32(scale).to_bits()).collect()),
    };
    (Packed::Int4 { codes, scales, group }, clipped)
}

/// Decodes from element `first` on.
pub fn decode(codes: &[u8], scales: &Floats, group: usize, first: usize, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let index = first + i;
        *out = f32::from(sign_extended(nibbles::get(codes, index))) * get(scales, index / group);
    }
}

/// The two's complement value of a nibble.
pub fn sign_extended(code: u8) -> i8 {
    ((code << 4) as i8) >> 4
}

/// One of a list of floats.
pub fn get(floats: &Floats, index: usize) -> f32 {
    match floats {
        Floats::F32(values) => values[index],
        Floats::F16(bits) => f16::from_bits(bits[index]).to_f32(),
    }
}

//! 4-bit NormalFloat with one absmax per block, as in QLoRA (Dettmers et al. 2023, section 3)
//! and bitsandbytes.
//!
//! Blocks run over the flattened tensor and the last may be short. `code` is the entry of
//! [`TABLE`] nearest to `value * (1 / absmax)`, the lower one of two equally near; a block of
//! zeros, or one so small that `1 / absmax` is infinite, has code 7, which is zero. Double
//! quantization codes the absmax values themselves:
//! see [`double`].

pub mod double;

use half::f16;
use statepress_core::Packed;
use statepress_core::encoding::AbsmaxType;
use statepress_core::tensor::{Absmax, Floats};

use super::int8::absmax as largest;
use super::{int4, nibbles};

/// The values of the sixteen codes.
pub use statepress_core::tables::NF4 as TABLE;

/// The code that stands for zero.
pub const ZERO: u8 = 7;

/// The nearest entry, plainly.
pub fn nearest_reference(x: f32) -> u8 {
    let mut best = 0;
    for (code, entry) in TABLE.iter().enumerate() {
        if (x - entry).abs() < (x - TABLE[best]).abs() {
            best = code;
        }
    }
    best as u8
}

/// The nearest entry: the entries below `x` bracket it, and one comparison of the two distances
/// decides, so the result is the reference's to the last bit. Beyond the table both distances
/// may round to the same number, so `x` is brought to the table's end first.
#[inline]
fn nearest(x: f32) -> u8 {
    let x = x.clamp(-1.0, 1.0);
    let above = TABLE.iter().map(|&entry| u8::from(entry < x)).sum::<u8>().min(15) as usize;
    let below = above.saturating_sub(1);
    // The lower entry wins a tie.
    if (x - TABLE[above]).abs() < (x - TABLE[below]).abs() { above as u8 } else { below as u8 }
}

/// Codes a flattened tensor; also counts the values beyond an absmax that overflowed binary16.
pub fn encode(values: &[f32], block: usize, absmax: AbsmaxType) -> (Packed, u64) {
    let exact: Vec<f32> = values.chunks(block).map(largest).collect();
    let mut clipped = 0;
    let (used, stored) = match absmax {
        AbsmaxType::Fp32 => (exact.clone(), Absmax::Plain(Floats::F32(exact))),
        AbsmaxType::Fp16 => {
            clipped = values.iter().filter(|value| value.abs() > f16::MAX.to_f32()).count() as u64;
            let bits: Vec<u16> =
                exact.iter().map(|absmax| f16::from_f32(absmax.min(f16::MAX.to_f32())).to_bits()).collect();
            let used = bits.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect();
            (used, Absmax::Plain(Floats::F16(bits)))
        }
        // As bitsandbytes: codes are made with the exact absmax.
        AbsmaxType::Double => {
            let stored = double::encode(&exact);
            (exact, stored)
        }
    };
    let codes = values.chunks(block).zip(&used).flat_map(|(values, &absmax)| {
        let inverse = 1.0 / absmax;
        values.iter().map(move |value| if inverse.is_finite() { nearest(value * inverse) } else { ZERO })
    });
    (Packed::Nf4 { codes: nibbles::pack(codes, ZERO), absmax: stored, block }, clipped)
}

/// Decodes from element `first` on.
pub fn decode(codes: &[u8], absmax: &Absmax, block: usize, first: usize, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let index = first + i;
        *out = TABLE[usize::from(nibbles::get(codes, index))] * block_absmax(absmax, index / block);
    }
}

/// The absmax of one block.
pub fn block_absmax(absmax: &Absmax, block: usize) -> f32 {
    match absmax {
        Absmax::Plain(values) => int4::get(values, block),
        Absmax::Double { codes, nested, offset } => double::decode(codes, nested, *offset, block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bracketing_finds_what_the_plain_search_finds() {
        let check = |x: f32| assert_eq!(nearest(x), nearest_reference(x), "{x:e}");
        // Every entry, every midpoint, and their neighbours in f32.
        for pair in TABLE.windows(2) {
            for x in [pair[0], pair[1], (pair[0] + pair[1]) / 2.0] {
                let mut x = (0..8).fold(x, |x, _| x.next_down());
                for _ in 0..16 {
                    check(x);
                    x = x.next_up();
                }
            }
        }
        for i in -110_000..110_000 {
            check(i as f32 * 1e-5);
        }
    }
}

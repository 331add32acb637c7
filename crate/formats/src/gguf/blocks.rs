//! Numbers out of ggml's blocks: what `dequantize_row_*` of `ggml-quants.c` computes, bit for bit.
//!
//! A block is a few pieces, one behind the other: one or two floats, and integers of few bits packed into
//! bytes. In types with one scale for a block, a number with the code q is
//!
//! `w = d q + m`,
//!
//! where some have no m; in K types and IQ4_XS, whose blocks have parts with integers s and b of their own,
//!
//! `w = d s q - m b`.
//!
//! Products are exact in f32, as d and m have 11 bits and s and q 12 together at most; so only the sum is
//! rounded, and no order of multiplications, nor fusing the last with the sum, would change a bit.
//!
//! Integers are split over bytes in one way with different sizes: a byte has a few bits each of numbers that
//! are a step apart. So a type is a list of pieces here, and one loop reads them all.

use statepress_core::GgmlType;

use crate::small_float::float16;

/// Appends the numbers of whole blocks.
pub(super) fn decode(kind: GgmlType, blocks: &[u8], out: &mut Vec<f32>) {
    let Some(layout) = layout(kind) else {
        let plain = |bytes: &[u8]| match kind {
            GgmlType::F16 => float(bytes),
            GgmlType::Bf16 => {
                bytes.first_chunk().map_or(0.0, |&[low, high]| f32::from_le_bytes([0, 0, low, high]))
            }
            _ => bytes.first_chunk().map_or(0.0, |&bytes| f32::from_le_bytes(bytes)),
        };
        return out.extend(blocks.chunks_exact(kind.block().1).map(plain));
    };
    let (numbers, bytes) = kind.block();
    out.reserve(blocks.len() / bytes * numbers);
    for block in blocks.chunks_exact(bytes) {
        layout.read(numbers, block, |codes, scale, plus| {
            out.extend(codes.iter().map(|&code| scale * layout.codes.level(code) + plus));
        });
    }
}

/// Appends the codes of whole blocks, which stand for whole numbers, their scales, and what is added to products, which is
/// zero in types with one float for a scale.
pub(super) fn codes(
    kind: GgmlType,
    blocks: &[u8],
    codes: &mut Vec<i16>,
    scales: &mut Vec<f32>,
    minimums: &mut Vec<f32>,
) {
    let Some(layout) = layout(kind) else { return };
    let (numbers, bytes) = kind.block();
    for block in blocks.chunks_exact(bytes) {
        layout.read(numbers, block, |part, scale, plus| {
            codes.extend(part.iter().map(|&code| layout.codes.level(code) as i16));
            scales.push(scale);
            minimums.push(plus);
        });
    }
}

/// How the blocks of a type are read; `None` where they are plain floats.
fn layout(kind: GgmlType) -> Option<Layout> {
    use Levels::{Iq4, Less};
    use Piece::{Codes, D, Minus, Plus, Scales, Sixes};
    Some(match kind {
        GgmlType::F32 | GgmlType::F16 | GgmlType::Bf16 => return None,
        GgmlType::Q8_0 => whole(Less(0), &[D, Codes(32, 8, 32, 0)]),
        GgmlType::Q4_0 => whole(Less(8), &[D, Codes(16, 4, 16, 0)]),
        GgmlType::Q4_1 => whole(Less(0), &[D, Plus, Codes(16, 4, 16, 0)]),
        GgmlType::Q5_0 => whole(Less(16), &[D, Codes(4, 1, 1, 4), Codes(16, 4, 16, 0)]),
        GgmlType::Q5_1 => whole(Less(0), &[D, Plus, Codes(4, 1, 1, 4), Codes(16, 4, 16, 0)]),
        GgmlType::Iq4Nl => whole(Iq4, &[D, Codes(16, 4, 16, 0)]),
        GgmlType::Q2K => parts(16, Less(0), Less(0), &[Scales(16, 4, 16, 0), Codes(64, 2, 32, 0), D, Minus]),
        // The third bit of a code says that 4 is not taken off.
        GgmlType::Q3K => parts(
            16,
            Less(4),
            Less(32),
            &[Codes(32, 1, 32, 2), Codes(64, 2, 32, 0), Scales(8, 4, 8, 0), Scales(4, 2, 4, 4), D],
        ),
        GgmlType::Q4K => parts(32, Less(0), Less(0), &[D, Minus, Sixes, Codes(128, 4, 32, 0)]),
        GgmlType::Q5K => {
            parts(32, Less(0), Less(0), &[D, Minus, Sixes, Codes(32, 1, 32, 4), Codes(128, 4, 32, 0)])
        }
        GgmlType::Q6K => parts(
            16,
            Less(32),
            Less(0),
            &[Codes(128, 4, 64, 0), Codes(64, 2, 32, 4), Scales(16, 8, 16, 0), D],
        ),
        GgmlType::Iq4Xs => {
            parts(32, Iq4, Less(32), &[D, Scales(2, 2, 1, 4), Scales(4, 4, 1, 0), Codes(128, 4, 16, 0)])
        }
    })
}

/// How the blocks of a type are read.
struct Layout {
    /// How many numbers share a scale.
    part: usize,
    /// What codes stand for.
    codes: Levels,
    /// What the scales of parts stand for.
    scales: Levels,
    pieces: &'static [Piece],
}

/// Blocks of 32 with one scale.
fn whole(codes: Levels, pieces: &'static [Piece]) -> Layout {
    Layout { part: 32, codes, scales: Levels::Less(0), pieces }
}

/// Blocks whose parts have scales.
fn parts(part: usize, codes: Levels, scales: Levels, pieces: &'static [Piece]) -> Layout {
    Layout { part, codes, scales, pieces }
}

/// What comes next in a block.
enum Piece {
    /// d, binary16.
    D,
    /// m of a type with one scale, binary16.
    Plus,
    /// m of a type with parts, binary16.
    Minus,
    /// Bytes, bits, step, above: so many bytes with so many bits of each code, which stand above so many
    /// others of it. What a byte has, the lowest bits first, is of numbers a step apart: the lowest bits of
    /// `step` bytes are of as many numbers, their next bits of the numbers that follow, and so on.
    Codes(usize, usize, usize, usize),
    /// The same for the integers of parts: every s, then every b.
    Scales(usize, usize, usize, usize),
    /// Eight s and eight b, of six bits in twelve bytes.
    Sixes,
}

/// What integers stand for.
enum Levels {
    /// Themselves, less so much. Those of eight bits are signed.
    Less(u8),
    /// Entries of [`IQ4`].
    Iq4,
}

/// The levels of IQ4_NL and IQ4_XS (`kvalues_iq4nl`).
pub(crate) const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

impl Levels {
    fn level(&self, code: u8) -> f32 {
        match self {
            // Codes and scales of fewer bits are too small to have a sign before the subtraction.
            Self::Less(zero) => f32::from(code.wrapping_sub(*zero) as i8),
            Self::Iq4 => IQ4[usize::from(code & 15)],
        }
    }
}

impl Layout {
    /// Hands on the parts of a block: their codes, what these are multiplied by, and what is added.
    fn read(&self, numbers: usize, block: &[u8], mut part: impl FnMut(&[u8], f32, f32)) {
        // Where a block has no m it is -0, which changes no number it is added to, not even zeros.
        let (mut d, mut m) = (0.0, -0.0);
        let (mut codes, mut scales) = ([0; 256], [0; 32]);
        let mut rest = block;
        for piece in self.pieces {
            let (bytes, behind) = rest.split_at(piece.bytes());
            rest = behind;
            match *piece {
                Piece::D => d = float(bytes),
                Piece::Plus => m = float(bytes),
                Piece::Minus => m = -float(bytes),
                Piece::Codes(_, bits, step, above) => unpack(bytes, bits, step, above, &mut codes),
                Piece::Scales(_, bits, step, above) => unpack(bytes, bits, step, above, &mut scales),
                Piece::Sixes => sixes(bytes, &mut scales),
            }
        }
        let parts = numbers / self.part;
        let (scales, least) = scales.split_at(parts);
        for ((codes, &s), &b) in codes[..numbers].chunks(self.part).zip(scales).zip(least) {
            let (scale, plus) = match parts {
                1 => (d, m),
                _ => (d * self.scales.level(s), m * f32::from(b)),
            };
            part(codes, scale, plus);
        }
    }
}

impl Piece {
    fn bytes(&self) -> usize {
        match *self {
            Self::D | Self::Plus | Self::Minus => 2,
            Self::Codes(bytes, ..) | Self::Scales(bytes, ..) => bytes,
            Self::Sixes => 12,
        }
    }
}

/// Puts bits of bytes into integers, as [`Piece::Codes`] says.
fn unpack(packed: &[u8], bits: usize, step: usize, above: usize, into: &mut [u8]) {
    for (bytes, into) in packed.chunks(step).zip(into.chunks_mut(8 / bits * step)) {
        for (at, into) in into.chunks_mut(step).enumerate() {
            for (byte, into) in bytes.iter().zip(into) {
                *into |= ((byte >> (at * bits)) & (0xff >> (8 - bits))) << above;
            }
        }
    }
}

/// Four s and four b are the low bits of eight bytes. Above them are the high bits of the other four of
/// either, whose low bits share four more bytes: those of s are the low halves.
fn sixes(packed: &[u8], into: &mut [u8; 32]) {
    let (eight, four) = packed.split_at(8);
    for (at, byte) in eight.iter().enumerate() {
        let b = at & 4;
        into[at + b] = byte & 63;
        into[at + b + 4] = ((four[at % 4] >> b) & 15) | ((byte >> 6) << 4);
    }
}

fn float(bytes: &[u8]) -> f32 {
    bytes.first_chunk().map_or(0.0, |&bytes| float16(u16::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_as_many_numbers_as_blocks_have() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for kind in GgmlType::ALL {
            let (numbers, bytes) = kind.block();
            for blocks in 0..40 {
                let mut out = Vec::new();
                decode(kind, &(0..blocks * bytes).map(|_| random()).collect::<Vec<_>>(), &mut out);
                assert_eq!(out.len(), blocks * numbers, "{}", kind.name());
            }
            for same in 0..=255 {
                let mut out = Vec::new();
                decode(kind, &vec![same; 2 * bytes], &mut out);
                assert_eq!(out.len(), 2 * numbers, "{}", kind.name());
            }
        }
    }
}

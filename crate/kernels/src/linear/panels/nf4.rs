//! NF4 codes in a tile.
//!
//! A tile is two halves of 16 bytes: columns 0 to 3, columns 4 to 7. Low nibbles of a half hold
//! its first pair of columns, high ones its second; byte `2 r + p` holds row `r`, column `p` of a
//! pair. A table lookup turns sixteen codes into 16-bit integers, in the order in which a dot
//! product of pairs takes them.
//!
//! The integers are the table times 7854, rounded. Of all factors up to 8191 this one rounds best:
//! rms 1.9e-5, at most 4.3e-5 of the absmax. For 32 columns activations have 13 bits, so that sums
//! stay below 2^31; for fewer columns they have more.

use super::super::activations::Block;
use super::grouped::Code;
use super::{Aligned, TILE};
use crate::lanes::{I16x8, I32x4, U8x16};
use statepress_core::tables::NF4 as TABLE;

pub(in crate::linear) struct Nf4;

const UNITS: f32 = 7854.0;

/// The code of zero.
const ZERO: u8 = 7;

/// Low and high bytes of the table in units.
const BYTES: [[u8; 16]; 2] = {
    let mut bytes = [[0; 16]; 2];
    let mut code = 0;
    while code < 16 {
        let exact = TABLE[code] * UNITS;
        let rounded = (if exact < 0.0 { exact - 0.5 } else { exact + 0.5 }) as i16;
        [bytes[0][code], bytes[1][code]] = rounded.to_le_bytes();
        code += 1;
    }
    bytes
};

/// Byte and shift of a code in a tile.
fn place(row: usize, col: usize) -> (usize, usize) {
    (col / 4 * 16 + row * 2 + col % 2, col % 4 / 2 * 4)
}

impl Code for Nf4 {
    type Tile = Aligned<[u8; 32]>;

    const UNIT: f32 = 1.0 / UNITS;
    const ZERO: Self::Tile = Aligned([ZERO | ZERO << 4; 32]);

    fn level(columns: usize) -> f32 {
        let bound = i32::MAX as usize / (UNITS as usize * columns);
        bound.min(i16::MAX as usize) as f32
    }

    fn put(Aligned(tile): &mut Self::Tile, row: usize, col: usize, code: u8) {
        let (byte, shift) = place(row, col);
        tile[byte] = tile[byte] & !(15 << shift) | code << shift;
    }

    fn get(Aligned(tile): &Self::Tile, row: usize, col: usize) -> u8 {
        let (byte, shift) = place(row, col);
        tile[byte] >> shift & 15
    }

    fn value(code: u8) -> f32 {
        TABLE[usize::from(code & 15)]
    }

    #[inline(always)]
    fn dot(tiles: &[Self::Tile], x: &[[[i16; 2]; TILE / 2]], _: &Block) -> [I32x4; 2] {
        let (low, high) = (U8x16::load(&BYTES[0]), U8x16::load(&BYTES[1]));
        let mut sums = [I32x4::ZERO; 2];
        for (tile, x) in tiles.iter().zip(x) {
            let (halves, _) = tile.0.as_chunks::<16>();
            let [first, second] = [U8x16::load(&halves[0]), U8x16::load(&halves[1])];
            let codes =
                [first.low_nibbles(), first.high_nibbles(), second.low_nibbles(), second.high_nibbles()];
            for i in 0..TILE / 2 {
                let ([a, b], x) = (codes[i].lookup(low, high), I16x8::splat_pair(x[i]));
                sums = [sums[0] + a.dot(x), sums[1] + b.dot(x)];
            }
        }
        sums
    }
}

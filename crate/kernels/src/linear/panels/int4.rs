//! INT4 codes in a tile.
//!
//! A tile is two halves of 16 bytes: rows 0 to 3, rows 4 to 7. Seen as 16-bit lanes, lane
//! `2 r + p` of a half holds row `r`, and its nibble `k` column `2 k + p`. Masking one nibble in
//! place gives `code * 16^k` (for the top one a shift gives the code), which goes into a dot
//! product with no further shift. To be positive, codes are kept with 8 added.
//!
//! Bounds, for 32 columns and activations up to 32767: the largest sum is that of nibble 2,
//! `8 * 15 * 256 * 32767 < 2^31`. Sums of nibble `k` are multiples of `16^k`, so shifting them back
//! loses nothing.

use super::super::activations::Block;
use super::grouped::Code;
use super::{Aligned, PANEL, TILE};
use crate::lanes::{I16x8, I32x4};

pub(in crate::linear) struct Int4;

/// Byte and shift of a code in a tile.
fn place(row: usize, col: usize) -> (usize, usize) {
    let (lane, nibble) = (row % 4 * 2 + col % 2, col / 2);
    (row / 4 * 16 + lane * 2 + nibble / 2, nibble % 2 * 4)
}

impl Code for Int4 {
    type Tile = Aligned<[u8; 32]>;

    const UNIT: f32 = 1.0;
    const ZERO: Self::Tile = Aligned([0x88; 32]);

    fn level(_: usize) -> f32 {
        f32::from(i16::MAX)
    }

    fn put(Aligned(tile): &mut Self::Tile, row: usize, col: usize, code: u8) {
        let (byte, shift) = place(row, col);
        tile[byte] = tile[byte] & !(15 << shift) | (code ^ 8) << shift;
    }

    fn get(Aligned(tile): &Self::Tile, row: usize, col: usize) -> u8 {
        let (byte, shift) = place(row, col);
        (tile[byte] >> shift & 15) ^ 8
    }

    fn value(code: u8) -> f32 {
        f32::from((code ^ 8) as i8 - 8)
    }

    fn decode(Aligned(tile): &Self::Tile) -> [[f32; PANEL]; TILE] {
        let mut numbers = [[0.0; PANEL]; TILE];
        for (col, numbers) in numbers.iter_mut().enumerate() {
            for (row, number) in numbers.iter_mut().enumerate() {
                let (byte, shift) = place(row, col);
                *number = f32::from((tile[byte] >> shift & 15) as i8 - 8);
            }
        }
        numbers
    }

    #[inline(always)]
    fn dot(tiles: &[Self::Tile], x: &[[[i16; 2]; TILE / 2]], block: &Block) -> [I32x4; 2] {
        // Sums of nibbles 0 and 3, of nibble 1, of nibble 2; what 8 adds to every code is taken
        // off at the start.
        let mut ones = [I32x4::splat(-8 * block.sum); 2];
        let (mut sixteens, mut most) = ([I32x4::ZERO; 2], [I32x4::ZERO; 2]);
        for (tile, x) in tiles.iter().zip(x) {
            let x = x.map(I16x8::splat_pair);
            let (halves, _) = tile.0.as_chunks::<16>();
            for (half, bytes) in halves.iter().enumerate() {
                let codes = I16x8::load_bytes(bytes);
                ones[half] = ones[half] + codes.and(I16x8::splat(0x000f)).dot(x[0]);
                sixteens[half] = sixteens[half] + codes.and(I16x8::splat(0x00f0)).dot(x[1]);
                most[half] = most[half] + codes.and(I16x8::splat(0x0f00)).dot(x[2]);
                ones[half] = ones[half] + codes.shr_unsigned::<12>().dot(x[3]);
            }
        }
        [0, 1].map(|half| ones[half] + sixteens[half].shr::<4>() + most[half].shr::<8>())
    }
}

//! Activations as 16-bit integers, for products with integer codes.
//!
//! Every block of columns has its own scale, `largest magnitude / level`, so an outlier coarsens
//! its own block only. The rounding error is that of 13 to 15 bits: 1e-5 to 4e-5 of the block's
//! largest value.

use super::TILE;
use crate::lanes::{F32x4, I16x8, I32x4, load8};

/// One token's activations.
#[derive(Default)]
pub(super) struct Integers {
    /// Eight columns each, as the four pairs that a dot product takes; the last padded with zeros.
    pub tiles: Vec<[[i16; 2]; TILE / 2]>,
    /// One per block.
    pub blocks: Vec<Block>,
}

/// What the columns of a block share.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Value of one unit. NaN where a value of the block is not finite.
    pub scale: f32,
    /// Sum of the integers.
    pub sum: i32,
}

impl Integers {
    /// Rounds `x` to integers of at most `level` by magnitude, in blocks of `tiles_per_block`.
    pub fn quantize(&mut self, x: &[f32], tiles_per_block: usize, level: f32) {
        self.tiles.resize(x.len().div_ceil(TILE), [[0; 2]; TILE / 2]);
        self.blocks.clear();
        for (x, tiles) in x.chunks(tiles_per_block * TILE).zip(self.tiles.chunks_mut(tiles_per_block)) {
            let (whole, rest) = x.as_chunks::<TILE>();
            let mut last = [[0.0; TILE]];
            last[0][..rest.len()].copy_from_slice(rest);
            let (tiles, last_tile) = tiles.split_at_mut(whole.len());

            let largest = f32::from_bits(largest(whole).max(largest(&last)));
            // Overflows where all values are below 1e-34; they count as zero.
            let to_units = level / largest;
            let to_units = if to_units.is_finite() { to_units } else { 0.0 };
            let sum = round(whole, to_units, tiles) + round(&last, to_units, last_tile);
            // NaN if there is a NaN or an infinity, which is the sum of no integers.
            let scale = if largest.is_finite() { largest / level } else { f32::NAN };
            self.blocks.push(Block { scale, sum });
        }
    }
}

/// The bits of the largest magnitude. As integers they have the order of the numbers, with NaN
/// above infinity.
#[inline(always)]
fn largest(x: &[[f32; TILE]]) -> u32 {
    let sign = I32x4::splat(i32::MAX);
    let mut bits = I32x4::ZERO;
    for x in x {
        let [low, high] = load8(x);
        bits = bits.max(low.to_bits().and(sign)).max(high.to_bits().and(sign));
    }
    bits.to_array().into_iter().fold(0, i32::max) as u32
}

/// Rounds into as many tiles as there are, and adds the integers up.
#[inline(always)]
fn round(x: &[[f32; TILE]], to_units: f32, tiles: &mut [[[i16; 2]; TILE / 2]]) -> i32 {
    let (to_units, one) = (F32x4::splat(to_units), I16x8::splat(1));
    let mut sum = I32x4::ZERO;
    for (x, tile) in x.iter().zip(tiles) {
        let [low, high] = load8(x);
        let units = I16x8::narrow((low * to_units).round(), (high * to_units).round());
        sum = sum + units.dot(one);
        *tile = units.to_pairs();
    }
    sum.to_array().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_reach_the_level_and_blocks_have_their_own() {
        let mut x = [0.5; 20];
        x[3] = -1.0;
        x[16] = 1000.0;
        let mut integers = Integers::default();
        integers.quantize(&x, 2, 32767.0);
        assert_eq!(integers.tiles.len(), 3);
        assert_eq!(integers.tiles[0][1], [16384, -32767]);
        assert_eq!(integers.tiles[2], [[32767, 16], [16, 16], [0, 0], [0, 0]]);
        assert_eq!(integers.blocks.len(), 2);
        assert_eq!(integers.blocks[1].sum, 32767 + 3 * 16);
        assert_eq!(integers.blocks[0].sum, 15 * 16384 - 32767);
    }

    #[test]
    fn what_is_not_finite_shows_and_what_is_tiny_is_zero() {
        let mut integers = Integers::default();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..9 {
                let mut x = [1.0; 9];
                x[at] = bad;
                integers.quantize(&x, 8, 8191.0);
                assert!(integers.blocks[0].scale.is_nan(), "{bad} at {at}");
            }
        }
        for tiny in [0.0, 1e-45, 1e-36] {
            integers.quantize(&[-tiny, 0.0], 8, 8191.0);
            assert_eq!(integers.tiles[0][0], [0, 0]);
            assert!(integers.blocks[0].scale < 1e-30);
        }
    }
}

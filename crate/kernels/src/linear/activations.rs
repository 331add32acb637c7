//! Activations as 16-bit integers, for products with integer codes.
//!
//! Every block of columns has its own scale, `largest magnitude / level`, so an outlier coarsens
//! its own block only. The rounding error is that of 13 to 15 bits: 1e-5 to 4e-5 of the block's
//! largest value.

use crate::lanes::{F32x4, I16x8};

/// Columns that a tile of any integer codec has, and to which activations are padded.
pub(super) const TILE: usize = 8;

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
        self.tiles.clear();
        self.blocks.clear();
        for block in x.chunks(tiles_per_block * TILE) {
            let (whole, rest) = block.as_chunks::<TILE>();
            let mut last = [0.0; TILE];
            last[..rest.len()].copy_from_slice(rest);
            let tiles = || whole.iter().chain((!rest.is_empty()).then_some(&last));

            let mut largest = F32x4::ZERO;
            for tile in tiles() {
                let [low, high] = crate::lanes::load8(tile);
                largest = largest.max(low.abs()).max(high.abs());
            }
            let largest = largest.largest();
            if !largest.is_finite() || largest == 0.0 {
                // Zero times anything that is not finite is NaN.
                let scale = largest * 0.0;
                self.tiles.extend(tiles().map(|_| [[0; 2]; TILE / 2]));
                self.blocks.push(Block { scale, sum: 0 });
                continue;
            }
            // A subnormal `largest` would overflow the reciprocal; such values count as zero.
            let to_units = F32x4::splat((level / largest).min(f32::MAX));
            let mut sum = crate::lanes::I32x4::ZERO;
            for tile in tiles() {
                let [low, high] = crate::lanes::load8(tile);
                let units = I16x8::narrow((low * to_units).round(), (high * to_units).round());
                sum = sum + units.dot(I16x8::splat(1));
                let units = units.to_array();
                let (pairs, _) = units.as_chunks::<2>();
                self.tiles.push([pairs[0], pairs[1], pairs[2], pairs[3]]);
            }
            let sum = sum.to_array().iter().sum();
            self.blocks.push(Block { scale: largest / level, sum });
        }
    }
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
        integers.quantize(&[1e-45, 0.0], 8, 8191.0);
        assert!(integers.tiles[0][0].iter().all(|unit| (0..=8191).contains(unit)));
    }
}

//! Panels of floats, `[panel][cols / 8][row][8]`. 16-bit floats stay 16 bits wide.
//!
//! With eight columns of a row in neighbouring lanes, activations are loaded as vectors too, and
//! each row has its own sum; the lanes of the sums are added up at the end of a panel.
//!
//! Eight 16-bit patterns hold column `i` at `2 i` and column `4 + i` at `2 i + 1`, so that either
//! half is a shift or a mask of 32-bit lanes away from being f32.

use super::{Aligned, PANEL, Panels, Scratch, TILE, each_panel, interleave};
use crate::lanes::{F32x4, F32x8, I32x4, load8, store8, transpose};

/// Eight floats of one row.
pub(in crate::linear) trait Eight: Copy + Default {
    /// One number as checkpoints store it.
    type Stored: Copy;

    /// What [`Self::load_scaled`] must be multiplied with, in two equal powers of two.
    const SCALE: [f32; 2] = [1.0; 2];

    fn put(&mut self, col: usize, value: Self::Stored);

    /// The numbers.
    fn load(&self) -> F32x8;

    /// The numbers over both [`Self::SCALE`]s, which can be cheaper to load.
    #[inline(always)]
    fn load_scaled(&self) -> F32x8 {
        self.load()
    }
}

/// binary16 without infinities and NaN.
#[derive(Clone, Copy, Default)]
pub(in crate::linear) struct Half([u16; TILE]);

/// bfloat16.
#[derive(Clone, Copy, Default)]
pub(in crate::linear) struct Brain([u16; TILE]);

impl Eight for [f32; TILE] {
    type Stored = f32;

    fn put(&mut self, col: usize, value: f32) {
        self[col] = value;
    }

    #[inline(always)]
    fn load(&self) -> F32x8 {
        load8(self)
    }
}

impl Eight for Half {
    type Stored = u16;

    // The difference of the exponent biases is 112; as one factor it could overflow activations.
    const SCALE: [f32; 2] = [f32::from_bits((127 + 56) << 23); 2];

    fn put(&mut self, col: usize, value: u16) {
        self.0[col % 4 * 2 + col / 4] = value;
    }

    #[inline(always)]
    fn load(&self) -> F32x8 {
        let scale = F32x4::splat(f32::from_bits((127 + 112) << 23));
        self.load_scaled().map(|x| x * scale)
    }

    /// A binary16 pattern moved from the top of 32 bits three down (or from the bottom 13 up), with
    /// copies of the sign cleared, is the f32 pattern of the same number times 2^-112; subnormals
    /// included.
    #[inline(always)]
    fn load_scaled(&self) -> F32x8 {
        let keep = I32x4::splat(0x8fff_e000_u32 as i32);
        let both = I32x4::load16(&self.0);
        [both.low_halves_times(1 << 13), both.shr::<3>()].map(|bits| bits.and(keep).from_bits())
    }
}

impl Eight for Brain {
    type Stored = u16;

    fn put(&mut self, col: usize, value: u16) {
        self.0[col % 4 * 2 + col / 4] = value;
    }

    #[inline(always)]
    fn load(&self) -> F32x8 {
        let both = I32x4::load16(&self.0);
        let top = I32x4::splat(0xffff_0000_u32 as i32);
        [both.shl::<16>(), both.and(top)].map(I32x4::from_bits)
    }
}

/// A matrix of floats; missing columns of the last tile are zeros.
pub(in crate::linear) struct Floats<E> {
    cols: usize,
    tiles: Vec<Aligned<[E; PANEL]>>,
}

impl<E: Eight> Floats<E> {
    pub fn new(values: &[E::Stored], rows: usize, cols: usize) -> Self {
        let across = cols.div_ceil(TILE);
        let mut tiles = vec![Aligned([E::default(); PANEL]); rows.div_ceil(PANEL) * across];
        interleave(values, cols, |panel, row, col, value| {
            tiles[panel * across + col / TILE].0[row].put(col % TILE, value);
        });
        Self { cols, tiles }
    }

    fn panel(&self, panel: usize) -> &[Aligned<[E; PANEL]>] {
        let across = self.cols.div_ceil(TILE);
        &self.tiles[panel * across..][..across]
    }
}

impl<E: Eight> Panels for Floats<E> {
    fn decode(&self, panel: usize, out: &mut [[f32; PANEL]]) {
        for (columns, tile) in out.chunks_mut(TILE).zip(self.panel(panel)) {
            let [a, b, c, d, e, f, g, h] = tile.0.map(|row| row.load());
            for (half, columns) in columns.chunks_mut(4).enumerate() {
                let low = transpose([a[half], b[half], c[half], d[half]]);
                let high = transpose([e[half], f[half], g[half], h[half]]);
                for (column, (low, high)) in columns.iter_mut().zip(low.into_iter().zip(high)) {
                    *column = store8([low, high]);
                }
            }
        }
    }

    fn with_token(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let [before, after] = E::SCALE;
        let x = if before == 1.0 {
            x
        } else {
            scratch.tokens.clear();
            scratch.tokens.extend(x.iter().map(|x| x * before));
            &scratch.tokens
        };
        let (x, rest) = x.as_chunks::<TILE>();
        let mut last = [0.0; TILE];
        last[..rest.len()].copy_from_slice(rest);
        each_panel(out, |panel| {
            let mut sums = [F32x4::ZERO; PANEL];
            let mut add = |tile: &Aligned<[E; PANEL]>, x: &[f32; TILE]| {
                let x = load8(x);
                for (sum, row) in sums.iter_mut().zip(&tile.0) {
                    let row = row.load_scaled();
                    *sum = row[1].mul_add(x[1], row[0].mul_add(x[0], *sum));
                }
            };
            let tiles = self.panel(panel);
            for (tile, x) in tiles.iter().zip(x) {
                add(tile, x);
            }
            if let Some(tile) = tiles.get(x.len()) {
                add(tile, &last);
            }
            let [a, b, c, d, e, f, g, h] = sums;
            [add_lanes([a, b, c, d]), add_lanes([e, f, g, h])].map(|sum| sum * F32x4::splat(after))
        });
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        for (out, tile) in out.chunks_mut(TILE).zip(self.panel(row / PANEL)) {
            out.copy_from_slice(&store8(tile.0[row % PANEL].load())[..out.len()]);
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.tiles)
    }
}

/// The sum of the lanes of each.
#[inline(always)]
fn add_lanes(vectors: [F32x4; 4]) -> F32x4 {
    let [a, b, c, d] = transpose(vectors);
    (a + b) + (c + d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_half_is_exact() {
        for bits in (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()) {
            let mut eight = Half::default();
            eight.put(5, bits);
            eight.put(2, bits ^ 1);
            let loaded = store8(eight.load());
            assert_eq!(loaded[5].to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#x}");
            assert_eq!(loaded[2].to_bits(), f16::from_bits(bits ^ 1).to_f32().to_bits());
            assert_eq!(loaded[0], 0.0);
        }
    }
}

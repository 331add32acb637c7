//! Panels of floats, `[panel][col][8]`. 16-bit floats stay 16 bits wide.
//!
//! Eight 16-bit patterns hold row `i` at `2 i` and row `4 + i` at `2 i + 1`, so that either half
//! of the rows is a shift or a mask of 32-bit lanes away from being f32.

use super::{PANEL, Panels, Scratch, each_panel, interleave};
use crate::lanes::{F32x4, F32x8, I32x4, load8, store8};

/// Eight floats of one column, one per row of the panel.
pub(in crate::linear) trait Column: Copy + Default {
    /// One number as checkpoints store it.
    type Stored: Copy;

    fn put(&mut self, row: usize, value: Self::Stored);

    fn load(&self) -> F32x8;

    /// Columns that are f32 as they stand.
    fn plain(_: &[Self]) -> Option<&[[f32; PANEL]]> {
        None
    }
}

/// binary16 without infinities and NaN.
#[derive(Clone, Copy, Default)]
pub(in crate::linear) struct Half([u16; PANEL]);

/// bfloat16.
#[derive(Clone, Copy, Default)]
pub(in crate::linear) struct Brain([u16; PANEL]);

impl Column for [f32; PANEL] {
    type Stored = f32;

    fn put(&mut self, row: usize, value: f32) {
        self[row] = value;
    }

    #[inline(always)]
    fn load(&self) -> F32x8 {
        load8(self)
    }

    fn plain(columns: &[Self]) -> Option<&[[f32; PANEL]]> {
        Some(columns)
    }
}

impl Column for Half {
    type Stored = u16;

    fn put(&mut self, row: usize, value: u16) {
        self.0[row % 4 * 2 + row / 4] = value;
    }

    /// A binary16 pattern moved three bits down from the top of 32 is the f32 pattern of the same
    /// number times 2^-112, the difference of the exponent biases; subnormals included.
    #[inline(always)]
    fn load(&self) -> F32x8 {
        let keep = I32x4::splat(0x8fff_e000_u32 as i32);
        let bias = F32x4::splat(f32::from_bits((127 + 112) << 23));
        split(&self.0).map(|top| top.shr::<3>().and(keep).from_bits() * bias)
    }
}

impl Column for Brain {
    type Stored = u16;

    fn put(&mut self, row: usize, value: u16) {
        self.0[row % 4 * 2 + row / 4] = value;
    }

    #[inline(always)]
    fn load(&self) -> F32x8 {
        split(&self.0).map(I32x4::from_bits)
    }
}

/// The even and the odd 16-bit patterns, each at the top of 32 bits; low bits of the odd ones are
/// cleared.
#[inline(always)]
fn split(bits: &[u16; PANEL]) -> [I32x4; 2] {
    let both = I32x4::load16(bits);
    [both.shl::<16>(), both.and(I32x4::splat(0xffff_0000_u32 as i32))]
}

/// A matrix of floats.
pub(in crate::linear) struct Floats<C> {
    cols: usize,
    columns: Vec<C>,
}

impl<C: Column> Floats<C> {
    pub fn new(values: &[C::Stored], rows: usize, cols: usize) -> Self {
        let mut columns = vec![C::default(); rows.div_ceil(PANEL) * cols];
        interleave(values, cols, |panel, row, col, value| columns[panel * cols + col].put(row, value));
        Self { cols, columns }
    }

    fn panel(&self, panel: usize) -> &[C] {
        &self.columns[panel * self.cols..][..self.cols]
    }
}

impl<C: Column> Panels for Floats<C> {
    fn decode<'a>(&'a self, panel: usize, buffer: &'a mut [[f32; PANEL]]) -> &'a [[f32; PANEL]] {
        let columns = self.panel(panel);
        if let Some(plain) = C::plain(columns) {
            return plain;
        }
        for (numbers, column) in buffer.iter_mut().zip(columns) {
            *numbers = store8(column.load());
        }
        buffer
    }

    fn with_token(&self, x: &[f32], out: &mut [f32], _: &mut Scratch) {
        /// Columns in flight: with two vectors each, enough sums to hide the latency of adding.
        const UNROLL: usize = 4;
        let (x, x_rest) = x.as_chunks::<UNROLL>();
        each_panel(out, |panel| {
            let (columns, rest) = self.panel(panel).as_chunks::<UNROLL>();
            let mut sums = [[F32x4::ZERO; 2]; UNROLL];
            let mut add = |sum: usize, column: &C, x: f32| {
                let ([low, high], x) = (column.load(), F32x4::splat(x));
                sums[sum] = [low.mul_add(x, sums[sum][0]), high.mul_add(x, sums[sum][1])];
            };
            for (columns, x) in columns.iter().zip(x) {
                for i in 0..UNROLL {
                    add(i, &columns[i], x[i]);
                }
            }
            for (i, (column, &x)) in rest.iter().zip(x_rest).enumerate() {
                add(i, column, x);
            }
            let [a, b, c, d] = sums;
            [(a[0] + b[0]) + (c[0] + d[0]), (a[1] + b[1]) + (c[1] + d[1])]
        });
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        for (out, column) in out.iter_mut().zip(self.panel(row / PANEL)) {
            *out = store8(column.load())[row % PANEL];
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_half_is_exact() {
        for bits in (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()) {
            let mut column = Half::default();
            column.put(5, bits);
            column.put(2, bits ^ 1);
            let loaded = store8(column.load());
            assert_eq!(loaded[5].to_bits(), f16::from_bits(bits).to_f32().to_bits(), "{bits:#x}");
            assert_eq!(loaded[2].to_bits(), f16::from_bits(bits ^ 1).to_f32().to_bits());
            assert_eq!(loaded[0], 0.0);
        }
    }
}

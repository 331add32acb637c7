//! Panels of each precision: how eight interleaved rows are kept, decoded and multiplied.

mod float;
mod grouped;
mod int4;
mod int8;
mod planes;

pub(super) use float::{Brain, Floats, Half};

use statepress_core::{Codes, Grid, Group};

use self::grouped::{Code, Grouped};
use self::int8::{InGroups, Int8};
use self::planes::{Int2, Int3, Int5, Int6, Lm2, Lm3, Nf4};
use super::{PANEL, Scratch, TILE, product};
use crate::lanes::F32x8;

/// A matrix in panels.
pub(super) trait Panels {
    /// The numbers of a panel, `[cols][8]`.
    fn decode(&self, panel: usize, out: &mut [[f32; PANEL]]);

    /// The product with one token.
    fn with_token(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch);

    /// The numbers of one row.
    fn row(&self, row: usize, out: &mut [f32]);

    /// Bytes in memory.
    fn bytes(&self) -> usize;
}

/// The panels of a tensor's codes, whose lengths have been checked.
pub(super) fn of_codes(codes: &Codes, rows: usize, cols: usize) -> Box<dyn Panels> {
    match codes.grid {
        Grid::Int8 if matches!(codes.group, Group::Values(_)) => grouped::<InGroups>(codes, rows, cols),
        Grid::Int8 => Box::new(Int8::new(codes, rows, cols)),
        Grid::Int6 => grouped::<Int6>(codes, rows, cols),
        Grid::Int5 => grouped::<Int5>(codes, rows, cols),
        Grid::Int4 => grouped::<int4::Int4>(codes, rows, cols),
        Grid::Nf4 => grouped::<Nf4>(codes, rows, cols),
        Grid::Int3 => grouped::<Int3>(codes, rows, cols),
        Grid::Lm3 => grouped::<Lm3>(codes, rows, cols),
        Grid::Int2 => grouped::<Int2>(codes, rows, cols),
        Grid::Lm2 => grouped::<Lm2>(codes, rows, cols),
    }
}

fn grouped<C: Code + 'static>(codes: &Codes, rows: usize, cols: usize) -> Box<dyn Panels> {
    Box::new(Grouped::<C>::new(codes, rows, cols))
}

/// A part of a panel, aligned so that no vector in it crosses a cache line: such loads cost f32
/// products a quarter of their speed.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(in crate::linear) struct Aligned<T>(T);

/// Stores the product of every panel, eight rows each.
#[inline(always)]
fn each_panel(out: &mut [f32], mut dot: impl FnMut(usize) -> F32x8) {
    for (panel, out) in out.chunks_mut(PANEL).enumerate() {
        product::store(dot(panel), out);
    }
}

/// Rearranges a row-major matrix: `place(panel, row of it, column, value)` for every value.
fn interleave<T: Copy>(values: &[T], cols: usize, mut place: impl FnMut(usize, usize, usize, T)) {
    for (row, values) in values.chunks_exact(cols.max(1)).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            place(row / PANEL, row % PANEL, col, value);
        }
    }
}

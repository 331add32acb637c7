//! Many tokens: one decoded panel times tiles of tokens.
//!
//! ```text
//! repack x as tiles of TOKENS tokens, column by column
//! for each panel of 8 rows: decode it to [cols][8]
//!     for each tile: acc[token][row] += x[col][token] * panel[col][row] over all columns
//! ```
//!
//! The accumulators of a tile stay in registers, and both inputs are sequential streams.

use super::panels::Panels;
use super::{PANEL, Scratch};
use crate::lanes::{F32x4, F32x8, load8, store8};

/// Tokens of a tile: eight accumulators, as many as it takes to hide the latency of adding. With
/// ten or twelve V8 produces code of half the speed.
const TOKENS: usize = 4;

pub(super) fn with_tokens(w: &dyn Panels, cols: usize, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
    let n = x.len() / cols;
    // Fewer than the matrix has, where only the first of them are wanted.
    let rows = out.len() / n.max(1);
    let Scratch { panel: buffer, tokens, .. } = scratch;
    tokens.clear();
    tokens.reserve(x.len());
    for tile in x.chunks(TOKENS * cols) {
        pack(tile, cols, tokens);
    }
    buffer.resize(cols, [0.0; PANEL]);
    for panel in 0..rows.div_ceil(PANEL) {
        w.decode(panel, buffer);
        let first = panel * PANEL;
        for (tile, x) in tokens.chunks(TOKENS * cols).enumerate() {
            let out = &mut out[tile * TOKENS * rows..];
            match x.len() / cols {
                TOKENS => multiply::<TOKENS>(buffer, x, out, rows, first),
                3 => multiply::<3>(buffer, x, out, rows, first),
                2 => multiply::<2>(buffer, x, out, rows, first),
                _ => multiply::<1>(buffer, x, out, rows, first),
            }
        }
    }
    debug_assert_eq!(out.len(), n * rows);
}

/// Appends the tokens of a tile column by column.
fn pack(tile: &[f32], cols: usize, packed: &mut Vec<f32>) {
    for col in 0..cols {
        packed.extend(tile[col..].iter().step_by(cols));
    }
}

/// One panel with one tile, stored to eight columns of `out`, `[T, rows]`, from `first` on.
fn multiply<const T: usize>(weights: &[[f32; PANEL]], x: &[f32], out: &mut [f32], rows: usize, first: usize) {
    let sums = tile(weights, x.as_chunks::<T>().0);
    for (sum, out) in sums.into_iter().zip(out.chunks_mut(rows)) {
        store(sum, &mut out[first..]);
    }
}

/// One panel with `T` tokens, both column by column.
#[inline(always)]
pub(super) fn tile<const T: usize>(weights: &[[f32; PANEL]], x: &[[f32; T]]) -> [F32x8; T] {
    add_tile(weights, x, [[F32x4::ZERO; 2]; T])
}

/// The same, added to sums.
#[inline(always)]
pub(super) fn add_tile<const T: usize>(
    weights: &[[f32; PANEL]],
    x: &[[f32; T]],
    mut sums: [F32x8; T],
) -> [F32x8; T] {
    for (w, x) in weights.iter().zip(x) {
        let [low, high] = load8(w);
        for (sum, &x) in sums.iter_mut().zip(x) {
            let x = F32x4::splat(x);
            *sum = [low.mul_add(x, sum[0]), high.mul_add(x, sum[1])];
        }
    }
    sums
}

/// Stores as many of eight sums as there are rows left.
#[inline(always)]
pub(super) fn store(sum: F32x8, out: &mut [f32]) {
    let sum = store8(sum);
    match out.first_chunk_mut() {
        Some(out) => *out = sum,
        None => out.copy_from_slice(&sum[..out.len()]),
    }
}

//! Products of a packed matrix with one token or many.
//!
//! A matrix `[rows, cols]` is held in *panels* of eight rows. A panel keeps the bytes of its
//! precision and interleaves the rows in tiles of eight columns, so that a kernel reads one
//! sequential stream, and each load of activations serves eight rows. Rows that are missing in the
//! last panel are zeros.
//!
//! - One token: the product runs on the packed bytes. Floats are widened in registers; integer
//!   codes meet activations that are integers too ([`activations`]), which needs fewer
//!   instructions than f32 and costs an error far below that of the codes themselves.
//! - Many tokens: one panel at a time is decoded into a few kilobytes of f32 and multiplied with
//!   all tokens in register tiles ([`product`]). Activations stay f32, and the result is that of
//!   dequantized weights up to the order of additions.
//!
//! There is never a dequantized copy of a matrix.

mod activations;
mod classes;
pub mod outer;
mod panels;
mod product;
pub mod reference;
mod transposed;
mod weights;

pub use weights::Weights;

use activations::Integers;
use weights::Layout;

/// Rows of a panel.
const PANEL: usize = 8;

/// Columns of a tile, the part of a panel that kernels take at a time; missing ones are zeros.
const TILE: usize = 8;

/// Buffers that one product after another reuses: nothing is allocated once they have grown.
#[derive(Default)]
pub struct Scratch {
    /// Multiply one token as many are: no integer activations, at the cost of speed.
    pub exact: bool,
    integers: Integers,
    panel: Vec<[f32; PANEL]>,
    tokens: Vec<f32>,
    class: Vec<f32>,
}

/// `out[t] = W x[t]` for every token: `x` is `[n, cols]`, `out` `[n, rows]`, or fewer rows where only
/// the first of them are wanted.
pub fn linear(w: &Weights, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
    let (rows, cols) = (w.rows(), w.cols());
    debug_assert!(out.len() * cols <= x.len() * rows, "{} outputs of {rows} rows", out.len());
    if rows == 0 || cols == 0 {
        out.fill(0.0);
        return;
    }
    match w.layout() {
        Layout::Classes(classes) if w.is_transposed() => classes.transposed(cols, x, out, scratch),
        Layout::Classes(classes) => classes.product(cols, x, out, scratch),
        Layout::Panels(panels) if w.is_transposed() => {
            transposed::product(&**panels, [rows, cols], x, out, scratch);
        }
        Layout::Panels(panels) if x.len() == cols && !scratch.exact => panels.with_token(x, out, scratch),
        Layout::Panels(panels) => product::with_tokens(&**panels, cols, x, out, scratch),
    }
}

//! The product with a matrix whose codes stand as `[in, out]`: the rows of the inputs are added up.
//!
//! ```text
//! for each panel of 8 inputs: decode it to [out][8]
//!     for each token: out[o] += dot(panel[o], x[8 inputs])
//! ```

use super::panels::Panels;
use super::{PANEL, Scratch};
use crate::lanes::load8;

pub(super) fn product(
    w: &dyn Panels,
    [rows, cols]: [usize; 2],
    x: &[f32],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    out.fill(0.0);
    let buffer = &mut scratch.panel;
    buffer.resize(rows, [0.0; PANEL]);
    for panel in 0..cols.div_ceil(PANEL) {
        w.decode(panel, buffer);
        let first = panel * PANEL;
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(rows)) {
            let mut inputs = [0.0; PANEL];
            let there = &x[first..cols.min(first + PANEL)];
            inputs[..there.len()].copy_from_slice(there);
            let [low, high] = load8(&inputs);
            for (out, weights) in out.iter_mut().zip(buffer.iter()) {
                let [w_low, w_high] = load8(weights);
                *out += w_low.mul_add(low, w_high * high).sum();
            }
        }
    }
}

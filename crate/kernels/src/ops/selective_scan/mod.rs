//! Mamba's selective scan (Gu and Dao 2023, algorithm 2, discretised as its code does): every
//! channel has `N` states of its own, and step size, input and output depend on the token.
//!
//! ```text
//! h[c, i] = exp(dt[c] a[c, i]) h[c, i] + dt[c] u[c] b[i]
//! out[c]  = sum_i h[c, i] c[i] + d[c] u[c]
//! ```

pub mod reference;

use std::array::from_fn;
use std::ops::Range;

use crate::lanes::{F32x4, math, padded, transpose};
use crate::rows::Rows;

/// Tokens that four channels take at once: few enough that what they read and write, part of a
/// cache line of every row, is still there when the next four channels come.
const TOKENS: usize = 64;

/// Scans the `n` tokens of `u`.
///
/// `u` and `out` are `[n, D]`; `dt` `[n, D]` are the step sizes, after the softplus; `b` and `c` are
/// `[n, N]`; `a` `[D, N]` is negative, `-exp(A_log)`; `d` is `[D]`; `h` `[D, N]` is brought up to
/// date.
#[expect(clippy::too_many_arguments, reason = "the terms of the recurrence")]
pub fn scan(u: Rows, dt: &[f32], b: Rows, c: Rows, a: &[f32], d: &[f32], h: &mut [f32], out: &mut [f32]) {
    let inputs = Inputs { u, dt, b, c, a, d };
    for first in (0..u.len()).step_by(TOKENS) {
        let tokens = first..u.len().min(first + TOKENS);
        match b.width() {
            // Every public checkpoint has 16 states: loops over them unroll.
            16 => inputs.advance(16, tokens, h, out),
            states => inputs.advance(states, tokens, h, out),
        }
    }
}

struct Inputs<'a> {
    u: Rows<'a>,
    dt: &'a [f32],
    b: Rows<'a>,
    c: Rows<'a>,
    a: &'a [f32],
    d: &'a [f32],
}

impl Inputs<'_> {
    /// Scans some of the tokens, four channels at a time, whose states stay in the nearest cache.
    #[inline(always)]
    fn advance(&self, states: usize, tokens: Range<usize>, h: &mut [f32], out: &mut [f32]) {
        let channels = self.u.width();
        for first in (0..channels).step_by(4) {
            let four = first..channels.min(first + 4);
            let d = F32x4::load(&padded(&self.d[four.clone()]));
            let own = four.start * states..four.end * states;
            let (a, h) = (&self.a[own.clone()], &mut h[own]);
            for t in tokens.clone() {
                let (b, c) = (&self.b.row(t)[..states], &self.c.row(t)[..states]);
                let at = t * channels + four.start..t * channels + four.end;
                let u = F32x4::load(&padded(&self.u.row(t)[four.clone()]));
                let dt = padded(&self.dt[at.clone()]);
                let driven = (F32x4::load(&dt) * u).to_array();
                let [w, x, y, z] = transpose(from_fn(|i| {
                    if i >= four.len() {
                        return F32x4::ZERO;
                    }
                    let own = i * states..(i + 1) * states;
                    channel(&mut h[own.clone()], &a[own], b, c, dt[i], driven[i])
                }));
                let y = d.mul_add(u, (w + y) + (x + z)).to_array();
                out[at].copy_from_slice(&y[..four.len()]);
            }
        }
    }
}

/// Advances the states of one channel by a token; their products with `c`, to be summed.
#[inline(always)]
fn channel(h: &mut [f32], a: &[f32], b: &[f32], c: &[f32], dt: f32, driven: f32) -> F32x4 {
    let (dt, driven) = (F32x4::splat(dt), F32x4::splat(driven));
    let advance = |h: &[f32; 4], a: &[f32; 4], b: &[f32; 4]| {
        let decay = math::exp(dt * F32x4::load(a));
        F32x4::load(h).mul_add(decay, driven * F32x4::load(b))
    };
    let ((h4, h1), (a4, a1)) = (h.as_chunks_mut::<4>(), a.as_chunks::<4>());
    let ((b4, b1), (c4, c1)) = (b.as_chunks::<4>(), c.as_chunks::<4>());
    let mut sum = F32x4::ZERO;
    for (((h, a), b), c) in h4.iter_mut().zip(a4).zip(b4).zip(c4) {
        let state = advance(h, a, b);
        *h = state.to_array();
        sum = state.mul_add(F32x4::load(c), sum);
    }
    if !h1.is_empty() {
        let state = advance(&padded(h1), &padded(a1), &padded(b1));
        h1.copy_from_slice(&state.to_array()[..h1.len()]);
        sum = state.mul_add(F32x4::load(&padded(c1)), sum);
    }
    sum
}

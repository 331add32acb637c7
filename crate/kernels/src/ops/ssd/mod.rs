//! Mamba-2's scan (Dao and Gu 2024, section 2.4): the channels of a head decay alike, and groups
//! of heads share input and output vectors.
//!
//! ```text
//! h[k, p, i] = exp(dt[k] a[k]) h[k, p, i] + dt[k] u[k, p] b[g, i]      head k of group g
//! out[k, p]  = sum_i h[k, p, i] c[g, i] + d u[k, p]
//! ```
//!
//! Token by token, whatever their number: how a text is cut changes no result.

pub mod reference;

use std::ops::Range;

use crate::lanes::{F32x4, math, padded};
use crate::rows::Rows;

/// Tokens that four channels take at once: few enough that what they read and write is still in a
/// cache when the next four come.
const TOKENS: usize = 32;

/// How the channels and states are divided.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads, `H`.
    pub heads: usize,
    /// Groups of heads with the same `b` and `c`, `G`; they divide the heads, which belong to
    /// groups in order.
    pub groups: usize,
    /// Channels of a head, `P`.
    pub head: usize,
    /// States of a channel, `N`.
    pub states: usize,
}

/// Scans the `n` tokens of `u`.
///
/// `u` and `out` are `[n, H P]`; `dt` `[n, H]` are the step sizes, after softplus and limits; `b`
/// and `c` are `[n, G N]`; `a` `[H]` is negative, `-exp(A_log)`; `d` is `[H]` or `[H P]`; `h`
/// `[H, P, N]` is brought up to date.
#[expect(clippy::too_many_arguments, reason = "the terms of the recurrence")]
pub fn scan(
    u: Rows,
    dt: &[f32],
    b: Rows,
    c: Rows,
    a: &[f32],
    d: &[f32],
    heads: &Heads,
    h: &mut [f32],
    out: &mut [f32],
) {
    let inputs = Inputs { u, dt, b, c, heads, a, d };
    for first in (0..u.len()).step_by(TOKENS) {
        let tokens = first..u.len().min(first + TOKENS);
        for (head, h) in h.chunks_exact_mut((heads.head * heads.states).max(1)).enumerate() {
            let (fours, rest) = h.split_at_mut(heads.head / 4 * 4 * heads.states);
            let mut channel = head * heads.head;
            for h in fours.chunks_exact_mut((4 * heads.states).max(1)) {
                inputs.advance::<4>(head, channel, tokens.clone(), h, out);
                channel += 4;
            }
            for h in rest.chunks_exact_mut(heads.states.max(1)) {
                inputs.advance::<1>(head, channel, tokens.clone(), h, out);
                channel += 1;
            }
        }
    }
}

struct Inputs<'a> {
    u: Rows<'a>,
    dt: &'a [f32],
    b: Rows<'a>,
    c: Rows<'a>,
    heads: &'a Heads,
    a: &'a [f32],
    d: &'a [f32],
}

impl Inputs<'_> {
    /// Scans some of the tokens for `R` channels of a head from `first` on, whose states are `h`.
    fn advance<const R: usize>(
        &self,
        head: usize,
        first: usize,
        tokens: Range<usize>,
        h: &mut [f32],
        out: &mut [f32],
    ) {
        let Heads { heads, groups, states, .. } = *self.heads;
        let (width, group) = (self.u.width(), head / (heads / groups.max(1)).max(1));
        let d: [f32; R] =
            std::array::from_fn(|i| self.d[if self.d.len() == heads { head } else { first + i }]);
        for t in tokens {
            let b = &self.b.row(t)[group * states..][..states];
            let c = &self.c.row(t)[group * states..][..states];
            let u: [f32; R] = std::array::from_fn(|i| self.u.row(t)[first + i]);
            let dt = self.dt[t * heads + head];
            let decay = math::exp(F32x4::splat(dt * self.a[head]));
            let sums = channels(h, b, c, decay, u.map(|u| F32x4::splat(dt * u)));
            let out = &mut out[t * width + first..][..R];
            for i in 0..R {
                out[i] = sums[i] + d[i] * u[i];
            }
        }
    }
}

/// Advances the states of `R` channels by a token; sums of their products with `c`.
#[inline(always)]
fn channels<const R: usize>(
    h: &mut [f32],
    b: &[f32],
    c: &[f32],
    decay: F32x4,
    driven: [F32x4; R],
) -> [f32; R] {
    let states = b.len();
    let ((b4, b1), (c4, c1)) = (b.as_chunks::<4>(), c.as_chunks::<4>());
    let mut sums = [F32x4::ZERO; R];
    for (at, (b, c)) in b4.iter().zip(c4).enumerate() {
        let (b, c) = (F32x4::load(b), F32x4::load(c));
        for i in 0..R {
            let h = &mut h[i * states + 4 * at..][..4];
            let state = F32x4::load(&padded(h)).mul_add(decay, driven[i] * b);
            h.copy_from_slice(&state.to_array());
            sums[i] = state.mul_add(c, sums[i]);
        }
    }
    if !b1.is_empty() {
        let (b, c) = (F32x4::load(&padded(b1)), F32x4::load(&padded(c1)));
        for i in 0..R {
            let h = &mut h[(i + 1) * states - b1.len()..][..b1.len()];
            let state = F32x4::load(&padded(h)).mul_add(decay, driven[i] * b);
            h.copy_from_slice(&state.to_array()[..b1.len()]);
            sums[i] = state.mul_add(c, sums[i]);
        }
    }
    sums.map(F32x4::sum)
}

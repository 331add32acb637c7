//! Causal attention with a key/value cache (Vaswani et al. 2017, section 3.2): with fewer key heads
//! than query heads (Ainslie et al. 2023), norms on queries and keys (Henry et al. 2020), and
//! rotary positions (Su et al. 2021), where a model has them.

pub mod reference;

use crate::lanes::{F32x4, math, padded, transpose};
use crate::ops::norm::rms_norm;
use crate::rows::Rows;

/// How the channels are divided, and what happens to queries and keys before they meet.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; they divide the query heads, which read them in order.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Radians per position: value `i` of a head turns with value `i + inv_freq.len()`, and values
    /// from `2 * inv_freq.len()` on stay as they are.
    pub inv_freq: &'a [f32],
    /// What the rotation multiplies by; 1 in most models.
    pub rope_scale: f32,
    /// RMS norm of every query head: weight `[head]` and eps.
    pub q_norm: Option<(&'a [f32], f32)>,
    /// RMS norm of every key head.
    pub k_norm: Option<(&'a [f32], f32)>,
}

/// Buffers that one call after another reuses.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    queries: Vec<f32>,
    row: Vec<f32>,
    turns: Vec<[f32; 2]>,
    scores: Vec<[f32; 4]>,
}

/// Attends from every new token, the first of which is at `position`, to all tokens so far.
///
/// `q` and `out` are `[n, heads head]`, `k` and `v` `[n, kv_heads head]`. `keys` (normed and rotated)
/// and `values` are the caches, `[position, kv_heads head]`, and grow by `n` rows.
#[expect(clippy::too_many_arguments, reason = "three inputs, two caches")]
pub fn causal(
    q: Rows,
    k: Rows,
    v: Rows,
    heads: &Heads,
    position: usize,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let Scratch { queries, row, turns, scores } = scratch;
    let (width, kv_width) = (q.width(), k.width());
    let before = keys.len() / kv_width.max(1);
    queries.clear();
    for t in 0..q.len() {
        turns.clear();
        turns.extend(heads.inv_freq.iter().map(|&frequency| {
            let (sin, cos) = ((position + t) as f64 * f64::from(frequency)).sin_cos();
            [cos, sin].map(|x| (x * f64::from(heads.rope_scale)) as f32)
        }));
        for (x, norm, to) in [(q.row(t), heads.q_norm, &mut *queries), (k.row(t), heads.k_norm, &mut *keys)] {
            row.clear();
            row.extend_from_slice(x);
            if let Some((weight, eps)) = norm {
                rms_norm(Rows::whole(x, heads.head), Some(weight), eps, row);
            }
            row.chunks_exact_mut(heads.head.max(1)).for_each(|head| rotate(head, turns));
            to.extend_from_slice(row);
        }
        values.extend_from_slice(v.row(t));
    }
    // The queries of all tokens that read one key head, before those of the next: its keys and
    // values stay in a cache.
    let sharing = (heads.heads / heads.kv_heads.max(1)).max(1);
    for kv_head in 0..heads.kv_heads {
        let column = kv_head * heads.head;
        for t in 0..q.len() {
            for head in kv_head * sharing..(kv_head + 1) * sharing {
                let at = t * width + head * heads.head..t * width + (head + 1) * heads.head;
                let (query, out) = (&queries[at.clone()], &mut out[at]);
                let seen = (before + t + 1) * kv_width;
                let cached = |cache| Rows::new(cache, column, heads.head, kv_width);
                attend(query, cached(&keys[..seen]), cached(&values[..seen]), heads.scale, scores, out);
            }
        }
    }
}

/// Value `i` turns with value `i + turns.len()`, by the angle with this cosine and sine.
fn rotate(head: &mut [f32], turns: &[[f32; 2]]) {
    let (first, rest) = head.split_at_mut(turns.len());
    for ((a, b), [cos, sin]) in first.iter_mut().zip(rest).zip(turns) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// `out = softmax(scale query . keys) values`, for one head.
fn attend(query: &[f32], keys: Rows, values: Rows, scale: f32, scores: &mut Vec<[f32; 4]>, out: &mut [f32]) {
    // There is at least the token itself.
    let last = keys.len() - 1;
    let scale = F32x4::splat(scale);
    scores.clear();
    scores.extend((0..=last / 4).map(|four| (dot(query, rows(keys, four, last)) * scale).to_array()));
    scores[last / 4][last % 4 + 1..].fill(f32::NEG_INFINITY);

    let lowest = F32x4::splat(f32::NEG_INFINITY);
    let largest = scores.iter().fold(lowest, |largest, four| largest.max(F32x4::load(four))).largest();
    let mut sum = F32x4::ZERO;
    for four in scores.iter_mut() {
        let share = math::exp(F32x4::load(four) - F32x4::splat(largest));
        sum = sum + share;
        *four = share.to_array();
    }

    out.fill(0.0);
    for (four, shares) in scores.iter().enumerate() {
        add(shares.map(F32x4::splat), rows(values, four, last), out);
    }
    let inverse = sum.sum().recip();
    out.iter_mut().for_each(|out| *out *= inverse);
}

/// The rows from `4 * four` on. Behind the last one stands the last one again, with a share of zero.
#[inline(always)]
fn rows(of: Rows<'_>, four: usize, last: usize) -> [&[f32]; 4] {
    let first = 4 * four;
    [first, first + 1, first + 2, first + 3].map(|row| of.row(row.min(last)))
}

/// The products of `x` with four rows.
#[inline(always)]
fn dot(x: &[f32], rows: [&[f32]; 4]) -> F32x4 {
    let (x4, x1) = x.as_chunks::<4>();
    let rows4 = rows.map(|row| &row.as_chunks::<4>().0[..x4.len()]);
    let mut sums = [F32x4::ZERO; 4];
    for (i, x) in x4.iter().enumerate() {
        let x = F32x4::load(x);
        for (sum, row) in sums.iter_mut().zip(&rows4) {
            *sum = x.mul_add(F32x4::load(&row[i]), *sum);
        }
    }
    if !x1.is_empty() {
        let x = F32x4::load(&padded(x1));
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = x.mul_add(F32x4::load(&padded(row.as_chunks::<4>().1)), *sum);
        }
    }
    let [a, b, c, d] = transpose(sums);
    (a + c) + (b + d)
}

/// `out += shares . rows`.
#[inline(always)]
fn add(shares: [F32x4; 4], rows: [&[f32]; 4], out: &mut [f32]) {
    let (out4, out1) = out.as_chunks_mut::<4>();
    let rows4 = rows.map(|row| &row.as_chunks::<4>().0[..out4.len()]);
    for (i, out) in out4.iter_mut().enumerate() {
        let mut sum = F32x4::load(out);
        for (share, row) in shares.iter().zip(&rows4) {
            sum = share.mul_add(F32x4::load(&row[i]), sum);
        }
        *out = sum.to_array();
    }
    if !out1.is_empty() {
        let mut sum = F32x4::load(&padded(out1));
        for (share, row) in shares.iter().zip(&rows) {
            sum = share.mul_add(F32x4::load(&padded(row.as_chunks::<4>().1)), sum);
        }
        out1.copy_from_slice(&sum.to_array()[..out1.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_average_the_values_so_far() {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let heads = Heads {
            heads: 2,
            kv_heads: 2,
            head: 1,
            scale: 1.0,
            inv_freq: &[],
            rope_scale: 1.0,
            q_norm: None,
            k_norm: None,
        };
        // Two tokens; queries and keys are zero.
        let zeros = Rows::whole(&[0.0; 4], 2);
        let v = Rows::whole(&[1.0, 10.0, 3.0, 30.0], 2);
        let mut out = [0.0; 4];
        let scratch = &mut Scratch::default();
        causal(zeros, zeros, v, &heads, 0, &mut keys, &mut values, scratch, &mut out);
        assert_eq!(out, [1.0, 10.0, 2.0, 20.0]);
        assert_eq!((keys.len(), values.len()), (4, 4));
    }
}

//! Attention, plainly, in f64.

use super::Heads;
use crate::rows::Rows;

/// As [`super::causal`].
#[expect(clippy::too_many_arguments, reason = "as the fast one")]
pub fn causal(
    q: Rows,
    k: Rows,
    v: Rows,
    heads: &Heads,
    position: usize,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (head, kv_width) = (heads.head, heads.kv_heads * heads.head);
    for t in 0..q.len() {
        for x in k.row(t).chunks(head) {
            keys.extend(prepared(x, heads.k_norm, heads, position + t).iter().map(|&x| x as f32));
        }
        values.extend_from_slice(v.row(t));
        for (index, x) in q.row(t).chunks(head).enumerate() {
            let query = prepared(x, heads.q_norm, heads, position + t);
            let first = index / (heads.heads / heads.kv_heads) * head;
            let score = |key: &[f32]| {
                let product = |i: usize| query[i] * f64::from(key[first + i]);
                f64::from(heads.scale) * (0..head).map(product).sum::<f64>()
            };
            let scores: Vec<f64> = keys.chunks(kv_width).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for i in 0..head {
                let share = |(score, value): (&f64, &[f32])| {
                    (score - largest).exp() / total * f64::from(value[first + i])
                };
                let y: f64 = scores.iter().zip(values.chunks(kv_width)).map(share).sum();
                out[(t * heads.heads + index) * head + i] = y as f32;
            }
        }
    }
}

/// One head of a query or key, normed and rotated.
fn prepared(x: &[f32], norm: Option<(&[f32], f32)>, heads: &Heads, position: usize) -> Vec<f64> {
    let mut x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    if let Some((weight, eps)) = norm {
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        for (x, weight) in x.iter_mut().zip(weight) {
            *x *= f64::from(*weight) / (square + f64::from(eps)).sqrt();
        }
    }
    let half = heads.inv_freq.len();
    for i in 0..half {
        let angle = position as f64 * f64::from(heads.inv_freq[i]);
        let (a, b, scale) = (x[i], x[half + i], f64::from(heads.rope_scale));
        x[i] = scale * (a * angle.cos() - b * angle.sin());
        x[half + i] = scale * (b * angle.cos() + a * angle.sin());
    }
    x
}

//! Causal attention (Vaswani et al. 2017, section 3.2), with fewer heads of keys than of queries (Ainslie et al. 2023),
//! norms of queries and keys, and rotary positions (Su et al. 2021), where a model has them.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};
use statepress_kernels::program::{Attention, VectorId};

use super::rms;
use crate::model::Pass;

/// Attends from every token to those so far. `q` is `[B, n, heads head]`, as is the result; `k` and `v` are
/// `[B, n, kv_heads head]`.
pub(super) fn causal(pass: &Pass, op: &Attention, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let [windows, len, width] = q.dims();
    let prepared = |x: Tensor<3>, heads: usize, norm: Option<(VectorId, f32)>| {
        let x = x.reshape([windows, len, heads, op.head]).swap_dims(1, 2);
        let x = match norm {
            Some((weight, eps)) => rms(x, eps) * pass.vector(weight).reshape([1, 1, 1, op.head]),
            None => x,
        };
        match op.inv_freq {
            Some(frequencies) => rotate(pass, x, frequencies),
            None => x,
        }
    };
    // The queries that read one head of keys stand one below the other, so that nothing is repeated.
    let sharing = op.heads / op.kv_heads.max(1);
    let q = prepared(q, op.heads, op.q_norm).reshape([windows, op.kv_heads, sharing * len, op.head]);
    let k = prepared(k, op.kv_heads, op.k_norm);
    let v = v.reshape([windows, len, op.kv_heads, op.head]).swap_dims(1, 2);
    let scores = q.matmul(k.transpose()).mul_scalar(op.scale);
    let later = Tensor::<2, Bool>::tril_mask([len, len], 0, &pass.device);
    let later = later.reshape([1, 1, 1, len, len]).expand([windows, op.kv_heads, sharing, len, len]);
    let later = later.reshape([windows, op.kv_heads, sharing * len, len]);
    let shares = softmax(scores.mask_fill(later, f32::NEG_INFINITY), 3);
    let y = shares.matmul(v).reshape([windows, op.heads, len, op.head]);
    y.swap_dims(1, 2).reshape([windows, len, width])
}

/// Value `i` of a head turns with value `i + half`, by `position * frequency[i]`; what is beyond both halves stays.
fn rotate(pass: &Pass, x: Tensor<4>, frequencies: VectorId) -> Tensor<4> {
    let [_, _, len, head] = x.dims();
    let frequencies = pass.constants(frequencies);
    let half = frequencies.len();
    let turned = |f: fn(f64) -> f64| {
        let angles = (0..len).flat_map(|t| frequencies.iter().map(move |&w| t as f64 * f64::from(w)));
        pass.constant(angles.map(|angle| f(angle) as f32).collect(), [1, 1, len, half])
    };
    let (cos, sin) = (turned(f64::cos), turned(f64::sin));
    let (a, b) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
    let mut parts = vec![a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
    if head > 2 * half {
        parts.push(x.narrow(3, 2 * half, head - 2 * half));
    }
    Tensor::cat(parts, 3)
}

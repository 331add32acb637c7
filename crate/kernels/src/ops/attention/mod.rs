//! Causal multi-head attention with a key/value cache (Vaswani et al. 2017, section 3.2), for
//! the Transformer baseline.
//!
//! Heads are `d / heads` consecutive channels; scores are scaled by `(d / heads)^-0.5`. The
//! baseline is small and its time goes into the projections, so there is one plain path.

/// Attends from every new token to all tokens so far.
///
/// `qkv` is `[n, 3 d]` with queries, keys and values in thirds; `keys` and `values` are the
/// caches `[position, d]` and grow by `n` rows; `out` is `[n, d]`.
pub fn causal(
    qkv: &[f32],
    d: usize,
    heads: usize,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
    out: &mut [f32],
) {
    let width = d / heads;
    let scale = (width as f32).sqrt().recip();
    let mut scores = Vec::new();
    for (row, out) in qkv.chunks_exact(3 * d).zip(out.chunks_exact_mut(d)) {
        let (queries, rest) = row.split_at(d);
        keys.extend_from_slice(&rest[..d]);
        values.extend_from_slice(&rest[d..]);
        for (head, out) in out.chunks_exact_mut(width).enumerate() {
            let channels = head * width..(head + 1) * width;
            let query = &queries[channels.clone()];
            scores.clear();
            scores.extend(keys.chunks_exact(d).map(|key| {
                let key = &key[channels.clone()];
                query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>() * scale
            }));
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
            let sum: f32 = scores.iter().sum();
            out.fill(0.0);
            for (value, score) in values.chunks_exact(d).zip(&scores) {
                for (out, value) in out.iter_mut().zip(&value[channels.clone()]) {
                    *out += score / sum * value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_average_the_values_so_far() {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        // Two tokens, d = 2, two heads of one channel; queries and keys zero.
        let qkv = [0.0, 0.0, 0.0, 0.0, 1.0, 10.0, 0.0, 0.0, 0.0, 0.0, 3.0, 30.0];
        let mut out = [0.0; 4];
        causal(&qkv, 2, 2, &mut keys, &mut values, &mut out);
        assert_eq!(out, [1.0, 10.0, 2.0, 20.0]);
        assert_eq!(keys.len(), 4);
    }
}

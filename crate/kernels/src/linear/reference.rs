//! The product in double precision, from the numbers of a matrix.

/// `out[t] = W x[t]`: `w` is `[rows, cols]`, `x` `[n, cols]`, `out` `[n, rows]`.
pub fn linear(w: &[f32], cols: usize, x: &[f32], out: &mut [f32]) {
    let rows = w.len() / cols.max(1);
    for (x, out) in x.chunks_exact(cols.max(1)).zip(out.chunks_exact_mut(rows.max(1))) {
        for (w, out) in w.chunks_exact(cols.max(1)).zip(out) {
            *out = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() as f32;
        }
    }
}

//! What the kernels of model ops compute, in double precision and without a thought for speed.
//! `[n, width]` arrays are flat, row by row.

/// `x / (1 + e^-x)`
pub fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// `ln(1 + e^x)`
pub fn softplus(x: f64) -> f64 {
    if x > 30.0 { x } else { x.exp().ln_1p() }
}

/// As doubles.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// RMSNorm of every `d` numbers; the weights may be those of several runs.
pub fn rms(x: &[f64], weight: Option<&[f32]>, eps: f64, d: usize) -> Vec<f64> {
    let scale = |x: &[f64]| (x.iter().map(|x| x * x).sum::<f64>() / d as f64 + eps).sqrt().recip();
    let normed = x.chunks_exact(d).flat_map(|run| {
        let scale = scale(run);
        run.iter().map(move |x| x * scale)
    });
    let weight = |i: usize| weight.map_or(1.0, |weight| f64::from(weight[i % weight.len()]));
    normed.enumerate().map(|(i, x)| x * weight(i)).collect()
}

/// LayerNorm of every row of `d` numbers.
pub fn layer_norm(x: &[f64], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
    let d = weight.len();
    let centred = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / d as f64;
        row.iter().map(|x| x - mean).collect::<Vec<_>>()
    };
    let centred: Vec<f64> = x.chunks_exact(d).flat_map(centred).collect();
    let normed = rms(&centred, Some(weight), eps, d);
    normed.iter().enumerate().map(|(i, x)| x + f64::from(bias[i % d])).collect()
}

/// Causal depthwise convolution of `x` `[n, d]` after `tail` `[k - 1, d]` with taps `[k, d]`; and
/// the tail for what comes next.
pub fn conv(x: &[f64], tail: &[f64], taps: &[f32], bias: Option<&[f32]>, d: usize) -> (Vec<f64>, Vec<f64>) {
    let all: Vec<f64> = tail.iter().chain(x).copied().collect();
    let at = |t: usize, i: usize| {
        let taps = taps.iter().skip(i).step_by(d).enumerate();
        let sum: f64 = taps.map(|(j, tap)| f64::from(*tap) * all[(t + j) * d + i]).sum();
        sum + bias.map_or(0.0, |bias| f64::from(bias[i]))
    };
    let out = (0..x.len()).map(|at_| at(at_ / d, at_ % d)).collect();
    (out, all[all.len() - tail.len()..].to_vec())
}

/// `X W^T + b` for rows of `x` `[n, cols]`.
pub fn linear(w: &[f32], x: &[f64], cols: usize) -> Vec<f64> {
    let dot = |w: &[f32], x: &[f64]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    x.chunks_exact(cols).flat_map(|x| w.chunks_exact(cols).map(move |w| dot(w, x))).collect()
}

/// The inputs of a scan over `channels` channels with `n_states` states each; the channels of a
/// head share a step size, heads share `b` and `c` in groups.
pub struct Scan<'a> {
    /// `[n, channels]`
    pub u: &'a [f64],
    /// `[n, heads]`
    pub dt: &'a [f64],
    /// `[n, groups, n_states]`
    pub b: &'a [f64],
    /// `[n, groups, n_states]`
    pub c: &'a [f64],
    /// `[channels, n_states]`
    pub a: &'a dyn Fn(usize, usize) -> f64,
    /// `[channels]`
    pub d: &'a dyn Fn(usize) -> f64,
    /// Channels in all.
    pub channels: usize,
    /// Heads, of equal numbers of channels.
    pub heads: usize,
    /// Groups, of equal numbers of heads.
    pub groups: usize,
    /// States of a channel.
    pub n_states: usize,
}

impl Scan<'_> {
    /// `y` `[n, channels]`; `h` `[channels, n_states]` is brought up to date.
    pub fn run(&self, h: &mut [f64]) -> Vec<f64> {
        let mut y = Vec::new();
        for (t, u) in self.u.chunks_exact(self.channels).enumerate() {
            for (i, u) in u.iter().enumerate() {
                let head = i / (self.channels / self.heads);
                let group = head / (self.heads / self.groups);
                let dt = self.dt[t * self.heads + head];
                let mut sum = (self.d)(i) * u;
                for s in 0..self.n_states {
                    let shared = (t * self.groups + group) * self.n_states + s;
                    let h = &mut h[i * self.n_states + s];
                    *h = (dt * (self.a)(i, s)).exp() * *h + dt * u * self.b[shared];
                    sum += *h * self.c[shared];
                }
                y.push(sum);
            }
        }
        y
    }
}

/// Turns the first values of every head of `x` `[n, heads, head]`: value `i` with `i + pairs`.
pub fn rotate(x: &mut [f64], heads: usize, head: usize, inv_freq: &[f32], scale: f64, position: usize) {
    let pairs = inv_freq.len();
    for (t, row) in x.chunks_exact_mut(heads * head).enumerate() {
        for x in row.chunks_exact_mut(head) {
            for (i, f) in inv_freq.iter().enumerate() {
                let (sin, cos) = ((position + t) as f64 * f64::from(*f)).sin_cos();
                let (a, b) = (x[i], x[i + pairs]);
                x[i] = (a * cos - b * sin) * scale;
                x[i + pairs] = (b * cos + a * sin) * scale;
            }
        }
    }
}

/// Causal attention of all positions: `q` `[n, heads, head]`, `k` and `v` `[n, kv_heads, head]`.
pub fn attention(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    heads: usize,
    kv_heads: usize,
    head: usize,
    scale: f64,
) -> Vec<f64> {
    let n = q.len() / (heads * head);
    let mut out = Vec::new();
    for t in 0..n {
        for query_head in 0..heads {
            let kv = query_head / (heads / kv_heads);
            let row = |x: &[f64], s: usize| x[(s * kv_heads + kv) * head..][..head].to_vec();
            let query = &q[(t * heads + query_head) * head..][..head];
            let score = |s: usize| query.iter().zip(row(k, s)).map(|(q, k)| q * k).sum::<f64>() * scale;
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let values: Vec<Vec<f64>> = (0..=t).map(|s| row(v, s)).collect();
            out.extend(
                (0..head).map(|i| weights.iter().zip(&values).map(|(w, v)| w / total * v[i]).sum::<f64>()),
            );
        }
    }
    out
}

/// Compares numbers, as a share of `1 + |value|`.
#[track_caller]
pub fn close(what: &str, found: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(found.len(), exact.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(exact).enumerate() {
        let error = (f64::from(*a) - b).abs() / (1.0 + b.abs());
        assert!(error <= tolerance, "{what}: element {i} of {}: {a}, {b}", exact.len());
    }
}

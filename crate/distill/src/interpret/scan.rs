//! Recurrences over whole windows, by sums and products of tensors: no loop over tokens.
//!
//! Where a decay is shared, so that it is one number a head and token, a window is cut into chunks (Dao and Gu 2024,
//! section 6): inside of one, what token `j` gives to token `t` is multiplied by `exp` of a difference of cumulative sums,
//! which makes a matrix; the states at the ends of chunks follow from one another in the same way. Where every channel and
//! state has a decay of its own there is no such matrix, and neighbours are joined in pairs instead (Blelloch 1990).
//! Nothing is ever divided by a decay, which may be as good as zero.

use burn::tensor::{Bool, Tensor};

/// Tokens of a chunk.
pub(crate) const CHUNK: usize = 32;

/// How the channels of [`ssd`] are divided.
pub(super) struct Heads {
    /// H.
    pub heads: usize,
    /// P: channels of a head.
    pub head: usize,
    /// G: groups of heads that share input and output vectors.
    pub groups: usize,
}

/// `h = exp(decay) h + x`, of `[B, n, N]` each: the states after every token.
pub(super) fn scan(decay: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
    let [windows, len, states] = x.dims();
    let chunks = Chunks::new(decay);
    let x = chunks.cut(x).reshape([windows * chunks.count, states, 1, chunks.len, 1]);
    let inside = chunks.inside.clone().matmul(x.clone());
    let y = match chunks.count {
        1 => inside,
        _ => {
            let ends = (x * chunks.to_end.clone()).sum_dim(3);
            inside + chunks.entering(ends) * chunks.from_start.clone()
        }
    };
    let y = y.reshape([windows, chunks.count, states, chunks.len]).swap_dims(2, 3);
    y.reshape([windows, chunks.count * chunks.len, states]).narrow(1, 0, len)
}

/// The recurrence of Mamba-2, without its skip connection: `h = exp(decay) h + dt u b^T`, `y = h c`. `u` is `[B, n, H P]`,
/// as is the result; `dt` and `decay` are `[B, n, H]`; `b` and `c` are `[B, n, G N]`.
pub(super) fn ssd(
    u: Tensor<3>,
    dt: Tensor<3>,
    decay: Tensor<3>,
    b: Tensor<3>,
    c: Tensor<3>,
    heads: &Heads,
) -> Tensor<3> {
    let [windows, len, width] = u.dims();
    let &Heads { heads, head, groups } = heads;
    let (sharing, states) = (heads / groups, b.dims()[2] / groups);
    let driven = u.reshape([windows, len, heads, head]) * dt.unsqueeze_dim(3);
    let chunks = Chunks::new(decay);
    let (count, size) = (chunks.count, chunks.len);
    let all = windows * count;
    // [.., G, H / G, C, ..]: heads of a group have its vectors in common.
    let parted = |x: Tensor<3>, parts: usize| {
        let width = x.dims()[2] / parts;
        let x = chunks.padded(x).reshape([all, size, parts, width]);
        x.swap_dims(1, 2)
    };
    let u = parted(driven.reshape([windows, len, width]), heads).reshape([all, groups, sharing, size, head]);
    let [b, c] = [b, c].map(|it| parted(it, groups).reshape([all, groups, 1, size, states]));
    let of_groups = |x: &Tensor<5>| {
        let [_, _, _, rows, cols] = x.dims();
        x.clone().reshape([all, groups, sharing, rows, cols])
    };
    let alike = c.clone().matmul(b.clone().transpose());
    let inside = (of_groups(&chunks.inside) * alike).matmul(u.clone());
    let y = match count {
        1 => inside,
        _ => {
            // [.., P, N]
            let ends = (u * of_groups(&chunks.to_end))
                .transpose()
                .matmul(b.expand([all, groups, sharing, size, states]));
            let entering = chunks.entering(ends.reshape([all, heads, 1, 1, head * states]));
            let entering = entering.reshape([all, groups, sharing, head, states]);
            let c = c.expand([all, groups, sharing, size, states]);
            inside + c.matmul(entering.transpose()) * of_groups(&chunks.from_start)
        }
    };
    let y = y.reshape([all, heads, size, head]).swap_dims(1, 2);
    y.reshape([windows, count * size, width]).narrow(1, 0, len)
}

/// The recurrence of Mamba, without its skip connection: `h[c, s] = exp(dt[c] a[c, s]) h[c, s] + dt[c] u[c] b[s]`,
/// `y[c] = sum_s h[c, s] c[s]`. `u` and `dt` are `[B, n, D]`, as is the result; `b` and `c` are `[B, n, N]`; `a` is `[D, N]`.
pub(super) fn selective(u: Tensor<3>, dt: Tensor<3>, b: Tensor<3>, c: Tensor<3>, a: Tensor<2>) -> Tensor<3> {
    let ([windows, len, channels], states) = (u.dims(), b.dims()[2]);
    let decay = (dt.clone().unsqueeze_dim::<4>(3) * a.reshape([1, 1, channels, states])).exp();
    let x = (u * dt).unsqueeze_dim::<4>(3) * b.unsqueeze_dim(2);
    let h = pairs(decay, x).reshape([windows * len, channels, states]);
    h.matmul(c.reshape([windows * len, states, 1])).reshape([windows, len, channels])
}

/// `h = decay h + x` over the second dimension, by joining neighbours: the states after every second token are those of a
/// sequence of half the length, and each of the others follows from the one before it.
fn pairs(decay: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
    let [windows, len, channels, states] = x.dims();
    if len == 1 {
        return x;
    }
    let half = len / 2;
    let side = |it: &Tensor<4>, which: usize| {
        let it = it.clone().narrow(1, 0, 2 * half).reshape([windows, half, 2, channels, states]);
        it.narrow(2, which, 1).reshape([windows, half, channels, states])
    };
    let (first, second) = (side(&decay, 0), side(&decay, 1));
    let (x_first, x_second) = (side(&x, 0), side(&x, 1));
    let joined = pairs(first.clone() * second.clone(), second * x_first.clone() + x_second);
    // What every first token of a pair begins with.
    let before = match half {
        1 => Tensor::zeros([windows, 1, channels, states], &x.device()),
        _ => Tensor::cat(
            vec![
                Tensor::zeros([windows, 1, channels, states], &x.device()),
                joined.clone().narrow(1, 0, half - 1),
            ],
            1,
        ),
    };
    let firsts = first * before + x_first;
    let even: Tensor<5> = Tensor::stack(vec![firsts, joined.clone()], 2);
    let even = even.reshape([windows, 2 * half, channels, states]);
    if len == 2 * half {
        return even;
    }
    let last = decay.narrow(1, len - 1, 1) * joined.narrow(1, half - 1, 1) + x.narrow(1, len - 1, 1);
    Tensor::cat(vec![even, last], 1)
}

/// A window in chunks, and what decays are between its tokens. `Z` is windows times chunks, `C` tokens of a chunk.
struct Chunks {
    /// Chunks of a window.
    count: usize,
    /// Tokens of a chunk.
    len: usize,
    /// `[Z, H, 1, C, C]`: what is left at token `t` of what token `j` gave; zero for later tokens.
    inside: Tensor<5>,
    /// `[Z, H, 1, C, 1]`: what is left at the end of a chunk.
    to_end: Tensor<5>,
    /// `[Z, H, 1, C, 1]`: what is left of the state that a chunk begins with.
    from_start: Tensor<5>,
    /// `[B, H, K, K]`: what is left at the beginning of chunk `k` of the state that chunk `i` made.
    between: Tensor<4>,
}

impl Chunks {
    /// Of the logarithms of decays, `[B, n, H]`.
    fn new(decay: Tensor<3>) -> Self {
        let [windows, tokens, heads] = decay.dims();
        let len = CHUNK.min(tokens);
        let count = tokens.div_ceil(len);
        let device = decay.device();
        let sums = padded(decay, count * len).reshape([windows * count, len, heads]);
        let sums = sums.swap_dims(1, 2).cumsum(2);
        let inside = differences(sums.clone(), sums.clone(), 0, &device);
        let totals = sums.clone().narrow(2, len - 1, 1);
        let to_end = (totals.clone() - sums.clone()).exp();
        let column = |x: Tensor<3>| x.reshape([windows * count, heads, 1, len, 1]);
        let totals = totals.reshape([windows, count, heads]).swap_dims(1, 2);
        let through = totals.clone().cumsum(2);
        let between = differences(through.clone() - totals, through, -1, &device);
        Self {
            count,
            len,
            inside: inside.reshape([windows * count, heads, 1, len, len]),
            to_end: column(to_end),
            from_start: column(sums.exp()),
            between,
        }
    }

    /// `[B, n, w]` with zeros up to the end of the last chunk.
    fn padded(&self, x: Tensor<3>) -> Tensor<3> {
        padded(x, self.count * self.len)
    }

    /// `[B, n, w]` as `[Z, w, C]`.
    fn cut(&self, x: Tensor<3>) -> Tensor<3> {
        let [windows, _, width] = x.dims();
        self.padded(x).reshape([windows * self.count, self.len, width]).swap_dims(1, 2)
    }

    /// The states that chunks begin with, of those that they make by themselves, `[Z, H, 1, 1, w]`.
    fn entering(&self, ends: Tensor<5>) -> Tensor<5> {
        let [all, heads, _, _, width] = ends.dims();
        let windows = all / self.count;
        let ends = ends.reshape([windows, self.count, heads, width]).swap_dims(1, 2);
        let entering = self.between.clone().matmul(ends);
        entering.swap_dims(1, 2).reshape([all, heads, 1, 1, width])
    }
}

/// `exp(to[t] - from[j])` of the last dimensions, where `j <= t + offset`, and zero elsewhere.
fn differences(to: Tensor<3>, from: Tensor<3>, offset: i64, device: &burn::tensor::Device) -> Tensor<4> {
    let [all, heads, len] = to.dims();
    let later = Tensor::<2, Bool>::tril_mask([len, len], offset, device);
    let later = later.reshape([1, 1, len, len]).expand([all, heads, len, len]);
    let exponents: Tensor<4> = to.unsqueeze_dim(3) - from.unsqueeze_dim(2);
    exponents.mask_fill(later, f32::NEG_INFINITY).exp()
}

fn padded(x: Tensor<3>, tokens: usize) -> Tensor<3> {
    let [windows, len, width] = x.dims();
    if len == tokens {
        return x;
    }
    let rest = Tensor::zeros([windows, tokens - len, width], &x.device());
    Tensor::cat(vec![x, rest], 1)
}

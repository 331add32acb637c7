//! What a program can do: a closed list, so that a backend that lacks an op does not compile.
//!
//! Every op has a folder in `ops/` (products: `linear/`), with a plain reference, what the CPU runs,
//! and a WGSL twin.

use super::{MatrixId, StateId, ValueId, VectorId};

/// Some columns of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The value.
    pub value: ValueId,
    /// The first column.
    pub first: usize,
    /// How many.
    pub width: usize,
}

/// One operation. Rows are tokens; `n` is the number of tokens of a step, of which one is a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `y = scale * table[id] + positions[position] + bias`.
    Embed {
        /// `[V, d]`.
        table: MatrixId,
        /// `[T, d]`.
        positions: Option<MatrixId>,
        /// `[d]`.
        bias: Option<VectorId>,
        /// Of the table's rows.
        scale: f32,
        /// `[n, d]`.
        y: ValueId,
    },
    /// A norm of every row.
    Norm {
        /// Which.
        norm: Norm,
        /// `[n, d]`.
        x: View,
        /// `[n, d]`.
        y: ValueId,
    },
    /// A gate with a norm before or after it, or with none: see [`GroupNorm`].
    GatedNorm {
        /// Which norm; `None`: `y = x SiLU(z)`.
        norm: Option<GroupNorm>,
        /// `[n, d]`.
        x: View,
        /// `[n, d]`.
        z: View,
        /// `[n, d]`.
        y: ValueId,
    },
    /// A product with a matrix, the one door of all of them.
    Linear(Linear),
    /// A causal depthwise convolution: `y[t, c] = bias[c] + sum_j taps[j, c] x[t - (k - 1) + j, c]`.
    Conv1d {
        /// `[n, C]`.
        x: View,
        /// `[k, C]`: the last tap multiplies the current input.
        taps: VectorId,
        /// `[C]`.
        bias: Option<VectorId>,
        /// `[k - 1, C]`: the inputs before the first, oldest first.
        tail: StateId,
        /// `[n, C]`.
        y: ValueId,
    },
    /// A function of every number, in place.
    Activate {
        /// Which.
        activation: Activation,
        /// `[n, w]`.
        y: ValueId,
    },
    /// Step sizes: `y = clamp(softplus(x + bias), limits)`.
    Softplus {
        /// `[n, w]`.
        x: View,
        /// `[w]`.
        bias: VectorId,
        /// The least and the largest step.
        limits: [f32; 2],
        /// `[n, w]`.
        y: ValueId,
    },
    /// The step size of Itera-Lite, one a token: `y = mean_i softplus(x[i] + bias[i])`. `x` takes the
    /// bias in.
    SoftplusMean {
        /// `[n, w]`.
        x: ValueId,
        /// `[w]`.
        bias: VectorId,
        /// `[n, 1]`.
        y: ValueId,
    },
    /// The recurrence of Itera-Lite: `h = exp(dt a) h + dt bx`, `y = h`.
    Scan {
        /// `[n, 1]`.
        dt: ValueId,
        /// `[n, N]`.
        bx: ValueId,
        /// `[N]`, negative.
        a: VectorId,
        /// `[N]`.
        h: StateId,
        /// `[n, N]`.
        y: ValueId,
    },
    /// The recurrence of Mamba (Gu and Dao 2023, algorithm 2):
    /// `h[c, s] = exp(dt[c] a[c, s]) h[c, s] + dt[c] u[c] b[s]`, `y[c] = sum_s h[c, s] c[s] + d[c] u[c]`.
    SelectiveScan {
        /// `[n, D]`.
        u: View,
        /// `[n, D]`.
        dt: ValueId,
        /// `[n, N]`.
        b: View,
        /// `[n, N]`.
        c: View,
        /// `[D, N]`, negative.
        a: VectorId,
        /// `[D]`.
        d: VectorId,
        /// `[D, N]`.
        h: StateId,
        /// `[n, D]`.
        y: ValueId,
    },
    /// The recurrence of Mamba-2.
    Ssd(Ssd),
    /// `y += d x`.
    Skip {
        /// `[w]`.
        d: VectorId,
        /// `[n, w]`.
        x: View,
        /// `[n, w]`.
        y: ValueId,
    },
    /// `y = x SiLU(z_scale z)`; where `x` is the whole of `y`, in place.
    Gate {
        /// `[n, w]`.
        x: View,
        /// `[n, w]`.
        z: View,
        /// Of the gate.
        z_scale: f32,
        /// `[n, w]`.
        y: ValueId,
    },
    /// Causal attention with a cache of keys and values.
    Attention(Attention),
    /// A mixture of experts, added to `y`.
    Experts(Experts),
    /// `y[:, first..] = x`: puts values side by side.
    Copy {
        /// `[n, w]`.
        x: View,
        /// `[n, w]`, a part of a wider value.
        y: View,
    },
}

/// `y = ((W x) x_scale + bias) row_scale y_scale`, added to `y` if `add`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// `[out, in]`.
    pub w: MatrixId,
    /// `[out]`.
    pub bias: Option<VectorId>,
    /// `[out]`.
    pub row_scale: Option<VectorId>,
    /// Of the input.
    pub x_scale: f32,
    /// Of the output.
    pub y_scale: f32,
    /// `[n, in]`.
    pub x: View,
    /// `[n, out]`.
    pub y: ValueId,
    /// Whether `y` keeps what is in it.
    pub add: bool,
}

/// A norm of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Which.
    pub kind: NormKind,
    /// `[d]`; `None`: ones.
    pub weight: Option<VectorId>,
    /// Added to the variance, or to the mean square.
    pub eps: f32,
}

/// Kinds of norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// `(x - mean) / sqrt(var + eps) * weight + bias` (Ba et al. 2016).
    Layer {
        /// `[d]`.
        bias: VectorId,
    },
    /// `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
    Rms,
}

/// An RMS norm of each of `groups` equal parts of a row, and a gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// `[d]`.
    pub weight: Option<VectorId>,
    /// Parts of a row.
    pub groups: usize,
    /// Added to the mean square.
    pub eps: f32,
    /// `rms(x) w SiLU(z)`; otherwise `rms(x SiLU(z)) w`.
    pub before_gate: bool,
}

/// Functions of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x / 2 (1 + erf(x / sqrt 2))`.
    Gelu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// The recurrence of Mamba-2 (Dao and Gu 2024, section 3), a head's state `[P, N]`:
/// `h = exp(dt a) h + dt u b^T`, `y = h c + d u`; head `i` reads group `i / (heads / groups)` of b and c.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssd {
    /// H.
    pub heads: usize,
    /// P: channels of a head.
    pub head: usize,
    /// G.
    pub groups: usize,
    /// N.
    pub states: usize,
    /// `[n, H P]`.
    pub u: View,
    /// `[n, H]`.
    pub dt: ValueId,
    /// `[n, G N]`.
    pub b: View,
    /// `[n, G N]`.
    pub c: View,
    /// `[H]`, negative.
    pub a: VectorId,
    /// `[H]`, or `[H P]`.
    pub d: VectorId,
    /// `[H, P, N]`.
    pub h: StateId,
    /// `[n, H P]`.
    pub y: ValueId,
}

/// Causal attention of `heads` query heads over `kv_heads` heads of keys and values (Ainslie et al.
/// 2023), with rotary positions (Su et al. 2021) where there are frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; query head `i` reads head `i / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head: usize,
    /// Of the scores.
    pub scale: f32,
    /// Value `i` of a head turns with value `i + len` by `position * inv_freq[i]`.
    pub inv_freq: Option<VectorId>,
    /// RMS norm of every head of queries before they turn: weight `[head]`, eps.
    pub q_norm: Option<(VectorId, f32)>,
    /// The same of keys.
    pub k_norm: Option<(VectorId, f32)>,
    /// `[n, heads * head]`.
    pub q: View,
    /// `[n, kv_heads * head]`.
    pub k: View,
    /// `[n, kv_heads * head]`.
    pub v: View,
    /// `[position, kv_heads * head]`.
    pub keys: StateId,
    /// `[position, kv_heads * head]`.
    pub values: StateId,
    /// `[n, heads * head]`.
    pub y: ValueId,
}

/// The `top_k` experts with the largest router logits, softmax over those alone, added to `y`.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// `[E, d]`.
    pub router: MatrixId,
    /// All of them.
    pub experts: Vec<Expert>,
    /// Of the first product, unless experts are gated.
    pub activation: Activation,
    /// The first product has rows of two kinds: `down (SiLU(first half) second half)`.
    pub gated: bool,
    /// How many a token goes through.
    pub top_k: usize,
    /// Of the sum.
    pub y_scale: f32,
    /// `[n, d]`.
    pub x: ValueId,
    /// `[n, d]`.
    pub y: ValueId,
}

/// One expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expert {
    /// `[f, d]`, or `[2 f, d]`.
    pub up: MatrixId,
    /// `[d, f]`.
    pub down: MatrixId,
}

impl Linear {
    /// `y = W x`, and nothing else.
    pub fn new(w: MatrixId, x: View, y: ValueId) -> Self {
        Self { w, bias: None, row_scale: None, x_scale: 1.0, y_scale: 1.0, x, y, add: false }
    }
}

impl View {
    /// Some columns of it.
    pub fn part(self, first: usize, width: usize) -> Self {
        debug_assert!(first + width <= self.width);
        Self { value: self.value, first: self.first + first, width }
    }

    /// Its parts, side by side.
    pub fn split<const N: usize>(self, widths: [usize; N]) -> [Self; N] {
        let mut first = 0;
        widths.map(|width| {
            first += width;
            self.part(first - width, width)
        })
    }
}

impl Op {
    /// Every value that it reads.
    pub fn reads(&self) -> Vec<ValueId> {
        match self {
            Self::Embed { .. } => Vec::new(),
            Self::Norm { x, .. }
            | Self::Softplus { x, .. }
            | Self::Conv1d { x, .. }
            | Self::Copy { x, .. } => vec![x.value],
            Self::GatedNorm { x, z, .. } | Self::Gate { x, z, .. } => vec![x.value, z.value],
            Self::Linear(linear) if linear.add => vec![linear.x.value, linear.y],
            Self::Linear(linear) => vec![linear.x.value],
            Self::Activate { y, .. } => vec![*y],
            Self::SoftplusMean { x, .. } => vec![*x],
            Self::Scan { dt, bx, .. } => vec![*dt, *bx],
            Self::SelectiveScan { u, dt, b, c, .. } => vec![u.value, *dt, b.value, c.value],
            Self::Ssd(ssd) => vec![ssd.u.value, ssd.dt, ssd.b.value, ssd.c.value],
            Self::Skip { x, y, .. } => vec![x.value, *y],
            Self::Attention(attention) => vec![attention.q.value, attention.k.value, attention.v.value],
            Self::Experts(experts) => vec![experts.x, experts.y],
        }
    }

    /// The value that it writes.
    pub fn writes(&self) -> ValueId {
        match self {
            Self::Embed { y, .. }
            | Self::Norm { y, .. }
            | Self::GatedNorm { y, .. }
            | Self::Conv1d { y, .. }
            | Self::Activate { y, .. }
            | Self::Softplus { y, .. }
            | Self::SoftplusMean { y, .. }
            | Self::Scan { y, .. }
            | Self::SelectiveScan { y, .. }
            | Self::Skip { y, .. }
            | Self::Gate { y, .. } => *y,
            Self::Linear(linear) => linear.y,
            Self::Ssd(ssd) => ssd.y,
            Self::Attention(attention) => attention.y,
            Self::Experts(experts) => experts.y,
            Self::Copy { y, .. } => y.value,
        }
    }
}

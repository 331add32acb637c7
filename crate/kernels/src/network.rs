//! A model's weights as data, generic over how a matrix is held, so that every backend runs the
//! same network.
//!
//! Vectors, and the few taps of a convolution, which nothing multiplies as a matrix, are numbers.

/// The weights of a model.
pub struct Network<M> {
    /// Token embedding, `[V, d]`.
    pub embedding: M,
    /// Position embedding, `[T, d]`.
    pub positions: M,
    /// In order.
    pub layers: Vec<Layer<M>>,
    /// The final norm.
    pub norm: Norm,
    /// `[V, d]`; `None`: the embedding serves.
    pub head: Option<M>,
}

/// One layer.
pub enum Layer<M> {
    /// Itera-Lite: an SSM block, then a feed-forward network or experts, unless there are none.
    IteraLite {
        /// The SSM block.
        ssm: Ssm<M>,
        /// What follows.
        sublayer: Option<Sublayer<M>>,
    },
    /// The Transformer baseline.
    Transformer(Block<M>),
}

/// A LayerNorm.
pub struct Norm {
    /// `[d]`.
    pub weight: Vec<f32>,
    /// `[d]`.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

/// The SSM block of Itera-Lite: `d` numbers in and out, `D` inside, `N` states, `k` taps.
pub struct Ssm<M> {
    /// Before the block.
    pub norm: Norm,
    /// `[2 D, d]`: the input, then the gate.
    pub in_proj: M,
    /// `[k, D]`: tap `k - 1` multiplies the current input.
    pub conv_taps: Vec<f32>,
    /// `[D]`.
    pub conv_bias: Vec<f32>,
    /// `A = -exp(A_log)`, `[N]`.
    pub a: Vec<f32>,
    /// `[N, D]`.
    pub b: M,
    /// `[D, N]`.
    pub c: M,
    /// `[D]`.
    pub d: Vec<f32>,
    /// `[D, D]`.
    pub delta_proj: M,
    /// `[D]`.
    pub delta_bias: Vec<f32>,
    /// `[d, D]`.
    pub out_proj: M,
}

/// What follows the SSM block, after a norm of its own.
pub struct Sublayer<M> {
    /// Before the mixer.
    pub norm: Norm,
    /// What it does.
    pub mixer: Mixer<M>,
}

/// What follows the SSM block.
pub enum Mixer<M> {
    /// A feed-forward network for every token.
    Ffn(Ffn<M>),
    /// `top_k` experts for every token.
    Experts {
        /// Router, `[E, d]`.
        gate: M,
        /// All of them.
        experts: Vec<Ffn<M>>,
        /// How many a token goes through.
        top_k: usize,
    },
}

/// `w2 GELU(w1 x)`.
pub struct Ffn<M> {
    /// `[f, d]`.
    pub w1: M,
    /// `[d, f]`.
    pub w2: M,
}

/// A layer of the Transformer.
pub struct Block<M> {
    /// Before attention.
    pub ln1: Norm,
    /// `[3 d, d]`: queries, keys, values.
    pub qkv: M,
    /// `[d, d]`.
    pub out_proj: M,
    /// Before the feed-forward network.
    pub ln2: Norm,
    /// The feed-forward network.
    pub ffn: Ffn<M>,
    /// Heads.
    pub n_heads: usize,
}

impl<M> Network<M> {
    /// The matrix that gives the logits.
    pub fn head(&self) -> &M {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl<M> Ssm<M> {
    /// D.
    pub fn inner_size(&self) -> usize {
        self.d.len()
    }

    /// Inputs of the convolution before the current one, k - 1.
    pub fn taps_before(&self) -> usize {
        (self.conv_taps.len() / self.d.len().max(1)).saturating_sub(1)
    }
}

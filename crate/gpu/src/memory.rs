//! Where everything of a sequence lies in its one buffer of f32: first what is remembered from
//! step to step, then what a step needs.

use crate::network::{GpuNetwork, LayerPlan, MixerPlan};

/// Rows of logits that are kept for sampling: the largest prediction offset that models have.
pub(crate) const KEPT: usize = 4;

/// The least room for tokens: as many can be drawn in one submission.
pub(crate) const LEAST_CAPACITY: usize = 64;

/// Bytes of logits that are held at a time.
const LOGIT_BYTES: usize = 32 << 20;

/// Places, in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Tokens that fit into a step.
    pub capacity: usize,
    /// Rows of logits that fit.
    pub logit_rows: usize,
    /// What is remembered lies before here.
    pub remembered: usize,
    /// Words in all.
    pub words: usize,

    /// Of each layer: tail and h, or keys and values.
    pub layers: Vec<(u32, u32)>,
    /// `[KEPT, V]`
    pub kept: u32,

    /// `[capacity]` each.
    pub random: u32,
    pub probabilities: u32,
    /// `[capacity, d]`: the residual stream.
    pub hidden: u32,
    /// `[capacity, d]`
    pub norm: u32,
    /// `[capacity, 2 D]` or `[capacity, 3 d]`
    pub wide: u32,
    /// `[capacity, D]`: the input of the scan.
    pub conv: u32,
    /// `[capacity, D]` or `[capacity, d]`
    pub mixed: u32,
    /// `[capacity]`
    pub dt: u32,
    /// `[capacity, N]`
    pub driven: u32,
    /// `[capacity, N]`
    pub states: u32,
    /// `[capacity, E]`
    pub router: u32,
    /// `[capacity, k]` each.
    pub routes: u32,
    pub shares: u32,
    /// `[E]`
    pub counts: u32,
    /// `[E, capacity k]`
    pub lists: u32,
    /// `[capacity k, f]`
    pub middle: u32,
    /// `[capacity k, d]`
    pub outputs: u32,
    /// `[logit_rows, V]`
    pub logits: u32,
    /// `[4, capacity]`
    pub nll: u32,
}

/// The widths that decide how much room steps need.
#[derive(Default)]
struct Widths {
    wide: usize,
    inner: usize,
    states: usize,
    experts: usize,
    top_k: usize,
    middle: usize,
    slots: usize,
}

impl Places {
    /// Room for steps of up to `capacity` tokens.
    pub fn new(network: &GpuNetwork, capacity: usize) -> Self {
        let capacity = capacity.max(LEAST_CAPACITY);
        let (d, vocab_size) = (network.hidden_size, network.vocab_size);
        let mut widths = Widths { top_k: 1, ..Widths::default() };
        let mut places = Self { capacity, ..Self::default() };
        let mut words = 0;
        let mut take = |count: usize| {
            let at = words;
            words += count;
            at as u32
        };
        for layer in &network.layers {
            match layer {
                LayerPlan::IteraLite { ssm, mixer } => {
                    places.layers.push((take((ssm.k - 1) * ssm.inner), take(ssm.n_states)));
                    widths.wide = widths.wide.max(2 * ssm.inner);
                    widths.inner = widths.inner.max(ssm.inner);
                    widths.states = widths.states.max(ssm.n_states);
                    match mixer {
                        None => {}
                        Some(MixerPlan::Ffn { ffn, .. }) => widths.middle = widths.middle.max(ffn.width()),
                        Some(MixerPlan::Experts { gate, banks, top_k, .. }) => {
                            let width = banks.iter().map(|bank| bank.ffn.width()).max().unwrap_or(0);
                            widths.experts = widths.experts.max(gate.block.rows as usize);
                            widths.top_k = widths.top_k.max(*top_k);
                            widths.slots = widths.slots.max(*top_k);
                            widths.middle = widths.middle.max(top_k * width);
                        }
                    }
                }
                LayerPlan::Transformer(block) => {
                    let cache = network.max_tokens * d;
                    places.layers.push((take(cache), take(cache)));
                    widths.wide = widths.wide.max(3 * d);
                    widths.inner = widths.inner.max(d);
                    widths.middle = widths.middle.max(block.ffn.width());
                }
            }
        }
        places.kept = take(KEPT * vocab_size);
        places.remembered = take(0) as usize;

        places.logit_rows = (LOGIT_BYTES / (4 * vocab_size).max(1)).clamp(1, capacity);
        places.random = take(capacity);
        places.probabilities = take(capacity);
        places.hidden = take(capacity * d);
        places.norm = take(capacity * d);
        places.wide = take(capacity * widths.wide);
        places.conv = take(capacity * widths.inner);
        places.mixed = take(capacity * widths.inner);
        places.dt = take(capacity);
        places.driven = take(capacity * widths.states);
        places.states = take(capacity * widths.states);
        places.router = take(capacity * widths.experts);
        places.routes = take(capacity * widths.slots);
        places.shares = take(capacity * widths.slots);
        places.counts = take(widths.experts);
        places.lists = take(widths.experts * capacity * widths.slots);
        places.middle = take(capacity * widths.middle);
        places.outputs = take(capacity * widths.slots * d);
        places.logits = take(places.logit_rows * vocab_size);
        places.nll = take(statepress_kernels::shaders::LABEL_SETS as usize * capacity);
        places.words = words;
        places
    }

    /// Slots of a step for as many experts a token as `top_k`.
    pub fn room(&self, top_k: usize) -> u32 {
        (self.capacity * top_k) as u32
    }
}

//! Where everything of a sequence lies in its one buffer of f32: first what is remembered from
//! step to step, then what a step needs.

use statepress_kernels::program::{Op, StateId, StateSize, ValueId, View};
use statepress_kernels::shaders::{LABEL_SETS, Rows};

use crate::network::GpuNetwork;

/// Rows of logits that are kept for sampling: the largest prediction offset that models have.
pub(crate) const KEPT: usize = 4;

/// The least room for tokens: as many can be drawn in one submission.
pub(crate) const LEAST_CAPACITY: usize = 64;

/// The least room for positions in a cache of keys and values.
const LEAST_POSITIONS: usize = 256;

/// Bytes of logits that are held at a time.
const LOGIT_BYTES: usize = 32 << 20;

/// Places, in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Tokens that fit into a step.
    pub capacity: usize,
    /// Positions that fit into caches of keys and values.
    pub positions: usize,
    /// Rows of logits that fit.
    pub logit_rows: usize,
    /// What is remembered lies before here.
    pub remembered: usize,
    /// Words in all.
    pub words: usize,

    /// Of each state.
    states: Vec<u32>,
    /// `[KEPT, V]`
    pub kept: u32,

    /// `[capacity]` each.
    pub random: u32,
    pub probabilities: u32,
    /// Of each value, `[capacity, width]`; values that never live together share one.
    values: Vec<Rows>,
    /// `[capacity, d]`: the residual stream.
    pub hidden: u32,
    /// `[capacity, k]`, and room for `[capacity, d]`: what enters the head.
    pub norm: u32,
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

impl Places {
    /// Room for steps of up to `capacity` tokens, and for `positions` in all.
    pub fn new(network: &GpuNetwork, capacity: usize, positions: usize) -> Self {
        let program = &network.program;
        let capacity = capacity.max(LEAST_CAPACITY);
        let most = program.max_tokens.unwrap_or(usize::MAX);
        let positions = positions.next_power_of_two().max(LEAST_POSITIONS).min(most);
        let (d, vocab_size) = (network.hidden_size, network.vocab_size);
        let mut places = Self { capacity, positions, ..Self::default() };
        let mut words = 0;
        let mut take = |count: usize| {
            let at = words;
            words += count;
            at as u32
        };
        places.states = program.states.iter().map(|state| take(state.size.numbers(positions))).collect();
        places.kept = take(KEPT * vocab_size);
        places.remembered = take(0) as usize;

        places.logit_rows = (LOGIT_BYTES / (4 * vocab_size).max(1)).clamp(1, capacity);
        places.random = take(capacity);
        places.probabilities = take(capacity);
        let slots: Vec<u32> = program.slots.widths().iter().map(|&width| take(capacity * width)).collect();
        let place = |n: usize| Rows::whole(slots[program.slots.of(ValueId(n))], program.widths[n]);
        places.values = (0..program.widths.len()).map(place).collect();
        places.hidden = places.values[program.hidden.0].at;
        places.norm = take(capacity * d.max(program.width(program.head.x)));

        let (mut experts, mut slots, mut middle) = (0, 0, 0);
        for (n, node) in program.nodes.iter().enumerate() {
            if let Op::Experts(op) = &node.op {
                experts = experts.max(op.experts.len());
                slots = slots.max(op.top_k);
                let widest = network.banks(n).iter().map(|bank| bank.width()).max().unwrap_or(0);
                middle = middle.max(op.top_k * widest);
            }
        }
        places.router = take(capacity * experts);
        places.routes = take(capacity * slots);
        places.shares = take(capacity * slots);
        places.counts = take(experts);
        places.lists = take(experts * capacity * slots);
        places.middle = take(capacity * middle);
        places.outputs = take(capacity * slots * d);
        places.logits = take(places.logit_rows * vocab_size);
        places.nll = take(LABEL_SETS as usize * capacity);
        places.words = words;
        places
    }

    /// A state.
    pub fn state(&self, id: StateId) -> u32 {
        self.states[id.0]
    }

    /// Columns of a value.
    pub fn rows(&self, view: View) -> Rows {
        self.values[view.value.0].from_column(view.first)
    }

    /// A value.
    pub fn value(&self, value: ValueId) -> Rows {
        self.values[value.0]
    }

    /// More room, behind everything else; says where it begins.
    pub fn append(&mut self, words: usize) -> u32 {
        let at = self.words as u32;
        self.words += words;
        at
    }

    /// Slots of a step for as many experts a token as `top_k`.
    pub fn room(&self, top_k: usize) -> u32 {
        (self.capacity * top_k) as u32
    }

    /// What is remembered of `tokens` tokens, as it moves to other places of the same network: from,
    /// to and how many words each.
    pub fn moves_to(&self, other: &Self, network: &GpuNetwork, tokens: usize) -> Vec<(u32, u32, usize)> {
        let states = network.program.states.iter().enumerate().map(|(n, state)| {
            let numbers = match state.size {
                StateSize::Fixed(_) => state.size.numbers(0),
                StateSize::PerToken(_) => state.size.numbers(tokens),
            };
            (self.states[n], other.states[n], numbers)
        });
        let kept = (self.kept, other.kept, KEPT * network.vocab_size);
        states.chain([kept]).filter(|(.., words)| *words > 0).collect()
    }
}

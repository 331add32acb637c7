//! A network as lists of dispatches, which are plain data: for one token, for many, for logits.
//!
//! One token of a small Itera-Lite layer takes three dispatches: norm and first projection; the
//! rest of the [SSM block](ssm); the [experts](mixer). Blocks too large for a single workgroup run
//! op by op.

mod block;
mod mixer;
mod ssm;

use std::rc::Rc;

use statepress_kernels::shaders::{self as wgsl, Codec, Kernel, Rows, THREADS, TILE};

use crate::memory::Places;
use crate::network::{GpuNetwork, LayerPlan, MixerPlan, Placed};

/// Multiplications that one workgroup does about as fast as it takes to launch another kernel.
const FUSED_PRODUCTS: usize = 1 << 17;

/// One dispatch.
pub(crate) struct Step {
    pub kernel: Kernel,
    /// `override` constants that are true.
    pub overrides: Vec<&'static str>,
    pub params: Vec<u32>,
    pub matrices: Vec<Rc<Placed>>,
    /// How many matrices of its banks a token needs.
    pub banks_used: usize,
    pub moves: Moves,
    pub groups: [Extent; 3],
}

/// Words that a dispatch moves for one token beside its matrices, each counted once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moves {
    /// Read of what is no matrix: norms, taps, biases.
    pub vectors: usize,
    /// Read and written in the memory of the sequence.
    pub activations: usize,
}

/// Workgroups in one dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// As many as that.
    Fixed(u32),
    /// One per token.
    Tokens,
    /// One per tile of so many tokens, times that.
    Tiles(u32),
}

/// Part of a step list.
pub(crate) enum Part {
    Dispatch(Step),
    /// The residual stream is now that after the embedding, or after a layer.
    Residual,
}

const ONE: Extent = Extent::Fixed(1);

impl GpuNetwork {
    fn list<'a>(&self, places: &'a Places, exact: bool) -> List<'a> {
        let integers = self.gpu.0.features.packed_dot && !exact;
        let fuses = !self.gpu.0.op_by_op;
        List { parts: Vec::new(), integers, fuses, places, hidden_size: self.hidden_size }
    }

    /// A forward pass of one token; unless `exact`, activations may be rounded to 15 bits.
    pub(crate) fn token(&self, places: &Places, exact: bool) -> Vec<Part> {
        let mut list = self.list(places, exact);
        list.embed(self, ONE);
        for (layer, &memory) in self.layers.iter().zip(&places.layers) {
            match layer {
                LayerPlan::IteraLite { ssm, mixer } => {
                    list.ssm_token(ssm, memory);
                    match mixer {
                        Some(MixerPlan::Ffn { norm, ffn }) => list.ffn_token(*norm, ffn),
                        Some(MixerPlan::Experts { norm, gate, banks, top_k }) => {
                            list.experts_token(*norm, gate, banks, *top_k);
                        }
                        None => {}
                    }
                }
                LayerPlan::Transformer(block) => list.block_token(block, memory),
            }
            list.parts.push(Part::Residual);
        }
        list.parts
    }

    /// A forward pass of many tokens.
    pub(crate) fn tokens(&self, places: &Places) -> Vec<Part> {
        let mut list = self.list(places, true);
        list.embed(self, Extent::Tokens);
        for (layer, &memory) in self.layers.iter().zip(&places.layers) {
            match layer {
                LayerPlan::IteraLite { ssm, mixer } => {
                    list.ssm_tokens(ssm, memory);
                    match mixer {
                        Some(MixerPlan::Ffn { norm, ffn }) => list.ffn_tokens(*norm, ffn),
                        Some(MixerPlan::Experts { norm, gate, banks, top_k }) => {
                            list.experts_tokens(*norm, gate, banks, *top_k);
                        }
                        None => {}
                    }
                }
                LayerPlan::Transformer(block) => list.block_tokens(block, memory),
            }
            list.parts.push(Part::Residual);
        }
        list.parts
    }

    /// Logits of the last token, among the kept ones.
    pub(crate) fn kept_logits(&self, places: &Places, exact: bool) -> Vec<Part> {
        let mut list = self.list(places, exact);
        list.row(self.head(), Some(self.norm), places.hidden, places.kept, &["NORM", "KEPT"]);
        list.parts
    }

    /// Logits of many rows.
    pub(crate) fn logits(&self, places: &Places) -> Vec<Part> {
        let mut list = self.list(places, true);
        list.norm(self.norm, Extent::Tokens);
        list.rows(self.head(), places.norm, places.logits, &[]);
        list.parts
    }

    /// Negative log-likelihoods of the rows whose logits are there.
    pub(crate) fn nll(&self, places: &Places) -> Vec<Part> {
        let mut list = self.list(places, true);
        let params = wgsl::Nll { logits: places.logits, nll: places.nll, vocab_size: self.vocab_size as u32 };
        list.push(Kernel::Nll, &[], &params, &[], [Extent::Tokens, ONE, ONE]);
        list.parts
    }
}
/// A list being written.
struct List<'a> {
    parts: Vec<Part>,
    /// Single tokens meet INT8 matrices as integers.
    integers: bool,
    /// Small blocks go into one workgroup.
    fuses: bool,
    places: &'a Places,
    hidden_size: usize,
}

impl List<'_> {
    fn push(
        &mut self,
        kernel: Kernel,
        overrides: &'static [&'static str],
        params: &impl wgsl::Block,
        matrices: &[&Rc<Placed>],
        groups: [Extent; 3],
    ) {
        let mut words = Vec::new();
        params.words(&mut words);
        let matrices: Vec<Rc<Placed>> = matrices.iter().map(|matrix| (*matrix).clone()).collect();
        let mut overrides = overrides.to_vec();
        let int8 = matrices.iter().all(|placed| placed.matrix.codec == Codec::Int8);
        if kernel == Kernel::Matvec && int8 && self.integers {
            overrides.push("INTEGER");
        }
        let (banks_used, moves) = (1, Moves::default());
        let step = Step { kernel, overrides, params: words, matrices, banks_used, moves, groups };
        self.parts.push(Part::Dispatch(step));
    }

    /// What the last step moves beside its matrices, in words a token.
    fn moves(&mut self, vectors: usize, activations: usize) {
        if let Some(Part::Dispatch(step)) = self.parts.last_mut() {
            step.moves = Moves { vectors, activations };
        }
    }

    /// How many matrices of the last step's banks a token needs.
    fn uses_banks(&mut self, count: usize) {
        if let Some(Part::Dispatch(step)) = self.parts.last_mut() {
            step.banks_used = count;
        }
    }

    fn embed(&mut self, network: &GpuNetwork, tokens: Extent) {
        let params = wgsl::Embed {
            tokens: network.embedding.block,
            positions: network.positions.block,
            y: self.places.hidden,
            scale: 1.0,
        };
        let groups = [Extent::Fixed(params.tokens.eights.div_ceil(THREADS)), tokens, ONE];
        self.push(Kernel::Embed, &["POSITIONS"], &params, &[&network.embedding, &network.positions], groups);
        self.moves(0, self.hidden_size);
        self.parts.push(Part::Residual);
    }

    fn norm(&mut self, norm: wgsl::Norm, tokens: Extent) {
        let params = wgsl::NormRows {
            norm,
            x: Rows::whole(self.places.hidden, self.hidden_size),
            y: Rows::whole(self.places.norm, self.hidden_size),
        };
        self.push(Kernel::Norm, &[], &params, &[], [tokens, ONE, ONE]);
        self.moves(2 * self.hidden_size, 2 * self.hidden_size);
    }

    /// The product of a matrix with one token.
    fn row(
        &mut self,
        w: &Rc<Placed>,
        norm: Option<wgsl::Norm>,
        x: u32,
        y: u32,
        overrides: &'static [&'static str],
    ) {
        let params = wgsl::Matvec {
            w: w.block,
            norm: norm.unwrap_or_default(),
            x,
            y,
            lanes: lanes(&w.block),
            ..wgsl::Matvec::default()
        };
        self.push(Kernel::Matvec, overrides, &params, &[w], row_groups(&w.block, params.lanes, 1));
        self.moves_of_product(w, norm.is_some(), overrides);
    }

    /// The product of a matrix with many tokens.
    fn rows(&mut self, w: &Rc<Placed>, x: u32, y: u32, overrides: &'static [&'static str]) {
        let params = wgsl::Matmul {
            w: w.block,
            x: Rows::whole(x, w.matrix.cols),
            y: Rows::whole(y, w.matrix.rows),
            slots: 1,
            ..wgsl::Matmul::default()
        };
        let groups = [Extent::Fixed(w.block.rows.div_ceil(TILE)), Extent::Tiles(1), ONE];
        self.push(Kernel::Matmul, overrides, &params, &[w], groups);
        self.moves_of_product(w, false, overrides);
    }

    fn moves_of_product(&mut self, w: &Rc<Placed>, normed: bool, overrides: &[&str]) {
        let (rows, cols) = (w.matrix.rows, w.matrix.cols);
        // Adding reads y, too.
        let times = if overrides.contains(&"ADD") { 2 } else { 1 };
        self.moves(if normed { 2 * cols } else { 0 }, cols + times * rows);
    }
}

/// Threads to a row: as many as there are eights, up to a subgroup of common hardware.
fn lanes(w: &wgsl::Matrix) -> u32 {
    w.eights.next_power_of_two().clamp(1, 32)
}

/// Workgroups for all rows: those beyond the limit of one dimension go on in the third.
fn row_groups(w: &wgsl::Matrix, lanes: u32, slots: u32) -> [Extent; 3] {
    let groups = w.rows.div_ceil(THREADS / lanes);
    let most = 65535;
    [Extent::Fixed(groups.min(most)), Extent::Fixed(slots), Extent::Fixed(groups.div_ceil(most))]
}

/// Workgroups of a thread per channel.
fn across(channels: usize) -> Extent {
    Extent::Fixed(channels.div_ceil(THREADS as usize) as u32)
}

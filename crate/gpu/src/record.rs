//! A network as lists of dispatches, which are plain data: for one token, for many, for logits.
//!
//! One token of a small Itera-Lite layer takes three dispatches: norm and first projection; the
//! rest of the SSM block; the experts. Blocks too large for a single workgroup run op by op.

use std::rc::Rc;

use statepress_kernels::backend::BackendError;
use statepress_kernels::network::{Ffn, Layer, Mixer, Network, Norm, Sublayer};
use statepress_kernels::shaders::{self as wgsl, Codec, FUSED_EXPERTS, FUSED_OPERAND, Kernel, THREADS, TILE};
use wgpu::BufferUsages;

use crate::memory::Places;
use crate::{Gpu, GpuMatrix};

/// Multiplications that one workgroup does about as fast as it takes to launch another kernel.
const FUSED_PRODUCTS: usize = 1 << 17;

/// A network on the GPU.
pub struct GpuNetwork {
    pub(crate) gpu: Gpu,
    pub(crate) constants: wgpu::Buffer,
    pub(crate) embedding: Rc<Placed>,
    pub(crate) positions: Rc<Placed>,
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) norm: wgsl::Norm,
    /// `None`: the embedding serves.
    head: Option<Rc<Placed>>,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) max_tokens: usize,
}

/// A matrix whose scales have their place among the constants.
pub(crate) struct Placed {
    pub matrix: GpuMatrix,
    pub block: wgsl::Matrix,
}

pub(crate) enum LayerPlan {
    IteraLite { ssm: Box<SsmPlan>, mixer: Option<MixerPlan> },
    Transformer(Box<BlockPlan>),
}

pub(crate) struct SsmPlan {
    norm: wgsl::Norm,
    in_proj: Rc<Placed>,
    taps: u32,
    conv_bias: u32,
    a: u32,
    b: Rc<Placed>,
    c: Rc<Placed>,
    d: u32,
    delta: Rc<Placed>,
    delta_bias: u32,
    proj: Rc<Placed>,
    pub inner: usize,
    pub n_states: usize,
    pub k: usize,
}

pub(crate) enum MixerPlan {
    Ffn { norm: wgsl::Norm, ffn: FfnPlan },
    Experts { norm: wgsl::Norm, gate: Rc<Placed>, banks: Vec<Bank>, top_k: usize },
}

pub(crate) struct FfnPlan {
    w1: Rc<Placed>,
    w2: Rc<Placed>,
}

/// Experts of one shape and precision, one after the other.
pub(crate) struct Bank {
    first: usize,
    count: usize,
    pub ffn: FfnPlan,
}

pub(crate) struct BlockPlan {
    ln1: wgsl::Norm,
    qkv: Rc<Placed>,
    out_proj: Rc<Placed>,
    ln2: wgsl::Norm,
    pub ffn: FfnPlan,
    n_heads: usize,
}

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
    pub(crate) fn new(gpu: &Gpu, network: Network<GpuMatrix>) -> Result<Self, BackendError> {
        let mut constants = Vec::new();
        let (vocab_size, hidden_size) = (network.embedding.rows, network.embedding.cols);
        let max_tokens = network.positions.rows;
        let embedding = place(network.embedding, &mut constants);
        let positions = place(network.positions, &mut constants);
        let layers = network.layers.into_iter().map(|layer| plan_layer(gpu, layer, &mut constants));
        let layers = layers.collect::<Result<_, _>>()?;
        let norm = place_norm(&network.norm, &mut constants);
        let head = network.head.map(|head| place(head, &mut constants));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = gpu.own_buffer("scales and vectors", 4 * constants.len() as u64, usage)?;
        gpu.0.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&constants));
        Ok(Self {
            gpu: gpu.clone(),
            constants: buffer,
            embedding,
            positions,
            layers,
            norm,
            head,
            vocab_size,
            hidden_size,
            max_tokens,
        })
    }

    fn head(&self) -> &Rc<Placed> {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

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

impl Drop for GpuNetwork {
    fn drop(&mut self) {
        self.constants.destroy();
    }
}

impl FfnPlan {
    /// f.
    pub fn width(&self) -> usize {
        self.w1.block.rows as usize
    }
}

fn place(matrix: GpuMatrix, constants: &mut Vec<u32>) -> Rc<Placed> {
    let block = matrix.block(constants);
    Rc::new(Placed { matrix, block })
}

fn place_vector(values: &[f32], constants: &mut Vec<u32>) -> u32 {
    let at = constants.len() as u32;
    constants.extend(values.iter().map(|value| value.to_bits()));
    at
}

fn place_norm(norm: &Norm, constants: &mut Vec<u32>) -> wgsl::Norm {
    wgsl::Norm {
        weight: place_vector(&norm.weight, constants),
        bias: place_vector(&norm.bias, constants),
        eps: norm.eps,
        d: norm.weight.len() as u32,
    }
}

fn place_ffn(ffn: Ffn<GpuMatrix>, constants: &mut Vec<u32>) -> FfnPlan {
    FfnPlan { w1: place(ffn.w1, constants), w2: place(ffn.w2, constants) }
}

fn plan_layer(
    gpu: &Gpu,
    layer: Layer<GpuMatrix>,
    constants: &mut Vec<u32>,
) -> Result<LayerPlan, BackendError> {
    match layer {
        Layer::IteraLite { ssm, sublayer } => {
            let (inner, n_states, k) = (ssm.inner_size(), ssm.a.len(), ssm.taps_before() + 1);
            let ssm = SsmPlan {
                norm: place_norm(&ssm.norm, constants),
                taps: place_vector(&ssm.conv_taps, constants),
                conv_bias: place_vector(&ssm.conv_bias, constants),
                a: place_vector(&ssm.a, constants),
                d: place_vector(&ssm.d, constants),
                delta_bias: place_vector(&ssm.delta_bias, constants),
                in_proj: place(ssm.in_proj, constants),
                b: place(ssm.b, constants),
                c: place(ssm.c, constants),
                delta: place(ssm.delta_proj, constants),
                proj: place(ssm.out_proj, constants),
                inner,
                n_states,
                k,
            };
            let mixer = match sublayer {
                None => None,
                Some(Sublayer { norm, mixer: Mixer::Ffn(ffn) }) => {
                    let norm = place_norm(&norm, constants);
                    Some(MixerPlan::Ffn { norm, ffn: place_ffn(ffn, constants) })
                }
                Some(Sublayer { norm, mixer: Mixer::Experts { gate, experts, top_k } }) => {
                    Some(MixerPlan::Experts {
                        norm: place_norm(&norm, constants),
                        gate: place(gate, constants),
                        banks: plan_banks(gpu, experts, constants)?,
                        top_k,
                    })
                }
            };
            Ok(LayerPlan::IteraLite { ssm: Box::new(ssm), mixer })
        }
        Layer::Transformer(block) => {
            let width = block.qkv.cols / block.n_heads.max(1);
            if width > wgsl::MAX_HEAD as usize {
                return Err(BackendError::Limit {
                    what: "a head of attention (channels)".into(),
                    needed: width as u64,
                    allowed: u64::from(wgsl::MAX_HEAD),
                    adapter: gpu.0.adapter.name.clone(),
                });
            }
            Ok(LayerPlan::Transformer(Box::new(BlockPlan {
                ln1: place_norm(&block.ln1, constants),
                qkv: place(block.qkv, constants),
                out_proj: place(block.out_proj, constants),
                ln2: place_norm(&block.ln2, constants),
                ffn: place_ffn(block.ffn, constants),
                n_heads: block.n_heads,
            })))
        }
    }
}

/// Neighbours that are alike share a bank.
fn plan_banks(
    gpu: &Gpu,
    experts: Vec<Ffn<GpuMatrix>>,
    constants: &mut Vec<u32>,
) -> Result<Vec<Bank>, BackendError> {
    let mut runs: Vec<Vec<Ffn<GpuMatrix>>> = Vec::new();
    for expert in experts {
        match runs.last_mut() {
            Some(run) if run[0].w1.alike(&expert.w1) && run[0].w2.alike(&expert.w2) => run.push(expert),
            _ => runs.push(vec![expert]),
        }
    }
    let mut first = 0;
    let banks = runs.into_iter().map(|run| {
        let count = run.len();
        let (w1, w2) = run.into_iter().map(|expert| (expert.w1, expert.w2)).unzip();
        let ffn = Ffn { w1: GpuMatrix::bank(gpu, w1)?, w2: GpuMatrix::bank(gpu, w2)? };
        let bank = Bank { first, count, ffn: place_ffn(ffn, constants) };
        first += count;
        Ok(bank)
    });
    banks.collect()
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
        if kernel == Kernel::Token && int8 && self.integers {
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
        };
        let groups = [Extent::Fixed(params.tokens.eights.div_ceil(THREADS)), tokens, ONE];
        self.push(Kernel::Embed, &[], &params, &[&network.embedding, &network.positions], groups);
        self.moves(0, self.hidden_size);
        self.parts.push(Part::Residual);
    }

    fn norm(&mut self, norm: wgsl::Norm, tokens: Extent) {
        let params = wgsl::LayerNorm { norm, x: self.places.hidden, y: self.places.norm };
        self.push(Kernel::LayerNorm, &[], &params, &[], [tokens, ONE, ONE]);
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
        let params = wgsl::Token {
            w: w.block,
            norm: norm.unwrap_or_default(),
            x,
            y,
            lanes: lanes(&w.block),
            ..wgsl::Token::default()
        };
        self.push(Kernel::Token, overrides, &params, &[w], row_groups(&w.block, params.lanes, 1));
        self.moves_of_product(w, norm.is_some(), overrides);
    }

    /// The product of a matrix with many tokens.
    fn rows(&mut self, w: &Rc<Placed>, x: u32, y: u32, overrides: &'static [&'static str]) {
        let params = wgsl::Tokens { w: w.block, x, y, slots: 1, ..wgsl::Tokens::default() };
        let groups = [Extent::Fixed(w.block.rows.div_ceil(TILE)), Extent::Tiles(1), ONE];
        self.push(Kernel::Tokens, overrides, &params, &[w], groups);
        self.moves_of_product(w, false, overrides);
    }

    fn moves_of_product(&mut self, w: &Rc<Placed>, normed: bool, overrides: &[&str]) {
        let (rows, cols) = (w.matrix.rows, w.matrix.cols);
        // Adding reads y, too.
        let times = if overrides.contains(&"ADD") { 2 } else { 1 };
        self.moves(if normed { 2 * cols } else { 0 }, cols + times * rows);
    }

    fn ssm_token(&mut self, ssm: &SsmPlan, (tail, h): (u32, u32)) {
        let places = self.places;
        self.row(&ssm.in_proj, Some(ssm.norm), places.hidden, places.wide, &["NORM"]);
        if self.fuses && ssm.is_small() {
            let params = wgsl::SsmToken {
                delta: ssm.delta.block,
                b: ssm.b.block,
                c: ssm.c.block,
                proj: ssm.proj.block,
                wide: places.wide,
                hidden: places.hidden,
                tail,
                h,
                taps: ssm.taps,
                conv_bias: ssm.conv_bias,
                a: ssm.a,
                d: ssm.d,
                delta_bias: ssm.delta_bias,
                inner: ssm.inner as u32,
                n_states: ssm.n_states as u32,
                k: ssm.k as u32,
                lanes: lanes(&ssm.delta.block).min(8),
            };
            let matrices = [&ssm.delta, &ssm.b, &ssm.c, &ssm.proj];
            self.push(Kernel::SsmToken, &[], &params, &matrices, [ONE; 3]);
            // The inputs and the gate; the tail, the state and the residual stream are brought up to date.
            let (inner, states) = (ssm.inner, ssm.n_states);
            let updated = (ssm.k - 1) * inner + states + self.hidden_size;
            self.moves((ssm.k + 3) * inner + states, 2 * inner + 2 * updated);
            return;
        }
        self.conv(ssm, tail, ONE);
        self.row(&ssm.delta, None, places.conv, places.mixed, &[]);
        self.step(ssm, ONE);
        self.row(&ssm.b, None, places.conv, places.driven, &[]);
        self.scan(ssm, Kernel::ScanSequential, (tail, h), 1);
        self.row(&ssm.c, None, places.states, places.mixed, &[]);
        self.skip_gate(ssm, ONE);
        self.row(&ssm.proj, None, places.mixed, places.hidden, &["ADD"]);
    }

    fn ssm_tokens(&mut self, ssm: &SsmPlan, (tail, h): (u32, u32)) {
        let places = self.places;
        self.norm(ssm.norm, Extent::Tokens);
        self.rows(&ssm.in_proj, places.norm, places.wide, &[]);
        self.conv(ssm, tail, Extent::Tokens);
        self.rows(&ssm.delta, places.conv, places.mixed, &[]);
        self.step(ssm, Extent::Tokens);
        self.rows(&ssm.b, places.conv, places.driven, &[]);
        self.scan(ssm, Kernel::ScanParallel, (tail, h), ssm.n_states as u32);
        self.rows(&ssm.c, places.states, places.mixed, &[]);
        self.skip_gate(ssm, Extent::Tokens);
        self.rows(&ssm.proj, places.mixed, places.hidden, &["ADD"]);
    }

    fn conv(&mut self, ssm: &SsmPlan, tail: u32, tokens: Extent) {
        let params = wgsl::Conv1d {
            wide: self.places.wide,
            tail,
            y: self.places.conv,
            taps: ssm.taps,
            bias: ssm.conv_bias,
            inner: ssm.inner as u32,
            k: ssm.k as u32,
        };
        self.push(Kernel::Conv1d, &[], &params, &[], [across(ssm.inner), tokens, ONE]);
        // The tail, the input and the output.
        self.moves((ssm.k + 1) * ssm.inner, (ssm.k + 1) * ssm.inner);
    }

    fn step(&mut self, ssm: &SsmPlan, tokens: Extent) {
        let (delta, dt) = (self.places.mixed, self.places.dt);
        let params = wgsl::Step { delta, dt, bias: ssm.delta_bias, inner: ssm.inner as u32 };
        self.push(Kernel::Step, &[], &params, &[], [tokens, ONE, ONE]);
        self.moves(ssm.inner, ssm.inner + 1);
    }

    fn scan(&mut self, ssm: &SsmPlan, kernel: Kernel, (tail, h): (u32, u32), groups: u32) {
        let params = wgsl::Scan {
            dt: self.places.dt,
            driven: self.places.driven,
            h,
            states: self.places.states,
            a: ssm.a,
            n_states: ssm.n_states as u32,
            tail,
            wide: self.places.wide,
            inner: ssm.inner as u32,
            k: ssm.k as u32,
        };
        self.push(kernel, &[], &params, &[], [Extent::Fixed(groups), ONE, ONE]);
        // Step size, what drives, h before and after, h for later; the tail moves on by one input.
        self.moves(ssm.n_states, 1 + 4 * ssm.n_states + 2 * (ssm.k - 1) * ssm.inner);
    }

    fn skip_gate(&mut self, ssm: &SsmPlan, tokens: Extent) {
        let params = wgsl::SkipGate {
            y: self.places.mixed,
            a: self.places.conv,
            wide: self.places.wide,
            d: ssm.d,
            inner: ssm.inner as u32,
        };
        self.push(Kernel::SkipGate, &[], &params, &[], [across(ssm.inner), tokens, ONE]);
        self.moves(ssm.inner, 4 * ssm.inner);
    }

    fn ffn_token(&mut self, norm: wgsl::Norm, ffn: &FfnPlan) {
        let places = self.places;
        if self.fuses && ffn.is_small(1) {
            // No router: the kernel wants a matrix there all the same.
            self.mixer_token(norm, &ffn.w1, ffn, 1, 1, &[]);
            return;
        }
        self.row(&ffn.w1, Some(norm), places.hidden, places.middle, &["NORM", "GELU"]);
        self.row(&ffn.w2, None, places.middle, places.hidden, &["ADD"]);
    }

    fn ffn_tokens(&mut self, norm: wgsl::Norm, ffn: &FfnPlan) {
        let places = self.places;
        self.norm(norm, Extent::Tokens);
        self.rows(&ffn.w1, places.norm, places.middle, &["GELU"]);
        self.rows(&ffn.w2, places.middle, places.hidden, &["ADD"]);
    }

    fn mixer_token(
        &mut self,
        norm: wgsl::Norm,
        gate: &Rc<Placed>,
        ffn: &FfnPlan,
        n_experts: usize,
        top_k: usize,
        overrides: &'static [&'static str],
    ) {
        let params = wgsl::MixerToken {
            gate: gate.block,
            w1: ffn.w1.block,
            w2: ffn.w2.block,
            norm,
            hidden: self.places.hidden,
            n_experts: n_experts as u32,
            top_k: top_k as u32,
            lanes: lanes(&ffn.w1.block).min(8),
        };
        self.push(Kernel::MixerToken, overrides, &params, &[gate, &ffn.w1, &ffn.w2], [ONE; 3]);
        self.uses_banks(top_k);
        self.moves(2 * self.hidden_size, 2 * self.hidden_size);
    }

    fn experts_token(&mut self, norm: wgsl::Norm, gate: &Rc<Placed>, banks: &[Bank], top_k: usize) {
        let places = self.places;
        let n_experts = gate.block.rows as usize;
        if let [bank] = banks
            && self.fuses
            && bank.ffn.is_small(top_k)
            && n_experts <= FUSED_EXPERTS as usize
        {
            self.mixer_token(norm, gate, &bank.ffn, n_experts, top_k, &["EXPERTS"]);
            return;
        }
        self.norm(norm, ONE);
        self.row(gate, None, places.norm, places.router, &[]);
        self.route(n_experts, top_k);
        for bank in banks {
            let mut routed = |w: &Rc<Placed>, x, y, x_per_slot, overrides| {
                let params = wgsl::Token {
                    w: w.block,
                    x,
                    y,
                    lanes: lanes(&w.block),
                    routes: places.routes,
                    first_expert: bank.first as u32,
                    n_experts: bank.count as u32,
                    x_per_slot,
                    ..wgsl::Token::default()
                };
                let groups = row_groups(&w.block, params.lanes, top_k as u32);
                self.push(Kernel::Token, overrides, &params, &[w], groups);
                let used = top_k.min(bank.count);
                self.uses_banks(used);
                let inputs = if x_per_slot == 1 { used } else { 1 };
                self.moves(0, top_k + inputs * w.matrix.cols + used * w.matrix.rows);
            };
            routed(&bank.ffn.w1, places.norm, places.middle, 0, &["ROUTED", "GELU"]);
            routed(&bank.ffn.w2, places.middle, places.outputs, 1, &["ROUTED"]);
        }
        self.combine(top_k, ONE);
    }

    fn experts_tokens(&mut self, norm: wgsl::Norm, gate: &Rc<Placed>, banks: &[Bank], top_k: usize) {
        let places = self.places;
        self.norm(norm, Extent::Tokens);
        self.rows(gate, places.norm, places.router, &[]);
        self.route(gate.block.rows as usize, top_k);
        for bank in banks {
            let mut routed = |w: &Rc<Placed>, x, y, slots, overrides| {
                let params = wgsl::Tokens {
                    w: w.block,
                    x,
                    y,
                    counts: places.counts,
                    lists: places.lists,
                    room: places.room(top_k),
                    first_expert: bank.first as u32,
                    slots,
                };
                // All slots may be one expert's: no expert is in two slots of a token.
                let groups = [
                    Extent::Fixed(w.block.rows.div_ceil(TILE)),
                    Extent::Tiles(1),
                    Extent::Fixed(bank.count as u32),
                ];
                self.push(Kernel::Tokens, overrides, &params, &[w], groups);
            };
            routed(&bank.ffn.w1, places.norm, places.middle, top_k as u32, &["ROUTED", "GELU"]);
            routed(&bank.ffn.w2, places.middle, places.outputs, 1, &["ROUTED"]);
        }
        self.combine(top_k, Extent::Tokens);
    }

    fn route(&mut self, n_experts: usize, top_k: usize) {
        let places = self.places;
        let params = wgsl::Route {
            logits: places.router,
            routes: places.routes,
            shares: places.shares,
            counts: places.counts,
            lists: places.lists,
            room: places.room(top_k),
            n_experts: n_experts as u32,
            top_k: top_k as u32,
        };
        self.push(Kernel::Route, &[], &params, &[], [ONE; 3]);
        // Logits; experts and shares; how many slots each expert has, and which.
        self.moves(0, 2 * n_experts + 3 * top_k);
    }

    fn combine(&mut self, top_k: usize, tokens: Extent) {
        let places = self.places;
        let params = wgsl::Combine {
            hidden: places.hidden,
            outputs: places.outputs,
            shares: places.shares,
            d: self.hidden_size as u32,
            top_k: top_k as u32,
        };
        self.push(Kernel::Combine, &[], &params, &[], [across(self.hidden_size), tokens, ONE]);
        self.moves(0, (2 + top_k) * self.hidden_size + top_k);
    }

    fn block_token(&mut self, block: &BlockPlan, memory: (u32, u32)) {
        let places = self.places;
        self.row(&block.qkv, Some(block.ln1), places.hidden, places.wide, &["NORM"]);
        self.attention(block, memory, ONE);
        self.row(&block.out_proj, None, places.mixed, places.hidden, &["ADD"]);
        self.ffn_token(block.ln2, &block.ffn);
    }

    fn block_tokens(&mut self, block: &BlockPlan, memory: (u32, u32)) {
        let places = self.places;
        self.norm(block.ln1, Extent::Tokens);
        self.rows(&block.qkv, places.norm, places.wide, &[]);
        self.attention(block, memory, Extent::Tokens);
        self.rows(&block.out_proj, places.mixed, places.hidden, &["ADD"]);
        self.ffn_tokens(block.ln2, &block.ffn);
    }

    fn attention(&mut self, block: &BlockPlan, (keys, values): (u32, u32), tokens: Extent) {
        let places = self.places;
        let params = wgsl::Attention {
            qkv: places.wide,
            keys,
            values,
            y: places.mixed,
            d: self.hidden_size as u32,
            heads: block.n_heads as u32,
        };
        self.push(Kernel::Attention, &[], &params, &[], [Extent::Fixed(block.n_heads as u32), tokens, ONE]);
        // Of a sequence's first token; every later one reads the keys and values of those before it as well.
        self.moves(0, 6 * self.hidden_size);
    }
}

impl SsmPlan {
    /// Whether one workgroup can hold it, and does it about as fast as several kernels.
    fn is_small(&self) -> bool {
        let operand = 8 * (self.delta.matrix.eights() + self.c.matrix.eights());
        let products = self.inner * (self.inner + 2 * self.n_states + self.proj.block.rows as usize);
        operand <= FUSED_OPERAND as usize && products <= FUSED_PRODUCTS
    }
}

impl FfnPlan {
    fn is_small(&self, top_k: usize) -> bool {
        let operand = 8 * (self.w1.matrix.eights() + top_k * self.w2.matrix.eights());
        let products = 2 * top_k * self.width() * self.w1.block.cols as usize;
        operand <= FUSED_OPERAND as usize && products <= FUSED_PRODUCTS
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

//! A program as lists of dispatches, which are plain data: for one token, for many, for logits.
//!
//! Every [op](op) has a kernel of its own. For one token, neighbours that a kernel can do together are
//! [fused](fuse): a norm with the product behind it, a product with what adds it up, a convolution
//! with its projection. Small layers go into [one workgroup](small). The list without any of that is
//! what the fused one is held against.

mod experts;
mod fuse;
mod op;
mod small;

use std::ops::Range;
use std::rc::Rc;

use statepress_kernels::backend::Moments;
use statepress_kernels::program::{Head, MatrixId, Node, Op, ValueId};
use statepress_kernels::shaders::{self as wgsl, Kernel, Rows, THREADS};

use crate::memory::Places;
use crate::network::{GpuNetwork, Mapped, Uploaded};
use crate::pipelines::Variant;

/// One dispatch.
pub(crate) struct Dispatch {
    pub kernel: Kernel,
    /// `override` constants that are true.
    pub overrides: Vec<&'static str>,
    pub params: Vec<u32>,
    pub matrices: Vec<Rc<Uploaded>>,
    /// How many of the matrices are read; the others are bound because something has to be.
    pub matrices_read: usize,
    /// How many matrices of its banks a token needs.
    pub banks_used: usize,
    pub moves: Moves,
    pub groups: [Extent; 3],
}

impl Dispatch {
    /// What is compiled for it.
    pub fn variant(&self) -> Variant {
        Variant {
            kernel: self.kernel,
            codecs: self.matrices.iter().map(|matrix| matrix.matrix.codec).collect(),
            overrides: self.overrides.clone(),
        }
    }
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
    /// So many per token.
    Slots(u32),
    /// One per tile of so many tokens, times that.
    Tiles(u32),
}

/// Part of a step list.
pub(crate) enum Part {
    Dispatch(Dispatch),
    /// The residual stream is now that after the embedding, or after a layer.
    Residual,
}

const ONE: Extent = Extent::Fixed(1);

impl GpuNetwork {
    fn list<'a>(&'a self, places: &'a Places, one: bool, exact: bool) -> List<'a> {
        let integers = self.gpu.0.features.packed_dot && !exact;
        let fuses = !self.gpu.0.op_by_op;
        List {
            network: self,
            nodes: &self.program.nodes,
            parts: Vec::new(),
            one,
            integers,
            fuses,
            places,
            taps: &[],
            moments: Moments::Gram,
        }
    }

    /// A forward pass of one token; unless `exact`, activations may be rounded to 15 bits.
    pub(crate) fn token(&self, places: &Places, exact: bool) -> Vec<Part> {
        self.list(places, true, exact).run()
    }

    /// A forward pass of many tokens.
    pub(crate) fn tokens(&self, places: &Places) -> Vec<Part> {
        self.list(places, false, true).run()
    }

    /// A forward pass of many tokens, op by op, that adds up what enters products: the sums of each
    /// matrix named begin where it says.
    pub(crate) fn tapped<'a>(
        &'a self,
        places: &'a Places,
        nodes: Range<usize>,
        taps: &'a [(MatrixId, u32)],
        moments: Moments,
    ) -> Vec<Part> {
        let mut list = self.list(places, false, true);
        list.fuses = false;
        list.taps = taps;
        list.moments = moments;
        let is_last = nodes.end == list.nodes.len();
        for at in nodes {
            if let Op::Linear(linear) = &list.nodes[at].op {
                list.accumulate(linear.w, places.rows(linear.x), None);
            }
            list.op(at);
        }
        let head = self.program.head.matrix;
        if is_last && taps.iter().any(|(id, _)| *id == head) {
            let rows = list.final_norm();
            list.accumulate(head, rows, None);
        }
        list.parts
    }

    /// Logits of the last token, among the kept ones.
    pub(crate) fn kept_logits(&self, places: &Places, exact: bool) -> Vec<Part> {
        let mut list = self.list(places, true, exact);
        let Head { x, norm, .. } = &self.program.head;
        for (head, w, mapped) in self.head() {
            let params = wgsl::Matvec {
                w,
                norm: norm.as_ref().map_or_else(Default::default, |norm| list.norm(norm, self.hidden_size)),
                affine: self.head_affine(),
                x: places.value(*x).at,
                y: places.kept,
                lanes: lanes(&w),
                rows_of: mapped.map_or(0, |mapped| mapped.rows_of),
                wanted: self.vocab_size as u32,
                ..wgsl::Matvec::default()
            };
            let normed: &[&str] = if norm.is_some() { &["NORM"] } else { &[] };
            let overrides = [normed, &["KEPT"], mapped_override(mapped)].concat();
            list.push(Kernel::Matvec, &overrides, &params, &[head], row_groups(w.rows, params.lanes, 1));
            let vectors = norm.as_ref().map_or(0, |norm| list.norm_vectors(norm, self.hidden_size));
            list.moves(vectors, (w.cols + w.rows) as usize);
        }
        list.parts
    }

    /// What enters the head, of many rows.
    pub(crate) fn normed(&self, places: &Places) -> Vec<Part> {
        let mut list = self.list(places, false, true);
        list.final_norm();
        list.parts
    }

    /// Logits of many rows.
    pub(crate) fn logits(&self, places: &Places) -> Vec<Part> {
        let mut list = self.list(places, false, true);
        let to = list.final_norm();
        let affine = self.head_affine();
        let y = Rows::whole(places.logits, self.vocab_size);
        for (head, w, mapped) in self.head() {
            let rows_of = mapped.map_or(0, |mapped| mapped.rows_of);
            let wanted = self.vocab_size as u32;
            let params =
                wgsl::Matmul { w, affine, x: to, y, slots: 1, rows_of, wanted, ..wgsl::Matmul::default() };
            list.push(Kernel::Matmul, mapped_override(mapped), &params, &[head], op::tiles(w.rows));
        }
        list.parts
    }

    fn head_affine(&self) -> wgsl::Affine {
        wgsl::Affine { y_scale: self.program.head.scale, ..wgsl::Affine::default() }
    }

    /// Negative log-likelihoods of the rows whose logits are there.
    pub(crate) fn nll(&self, places: &Places) -> Vec<Part> {
        let mut list = self.list(places, false, true);
        let params = wgsl::Nll { logits: places.logits, nll: places.nll, vocab_size: self.vocab_size as u32 };
        list.push(Kernel::Nll, &[], &params, &[], [Extent::Tokens, ONE, ONE]);
        list.parts
    }
}

/// A list being written.
struct List<'a> {
    network: &'a GpuNetwork,
    nodes: &'a [Node],
    parts: Vec<Part>,
    /// A step is one token.
    one: bool,
    /// Single tokens meet INT8 matrices as integers.
    integers: bool,
    /// Neighbours go into one kernel where there is one for them.
    fuses: bool,
    places: &'a Places,
    /// Matrices whose inputs are added up, and where.
    taps: &'a [(MatrixId, u32)],
    moments: Moments,
}

impl<'a> List<'a> {
    fn run(mut self) -> Vec<Part> {
        let mut at = 0;
        while at < self.nodes.len() {
            let fused = if self.fuses { self.fuse(at) } else { 0 };
            if fused == 0 {
                self.op(at);
            }
            let end = at + fused.max(1);
            if self.nodes[at..end].iter().any(|node| node.ends_layer) {
                self.parts.push(Part::Residual);
            }
            at = end;
        }
        self.parts
    }

    /// Has what enters the head of many rows at hand, and says where.
    fn final_norm(&mut self) -> Rows {
        let head = &self.network.program.head;
        let (from, width) = (self.places.value(head.x), self.network.program.width(head.x));
        let to = Rows::whole(self.places.norm, width);
        match &head.norm {
            Some(norm) => self.norm_rows(norm, width, from, to),
            // Which rows are wanted says `control.row`, which no product knows.
            None => self.copy_rows(from, to, width),
        }
        to
    }

    /// The op `ahead` nodes behind `at`.
    fn ahead(&self, at: usize, ahead: usize) -> Option<&'a Op> {
        self.nodes.get(at + ahead).map(|node| &node.op)
    }

    /// Whether nobody reads a value from node `from` on.
    fn is_dead(&self, value: ValueId, from: usize) -> bool {
        !self.nodes[from.min(self.nodes.len())..].iter().any(|node| node.op.reads().contains(&value))
    }

    /// Whether a kernel that takes several nodes may write one value while it still reads another: the
    /// first may have got the place of the second, whose last reader was an earlier one of the nodes.
    fn apart(&self, read: ValueId, written: ValueId) -> bool {
        let slots = &self.network.program.slots;
        slots.of(read) != slots.of(written)
    }

    /// One for each token of a step.
    fn tokens(&self) -> Extent {
        if self.one { ONE } else { Extent::Tokens }
    }

    fn push(
        &mut self,
        kernel: Kernel,
        overrides: &[&'static str],
        params: &impl wgsl::Block,
        matrices: &[&Rc<Uploaded>],
        groups: [Extent; 3],
    ) {
        let mut words = Vec::new();
        params.words(&mut words);
        let matrices: Vec<Rc<Uploaded>> = matrices.iter().map(|matrix| (*matrix).clone()).collect();
        let mut overrides = overrides.to_vec();
        let int8 = !matrices.is_empty() && matrices.iter().all(|placed| placed.matrix.codec.is_int8());
        if kernel.overrides().contains(&"INTEGER") && int8 && self.integers {
            overrides.push("INTEGER");
        }
        let (matrices_read, banks_used, moves) = (matrices.len(), 1, Moves::default());
        self.parts.push(Part::Dispatch(Dispatch {
            kernel,
            overrides,
            params: words,
            matrices,
            matrices_read,
            banks_used,
            moves,
            groups,
        }));
    }

    fn last(&mut self) -> Option<&mut Dispatch> {
        match self.parts.last_mut() {
            Some(Part::Dispatch(step)) => Some(step),
            _ => None,
        }
    }

    /// What the last step moves beside its matrices, in words a token.
    fn moves(&mut self, vectors: usize, activations: usize) {
        if let Some(step) = self.last() {
            step.moves = Moves { vectors, activations };
        }
    }

    /// How many matrices of the last step's banks a token needs.
    fn uses_banks(&mut self, count: usize) {
        if let Some(step) = self.last() {
            step.banks_used = count;
        }
    }

    /// How many of the last step's matrices are read.
    fn reads_matrices(&mut self, count: usize) {
        if let Some(step) = self.last() {
            step.matrices_read = count;
        }
    }
}

/// What a kernel is told of rows that are some of those of a matrix.
fn mapped_override(mapped: Option<Mapped>) -> &'static [&'static str] {
    if mapped.is_some() { &["MAPPED"] } else { &[] }
}

/// Threads to a row: as many as there are eights, up to a subgroup of common hardware.
fn lanes(w: &wgsl::Matrix) -> u32 {
    w.eights.next_power_of_two().clamp(1, 32)
}

/// Workgroups for all rows: those beyond the limit of one dimension go on in the third.
fn row_groups(rows: u32, lanes: u32, slots: u32) -> [Extent; 3] {
    let groups = rows.div_ceil(THREADS / lanes);
    let most = 65535;
    [Extent::Fixed(groups.min(most)), Extent::Fixed(slots), Extent::Fixed(groups.div_ceil(most))]
}

/// Workgroups of a thread per channel.
fn across(channels: usize) -> Extent {
    Extent::Fixed(channels.div_ceil(THREADS as usize) as u32)
}

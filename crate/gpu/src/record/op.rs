//! Every op by itself: a kernel, or two where many tokens need another one.

use std::rc::Rc;

use statepress_kernels::backend::Moments;
use statepress_kernels::program::{
    Activation, Attention, Layout, Linear, MatrixId, Norm, NormKind, Op, Ssd, StateId, VectorId, View,
};
use statepress_kernels::shaders::{self as wgsl, Kernel, LANE_STATES, NONE, Rows, THREADS, TILE};

use super::{Extent, List, ONE, across, lanes, mapped_override, row_groups};
use crate::network::{Mapped, Uploaded};

/// Channels of a workgroup of the selective scan: fewer than it could take, so that more of the GPU
/// has work.
const SCAN_CHANNELS: usize = 64;

impl List<'_> {
    /// The op of a node.
    pub(super) fn op(&mut self, at: usize) {
        let nodes = self.nodes;
        match &nodes[at].op {
            Op::Embed { table, positions, bias, scale, y } => {
                let network = self.network;
                let table = network.matrix(*table);
                let positions = positions.map(|id| network.matrix(id));
                let places = positions.unwrap_or(table);
                let d = table.matrix.cols;
                // Each token is of one class, and only that one writes.
                for (tokens, mapped) in table.pieces() {
                    // Without positions something has to be bound all the same.
                    let places = if positions.is_some() { places } else { tokens };
                    let params = wgsl::Embed {
                        tokens: tokens.block,
                        positions: places.block,
                        y: self.places.value(*y).at,
                        scale: *scale,
                        bias: bias.map_or(NONE, |id| network.vector(id)),
                        places: mapped.map_or(0, |mapped| mapped.places),
                        first: mapped.map_or(0, |mapped| mapped.first),
                    };
                    let mut overrides: Vec<&'static str> = Vec::new();
                    overrides.extend(positions.map(|_| "POSITIONS"));
                    overrides.extend(mapped_override(mapped));
                    let groups = [Extent::Fixed(table.block.eights.div_ceil(THREADS)), self.tokens(), ONE];
                    self.push(Kernel::Embed, &overrides, &params, &[tokens, places], groups);
                    self.reads_matrices(1 + usize::from(positions.is_some()));
                    self.moves(if bias.is_some() { d } else { 0 }, d);
                }
            }
            Op::Norm { norm, x, y } => {
                self.norm_rows(norm, x.width, self.places.rows(*x), self.places.value(*y));
            }
            Op::GatedNorm { norm: None, x, z, y } => {
                self.gate(*x, *z, self.places.value(*y), 1.0, None);
            }
            Op::GatedNorm { norm: Some(norm), x, z, y } => {
                let params = wgsl::GatedNorm {
                    norm: wgsl::Norm {
                        weight: self.network.optional(norm.weight),
                        bias: NONE,
                        eps: norm.eps,
                        d: (x.width / norm.groups) as u32,
                    },
                    x: self.places.rows(*x),
                    z: self.places.rows(*z),
                    y: self.places.value(*y),
                    z_scale: 1.0,
                };
                let overrides: &[_] = if norm.before_gate { &["NORM_FIRST"] } else { &[] };
                let groups = [Extent::Fixed(norm.groups as u32), self.tokens(), ONE];
                self.push(Kernel::GatedNorm, overrides, &params, &[], groups);
                self.moves(if norm.weight.is_some() { x.width } else { 0 }, 3 * x.width);
            }
            Op::Linear(linear) => self.linear(linear, None, None),
            Op::Conv1d { x, taps, bias, tail, y } => {
                self.conv1d(*x, (*taps, *bias, *tail), self.places.value(*y), false);
            }
            Op::Activate { activation, y } => {
                let width = self.network.program.width(*y);
                let params = wgsl::Activate { x: self.places.value(*y), width: width as u32, slots: 1 };
                let groups = [across(width), self.tokens(), ONE];
                self.push(Kernel::Activate, &[named(*activation)], &params, &[], groups);
                self.moves(0, 2 * width);
            }
            Op::Softplus { x, bias, limits, y } => {
                let params = wgsl::Softplus {
                    x: self.places.rows(*x),
                    y: self.places.value(*y),
                    bias: self.network.vector(*bias),
                    least: limits[0],
                    most: finite(limits[1]),
                    width: x.width as u32,
                };
                self.push(Kernel::Softplus, &[], &params, &[], [across(x.width), self.tokens(), ONE]);
                self.moves(x.width, 2 * x.width);
            }
            Op::SoftplusMean { x, bias, y } => {
                let inner = self.network.program.width(*x);
                let (delta, dt) = (self.places.value(*x).at, self.places.value(*y).at);
                let bias = self.network.vector(*bias);
                let params = wgsl::SoftplusMean { delta, dt, bias, inner: inner as u32 };
                self.push(Kernel::SoftplusMean, &[], &params, &[], [self.tokens(), ONE, ONE]);
                self.moves(inner, inner + 1);
            }
            Op::Scan { dt, bx, a, h, y } => {
                let states = self.network.program.width(*bx);
                let params = wgsl::Scan {
                    dt: self.places.value(*dt).at,
                    bx: self.places.value(*bx).at,
                    h: self.places.state(*h),
                    states: self.places.value(*y).at,
                    a: self.network.vector(*a),
                    n_states: states as u32,
                    k: 1,
                    ..wgsl::Scan::default()
                };
                let (kernel, groups) = match self.one {
                    true => (Kernel::ScanSequential, 1),
                    false => (Kernel::ScanParallel, states as u32),
                };
                self.push(kernel, &[], &params, &[], [Extent::Fixed(groups), ONE, ONE]);
                // Dispatch size, what drives, h before and after, h for later.
                self.moves(states, 1 + 4 * states);
            }
            Op::SelectiveScan { u, dt, b, c, a, d, h, y } => {
                let states = b.width;
                let inner = u.width;
                let places = self.places;
                let params = wgsl::SelectiveScan {
                    u: places.rows(*u),
                    b: places.rows(*b),
                    c: places.rows(*c),
                    dt: places.value(*dt),
                    y: places.value(*y),
                    h: places.state(*h),
                    a: self.network.vector(*a),
                    d: self.network.vector(*d),
                    inner: inner as u32,
                    n_states: states as u32,
                    k: 1,
                    ..wgsl::SelectiveScan::default()
                };
                // No step sizes to make: the kernel wants a matrix there all the same.
                let (unused, _) = self.network.matrix(self.network.program.table).pieces()[0];
                self.push(Kernel::SelectiveScan, &[], &params, &[unused], scan_groups(inner));
                self.reads_matrices(0);
                self.moves(inner * (states + 1), 3 * inner + 2 * states + 2 * inner * states);
            }
            Op::Ssd(ssd) => self.ssd(ssd, self.places.value(ssd.dt), None),
            Op::Skip { d, x, y } => {
                let whole = View { value: *y, first: 0, width: x.width };
                self.gate(whole, whole, self.places.value(*y), 1.0, Some((*d, *x)));
                if let Some(step) = self.last() {
                    step.overrides.push("UNGATED");
                }
            }
            Op::Gate { x, z, z_scale, y } => self.gate(*x, *z, self.places.value(*y), *z_scale, None),
            Op::Attention(attention) => self.attention(attention),
            Op::Experts(experts) => self.experts(at, experts),
            Op::Copy { x, y } => self.copy_rows(self.places.rows(*x), self.places.rows(*y), x.width),
        }
    }

    /// Columns of rows, copied.
    pub(super) fn copy_rows(&mut self, x: Rows, y: Rows, width: usize) {
        let params = wgsl::CopyRows { x, y, width: width as u32 };
        self.push(Kernel::Copy, &[], &params, &[], [across(width), self.tokens(), ONE]);
        self.moves(0, 2 * width);
    }

    /// A norm as kernels take it.
    pub(super) fn norm(&self, norm: &Norm, d: usize) -> wgsl::Norm {
        let bias = match norm.kind {
            NormKind::Rms => None,
            NormKind::Layer { bias } => Some(bias),
        };
        let (weight, bias) = (self.network.optional(norm.weight), self.network.optional(bias));
        wgsl::Norm { weight, bias, eps: norm.eps, d: d as u32 }
    }

    /// Words of a norm's weights.
    pub(super) fn norm_vectors(&self, norm: &Norm, d: usize) -> usize {
        d * (usize::from(norm.weight.is_some()) + usize::from(norm.kind != NormKind::Rms))
    }

    pub(super) fn norm_rows(&mut self, norm: &Norm, d: usize, x: Rows, y: Rows) {
        let params = wgsl::NormRows { norm: self.norm(norm, d), x, y };
        let groups = [self.tokens(), ONE, ONE];
        self.push(Kernel::Norm, &[], &params, &[], groups);
        self.moves(self.norm_vectors(norm, d), 2 * d);
    }

    /// What is done to a product.
    pub(super) fn affine(&self, linear: &Linear) -> wgsl::Affine {
        wgsl::Affine {
            bias: self.network.optional(linear.bias),
            row_scale: self.network.optional(linear.row_scale),
            x_scale: linear.x_scale,
            y_scale: linear.y_scale,
        }
    }

    /// Words of what is done to a product.
    pub(super) fn affine_vectors(&self, linear: &Linear) -> usize {
        let rows = self.network.program.matrix(linear.w).rows;
        rows * (usize::from(linear.bias.is_some()) + usize::from(linear.row_scale.is_some()))
    }

    /// A product. For one token, `norm` is that of its input, which is then what the norm reads.
    pub(super) fn linear(
        &mut self,
        linear: &Linear,
        norm: Option<(&Norm, View)>,
        activation: Option<Activation>,
    ) {
        for (w, mapped) in self.network.matrix(linear.w).pieces() {
            self.piece(linear, (w, mapped), norm, activation);
        }
    }

    /// A product with a matrix, or with a class of its rows.
    fn piece(
        &mut self,
        linear: &Linear,
        (w, mapped): (&Rc<Uploaded>, Option<Mapped>),
        norm: Option<(&Norm, View)>,
        activation: Option<Activation>,
    ) {
        let declared = self.network.program.matrix(linear.w);
        let (all, cols) = (declared.rows, declared.cols);
        let rows = if mapped.is_some() { w.matrix.rows } else { all };
        let transposed = declared.layout == Layout::Transposed;
        let affine = self.affine(linear);
        let x = self.places.rows(norm.map_or(linear.x, |(_, x)| x));
        let y = self.places.value(linear.y);
        let mut overrides: Vec<&'static str> = Vec::new();
        overrides.extend(norm.map(|_| "NORM"));
        overrides.extend(activation.map(named));
        overrides.extend(linear.add.then_some("ADD"));
        overrides.extend(mapped_override(mapped));
        let (rows_of, wanted) = (mapped.map_or(0, |mapped| mapped.rows_of), all as u32);
        let vectors = norm.map_or(0, |(norm, x)| self.norm_vectors(norm, x.width));
        let norm = norm.map_or_else(wgsl::Norm::default, |(norm, x)| self.norm(norm, x.width));
        if !self.one {
            overrides.extend(transposed.then_some("TRANSPOSED"));
            let slots = 1;
            let params =
                wgsl::Matmul { w: w.block, affine, x, y, slots, rows_of, wanted, ..wgsl::Matmul::default() };
            self.push(Kernel::Matmul, &overrides, &params, &[w], tiles(rows as u32));
        } else if transposed {
            let eights = rows.div_ceil(8) as u32;
            // Threads that a column's eight does not need share the rows.
            let lanes = (THREADS / eights.next_power_of_two().clamp(1, THREADS)).clamp(4, THREADS);
            let params = wgsl::MatvecT { w: w.block, norm, affine, x: x.at, y: y.at, lanes };
            self.push(Kernel::MatvecT, &overrides, &params, &[w], row_groups(eights, lanes, 1));
        } else {
            let params = wgsl::Matvec {
                w: w.block,
                norm,
                affine,
                x: x.at,
                y: y.at,
                lanes: lanes(&w.block),
                rows_of,
                wanted,
                ..wgsl::Matvec::default()
            };
            self.push(Kernel::Matvec, &overrides, &params, &[w], row_groups(w.block.rows, params.lanes, 1));
        }
        // Adding reads y, too.
        let times = if linear.add { 2 } else { 1 };
        self.moves(vectors + self.affine_vectors(linear), cols + times * rows);
    }

    /// A convolution, with SiLU where it is wanted; its tail is brought up to date.
    pub(super) fn conv1d(
        &mut self,
        x: View,
        (taps, bias, tail): (VectorId, Option<VectorId>, StateId),
        y: Rows,
        silu: bool,
    ) {
        let inner = x.width;
        let k = self.network.program.vector(taps).len / inner.max(1);
        let (rows, tail) = (self.places.rows(x), self.places.state(tail));
        let params = wgsl::Conv1d {
            x: rows,
            y,
            tail,
            taps: self.network.vector(taps),
            bias: self.network.optional(bias),
            inner: inner as u32,
            k: k as u32,
        };
        let mut overrides: Vec<&'static str> = Vec::new();
        overrides.extend(silu.then_some("SILU"));
        overrides.extend(self.one.then_some("ADVANCE"));
        self.push(Kernel::Conv1d, &overrides, &params, &[], [across(inner), self.tokens(), ONE]);
        let vectors = (k + usize::from(bias.is_some())) * inner;
        // The tail, the input and the output; the tail is written, too, where one token moves it on.
        let advanced = if self.one { (k - 1) * inner } else { 0 };
        self.moves(vectors, (k + 1) * inner + advanced);
        if !self.one && k > 1 {
            let params = wgsl::Advance { x: rows, tail, inner: inner as u32, k: k as u32 };
            self.push(Kernel::Advance, &[], &params, &[], [across(inner), ONE, ONE]);
        }
    }

    /// A gate, behind a skip connection where there is one.
    pub(super) fn gate(&mut self, x: View, z: View, y: Rows, z_scale: f32, skip: Option<(VectorId, View)>) {
        let params = wgsl::Gate {
            x: self.places.rows(x),
            z: self.places.rows(z),
            y,
            a: skip.map_or_else(Rows::default, |(_, a)| self.places.rows(a)),
            d: self.network.optional(skip.map(|(d, _)| d)),
            z_scale,
            width: x.width as u32,
            slots: 1,
        };
        let overrides: &[_] = if skip.is_some() { &["SKIP"] } else { &[] };
        self.push(Kernel::Gate, overrides, &params, &[], [across(x.width), self.tokens(), ONE]);
        match skip {
            Some(_) => self.moves(x.width, 4 * x.width),
            None => self.moves(0, 3 * x.width),
        }
    }

    /// The scan of Mamba-2; `raw` is what its step sizes are made of, where it makes them itself: bias
    /// and limits.
    pub(super) fn ssd(&mut self, ssd: &Ssd, dt: Rows, raw: Option<(VectorId, [f32; 2])>) {
        let channels = ssd.heads * ssd.head;
        let d_len = self.network.program.vector(ssd.d).len;
        let (bias, limits) = raw.unzip();
        let limits = limits.unwrap_or_default();
        let lanes = (ssd.states as u32).div_ceil(LANE_STATES).next_power_of_two();
        let params = wgsl::Ssd {
            u: self.places.rows(ssd.u),
            b: self.places.rows(ssd.b),
            c: self.places.rows(ssd.c),
            dt,
            y: self.places.value(ssd.y),
            h: self.places.state(ssd.h),
            a: self.network.vector(ssd.a),
            d: self.network.vector(ssd.d),
            d_per_channel: u32::from(d_len == channels && d_len != ssd.heads),
            dt_bias: self.network.optional(bias),
            dt_least: limits[0],
            dt_most: finite(limits[1]),
            heads: ssd.heads as u32,
            head: ssd.head as u32,
            groups: ssd.groups as u32,
            n_states: ssd.states as u32,
            lanes,
            k: 1,
            ..wgsl::Ssd::default()
        };
        let overrides: &[_] = if raw.is_some() { &["SOFTPLUS"] } else { &[] };
        let groups = Extent::Fixed((channels as u32).div_ceil(THREADS / lanes));
        self.push(Kernel::Ssd, overrides, &params, &[], [groups, ONE, ONE]);
        let vectors = ssd.heads * (1 + usize::from(raw.is_some())) + d_len;
        let state = 2 * channels * ssd.states;
        self.moves(vectors, 2 * channels + ssd.heads + 2 * ssd.groups * ssd.states + state);
    }

    /// Adds up the rows that enter the product with a matrix, if that is wanted; of an expert, those of
    /// its slots, so many of which have one row.
    pub(super) fn accumulate(&mut self, w: MatrixId, x: Rows, expert: Option<(usize, usize, usize)>) {
        let Some(&(_, sums)) = self.taps.iter().find(|(id, _)| *id == w) else { return };
        let width = self.network.program.matrix(w).cols;
        let mut params = wgsl::Accumulate { x, sums, cols: width as u32, ..wgsl::Accumulate::default() };
        let mut overrides = Vec::new();
        if let Some((expert, top_k, slots)) = expert {
            let places = self.places;
            params.counts = places.counts + expert as u32;
            params.lists = places.lists + expert as u32 * places.room(top_k);
            params.slots = slots as u32;
            overrides.push("ROUTED");
        }
        let tiles = Extent::Fixed(params.cols.div_ceil(16));
        let groups = match self.moments {
            Moments::Squares => [across(width), ONE, ONE],
            Moments::Gram => {
                overrides.push("GRAM");
                [tiles, tiles, ONE]
            }
        };
        self.push(Kernel::Accumulate, &overrides, &params, &[], groups);
    }

    fn attention(&mut self, op: &Attention) {
        let places = self.places;
        let pairs = op.inv_freq.map_or(0, |id| self.network.program.vector(id).len);
        let turns = op.inv_freq.map_or(0, |id| self.network.turns(id));
        let (q_norm, k_norm) = (op.q_norm.map(|(id, _)| id), op.k_norm.map(|(id, _)| id));
        let (q_norm, k_norm) = (self.network.optional(q_norm), self.network.optional(k_norm));
        let eps = op.q_norm.or(op.k_norm).map_or(0.0, |(_, eps)| eps);
        let prepares = pairs > 0 || op.q_norm.is_some() || op.k_norm.is_some();
        let (q, k, v) = (places.rows(op.q), places.rows(op.k), places.rows(op.v));
        let (heads, kv_heads, head) = (op.heads as u32, op.kv_heads as u32, op.head as u32);
        let (q_width, kv_width) = (op.heads * op.head, op.kv_heads * op.head);
        if prepares && !self.one {
            let params = wgsl::Rotate {
                q,
                k,
                heads,
                head,
                turns,
                pairs: pairs as u32,
                rope_scale: 1.0,
                q_norm,
                k_norm,
                eps,
            };
            self.push(
                Kernel::Rotate,
                &[],
                &params,
                &[],
                [Extent::Fixed(heads + kv_heads), self.tokens(), ONE],
            );
        }
        let params = wgsl::Attention {
            q,
            k,
            v,
            y: places.value(op.y),
            keys: places.state(op.keys),
            values: places.state(op.values),
            heads,
            kv_heads,
            head,
            scale: op.scale,
            turns,
            pairs: pairs as u32,
            rope_scale: 1.0,
            q_norm,
            k_norm,
            eps,
        };
        let overrides: &[_] = if prepares && self.one { &["ROTATE"] } else { &[] };
        self.push(Kernel::Attention, overrides, &params, &[], [Extent::Fixed(heads), self.tokens(), ONE]);
        // Of a sequence's first token; every later one reads the keys and values of those before it as well.
        self.moves(pairs, 2 * q_width + 4 * kv_width);
    }
}

/// Workgroups of a product with many tokens.
pub(super) fn tiles(rows: u32) -> [Extent; 3] {
    [Extent::Fixed(rows.div_ceil(TILE)), Extent::Tiles(1), ONE]
}

/// Workgroups of a selective scan.
pub(super) fn scan_groups(inner: usize) -> [Extent; 3] {
    [Extent::Fixed(inner.div_ceil(SCAN_CHANNELS) as u32), ONE, ONE]
}

/// What kernels call an activation.
pub(super) fn named(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "SILU",
        Activation::Gelu => "GELU",
        Activation::GeluTanh => "GELU_TANH",
    }
}

/// Shaders may take infinity for anything.
pub(super) fn finite(limit: f32) -> f32 {
    limit.min(f32::MAX)
}

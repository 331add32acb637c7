//! A mixture of experts, of which a router takes some for every token.

use std::rc::Rc;

use statepress_kernels::program::Experts;
use statepress_kernels::shaders::{self as wgsl, Kernel, Rows, TILE};

use super::op::{named, tiles};
use super::{Extent, List, ONE, across, lanes, row_groups};
use crate::network::{Bank, Uploaded};

/// One of an expert's two products.
struct Product<'a> {
    w: &'a Rc<Uploaded>,
    /// Where its input stands, and whether every slot has one of its own.
    x: Rows,
    per_slot: bool,
    y: Rows,
    y_scale: f32,
    activation: Option<&'static str>,
}

impl List<'_> {
    pub(super) fn experts(&mut self, at: usize, op: &Experts) {
        let network = self.network;
        let places = self.places;
        let router = network.matrix(op.router);
        let (n_experts, d) = (router.matrix.rows, router.matrix.cols);
        let x = places.value(op.x);
        self.accumulate(op.router, x, None);
        self.route_logits(router, x);
        self.route(n_experts, op.top_k);
        for bank in network.banks(at) {
            let width = bank.width();
            let wide = Rows::whole(places.middle, width);
            let members = bank.first..bank.first + bank.count;
            for expert in members.clone() {
                self.accumulate(op.experts[expert].up, x, Some((expert, op.top_k, op.top_k)));
            }
            let activation = (!op.gated).then(|| named(op.activation));
            let up = Product { w: &bank.up, x, per_slot: false, y: wide, y_scale: 1.0, activation };
            self.routed(bank, op.top_k, up);
            let mut middle = wide;
            if op.gated {
                // Gates first, values behind them; the values are gated in place.
                middle = wide.from_column(width / 2);
                self.gate_slots(wide, middle, width / 2, op.top_k);
            }
            for expert in members {
                self.accumulate(op.experts[expert].down, middle, Some((expert, op.top_k, 1)));
            }
            let out = Rows::whole(places.outputs, d);
            let down = Product {
                w: &bank.down,
                x: middle,
                per_slot: true,
                y: out,
                y_scale: op.y_scale,
                activation: None,
            };
            self.routed(bank, op.top_k, down);
        }
        self.combine(op.top_k, d);
    }

    fn route_logits(&mut self, router: &Rc<Uploaded>, x: Rows) {
        let (w, y) = (router.block, Rows::whole(self.places.router, router.matrix.rows));
        if self.one {
            let params = wgsl::Matvec { w, x: x.at, y: y.at, lanes: lanes(&w), ..wgsl::Matvec::default() };
            self.push(Kernel::Matvec, &[], &params, &[router], row_groups(w.rows, params.lanes, 1));
        } else {
            let params = wgsl::Matmul { w, x, y, slots: 1, ..wgsl::Matmul::default() };
            self.push(Kernel::Matmul, &[], &params, &[router], tiles(w.rows));
        }
        self.moves(0, router.matrix.cols + router.matrix.rows);
    }

    fn routed(&mut self, bank: &Bank, top_k: usize, product: Product) {
        let Product { w, x, per_slot, y, y_scale, activation } = product;
        let places = self.places;
        let affine = wgsl::Affine { y_scale, ..wgsl::Affine::default() };
        let mut overrides = vec!["ROUTED"];
        overrides.extend(activation);
        if self.one {
            let params = wgsl::Matvec {
                w: w.block,
                affine,
                x: x.at,
                y: y.at,
                lanes: lanes(&w.block),
                routes: places.routes,
                first_expert: bank.first as u32,
                n_experts: bank.count as u32,
                x_stride: if per_slot { x.stride } else { 0 },
                ..wgsl::Matvec::default()
            };
            let groups = row_groups(w.block.rows, params.lanes, top_k as u32);
            self.push(Kernel::Matvec, &overrides, &params, &[w], groups);
            let used = top_k.min(bank.count);
            self.uses_banks(used);
            let inputs = if per_slot { used } else { 1 };
            self.moves(0, top_k + inputs * w.matrix.cols + used * w.matrix.rows);
        } else {
            let params = wgsl::Matmul {
                w: w.block,
                affine,
                x,
                y,
                counts: places.counts,
                lists: places.lists,
                room: places.room(top_k),
                first_expert: bank.first as u32,
                slots: if per_slot { 1 } else { top_k as u32 },
                ..wgsl::Matmul::default()
            };
            // All slots may be one expert's: no expert is in two slots of a token.
            let groups = [
                Extent::Fixed(w.block.rows.div_ceil(TILE)),
                Extent::Tiles(1),
                Extent::Fixed(bank.count as u32),
            ];
            self.push(Kernel::Matmul, &overrides, &params, &[w], groups);
        }
    }

    /// `y SiLU(gates)` of every slot, in place. Slots of other banks hold nothing that anybody reads.
    fn gate_slots(&mut self, gates: Rows, y: Rows, width: usize, top_k: usize) {
        let params = wgsl::Gate {
            x: y,
            z: gates,
            y,
            z_scale: 1.0,
            width: width as u32,
            slots: top_k as u32,
            ..wgsl::Gate::default()
        };
        let slots = if self.one { Extent::Fixed(top_k as u32) } else { Extent::Slots(top_k as u32) };
        self.push(Kernel::Gate, &[], &params, &[], [across(width), slots, ONE]);
        self.moves(0, 3 * width * top_k);
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

    fn combine(&mut self, top_k: usize, d: usize) {
        let places = self.places;
        let params = wgsl::Combine {
            hidden: places.hidden,
            outputs: places.outputs,
            shares: places.shares,
            d: d as u32,
            top_k: top_k as u32,
        };
        let groups = [across(d), self.tokens(), ONE];
        self.push(Kernel::Combine, &[], &params, &[], groups);
        self.moves(0, (2 + top_k) * d + top_k);
    }
}

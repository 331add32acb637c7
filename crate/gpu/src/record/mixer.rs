//! What follows an SSM block: a feed-forward network, or experts of which a router takes some.

use std::rc::Rc;

use statepress_kernels::shaders::{self as wgsl, FUSED_EXPERTS, FUSED_OPERAND, Kernel, Rows, TILE};

use super::{Extent, FUSED_PRODUCTS, List, ONE, across, lanes, row_groups};
use crate::network::{Bank, FfnPlan, Placed};

impl List<'_> {
    pub(super) fn ffn_token(&mut self, norm: wgsl::Norm, ffn: &FfnPlan) {
        let places = self.places;
        if self.fuses && ffn.is_small(1) {
            // No router: the kernel wants a matrix there all the same.
            self.mixer_token(norm, &ffn.w1, ffn, 1, 1, &[]);
            return;
        }
        self.row(&ffn.w1, Some(norm), places.hidden, places.middle, &["NORM", "GELU"]);
        self.row(&ffn.w2, None, places.middle, places.hidden, &["ADD"]);
    }

    pub(super) fn ffn_tokens(&mut self, norm: wgsl::Norm, ffn: &FfnPlan) {
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

    pub(super) fn experts_token(
        &mut self,
        norm: wgsl::Norm,
        gate: &Rc<Placed>,
        banks: &[Bank],
        top_k: usize,
    ) {
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
                let params = wgsl::Matvec {
                    w: w.block,
                    x,
                    y,
                    lanes: lanes(&w.block),
                    routes: places.routes,
                    first_expert: bank.first as u32,
                    n_experts: bank.count as u32,
                    x_per_slot,
                    ..wgsl::Matvec::default()
                };
                let groups = row_groups(&w.block, params.lanes, top_k as u32);
                self.push(Kernel::Matvec, overrides, &params, &[w], groups);
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

    pub(super) fn experts_tokens(
        &mut self,
        norm: wgsl::Norm,
        gate: &Rc<Placed>,
        banks: &[Bank],
        top_k: usize,
    ) {
        let places = self.places;
        self.norm(norm, Extent::Tokens);
        self.rows(gate, places.norm, places.router, &[]);
        self.route(gate.block.rows as usize, top_k);
        for bank in banks {
            let mut routed = |w: &Rc<Placed>, x, y, slots, overrides| {
                let params = wgsl::Matmul {
                    w: w.block,
                    x: Rows::whole(x, w.matrix.cols),
                    y: Rows::whole(y, w.matrix.rows),
                    counts: places.counts,
                    lists: places.lists,
                    room: places.room(top_k),
                    first_expert: bank.first as u32,
                    slots,
                    ..wgsl::Matmul::default()
                };
                // All slots may be one expert's: no expert is in two slots of a token.
                let groups = [
                    Extent::Fixed(w.block.rows.div_ceil(TILE)),
                    Extent::Tiles(1),
                    Extent::Fixed(bank.count as u32),
                ];
                self.push(Kernel::Matmul, overrides, &params, &[w], groups);
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
}

impl FfnPlan {
    fn is_small(&self, top_k: usize) -> bool {
        let operand = 8 * (self.w1.matrix.eights() + top_k * self.w2.matrix.eights());
        let products = 2 * top_k * self.width() * self.w1.block.cols as usize;
        operand <= FUSED_OPERAND as usize && products <= FUSED_PRODUCTS
    }
}

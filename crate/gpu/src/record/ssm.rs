//! The SSM block: norm and first projection, then the rest of it in one workgroup or op by op.

use statepress_kernels::shaders::{self as wgsl, FUSED_OPERAND, Kernel, Rows};

use super::{Extent, FUSED_PRODUCTS, List, ONE, across, lanes};
use crate::network::SsmPlan;

impl List<'_> {
    pub(super) fn ssm_token(&mut self, ssm: &SsmPlan, (tail, h): (u32, u32)) {
        let places = self.places;
        self.row(&ssm.in_proj, Some(ssm.norm), places.hidden, places.wide, &["NORM"]);
        if self.fuses && ssm.is_small() {
            let params = wgsl::SsmToken {
                delta: ssm.delta.block,
                b: ssm.b.block,
                c: ssm.c.block,
                proj: ssm.proj.block,
                xz: places.wide,
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

    pub(super) fn ssm_tokens(&mut self, ssm: &SsmPlan, (tail, h): (u32, u32)) {
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
            x: Rows::whole(self.places.wide, 2 * ssm.inner),
            y: Rows::whole(self.places.conv, ssm.inner),
            tail,
            taps: ssm.taps,
            bias: ssm.conv_bias,
            inner: ssm.inner as u32,
            k: ssm.k as u32,
        };
        self.push(Kernel::Conv1d, &["SILU"], &params, &[], [across(ssm.inner), tokens, ONE]);
        // The tail, the input and the output.
        self.moves((ssm.k + 1) * ssm.inner, (ssm.k + 1) * ssm.inner);
    }

    fn step(&mut self, ssm: &SsmPlan, tokens: Extent) {
        let (delta, dt) = (self.places.mixed, self.places.dt);
        let params = wgsl::SoftplusMean { delta, dt, bias: ssm.delta_bias, inner: ssm.inner as u32 };
        self.push(Kernel::SoftplusMean, &[], &params, &[], [tokens, ONE, ONE]);
        self.moves(ssm.inner, ssm.inner + 1);
    }

    fn scan(&mut self, ssm: &SsmPlan, kernel: Kernel, (tail, h): (u32, u32), groups: u32) {
        let params = wgsl::Scan {
            x: Rows::whole(self.places.wide, 2 * ssm.inner),
            dt: self.places.dt,
            bx: self.places.driven,
            h,
            states: self.places.states,
            a: ssm.a,
            n_states: ssm.n_states as u32,
            tail,
            inner: ssm.inner as u32,
            k: ssm.k as u32,
        };
        self.push(kernel, &[], &params, &[], [Extent::Fixed(groups), ONE, ONE]);
        // Step size, what drives, h before and after, h for later; the tail moves on by one input.
        self.moves(ssm.n_states, 1 + 4 * ssm.n_states + 2 * (ssm.k - 1) * ssm.inner);
    }

    fn skip_gate(&mut self, ssm: &SsmPlan, tokens: Extent) {
        let params = wgsl::Gate {
            x: Rows::whole(self.places.mixed, ssm.inner),
            z: Rows::whole(self.places.wide, 2 * ssm.inner).from_column(ssm.inner),
            y: Rows::whole(self.places.mixed, ssm.inner),
            a: Rows::whole(self.places.conv, ssm.inner),
            d: ssm.d,
            z_scale: 1.0,
            width: ssm.inner as u32,
            slots: 1,
        };
        self.push(Kernel::Gate, &["SKIP"], &params, &[], [across(ssm.inner), tokens, ONE]);
        self.moves(ssm.inner, 4 * ssm.inner);
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

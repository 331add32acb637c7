//! Layers of Itera-Lite so small that one workgroup does their rest in less time than it takes to
//! launch another kernel.

use std::rc::Rc;

use statepress_kernels::program::{Activation, Layout, Linear, Op};
use statepress_kernels::shaders::{self as wgsl, FUSED_EXPERTS, FUSED_OPERAND, Kernel};

use super::{List, ONE, lanes};
use crate::network::Uploaded;

/// Multiplications that one workgroup does about as fast as it takes to launch another kernel.
const FUSED_PRODUCTS: usize = 1 << 17;

impl List<'_> {
    pub(super) fn small(&mut self, at: usize) -> usize {
        match self.ahead(at, 0) {
            Some(Op::Conv1d { .. }) => self.small_ssm(at),
            Some(Op::Norm { .. }) => self.small_ffn(at),
            _ => 0,
        }
    }

    /// The SSM block after its first projection.
    fn small_ssm(&mut self, at: usize) -> usize {
        let nodes = self.nodes;
        let Some(nodes) = nodes.get(at..at + 10) else { return 0 };
        let ops = |n: usize| &nodes[n].op;
        let (
            Op::Conv1d { x, taps, bias: Some(conv_bias), tail, .. },
            Op::Activate { activation: Activation::Silu, .. },
            Op::Linear(delta),
            Op::SoftplusMean { bias: delta_bias, .. },
            Op::Linear(b),
            Op::Scan { a, h, .. },
            Op::Linear(c),
            Op::Skip { d, .. },
            Op::Gate { z, .. },
            Op::Linear(proj),
        ) = (ops(0), ops(1), ops(2), ops(3), ops(4), ops(5), ops(6), ops(7), ops(8), ops(9))
        else {
            return 0;
        };
        let network = self.network;
        let [delta, b, c, proj_w] = [delta, b, c, proj].map(|linear| network.matrix(linear.w));
        let (inner, n_states) = (x.width, b.matrix.rows);
        let hidden = network.program.hidden;
        let operand = 8 * (delta.matrix.eights() + c.matrix.eights());
        let products = inner * (inner + 2 * n_states + proj_w.matrix.rows);
        let fits = proj.add
            && proj.y == hidden
            && z.value == x.value
            && (x.first, z.first) == (0, inner)
            // A mean over fewer rows than there are channels is not that kernel's.
            && delta.matrix.rows == inner
            && operand <= FUSED_OPERAND as usize
            && products <= FUSED_PRODUCTS;
        if !fits {
            return 0;
        }
        let k = network.program.vector(*taps).len / inner;
        let params = wgsl::SsmToken {
            delta: delta.block,
            b: b.block,
            c: c.block,
            proj: proj_w.block,
            xz: self.places.rows(*x).at,
            hidden: self.places.hidden,
            tail: self.places.state(*tail),
            h: self.places.state(*h),
            taps: network.vector(*taps),
            conv_bias: network.vector(*conv_bias),
            a: network.vector(*a),
            d: network.vector(*d),
            delta_bias: network.vector(*delta_bias),
            inner: inner as u32,
            n_states: n_states as u32,
            k: k as u32,
            lanes: lanes(&delta.block).min(8),
        };
        self.push(Kernel::SsmToken, &[], &params, &[delta, b, c, proj_w], [ONE; 3]);
        // The inputs and the gate; the tail, the state and the residual stream are brought up to date.
        let updated = (k - 1) * inner + n_states + network.hidden_size;
        self.moves((k + 3) * inner + n_states, 2 * inner + 2 * updated);
        10
    }

    /// A LayerNorm, then a feed-forward network or experts.
    fn small_ffn(&mut self, at: usize) -> usize {
        let nodes = self.nodes;
        let network = self.network;
        let Some(Op::Norm { norm, x, .. }) = self.ahead(at, 0) else { return 0 };
        if x.value != network.program.hidden {
            return 0;
        }
        let norm_block = self.norm(norm, x.width);
        if let Some(Op::Experts(op)) = nodes.get(at + 1).map(|node| &node.op) {
            let [bank] = network.banks(at + 1) else { return 0 };
            let fits = !op.gated
                && op.activation == Activation::Gelu
                && op.y_scale == 1.0
                && op.experts.len() <= FUSED_EXPERTS as usize
                && is_small(&bank.up, &bank.down, op.top_k);
            if !fits {
                return 0;
            }
            let router = network.matrix(op.router);
            self.ffn_token(
                norm_block,
                [router, &bank.up, &bank.down],
                op.experts.len(),
                op.top_k,
                &["EXPERTS"],
            );
            return 2;
        }
        let (
            Some(Op::Linear(up)),
            Some(Op::Activate { activation: Activation::Gelu, y }),
            Some(Op::Linear(down)),
        ) = (self.ahead(at, 1), self.ahead(at, 2), self.ahead(at, 3))
        else {
            return 0;
        };
        let plain = |linear: &Linear| {
            let declared = network.program.matrix(linear.w);
            linear.bias.is_none()
                && linear.row_scale.is_none()
                && linear.x_scale * linear.y_scale == 1.0
                && declared.layout == Layout::Plain
        };
        let (up_w, down_w) = (network.matrix(up.w), network.matrix(down.w));
        let fits = plain(up)
            && plain(down)
            && *y == up.y
            && down.x.value == up.y
            && down.add
            && down.y == network.program.hidden
            && is_small(up_w, down_w, 1);
        if !fits {
            return 0;
        }
        // No router: the kernel wants a matrix there all the same.
        self.ffn_token(norm_block, [up_w, up_w, down_w], 1, 1, &[]);
        4
    }

    fn ffn_token(
        &mut self,
        norm: wgsl::Norm,
        [gate, up, down]: [&Rc<Uploaded>; 3],
        n_experts: usize,
        top_k: usize,
        overrides: &[&'static str],
    ) {
        let params = wgsl::FfnToken {
            gate: gate.block,
            w1: up.block,
            w2: down.block,
            norm,
            hidden: self.places.hidden,
            n_experts: n_experts as u32,
            top_k: top_k as u32,
            lanes: lanes(&up.block).min(8),
        };
        self.push(Kernel::FfnToken, overrides, &params, &[gate, up, down], [ONE; 3]);
        self.uses_banks(top_k);
        let d = self.network.hidden_size;
        self.moves(2 * d, 2 * d);
    }
}

fn is_small(up: &Uploaded, down: &Uploaded, top_k: usize) -> bool {
    let operand = 8 * (up.matrix.eights() + top_k * down.matrix.eights());
    let products = 2 * top_k * up.matrix.rows * up.matrix.cols;
    operand <= FUSED_OPERAND as usize && products <= FUSED_PRODUCTS
}

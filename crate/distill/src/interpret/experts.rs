//! A mixture of experts. Every expert takes every token, with a share of zero where it was not chosen: shapes that depend
//! on no number are what a GPU wants, and experts are small beside table and head.

use burn::tensor::activation::{silu, softmax};
use burn::tensor::{IndexingUpdateOp, Tensor};
use statepress_kernels::program::{Experts, MatrixId};

use super::activate;
use crate::model::Pass;
use crate::sense::Place;

/// What a mixture gives.
pub(super) struct Mixed {
    /// `[n, d]`.
    pub y: Tensor<2>,
    /// The squared coefficient of variation of the experts' mean probabilities (Shazeer et al. 2017, section 4), with the
    /// sample's standard deviation; `None` of one expert.
    pub imbalance: Option<Tensor<1>>,
}

/// Sends the rows of `x` `[n, d]` through the experts.
pub(super) fn mix(pass: &Pass, op: &Experts, x: Tensor<2>) -> Mixed {
    let product =
        |id: MatrixId, x: Tensor<2>| pass.at(Place::Output(id), x.matmul(pass.matrix(id).transpose()));
    let logits = product(op.router, x.clone());
    let shares = shares(logits.clone(), op.top_k);
    let through = |m: usize| {
        let expert = op.experts[m];
        let wide = product(expert.up, x.clone());
        let middle = if op.gated {
            let half = wide.dims()[1] / 2;
            silu(wide.clone().narrow(1, 0, half)) * wide.narrow(1, half, half)
        } else {
            activate(op.activation, wide)
        };
        product(expert.down, middle * shares.clone().narrow(1, m, 1))
    };
    let y = (1..op.experts.len()).fold(through(0), |sum, m| sum + through(m));
    Mixed { y, imbalance: (op.experts.len() > 1).then(|| imbalance(logits)) }
}

/// The softmax over the `k` largest of each row, zero elsewhere.
fn shares(logits: Tensor<2>, k: usize) -> Tensor<2> {
    let plain = logits.clone().inner();
    let (values, chosen) = plain.clone().topk_with_indices(k, 1);
    let ones = values.ones_like();
    let marked = plain.zeros_like().scatter(1, chosen, ones, IndexingUpdateOp::Add);
    let others = marked.equal_scalar(0.0);
    let others = if logits.is_autodiff() { others.autodiff() } else { others };
    softmax(logits.mask_fill(others, f32::NEG_INFINITY), 1)
}

fn imbalance(logits: Tensor<2>) -> Tensor<1> {
    let mean = softmax(logits, 1).mean_dim(0);
    let (variance, mean) = mean.var_mean(1);
    (variance / mean.add_scalar(1e-6).square()).reshape([1])
}

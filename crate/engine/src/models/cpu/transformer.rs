//! The Transformer baseline: pre-norm attention and feed-forward, learned positions, tied head.

use statepress_kernels::Rows;
use statepress_kernels::linear::Weights;
use statepress_kernels::network::Block;
use statepress_kernels::ops::attention::{self, Heads};
use statepress_kernels::ops::gate;

use super::{Workspace, add, normalise, project};

/// Runs a layer and adds its output to `ws.hidden`. `keys` and `values` are `[position, d]`.
pub(super) fn block(
    block: &Block<Weights>,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
    ws: &mut Workspace,
    trace: &mut impl FnMut(&'static str, &[f32]),
) {
    let Workspace { kernels, buffers, hidden } = ws;
    normalise(&block.ln1, hidden, &mut buffers.norm);
    trace("ln1", &buffers.norm);
    project(&block.qkv, &buffers.norm, &mut buffers.wide, kernels);
    trace("qkv", &buffers.wide);
    buffers.mixed.resize(hidden.len(), 0.0);
    let d = block.qkv.cols();
    let head = d / block.n_heads;
    let heads = Heads {
        heads: block.n_heads,
        kv_heads: block.n_heads,
        head,
        scale: (head as f32).sqrt().recip(),
        inv_freq: &[],
        rope_scale: 1.0,
        q_norm: None,
        k_norm: None,
    };
    let [q, k, v] = [0, d, 2 * d].map(|first| Rows::new(&buffers.wide, first, d, 3 * d));
    let position = keys.len() / d;
    attention::causal(q, k, v, &heads, position, keys, values, &mut buffers.attention, &mut buffers.mixed);
    project(&block.out_proj, &buffers.mixed, &mut buffers.out, kernels);
    trace("attention", &buffers.out);
    add(hidden, &buffers.out);

    normalise(&block.ln2, hidden, &mut buffers.norm);
    trace("ln2", &buffers.norm);
    project(&block.ffn.w1, &buffers.norm, &mut buffers.wide, kernels);
    gate::gelu(&mut buffers.wide);
    project(&block.ffn.w2, &buffers.wide, &mut buffers.out, kernels);
    trace("ffn", &buffers.out);
    add(hidden, &buffers.out);
}

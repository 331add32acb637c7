//! The Transformer baseline: pre-norm attention and feed-forward, learned positions, tied head.

use statepress_kernels::linear::Weights;
use statepress_kernels::ops::{attention, gate};

use super::load::{Norm, Parts};
use super::{LayerState, State, Trace, Workspace, add, embed, project};
use crate::EngineError;
use crate::spec::TransformerSpec;

/// The weights of a model.
pub(super) struct Transformer {
    embedding: Weights,
    positions: Weights,
    blocks: Vec<Block>,
    norm: Norm,
    head: Option<Weights>,
    n_heads: usize,
}

struct Block {
    ln1: Norm,
    qkv: Weights,
    out_proj: Weights,
    ln2: Norm,
    w1: Weights,
    w2: Weights,
}

impl Transformer {
    pub fn new(spec: &TransformerSpec, parts: &mut Parts) -> Result<Self, EngineError> {
        let mut block = |n: usize| -> Result<Block, EngineError> {
            let key = |suffix: &str| format!("blocks.{n}.{suffix}");
            Ok(Block {
                ln1: parts.norm(&key("ln1"), spec.layer_norm_eps)?,
                qkv: parts.matrix(&key("attention.qkv.weight"))?,
                out_proj: parts.matrix(&key("attention.out_proj.weight"))?,
                ln2: parts.norm(&key("ln2"), spec.layer_norm_eps)?,
                w1: parts.matrix(&key("ffn.w1.weight"))?,
                w2: parts.matrix(&key("ffn.w2.weight"))?,
            })
        };
        let blocks = (0..spec.ffn_sizes.len()).map(&mut block).collect::<Result<_, _>>()?;
        Ok(Self {
            embedding: parts.matrix("embedding.weight")?,
            positions: parts.matrix("position_embedding.weight")?,
            blocks,
            norm: parts.norm("norm", spec.layer_norm_eps)?,
            head: parts.optional_matrix("lm_head.weight"),
            n_heads: spec.n_heads,
        })
    }

    pub fn head(&self) -> &Weights {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    pub fn start(&self) -> Vec<LayerState> {
        self.blocks.iter().map(|_| LayerState::Attention { keys: Vec::new(), values: Vec::new() }).collect()
    }

    pub fn forward(&self, ids: &[u32], state: &mut State, ws: &mut Workspace, trace: &mut impl Trace) {
        embed(&self.embedding, &self.positions, ids, state.position, ws);
        trace.record(None, "embed", &ws.hidden);
        for (n, (block, memory)) in self.blocks.iter().zip(&mut state.layers).enumerate() {
            if let LayerState::Attention { keys, values } = memory {
                let Workspace { kernels, buffers, hidden } = ws;
                block.ln1.apply(hidden, &mut buffers.norm);
                trace.record(Some(n), "ln1", &buffers.norm);
                project(&block.qkv, &buffers.norm, &mut buffers.wide, kernels);
                trace.record(Some(n), "qkv", &buffers.wide);
                buffers.mixed.resize(hidden.len(), 0.0);
                let d = self.head().cols();
                attention::causal(&buffers.wide, d, self.n_heads, keys, values, &mut buffers.mixed);
                project(&block.out_proj, &buffers.mixed, &mut buffers.out, kernels);
                trace.record(Some(n), "attention", &buffers.out);
                add(hidden, &buffers.out);

                block.ln2.apply(hidden, &mut buffers.norm);
                trace.record(Some(n), "ln2", &buffers.norm);
                project(&block.w1, &buffers.norm, &mut buffers.wide, kernels);
                gate::gelu(&mut buffers.wide);
                project(&block.w2, &buffers.wide, &mut buffers.out, kernels);
                trace.record(Some(n), "ffn", &buffers.out);
                add(hidden, &buffers.out);
                trace.record(Some(n), "block", hidden);
            }
        }
        let hidden = std::mem::take(&mut ws.hidden);
        self.norm.apply(&hidden, &mut ws.buffers.norm);
        ws.hidden = std::mem::replace(&mut ws.buffers.norm, hidden);
        trace.record(None, "final_norm", &ws.hidden);
    }
}

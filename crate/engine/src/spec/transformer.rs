//! The configuration of the Transformer baseline, counted from shapes.

use std::collections::BTreeSet;

use statepress_core::Index;

use super::dialects::Names;
use super::fields::Collector;
use super::itera_lite::NORM_EPS;
use crate::EngineError;

/// A pre-norm decoder with learned positions and no biases in attention or FFN.
#[derive(Clone, Debug)]
pub struct TransformerSpec {
    /// V.
    pub vocab_size: usize,
    /// d.
    pub hidden_size: usize,
    /// T.
    pub max_seq_length: usize,
    /// H: attention heads of `d / H` consecutive channels.
    pub n_heads: usize,
    /// I: FFN width per layer.
    pub ffn_sizes: Vec<usize>,
    /// eps of every norm.
    pub layer_norm_eps: f64,
    /// Position `t` predicts token `t + offset`.
    pub offset: usize,
    /// Whether the file has no `lm_head.weight` of its own name.
    pub head_absent: bool,
}

pub(super) fn infer(
    index: &Index,
    names: &Names,
    fields: &mut Collector,
) -> Result<TransformerSpec, EngineError> {
    let [vocab_size, d] = names.full_shape(index, "embedding.weight")?;
    let [max_seq_length, _] = names.full_shape(index, "position_embedding.weight")?;
    names.expect(index, "position_embedding.weight", [max_seq_length, d])?;
    let n_layers = names.count("blocks.")?;
    fields.counted("vocab_size", vocab_size, "rows of embedding.weight");
    fields.counted("hidden_size", d, "columns of embedding.weight");
    fields.counted("max_seq_length", max_seq_length, "rows of position_embedding.weight");
    fields.counted("num_layers", n_layers, "highest block index + 1");
    let mut ffn_sizes = Vec::with_capacity(n_layers);
    for n in 0..n_layers {
        let key = |suffix: &str| format!("blocks.{n}.{suffix}");
        let [ffn, _] = names.full_shape(index, &key("ffn.w1.weight"))?;
        names.expect(index, &key("attention.qkv.weight"), [3 * d, d])?;
        names.expect(index, &key("attention.out_proj.weight"), [d, d])?;
        names.expect(index, &key("ffn.w1.weight"), [ffn, d])?;
        names.expect(index, &key("ffn.w2.weight"), [d, ffn])?;
        for norm in ["ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"] {
            names.expect(index, &key(norm), [d])?;
        }
        ffn_sizes.push(ffn);
    }
    if let Some(&first) = ffn_sizes.first() {
        fields.counted("intermediate_size", first, "rows of blocks.0.ffn.w1.weight");
    }
    for norm in ["norm.weight", "norm.bias"] {
        names.expect(index, norm, [d])?;
    }

    let default =
        if d.is_multiple_of(4) { 4 } else { (1..=d / 16).rev().find(|h| d.is_multiple_of(*h)).unwrap_or(1) };
    let why = "4 if it divides the hidden size, else the most heads of 16 channels or more";
    // All are collected before one is refused: what is written carries all.
    let n_heads = fields.free_count("num_attention_heads", default, why, 1..=d).and_then(|n_heads| {
        let fits = d.is_multiple_of(n_heads);
        let refused = || fields.refuse("num_attention_heads", &n_heads.into(), &format!("a divisor of {d}"));
        if fits { Ok(n_heads) } else { Err(refused()) }
    });
    let layer_norm_eps = fields.free_eps(NORM_EPS);
    let why = "next-token prediction is usual; detect it on a text with offset \"detect\"";
    let offset = fields.free_count("prediction_offset", 1, why, 0..=3);
    let (n_heads, layer_norm_eps, offset) = (n_heads?, layer_norm_eps?, offset?);
    let head_absent = !names.has("lm_head.weight");
    if !head_absent {
        names.expect(index, "lm_head.weight", [vocab_size, d])?;
    }
    Ok(TransformerSpec {
        vocab_size,
        hidden_size: d,
        max_seq_length,
        n_heads,
        ffn_sizes,
        layer_norm_eps,
        offset,
        head_absent,
    })
}

impl TransformerSpec {
    pub(super) fn expected_keys(&self) -> BTreeSet<String> {
        let mut keys: BTreeSet<String> =
            ["embedding.weight", "position_embedding.weight", "norm.weight", "norm.bias"]
                .map(String::from)
                .into();
        if !self.head_absent {
            keys.insert("lm_head.weight".into());
        }
        for n in 0..self.ffn_sizes.len() {
            for suffix in [
                "ln1.weight",
                "ln1.bias",
                "ln2.weight",
                "ln2.bias",
                "attention.qkv.weight",
                "attention.out_proj.weight",
                "ffn.w1.weight",
                "ffn.w2.weight",
            ] {
                keys.insert(format!("blocks.{n}.{suffix}"));
            }
        }
        keys
    }
}

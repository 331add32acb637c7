//! Falcon-H1: Mamba-2 and attention side by side in every layer, then a SwiGLU. Eleven multipliers are
//! scalars of the products, never part of weights.

use super::attention::{self, AttentionScales, Heads};
use super::builder::{Builder, Kind, Tied};
use super::hybrid;
use super::llama;
use super::mamba2::{self, HYBRID, Mixer};
use super::registry::{Entry, Run};
use super::rope;
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "falcon-h1",
    title: "Falcon-H1",
    trunk: "model.",
    keys: &[
        "layers.0.mamba.dt_bias",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.feed_forward.gate_proj.weight",
    ],
    without: &[],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: rope::FIELDS,
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.fields.kind(&["falcon_h1"])?;
    b.vocabulary("model.embed_tokens.weight")?;
    let n_layers = b.layers("model.layers.")?;
    let eps = b.fields.free_eps("rms_norm_eps", 1e-5, "Falcon-H1's default")?;
    llama::silu_only(b)?;
    let embedding = b.fields.multiplier("embedding_multiplier")?;
    let head_scale = b.fields.multiplier("lm_head_multiplier")?;
    let attention = AttentionScales {
        input: b.fields.multiplier("attention_in_multiplier")?,
        key: b.fields.multiplier("key_multiplier")?,
        output: b.fields.multiplier("attention_out_multiplier")?,
    };
    let ssm_in = b.fields.multiplier("ssm_in_multiplier")?;
    let ssm_out = b.fields.multiplier("ssm_out_multiplier")?;
    let ssm_parts = b.fields.multipliers::<5>("ssm_multipliers")?;
    let mlp = b.fields.multipliers::<2>("mlp_multipliers")?;
    llama::widths(b, n_layers, "feed_forward.")?;
    let (scopes, _) = hybrid::layers(b, n_layers)?;
    let mixers = Mixer::of(b, &scopes, &HYBRID, eps)?;
    let normed = b.has("model.layers.0.mamba.norm.weight");
    b.fields.shown("mamba_rms_norm", normed, "whether there is mamba.norm.weight");
    // Of an order there is nothing to say where there is no norm.
    let before = "mamba_norm_before_gate";
    let norm_before_gate = match normed.then(|| b.fields.traceless(before, true)).flatten() {
        None => true,
        Some(value) => value.as_bool().ok_or_else(|| b.fields.refuse(before, &value, "true or false"))?,
    };
    let heads = Heads::of(b, "model.layers.0.self_attn.")?;
    let inv_freq = rope::inv_freq(b, heads.head, 1.0)?;
    llama::positions(b)?;

    b.embed("model.embed_tokens.weight", None, embedding)?;
    for (n, mixer) in mixers.into_iter().enumerate() {
        let mixer =
            Mixer { scales: Some((ssm_parts, ssm_in)), out_scale: ssm_out, norm_before_gate, ..mixer };
        b.layer(n, &format!("model.layers.{n}."), |b| {
            let x = b.watched_norm("input_layernorm", "norm", Kind::Rms, eps);
            b.scoped("mamba.", |b| mamba2::mixer(b, &mixer, x));
            let shape = heads.shape(b, "self_attn.", inv_freq, None, eps)?;
            b.scoped("self_attn.", |b| attention::attention(b, &shape, attention, x));
            hybrid::feed_forward(b, mlp, "down_proj", eps)
        })?;
    }
    b.finish_with("model.final_layernorm", Kind::Rms, eps, head_scale, Tied::AsConfigured { default: false })
}

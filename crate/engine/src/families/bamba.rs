//! Bamba: layers of Mamba-2 or of attention whose heads turn by half, each with a SwiGLU.

use serde_json::Value;

use super::attention::{self, AttentionScales, Heads};
use super::builder::{Builder, Kind, Tied};
use super::llama;
use super::mamba2::{self, HYBRID, Mixer};
use super::registry::{Entry, Run};
use super::rope;
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "bamba",
    title: "Bamba",
    trunk: "model.",
    keys: &["layers.*.mamba.dt_bias", "layers.*.pre_ff_layernorm.weight", "layers.*.self_attn.q_proj.weight"],
    without: &[],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: rope::FIELDS,
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.fields.kind(&["bamba"])?;
    b.vocabulary("model.embed_tokens.weight")?;
    let n_layers = b.layers("model.layers.")?;
    let eps = b.fields.free_eps("rms_norm_eps", 1e-5, "Bamba's default")?;
    llama::silu_only(b)?;
    llama::widths(b, n_layers, "feed_forward.")?;
    let (mamba, attention) = hybrid_layers(b, n_layers)?;
    let mut mixers = Mixer::of(b, &mamba, &HYBRID, eps)?.into_iter();
    let heads = attention.first().map(|scope| Heads::of(b, scope)).transpose()?;
    let inv_freq = match heads {
        Some(heads) => rope::inv_freq(b, heads.head, 0.5)?,
        None => None,
    };
    llama::positions(b)?;

    b.embed("model.embed_tokens.weight", None, 1.0)?;
    for n in 0..n_layers {
        b.layer(n, &format!("model.layers.{n}."), |b| {
            let x = b.hidden_norm("input_layernorm", Kind::Rms, eps);
            b.watch("norm", x);
            if b.has("mamba.A_log") {
                let mixer = mixers.next();
                b.scoped("mamba.", |b| mixer.iter().for_each(|mixer| mamba2::mixer(b, mixer, x)));
            } else if let Some(heads) = heads {
                let shape = heads.shape(b, "self_attn.", inv_freq, None, eps)?;
                b.scoped("self_attn.", |b| attention::attention(b, &shape, AttentionScales::default(), x));
            }
            feed_forward(b, eps)
        })?;
    }
    b.finish_with("model.final_layernorm", Kind::Rms, eps, 1.0, Tied::AsConfigured { default: false })
}

/// The scopes of a hybrid's layers that have an SSM, and of those with attention. Every layer has one
/// of them at least. What tensors say is held against the configurations' ways of saying it.
pub(super) fn hybrid_layers(
    b: &mut Builder,
    n_layers: usize,
) -> Result<(Vec<String>, Vec<String>), EngineError> {
    let (mut ssm, mut attention, mut only_attention) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..n_layers {
        let scope = |name: &str| format!("model.layers.{n}.{name}.");
        let a_log = format!("{}A_log", scope("mamba"));
        let (has_ssm, attends) = (b.has(&a_log), b.has(&format!("{}q_proj.weight", scope("self_attn"))));
        if !has_ssm && !attends {
            return Err(EngineError::Keys { missing: vec![a_log], unexpected: Vec::new() });
        }
        ssm.extend(has_ssm.then(|| scope("mamba")));
        attention.extend(attends.then(|| scope("self_attn")));
        only_attention.extend((!has_ssm).then_some(n));
    }
    if let Some(scope) = ssm.first() {
        for (key, field) in [("in_proj", "mamba_proj_bias"), ("conv1d", "mamba_conv_bias")] {
            llama::shown_biases(b, &format!("{scope}{key}"), field);
        }
    }
    if let Some(scope) = attention.first() {
        llama::shown_biases(b, &format!("{scope}q_proj"), "attention_bias");
    }
    let from = "layers with self_attn and no mamba";
    let attends = |n: usize| only_attention.contains(&n);
    let kinds = b.fields.claimed("layer_types").and_then(|kinds| kinds.as_array()).map(|kinds| {
        let kind = |(n, kind): (usize, &Value)| match (kind.as_str(), attends(n)) {
            (Some("linear_attention" | "mamba"), false) | (Some("full_attention" | "attention"), true) => {
                kind.clone()
            }
            (_, false) => "mamba".into(),
            (_, true) => "attention".into(),
        };
        (0..n_layers).zip(kinds).map(kind).collect::<Vec<Value>>()
    });
    if let Some(kinds) = kinds {
        b.fields.counted("layer_types", kinds, from);
    }
    b.fields.shown("attn_layer_indices", only_attention, from);
    Ok((ssm, attention))
}

/// The SwiGLU behind the mixer of Bamba and Jamba.
pub(super) fn feed_forward(b: &mut Builder, eps: f64) -> Result<(), EngineError> {
    let x = b.hidden_norm("pre_ff_layernorm", Kind::Rms, eps);
    b.watch("norm2", x);
    b.scoped("feed_forward.", |b| llama::mlp(b, [1.0, 1.0], x))?;
    b.watch_product("feed_forward");
    b.watch_layer();
    Ok(())
}

//! What hybrids of SSM and attention share: which layer has what, and the feed-forward network behind it.

use serde_json::Value;

use super::builder::{Builder, Kind};
use super::llama;
use crate::EngineError;

/// The scopes of a hybrid's layers that have an SSM, and of those with attention. Every layer has one
/// of them at least. What tensors say is held against the configurations' ways of saying it.
pub(super) fn layers(b: &mut Builder, n_layers: usize) -> Result<(Vec<String>, Vec<String>), EngineError> {
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

/// The SwiGLU behind the mixer of Bamba, Jamba and Falcon-H1, seen as `tap`; `scales` are those of
/// [`llama::mlp`].
pub(super) fn feed_forward(
    b: &mut Builder,
    scales: [f32; 2],
    tap: &'static str,
    eps: f64,
) -> Result<(), EngineError> {
    let x = b.watched_norm("pre_ff_layernorm", "norm2", Kind::Rms, eps);
    b.scoped("feed_forward.", |b| llama::mlp(b, scales, x))?;
    b.watch_product(tap);
    b.watch_layer();
    Ok(())
}

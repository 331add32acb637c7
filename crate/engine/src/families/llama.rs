//! Llama and what is built like it (Mistral, Qwen-2, Qwen-3): RMS norms, rotary positions, grouped
//! queries, SwiGLU. Biases and norms of queries and keys are there where their tensors are.
//!
//! ```text
//! x += o_proj attend(rope(q), rope(k), v)
//! x += down (up y SiLU(gate y)),  y = rms(x)
//! ```

use statepress_core::{Finding, Role};
use statepress_kernels::program::{AxisName, View};

use super::attention::{self, AttentionScales, Heads};
use super::builder::{Builder, Kind, Lin, Tied};
use super::registry::{Entry, Run};
use super::rope;
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "llama",
    title: "Llama, Mistral, Qwen-2, Qwen-3",
    trunk: "model.",
    keys: &["layers.*.self_attn.q_proj.weight", "layers.*.mlp.gate_proj.weight"],
    without: &[],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: rope::FIELDS,
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.vocabulary("model.embed_tokens.weight")?;
    let n_layers = b.layers("model.layers.")?;
    let named = b.fields.kind(&["llama", "mistral", "qwen2", "qwen3"])?;
    let first = |key: &str| b.has(&format!("model.layers.0.self_attn.{key}"));
    let sounds = match () {
        () if first("q_norm.weight") => "qwen3",
        () if first("q_proj.bias") && !first("o_proj.bias") => "qwen2",
        () => "llama",
    };
    let family = match named {
        Some("mistral") => "llama",
        named => named.unwrap_or(sounds),
    };
    b.family(family);
    let (eps, why) = match b.fields.has_config() || family != "llama" {
        true => (1e-6, "the format's default"),
        false => (1e-5, "usual for Llama"),
    };
    let eps = b.fields.free_eps("rms_norm_eps", eps, why)?;
    if !b.fields.has_config() {
        let message = "read as Llama or Qwen: Granite, SmolLM3 and others have the same keys, and compute something \
                       else that leaves no trace in the tensors";
        b.fields.finding(Finding::warning("assumed", message));
    }
    silu_only(b)?;
    widths(b, n_layers, "mlp.")?;
    shown_biases(b, "model.layers.0.self_attn.q_proj", "attention_bias");
    shown_biases(b, "model.layers.0.mlp.gate_proj", "mlp_bias");
    let heads = Heads::of(b, "model.layers.0.self_attn.")?;
    let inv_freq = rope::inv_freq(b, heads.head, 1.0)?;
    positions(b)?;

    b.embed("model.embed_tokens.weight", None, 1.0)?;
    for n in 0..n_layers {
        b.layer(n, &format!("model.layers.{n}."), |b| {
            let x = b.watched_norm("input_layernorm", "norm", Kind::Rms, eps);
            let shape = heads.shape(b, "self_attn.", inv_freq, None, eps)?;
            b.scoped("self_attn.", |b| attention::attention(b, &shape, AttentionScales::default(), x));
            let x = b.watched_norm("post_attention_layernorm", "norm2", Kind::Rms, eps);
            b.scoped("mlp.", |b| mlp(b, [1.0, 1.0], x))?;
            b.watch_product("mlp");
            b.watch_layer();
            Ok(())
        })?;
    }
    b.finish_with("model.norm", Kind::Rms, eps, 1.0, Tied::AsConfigured { default: false })
}

/// The gate is SiLU in all of them.
pub(super) fn silu_only(b: &mut Builder) -> Result<(), EngineError> {
    match b.fields.optional("hidden_act") {
        Some(value) if value != "silu" && value != "swish" => {
            Err(b.fields.refuse("hidden_act", &value, "silu"))
        }
        _ => Ok(()),
    }
}

/// Whether there are biases, against what the configuration says.
pub(super) fn shown_biases(b: &mut Builder, key: &str, field: &str) {
    let key = format!("{key}.bias");
    let there = b.has(&key);
    b.fields.shown(field, there, &format!("whether there is {key}"));
}

/// Counts the widths of the feed-forward networks whose keys begin with `scope`.
pub(super) fn widths(b: &mut Builder, n_layers: usize, scope: &str) -> Result<(), EngineError> {
    let widths =
        (0..n_layers).map(|n| Ok(b.shape::<2>(&format!("model.layers.{n}.{scope}up_proj.weight"))?[0]));
    let widths = widths.collect::<Result<Vec<_>, EngineError>>()?;
    b.fields.counted_by_layer("intermediate_size", &widths, "rows of up_proj.weight");
    Ok(())
}

/// The most positions, as far as a configuration says; a sliding window is exact up to its width.
pub(super) fn positions(b: &mut Builder) -> Result<(), EngineError> {
    let mut count = |name: &str| match b.fields.optional(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            // More than can be counted is as good as no limit.
            Some(count) if count > 0 => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
            _ => Err(b.fields.refuse(name, &value, "a whole number above 0")),
        },
    };
    let (mut most, window) = (count("max_position_embeddings")?, count("sliding_window")?);
    let slides = b.fields.flag("use_sliding_window", true)?;
    if let Some(window) = window.filter(|&window| slides && most.is_none_or(|most| window < most)) {
        let message = format!("attention slides over {window} tokens: run up to there, where it is exact");
        b.fields.finding(Finding::info("sliding-window", message));
        most = Some(window);
    }
    b.max_tokens(most);
    Ok(())
}

/// SwiGLU of the normed input `x`, added to the residual stream: `down (up x SiLU(gate x scales[0])) scales[1]`.
pub(crate) fn mlp(b: &mut Builder, scales: [f32; 2], x: View) -> Result<(), EngineError> {
    let [width, _] = b.shape("up_proj.weight")?;
    let (channels, width) = (b.hidden_axis(), b.axis(AxisName::Ffn, width));
    let gate = b.linear(Lin::new("gate_proj", Role::FfnIn, width, channels), x);
    let up = b.linear(Lin::new("up_proj", Role::FfnIn, width, channels), x);
    let y = b.gate(up, gate, scales[0]);
    b.linear_add(Lin::new("down_proj", Role::FfnOut, channels, width).y_scale(scales[1]), y);
    Ok(())
}

//! Bamba: layers of Mamba-2 or of attention whose heads turn by half, each with a SwiGLU.

use super::builder::{Builder, Kind, Tied};
use super::llama::{self, AttentionScales, Heads, ROPE_FIELDS};
use super::mamba2::{self, HYBRID, Mixer};
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "bamba",
    title: "Bamba",
    trunk: "model.",
    keys: &["layers.*.mamba.dt_bias", "layers.*.pre_ff_layernorm.weight", "layers.*.self_attn.q_proj.weight"],
    without: &[],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: ROPE_FIELDS,
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.vocabulary("model.embed_tokens.weight")?;
    let n_layers = b.layers("model.layers.")?;
    let eps = b.fields.free_eps("rms_norm_eps", 1e-5, "Bamba's default")?;
    llama::silu_only(b)?;
    let (mamba, attention) = hybrid_layers(b, n_layers, "mamba.A_log");
    let mut mixers = Mixer::of(b, &mamba, &HYBRID, eps)?.into_iter();
    let heads = attention.first().map(|scope| Heads::of(b, scope)).transpose()?;
    let inv_freq = match heads {
        Some(heads) => llama::rope(b, heads.head, 0.5)?,
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
                b.scoped("self_attn.", |b| llama::attention(b, &shape, AttentionScales::default(), x));
            }
            feed_forward(b, eps)
        })?;
    }
    b.finish_with("model.final_layernorm", Kind::Rms, eps, 1.0, Tied::AsConfigured { default: false })
}

/// The scopes of a hybrid's layers that have an SSM, told by this key, and of those with attention.
pub(super) fn hybrid_layers(b: &Builder, n_layers: usize, ssm: &str) -> (Vec<String>, Vec<String>) {
    let layer = |n: usize| format!("model.layers.{n}.");
    let with = |key: &str, scope: &str| {
        let there = (0..n_layers).filter(|&n| b.has(&format!("{}{key}", layer(n))));
        there.map(|n| format!("{}{scope}", layer(n))).collect()
    };
    (with(ssm, "mamba."), with("self_attn.q_proj.weight", "self_attn."))
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

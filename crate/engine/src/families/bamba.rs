//! Bamba: layers of Mamba-2 or of attention whose heads turn by half, each with a SwiGLU.

use super::attention::{self, AttentionScales, Heads};
use super::builder::{Builder, Kind, Tied};
use super::hybrid;
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
    let (mamba, attention) = hybrid::layers(b, n_layers)?;
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
            let x = b.watched_norm("input_layernorm", "norm", Kind::Rms, eps);
            if b.has("mamba.A_log") {
                let mixer = mixers.next();
                b.scoped("mamba.", |b| mixer.iter().for_each(|mixer| mamba2::mixer(b, mixer, x)));
            } else if let Some(heads) = heads {
                let shape = heads.shape(b, "self_attn.", inv_freq, None, eps)?;
                b.scoped("self_attn.", |b| attention::attention(b, &shape, AttentionScales::default(), x));
            }
            hybrid::feed_forward(b, [1.0, 1.0], "feed_forward", eps)
        })?;
    }
    b.finish_with("model.final_layernorm", Kind::Rms, eps, 1.0, Tied::AsConfigured { default: false })
}

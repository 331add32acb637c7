//! Jamba (Lieber et al. 2024) without experts: layers of Mamba with learned norms of step size, B and
//! C, or of attention that knows no positions, each with a SwiGLU.

use super::attention::{self, AttentionScales, Heads};
use super::builder::{Builder, Kind, Tied};
use super::hybrid;
use super::llama;
use super::mamba::{self, InnerNorms, Sizes};
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "jamba",
    title: "Jamba without experts",
    trunk: "model.",
    keys: &["layers.*.mamba.x_proj.weight", "layers.*.mamba.dt_layernorm.weight"],
    without: &["layers.*.feed_forward.router.weight"],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: &[],
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.fields.kind(&["jamba"])?;
    b.vocabulary("model.embed_tokens.weight")?;
    let n_layers = b.layers("model.layers.")?;
    let eps = b.fields.free_eps("rms_norm_eps", 1e-6, "Jamba's default")?;
    llama::silu_only(b)?;
    llama::widths(b, n_layers, "feed_forward.")?;
    let (scopes, attention) = hybrid::layers(b, n_layers)?;
    let sizes = scopes.iter().map(|scope| b.scoped(scope, |b| Sizes::of(b)));
    let sizes = sizes.collect::<Result<Vec<_>, EngineError>>()?;
    mamba::report(b, &sizes, ["mamba_inner_size", "mamba_d_state", "mamba_d_conv", "mamba_dt_rank"]);
    let heads = attention.first().map(|scope| Heads::of(b, scope)).transpose()?;
    llama::positions(b)?;

    let mut sizes = sizes.into_iter();
    b.embed("model.embed_tokens.weight", None, 1.0)?;
    for n in 0..n_layers {
        b.layer(n, &format!("model.layers.{n}."), |b| {
            let x = b.watched_norm("input_layernorm", "norm", Kind::Rms, eps);
            if b.has("mamba.A_log") {
                let sizes = sizes.next();
                let norms = InnerNorms::Learned(eps);
                b.scoped("mamba.", |b| sizes.iter().for_each(|sizes| mamba::mixer(b, sizes, norms, x)));
            } else if let Some(heads) = heads {
                let shape = heads.shape(b, "self_attn.", None, None, eps)?;
                b.scoped("self_attn.", |b| attention::attention(b, &shape, AttentionScales::default(), x));
            }
            hybrid::feed_forward(b, [1.0, 1.0], "feed_forward", eps)
        })?;
    }
    b.finish_with("model.final_layernorm", Kind::Rms, eps, 1.0, Tied::AsConfigured { default: false })
}

//! Granite 4 hybrids: layers of Mamba-2 or of attention, each with a SwiGLU that all tokens share and
//! perhaps experts beside it. Four multipliers are scalars of the products, never part of weights.

use statepress_core::Role;
use statepress_kernels::program::{Activation, AxisName, Expert, Experts, Layout, Op, View};

use super::attention::{self, AttentionScales, Heads};
use super::builder::{Builder, Kind, Lin, Tied};
use super::hybrid;
use super::llama;
use super::mamba2::{self, HYBRID, Mixer};
use super::registry::{Entry, Run};
use super::rope;
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "granite-hybrid",
    title: "Granite 4 hybrid",
    trunk: "model.",
    keys: &["layers.*.mamba.dt_bias", "layers.*.shared_mlp.input_linear.weight"],
    without: &[],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: rope::FIELDS,
    run: Run::Program(declare),
};

/// More than any model has, few enough for a description of each.
const MOST_EXPERTS: usize = 4096;

/// Only layers with experts have one.
const ROUTER: &str = "block_sparse_moe.router.layer.weight";

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.fields.kind(&["granitemoehybrid"])?;
    b.vocabulary("model.embed_tokens.weight")?;
    let n_layers = b.layers("model.layers.")?;
    let eps = b.fields.free_eps("rms_norm_eps", 1e-6, "Granite's default")?;
    llama::silu_only(b)?;
    let residual = b.fields.multiplier("residual_multiplier")?;
    let embedding = b.fields.multiplier("embedding_multiplier")?;
    let logits = match b.fields.traceless("logits_scaling", 1.0) {
        None => 1.0,
        Some(_) => b.fields.free_positive("logits_scaling", 1.0, "Granite's default")? as f32,
    };
    let (mamba, attention) = hybrid::layers(b, n_layers)?;
    let mut mixers = Mixer::of(b, &mamba, &HYBRID, eps)?.into_iter();
    let heads = attention.first().map(|scope| Heads::of(b, scope)).transpose()?;
    // 1 by default, and not the root of a head's width.
    let scale = Some(b.fields.multiplier("attention_multiplier")?);
    let turns = b.fields.traceless("position_embedding_type", "nope").is_some_and(|kind| kind == "rope");
    let inv_freq = match heads {
        Some(heads) if turns => rope::inv_freq(b, heads.head, 1.0)?,
        _ => None,
    };
    llama::positions(b)?;
    let layer = |n: usize, key: &str| format!("model.layers.{n}.{key}");
    let expert_layers: Vec<usize> = (0..n_layers).filter(|&n| b.has(&layer(n, ROUTER))).collect();
    let counts = expert_layers.iter().map(|&n| Ok(b.shape::<2>(&layer(n, ROUTER))?[0]));
    let counts = counts.collect::<Result<Vec<_>, EngineError>>()?;
    b.fields.counted_by_layer("num_local_experts", &counts, "rows of the router");
    let top_k = match counts.iter().min() {
        Some(&fewest) if counts.len() == n_layers => {
            b.fields.free_count("num_experts_per_tok", fewest.min(2), "two are usual", 1..=fewest)?
        }
        // Either all layers have experts or none.
        Some(_) => {
            let missing = (0..n_layers).find(|n| !expert_layers.contains(n)).map(|n| layer(n, ROUTER));
            return Err(EngineError::Keys { missing: missing.into_iter().collect(), unexpected: Vec::new() });
        }
        None => {
            b.fields.shown("num_local_experts", 0, "there is no router");
            1
        }
    };
    let shared = (0..n_layers).map(|n| Ok(b.shape::<2>(&layer(n, "shared_mlp.input_linear.weight"))?[0] / 2));
    let shared = shared.collect::<Result<Vec<_>, EngineError>>()?;
    b.fields.counted_by_layer("shared_intermediate_size", &shared, "rows of shared_mlp.input_linear / 2");

    b.embed("model.embed_tokens.weight", None, embedding)?;
    for n in 0..n_layers {
        b.layer(n, &format!("model.layers.{n}."), |b| {
            let x = b.watched_norm("input_layernorm", "norm", Kind::Rms, eps);
            if b.has("mamba.A_log") {
                let mixer = mixers.next().map(|mixer| Mixer { out_scale: residual, ..mixer });
                b.scoped("mamba.", |b| mixer.iter().for_each(|mixer| mamba2::mixer(b, mixer, x)));
            } else if let Some(heads) = heads {
                let shape = heads.shape(b, "self_attn.", inv_freq, scale, eps)?;
                let scales = AttentionScales { output: residual, ..AttentionScales::default() };
                b.scoped("self_attn.", |b| attention::attention(b, &shape, scales, x));
            }
            let x = b.watched_norm("post_attention_layernorm", "norm2", Kind::Rms, eps);
            if b.has(ROUTER) {
                b.scoped("block_sparse_moe.", |b| moe(b, top_k, residual, x))?;
            }
            b.scoped("shared_mlp.", |b| shared_mlp(b, residual, x))?;
            b.watch_layer();
            Ok(())
        })?;
    }
    b.finish_with("model.norm", Kind::Rms, eps, 1.0 / logits, Tied::AsConfigured { default: false })
}

/// `output_linear (SiLU(a) c)` with `a, c = split(input_linear x)`.
fn shared_mlp(b: &mut Builder, scale: f32, x: View) -> Result<(), EngineError> {
    let [doubled, _] = b.shape::<2>("input_linear.weight")?;
    b.expect("input_linear.weight", doubled.is_multiple_of(2), "an even number of rows (gates and values)")?;
    let (channels, width) = (b.hidden_axis(), b.axis(AxisName::Ffn, doubled / 2));
    let parts = [width.named("gate"), width.named("up")];
    let y = b.linear(Lin::new("input_linear", Role::FfnIn, parts, channels), x);
    let [gate, up] = y.split([doubled / 2, doubled / 2]);
    let y = b.gate(up, gate, 1.0);
    b.linear_add(Lin::new("output_linear", Role::FfnOut, channels, width).y_scale(scale), y);
    b.watch_product("shared_mlp");
    Ok(())
}

/// Experts like the shared network, each a part of two tensors of three dimensions.
fn moe(b: &mut Builder, top_k: usize, y_scale: f32, x: View) -> Result<(), EngineError> {
    let [count, doubled, _] = b.shape("input_linear.weight")?;
    b.expect("input_linear.weight", doubled.is_multiple_of(2), "an even number of rows (gates and values)")?;
    b.expect("input_linear.weight", count <= MOST_EXPERTS, format!("at most {MOST_EXPERTS} experts"))?;
    let channels = b.hidden_axis();
    let expert = b.axis(AxisName::Expert, count);
    let width = b.axis(AxisName::Ffn, doubled / 2);
    let router = b.bare_matrix("router.layer.weight", Role::Router, expert, channels, Layout::Plain);
    let experts = (0..count).map(|index| {
        let layout = Layout::Part { index, count };
        let parts = [width.named("gate"), width.named("up")];
        Expert {
            up: b.bare_matrix("input_linear.weight", Role::ExpertIn, parts, channels, layout),
            down: b.bare_matrix("output_linear.weight", Role::ExpertOut, channels, width, layout),
        }
    });
    let experts = experts.collect();
    let (activation, gated, y) = (Activation::Silu, true, b.hidden().value);
    b.push(Op::Experts(Experts { router, experts, activation, gated, top_k, y_scale, x: x.value, y }));
    b.watch_router("router_logits");
    b.watch_product("block_sparse_moe");
    Ok(())
}

//! GPT-2 (Radford et al. 2019): learned positions, one projection for queries, keys and values, and
//! weights that stand as `[in, out]`.

use statepress_core::Role;
use statepress_kernels::program::{Activation, AxisName};

use super::attention::{self, AttentionShape, head_width};
use super::builder::{Builder, Kind, Lin, Tied};
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "gpt2",
    title: "GPT-2",
    trunk: "transformer.",
    keys: &["h.*.attn.c_attn.weight"],
    without: &[],
    aliases: &[],
    table: "transformer.wte.weight",
    fields: &[
        ("hidden_size", &["n_embd"]),
        ("num_hidden_layers", &["n_layer"]),
        ("num_attention_heads", &["n_head"]),
        ("intermediate_size", &["n_inner"]),
        ("max_position_embeddings", &["n_positions"]),
    ],
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    b.fields.kind(&["gpt2"])?;
    let d = b.vocabulary("transformer.wte.weight")?;
    let n_layers = b.layers("transformer.h.")?;
    let [positions, _] = b.shape::<2>("transformer.wpe.weight")?;
    b.fields.counted("max_position_embeddings", positions, "rows of transformer.wpe.weight");
    let widths = (0..n_layers).map(|n| Ok(b.shape::<2>(&format!("transformer.h.{n}.mlp.c_fc.weight"))?[1]));
    let widths = widths.collect::<Result<Vec<usize>, EngineError>>()?;
    b.fields.counted_by_layer("intermediate_size", &widths, "columns of c_fc.weight");
    let head = (1..=64).rev().find(|head| d.is_multiple_of(*head)).unwrap_or(1);
    let why = "heads of 64 channels, as every GPT-2 has, or the most that divide the width";
    let rows = (0..n_layers).map(|n| {
        let key = format!("transformer.h.{n}.attn.c_attn.weight");
        let [_, rows] = b.shape::<2>(&key)?;
        b.expect(&key, rows.is_multiple_of(3), "as many columns of queries, keys and values")?;
        Ok(rows / 3)
    });
    let rows = rows.collect::<Result<Vec<usize>, EngineError>>()?;
    let head = head_width(b, d, (d / head, why), rows.first().copied().unwrap_or(d))?;
    let eps = b.fields.free_eps("layer_norm_epsilon", 1e-5, "GPT-2's")?;
    let activation = b.fields.free("activation_function", "gelu_new", "GPT-2's");
    let activation = match activation.as_str() {
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
        Some("gelu") => Activation::Gelu,
        Some("silu" | "swish") => Activation::Silu,
        _ => {
            return Err(b.fields.refuse(
                "activation_function",
                &activation,
                "gelu_new, gelu_pytorch_tanh, gelu, silu",
            ));
        }
    };
    let scaled = b.fields.flag("scale_attn_weights", true)?;
    let by_layer = b.fields.flag("scale_attn_by_inverse_layer_idx", false)?;

    b.embed("transformer.wte.weight", Some("transformer.wpe.weight"), 1.0)?;
    for (n, (&width, wide)) in widths.iter().zip(rows).enumerate() {
        let key = format!("transformer.h.{n}.attn.c_attn.weight");
        b.expect(&key, wide.is_multiple_of(head), format!("whole heads of {head} channels"))?;
        b.layer(n, &format!("transformer.h.{n}."), |b| {
            let heads = wide / head;
            let scale = if scaled { (head as f32).sqrt().recip() } else { 1.0 };
            let scale = if by_layer { scale / (n + 1) as f32 } else { scale };
            let (channels, width) = (b.hidden_axis(), b.axis(AxisName::Ffn, width));
            let rows = b.axis(AxisName::QueryHead, heads).each(head);
            let x = b.watched_norm("ln_1", "norm", Kind::Layer, eps);
            let parts = [rows.named("q"), rows.named("k"), rows.named("v")];
            let qkv = b.linear(Lin::new("attn.c_attn", Role::AttentionIn, parts, channels).transposed(), x);
            b.watch("qkv", qkv);
            let [q, k, v] = qkv.split([wide, wide, wide]);
            let shape = AttentionShape {
                heads,
                kv_heads: heads,
                head,
                scale,
                inv_freq: None,
                q_norm: None,
                k_norm: None,
            };
            let y = attention::attend(b, &shape, q, k, v);
            b.watch("attention", y);
            b.linear_add(Lin::new("attn.c_proj", Role::AttentionOut, channels, rows).transposed(), y);
            b.watch_product("o_proj");
            let x = b.watched_norm("ln_2", "norm2", Kind::Layer, eps);
            let y = b.linear(Lin::new("mlp.c_fc", Role::FfnIn, width, channels).transposed(), x);
            b.activate(activation, y);
            b.linear_add(Lin::new("mlp.c_proj", Role::FfnOut, channels, width).transposed(), y);
            b.watch_product("mlp");
            b.watch_layer();
            Ok(())
        })?;
    }
    b.finish_with("transformer.ln_f", Kind::Layer, eps, 1.0, Tied::AsConfigured { default: true })
}

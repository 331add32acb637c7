//! Layers that only the original code of Mamba-2 knows: attention, and a gated feed-forward network.

use statepress_core::Role;
use statepress_kernels::program::{AxisName, View};

use super::attention::{self, AttentionShape};
use super::builder::{Builder, Kind, Lin};
use super::rope;
use crate::EngineError;

/// A layer of attention of the original code: one projection for queries, keys and values, perhaps a
/// convolution over all of them, perhaps rotary positions.
pub(super) fn attention(b: &mut Builder, x: View) -> Result<(), EngineError> {
    let [rows, _] = b.shape::<2>("in_proj.weight")?;
    let [_, out] = b.shape::<2>("out_proj.weight")?;
    let why = "heads of 64 channels are usual";
    let heads = b.fields.free_divisor("num_attention_heads", (out / 64).max(1), why, out)?;
    let head = out / heads;
    let kv_rows = (rows - out.min(rows)) / 2;
    b.expect(
        "in_proj.weight",
        kv_rows > 0 && kv_rows.is_multiple_of(head),
        format!("rows for {heads} heads of {head} channels, and keys and values"),
    )?;
    b.fields.counted("attention_head_dim", head, "columns of out_proj / heads");
    let kv_heads = kv_rows / head;
    let expected = format!("keys and values of a number of heads that divides {heads}");
    b.expect("in_proj.weight", heads.is_multiple_of(kv_heads), expected)?;
    for (field, only) in [("rotary_emb_interleaved", false), ("attention_causal", true)] {
        if b.fields.flag(field, only)? != only {
            return Err(b.fields.refuse(field, &(!only).into(), &only.to_string()));
        }
    }
    if let Some(width) = b.fields.optional("attention_mlp_dim").filter(|width| *width != 0) {
        return Err(b.fields.refuse(
            "attention_mlp_dim",
            &width,
            "0: networks within attention are not known here",
        ));
    }
    let scale = match b.fields.optional("softmax_scale") {
        None => (head as f32).sqrt().recip(),
        Some(_) => b.fields.multiplier("softmax_scale")?,
    };
    let rotary = b.fields.free_count("rotary_emb_dim", 0, "the original code's default", 0..=head)?;
    let inv_freq = match rotary {
        0 => None,
        _ => {
            let theta = b.fields.free_positive("rotary_emb_base", 10_000.0, "the original code's default")?;
            Some(b.constant(rope::frequencies(theta, rotary, &rope::RopeScaling::None)))
        }
    };
    let channels = b.hidden_axis();
    let [q_rows, kv] = b.attention_heads(heads, kv_heads).map(|heads| heads.each(head));
    let parts = [q_rows.named("q"), kv.named("k"), kv.named("v")];
    let mut qkv = b.linear(Lin::new("in_proj", Role::AttentionIn, parts, channels), x);
    b.watch("in_proj", qkv);
    if b.has("conv1d.weight") {
        let [_, _, taps] = b.shape::<3>("conv1d.weight")?;
        qkv = b.conv1d("conv1d", parts, taps, qkv);
    }
    let [q, k, v] = qkv.split([out, kv_rows, kv_rows]);
    let shape = AttentionShape { heads, kv_heads, head, scale, inv_freq, q_norm: None, k_norm: None };
    let y = attention::attend(b, &shape, q, k, v);
    b.watch("out_proj_in", y);
    b.linear_add(Lin::new("out_proj", Role::AttentionOut, channels, q_rows), y);
    b.watch_product("out_proj");
    Ok(())
}

/// `fc2 (a SiLU(g))` with `a, g = split(fc1 norm2(x))`.
pub(super) fn mlp(b: &mut Builder, kind: Kind, eps: f64) -> Result<(), EngineError> {
    let [doubled, _] = b.shape::<2>("mlp.fc1.weight")?;
    b.expect("mlp.fc1.weight", doubled.is_multiple_of(2), "an even number of rows (values and gates)")?;
    let x = b.watched_norm("norm2", "norm2", kind, eps);
    let (channels, width) = (b.hidden_axis(), b.axis(AxisName::Ffn, doubled / 2));
    let y = b.linear(Lin::new("mlp.fc1", Role::FfnIn, [width.named("up"), width.named("gate")], channels), x);
    let [up, gate] = y.split([doubled / 2, doubled / 2]);
    let y = b.gate(up, gate, 1.0);
    b.linear_add(Lin::new("mlp.fc2", Role::FfnOut, channels, width), y);
    b.watch_product("mlp");
    Ok(())
}

//! The Transformer baseline that Itera-Lite was compared with: a pre-norm decoder with learned
//! positions, one projection for queries, keys and values, and no biases.

use statepress_core::Role;
use statepress_kernels::program::{Activation, Attention, AxisName, Op, StateSize};

use super::attention::head_width;
use super::builder::{Builder, Kind, Lin, Tied};
use super::itera_lite::{NEXT_TOKEN, NORM_EPS, report_tying};
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "transformer",
    title: "the Transformer baseline of Itera-Lite",
    trunk: "",
    keys: &["blocks.*.attention.qkv.weight"],
    without: &[],
    aliases: &[],
    table: "embedding.weight",
    fields: &[],
    run: Run::Program(declare),
};

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    let [vocab_size, d] = b.table_shape("embedding.weight")?;
    let [positions, _] = b.shape::<2>("position_embedding.weight")?;
    let n_layers = b.count("blocks.")?;
    b.fields.counted("vocab_size", vocab_size, "rows of embedding.weight");
    b.fields.counted("hidden_size", d, "columns of embedding.weight");
    b.fields.counted("max_seq_length", positions, "rows of position_embedding.weight");
    b.fields.counted("num_layers", n_layers, "highest block index + 1");
    let widths = (0..n_layers).map(|n| Ok(b.shape::<2>(&format!("blocks.{n}.ffn.w1.weight"))?[0]));
    let widths = widths.collect::<Result<Vec<usize>, EngineError>>()?;
    b.fields.counted_by_layer("intermediate_size", &widths, "rows of ffn.w1.weight");

    let default =
        if d.is_multiple_of(4) { 4 } else { (1..=d / 16).rev().find(|h| d.is_multiple_of(*h)).unwrap_or(1) };
    let why = "4 if it divides the hidden size, else the most heads of 16 channels or more";
    // All are collected before one is refused: what is written carries all.
    let rows = (0..n_layers).map(|n| {
        let key = format!("blocks.{n}.attention.qkv.weight");
        let [rows, _] = b.shape::<2>(&key)?;
        b.expect(&key, rows.is_multiple_of(3), "as many rows of queries, keys and values")?;
        Ok(rows / 3)
    });
    let rows = rows.collect::<Result<Vec<usize>, EngineError>>()?;
    let head = head_width(b, d, (default, why), rows.first().copied().unwrap_or(d));
    let eps = b.fields.free_eps("layer_norm_eps", NORM_EPS, "upstream's default");
    let offset = b.fields.free_count("prediction_offset", 1, NEXT_TOKEN, 0..=3);
    let (head, eps) = (head?, eps?);
    b.offset(offset?);

    b.embed("embedding.weight", Some("position_embedding.weight"), 1.0)?;
    for (n, (&width, rows)) in widths.iter().zip(rows).enumerate() {
        let key = format!("blocks.{n}.attention.qkv.weight");
        b.expect(&key, rows.is_multiple_of(head), format!("whole heads of {head} channels"))?;
        b.layer(n, &format!("blocks.{n}."), |b| {
            block(b, rows / head, head, width, eps);
            Ok(())
        })?;
    }
    b.finish_with("norm", Kind::Layer, eps, 1.0, Tied::Always)?;
    report_tying(b);
    Ok(())
}

fn block(b: &mut Builder, heads: usize, head: usize, width: usize, eps: f64) {
    let (channels, wide) = (b.hidden_axis(), heads * head);
    let rows = b.axis(AxisName::QueryHead, heads).each(head);
    let x = b.watched_norm("ln1", "ln1", Kind::Layer, eps);
    let parts = [rows.named("q"), rows.named("k"), rows.named("v")];
    let qkv = b.linear(Lin::new("attention.qkv", Role::AttentionIn, parts, channels).without_bias(), x);
    b.watch("qkv", qkv);
    let [q, k, v] = qkv.split([wide, wide, wide]);
    let (keys, values) = (b.state("k", StateSize::PerToken(wide)), b.state("v", StateSize::PerToken(wide)));
    let y = b.value(wide);
    b.push(Op::Attention(Attention {
        heads,
        kv_heads: heads,
        head,
        scale: (head as f32).sqrt().recip(),
        inv_freq: None,
        q_norm: None,
        k_norm: None,
        q,
        k,
        v,
        keys,
        values,
        y: y.value,
    }));
    b.linear_add(Lin::new("attention.out_proj", Role::AttentionOut, channels, rows).without_bias(), y);
    b.watch_product("attention");

    let width = b.axis(AxisName::Ffn, width);
    let x = b.watched_norm("ln2", "ln2", Kind::Layer, eps);
    let y = b.linear(Lin::new("ffn.w1", Role::FfnIn, width, channels).without_bias(), x);
    b.activate(Activation::Gelu, y);
    b.linear_add(Lin::new("ffn.w2", Role::FfnOut, channels, width).without_bias(), y);
    b.watch_product("ffn");
    let hidden = b.hidden();
    b.watch("block", hidden);
}

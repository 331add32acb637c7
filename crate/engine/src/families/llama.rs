//! Llama and what is built like it (Mistral, Qwen-2, Qwen-3): RMS norms, rotary positions, grouped
//! queries, SwiGLU. Biases and norms of queries and keys are there where their tensors are.
//!
//! ```text
//! x += o_proj attend(rope(q), rope(k), v)
//! x += down (up y SiLU(gate y)),  y = rms(x)
//! ```

use serde_json::Value;
use statepress_core::{Finding, Role};
use statepress_kernels::program::{Attention, AxisName, Op, StateSize, VectorId, View};

use super::builder::{Builder, Kind, Lin, Tied};
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "llama",
    title: "Llama, Mistral, Qwen-2, Qwen-3",
    trunk: "model.",
    keys: &["layers.*.self_attn.q_proj.weight", "layers.*.mlp.gate_proj.weight"],
    without: &[],
    aliases: &[],
    table: "model.embed_tokens.weight",
    fields: ROPE_FIELDS,
    run: Run::Program(declare),
};

/// Where configurations of transformers 4 and 5 put what rotary positions need.
pub(super) const ROPE_FIELDS: &[(&str, &[&str])] = &[
    ("rope_theta", &["rope_parameters.rope_theta"]),
    ("rope_type", &["rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type"]),
    ("rope_factor", &["rope_parameters.factor", "rope_scaling.factor"]),
    ("rope_low_freq_factor", &["rope_parameters.low_freq_factor", "rope_scaling.low_freq_factor"]),
    ("rope_high_freq_factor", &["rope_parameters.high_freq_factor", "rope_scaling.high_freq_factor"]),
    (
        "rope_original_positions",
        &[
            "rope_parameters.original_max_position_embeddings",
            "rope_scaling.original_max_position_embeddings",
        ],
    ),
    ("partial_rotary_factor", &["rope_parameters.partial_rotary_factor"]),
];

/// Attention of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub scale: f32,
    pub inv_freq: Option<VectorId>,
    pub q_norm: Option<(VectorId, f32)>,
    pub k_norm: Option<(VectorId, f32)>,
}

/// Multipliers of a layer's attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionScales {
    pub input: f32,
    pub key: f32,
    pub output: f32,
}

impl Default for AttentionScales {
    fn default() -> Self {
        Self { input: 1.0, key: 1.0, output: 1.0 }
    }
}

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
    let inv_freq = rope(b, heads.head, 1.0)?;
    positions(b)?;

    b.embed("model.embed_tokens.weight", None, 1.0)?;
    for n in 0..n_layers {
        b.layer(n, &format!("model.layers.{n}."), |b| {
            let x = b.hidden_norm("input_layernorm", Kind::Rms, eps);
            b.watch("norm", x);
            let shape = heads.shape(b, "self_attn.", inv_freq, None, eps)?;
            b.scoped("self_attn.", |b| attention(b, &shape, AttentionScales::default(), x));
            let x = b.hidden_norm("post_attention_layernorm", Kind::Rms, eps);
            b.watch("norm2", x);
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

/// Heads of a model, which all its layers of attention share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub head: usize,
}

impl Heads {
    /// Counts the heads of the attention in `scope`; how many there are is in no tensor, unless
    /// queries have norms.
    pub fn of(b: &mut Builder, scope: &str) -> Result<Self, EngineError> {
        let [q_rows, _] = b.shape::<2>(&format!("{scope}q_proj.weight"))?;
        let [k_rows, _] = b.shape::<2>(&format!("{scope}k_proj.weight"))?;
        if b.has(&format!("{scope}q_norm.weight")) {
            let [head] = b.shape(&format!("{scope}q_norm.weight"))?;
            b.expect(
                &format!("{scope}q_proj.weight"),
                q_rows.is_multiple_of(head),
                format!("whole heads of {head}"),
            )?;
            b.fields.counted("num_attention_heads", q_rows / head, "rows of q_proj / length of q_norm");
            b.fields.counted("head_dim", head, "length of q_norm");
            b.fields.counted("num_key_value_heads", k_rows / head, "rows of k_proj / length of q_norm");
            return Ok(Self { head });
        }
        let usual = if q_rows >= 2048 { 128 } else { 64 };
        let fits = |head: &usize| q_rows.is_multiple_of(*head) && k_rows.is_multiple_of(*head);
        let head = (1..=usual).rev().find(fits).unwrap_or(1);
        let why = format!(
            "heads of {head} channels, the most up to the usual {usual} that divide queries and keys"
        );
        let heads = b.fields.free_divisor("num_attention_heads", q_rows / head, &why, q_rows)?;
        let head = q_rows / heads;
        if !k_rows.is_multiple_of(head) {
            let allowed = format!("heads whose width divides {q_rows} and {k_rows}");
            return Err(b.fields.refuse("num_attention_heads", &heads.into(), &allowed));
        }
        b.fields.counted("head_dim", head, "rows of q_proj / heads");
        b.fields.counted("num_key_value_heads", k_rows / head, "rows of k_proj / width of a head");
        Ok(Self { head })
    }

    /// The attention of the layer whose keys begin with `scope`. Without `scale`, scores are divided
    /// by the root of a head's width.
    pub fn shape(
        &self,
        b: &mut Builder,
        scope: &str,
        inv_freq: Option<VectorId>,
        scale: Option<f32>,
        eps: f64,
    ) -> Result<AttentionShape, EngineError> {
        let head = self.head;
        b.scoped(scope, |b| {
            let [q_rows, _] = b.shape::<2>("q_proj.weight")?;
            let [k_rows, _] = b.shape::<2>("k_proj.weight")?;
            b.expect(
                "q_proj.weight",
                q_rows.is_multiple_of(head),
                format!("whole heads of {head} channels"),
            )?;
            b.expect(
                "k_proj.weight",
                k_rows.is_multiple_of(head),
                format!("whole heads of {head} channels"),
            )?;
            let (heads, kv_heads) = (q_rows / head, k_rows / head);
            b.expect(
                "q_proj.weight",
                heads.is_multiple_of(kv_heads),
                format!("a multiple of {kv_heads} heads"),
            )?;
            let mut norm = |key: &str| {
                let channel = b.axis(AxisName::HeadChannel, head);
                b.has(key).then(|| (b.vector(key, Role::Norm, channel), eps as f32))
            };
            let (q_norm, k_norm) = (norm("q_norm.weight"), norm("k_norm.weight"));
            let scale = scale.unwrap_or_else(|| (head as f32).sqrt().recip());
            Ok(AttentionShape { heads, kv_heads, head, scale, inv_freq, q_norm, k_norm })
        })
    }
}

/// Attention of the normed input `x`, added to the residual stream.
pub(crate) fn attention(b: &mut Builder, shape: &AttentionShape, scales: AttentionScales, x: View) {
    let channels = b.hidden_axis();
    let rows = b.axis(AxisName::Head, shape.heads).each(shape.head);
    let kv = b.axis(AxisName::KvHead, shape.kv_heads).each(shape.head);
    let lin = |key, rows| Lin::new(key, Role::AttentionIn, rows, channels).x_scale(scales.input);
    let q = b.linear(lin("q_proj", rows), x);
    b.watch("q", q);
    let k = b.linear(lin("k_proj", kv).y_scale(scales.key), x);
    b.watch_product("k");
    let v = b.linear(lin("v_proj", kv), x);
    b.watch("v", v);
    let y = attend(b, shape, q, k, v);
    b.watch("attention", y);
    let o_proj = Lin::new("o_proj", Role::AttentionOut, channels, rows);
    b.linear_add(o_proj.y_scale(scales.output), y);
    b.watch_product("o_proj");
}

/// Attention proper.
pub(super) fn attend(b: &mut Builder, shape: &AttentionShape, q: View, k: View, v: View) -> View {
    let AttentionShape { heads, kv_heads, head, scale, inv_freq, q_norm, k_norm } = *shape;
    let (keys, values) = (
        b.state("k", StateSize::PerToken(kv_heads * head)),
        b.state("v", StateSize::PerToken(kv_heads * head)),
    );
    let y = b.value(heads * head);
    b.push(Op::Attention(Attention {
        heads,
        kv_heads,
        head,
        scale,
        inv_freq,
        q_norm,
        k_norm,
        q,
        k,
        v,
        keys,
        values,
        y: y.value,
    }));
    y
}

/// SwiGLU of the normed input `x`, added to the residual stream: `down (up x SiLU(gate x scales[0])) scales[1]`.
pub(crate) fn mlp(b: &mut Builder, scales: [f32; 2], x: View) -> Result<(), EngineError> {
    let width = if b.is_free() { 2 * b.hidden_size() } else { b.shape::<2>("up_proj.weight")?[0] };
    let (channels, width) = (b.hidden_axis(), b.axis(AxisName::Ffn, width));
    let gate = b.linear(Lin::new("gate_proj", Role::FfnIn, width, channels), x);
    let up = b.linear(Lin::new("up_proj", Role::FfnIn, width, channels), x);
    let y = b.gate(up, gate, scales[0]);
    b.linear_add(Lin::new("down_proj", Role::FfnOut, channels, width).y_scale(scales[1]), y);
    Ok(())
}

/// How frequencies are stretched for longer texts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RopeScaling {
    None,
    Linear { factor: f64 },
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
}

/// The frequencies of rotary positions as the configuration says, over `default_part` of a head.
pub(super) fn rope(b: &mut Builder, head: usize, default_part: f64) -> Result<Option<VectorId>, EngineError> {
    let part = match b.fields.optional("partial_rotary_factor") {
        None => default_part,
        Some(value) => value.as_f64().filter(|part| *part > 0.0 && *part <= 1.0).ok_or_else(|| {
            b.fields.refuse("partial_rotary_factor", &value, "a number above 0 and at most 1")
        })?,
    };
    let theta = b.fields.free_positive("rope_theta", 10_000.0, "the value of the first Llama")?;
    let kind = b.fields.optional("rope_type");
    let factor = |b: &mut Builder, name: &str, default: f64| {
        b.fields.free_positive(name, default, "the format's default")
    };
    let scaling = match kind.as_ref().map(|kind| kind.as_str().unwrap_or("?")) {
        None if b.fields.optional("rope_factor").is_some() => {
            return Err(b.fields.refuse(
                "rope_type",
                &Value::Null,
                "default, linear, llama3, where there is a rope_factor",
            ));
        }
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: factor(b, "rope_factor", 1.0)? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: factor(b, "rope_factor", 8.0)?,
            low: factor(b, "rope_low_freq_factor", 1.0)?,
            high: factor(b, "rope_high_freq_factor", 4.0)?,
            original: factor(b, "rope_original_positions", 8192.0)?,
        },
        Some(_) => {
            return Err(b.fields.refuse("rope_type", &kind.unwrap_or_default(), "default, linear, llama3"));
        }
    };
    let rotary = (head as f64 * part) as usize / 2 * 2;
    let frequencies = frequencies(theta, rotary, &scaling);
    if frequencies.iter().any(|frequency| !frequency.is_finite()) {
        let allowed = "a rope_theta, and factors of its scaling, that give finite frequencies";
        return Err(b.fields.refuse("rope_theta", &theta.into(), allowed));
    }
    Ok((rotary > 0).then(|| b.constant(frequencies)))
}

/// `f_i = theta^(-2i/rotary)`, stretched (Su et al. 2021, section 3.4.3; Llama 3's bands as in `transformers`).
pub(super) fn frequencies(theta: f64, rotary: usize, scaling: &RopeScaling) -> Vec<f32> {
    let stretched = |f: f64| match *scaling {
        RopeScaling::None => f,
        RopeScaling::Linear { factor } => f / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let turns = original * f / std::f64::consts::TAU;
            let m = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            f * (m + (1.0 - m) / factor)
        }
    };
    (0..rotary / 2).map(|i| stretched(theta.powf(-2.0 * i as f64 / rotary as f64)) as f32).collect()
}

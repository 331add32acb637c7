//! The Itera-Lite configuration, counted from shapes.
//!
//! Keys and shapes: `V` vocabulary, `d` hidden size, `T` maximum length, `D` inner width,
//! `N` state size, `k` convolution taps, `E` experts, `e` expert width.

use std::collections::BTreeSet;

use serde_json::Value;
use statepress_core::{Finding, Index};

use super::dialects::Names;
use super::fields::Collector;
use super::known;
use crate::EngineError;

/// An Itera-Lite model.
#[derive(Clone, Debug)]
pub struct IteraLiteSpec {
    /// V: rows of the embedding.
    pub vocab_size: usize,
    /// d: columns of the embedding.
    pub hidden_size: usize,
    /// T: rows of the position embedding.
    pub max_seq_length: usize,
    /// eps of the final norm; the norms inside blocks always use 1e-5.
    pub layer_norm_eps: f64,
    /// Position `t` predicts token `t + offset`.
    pub offset: usize,
    /// Whether the file has no `lm_head.weight` of its own name.
    pub head_absent: bool,
    /// The layers, which pruning may have made unequal.
    pub layers: Vec<IteraLiteLayer>,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct IteraLiteLayer {
    /// D: inner width.
    pub inner_size: usize,
    /// N: state size.
    pub state_size: usize,
    /// k: convolution taps.
    pub conv_kernel: usize,
    /// What follows the SSM block.
    pub sublayer: Sublayer,
}

/// What follows the SSM block of a layer.
#[derive(Clone, Debug)]
pub enum Sublayer {
    /// Nothing at all.
    None,
    /// A feed-forward network of that width.
    Ffn {
        /// e.
        size: usize,
    },
    /// A mixture of experts. With no expert it is the identity.
    Moe {
        /// Width of each expert.
        sizes: Vec<usize>,
        /// K: experts per token.
        top_k: usize,
    },
}

/// The eps of every norm inside a block, and the default of the final one.
pub(crate) const NORM_EPS: f64 = 1e-5;

pub(super) fn infer(
    index: &Index,
    names: &Names,
    fields: &mut Collector,
    file_bytes: u64,
) -> Result<IteraLiteSpec, EngineError> {
    let [vocab_size, hidden_size] = names.full_shape(index, "embedding.weight")?;
    let [max_seq_length, _] = names.full_shape(index, "position_embedding.weight")?;
    let n_layers = names.count("layers.")?;
    fields.counted("vocab_size", vocab_size, "rows of embedding.weight");
    fields.counted("hidden_size", hidden_size, "columns of embedding.weight");
    fields.counted("max_seq_length", max_seq_length, "rows of position_embedding.weight");
    fields.counted("num_layers", n_layers, "highest layer index + 1");
    names.expect(index, "position_embedding.weight", [max_seq_length, hidden_size])?;

    let mut layers = Vec::with_capacity(n_layers);
    for n in 0..n_layers {
        layers.push(layer(index, names, fields, n, hidden_size)?);
    }
    report_layers(fields, &layers, hidden_size);

    let experts = layers.iter().filter_map(|layer| match &layer.sublayer {
        Sublayer::Moe { sizes, .. } if !sizes.is_empty() => Some(sizes.len()),
        _ => None,
    });
    // All are collected before one is refused: what is written carries all.
    let why = "min(2, experts); upstream's default";
    let top_k = experts
        .min()
        .map(|fewest| fields.free_count("top_k_experts", fewest.min(2), why, 1..=fewest))
        .transpose();
    let layer_norm_eps = fields.free_eps(NORM_EPS);
    let (default, why) = known::default_offset(file_bytes, vocab_size, n_layers);
    let offset = fields.free_count("prediction_offset", default, &why, 0..=3);
    let (top_k, layer_norm_eps, offset) = (top_k?, layer_norm_eps?, offset?);
    if let Some(top_k) = top_k {
        for layer in &mut layers {
            if let Sublayer::Moe { top_k: k, .. } = &mut layer.sublayer {
                *k = top_k;
            }
        }
    }

    names.expect(index, "norm.weight", [hidden_size])?;
    names.expect(index, "norm.bias", [hidden_size])?;
    let head_absent = !names.has("lm_head.weight");
    if !head_absent {
        names.expect(index, "lm_head.weight", [vocab_size, hidden_size])?;
    }
    let tied = head_absent || names.shared_head(index).is_some();
    let from = match (head_absent, tied) {
        (true, _) => "lm_head.weight is absent",
        (_, true) => "lm_head.weight shares the embedding's storage",
        _ => "lm_head.weight is stored by itself; equal numbers are tied when weights are read",
    };
    fields.counted("tie_word_embeddings", tied, from);
    Ok(IteraLiteSpec { vocab_size, hidden_size, max_seq_length, layer_norm_eps, offset, head_absent, layers })
}

fn layer(
    index: &Index,
    names: &Names,
    fields: &mut Collector,
    n: usize,
    d: usize,
) -> Result<IteraLiteLayer, EngineError> {
    let key = |suffix: &str| format!("layers.{n}.ssm.{suffix}");
    let [doubled, _] = names.full_shape(index, &key("in_proj.weight"))?;
    if !doubled.is_multiple_of(2) {
        return Err(EngineError::Shape {
            tensor: key("in_proj.weight"),
            found: vec![doubled, d],
            expected: "an even number of rows (values and gates)".into(),
        });
    }
    let inner = doubled / 2;
    let [_, _, conv_kernel] = names.full_shape(index, &key("conv1d.weight"))?;
    let [state] = names.full_shape(index, &key("ssm.A_log"))?;
    names.expect(index, &key("in_proj.weight"), [2 * inner, d])?;
    names.expect(index, &key("conv1d.weight"), [inner, 1, conv_kernel])?;
    names.expect(index, &key("conv1d.bias"), [inner])?;
    names.expect(index, &key("ssm.B"), [state, inner])?;
    names.expect(index, &key("ssm.C"), [inner, state])?;
    names.expect(index, &key("ssm.D"), [inner])?;
    // dt is a mean over rows of delta_proj, so pruning may have left fewer of them.
    let [delta_rows, _] = names.full_shape(index, &key("ssm.delta_proj.weight"))?;
    names.expect(index, &key("ssm.delta_proj.weight"), [delta_rows, inner])?;
    names.expect(index, &key("ssm.delta_proj.bias"), [delta_rows])?;
    names.expect(index, &key("out_proj.weight"), [d, inner])?;
    names.expect(index, &key("norm.weight"), [d])?;
    names.expect(index, &key("norm.bias"), [d])?;
    let sublayer = sublayer(index, names, fields, n, d)?;
    Ok(IteraLiteLayer { inner_size: inner, state_size: state, conv_kernel, sublayer })
}

fn sublayer(
    index: &Index,
    names: &Names,
    fields: &mut Collector,
    n: usize,
    d: usize,
) -> Result<Sublayer, EngineError> {
    let key = |suffix: &str| format!("layers.{n}.moe.{suffix}");
    let norm = |prefix: &str| {
        names.expect(index, &key(&format!("{prefix}norm.weight")), [d])?;
        names.expect(index, &key(&format!("{prefix}norm.bias")), [d])
    };
    if names.has(&key("layer.router.gate.weight")) {
        norm("layer.")?;
        let prefix = key("layer.experts.");
        let experts = names.count(&prefix)?;
        let [gates, _] = names.shape(index, &key("layer.router.gate.weight"))?;
        names.expect(index, &key("layer.router.gate.weight"), [experts, d])?;
        debug_assert_eq!(gates, experts);
        let mut sizes = Vec::with_capacity(experts);
        for m in 0..experts {
            let [size, _] = names.full_shape(index, &format!("{prefix}{m}.w1.weight"))?;
            names.expect(index, &format!("{prefix}{m}.w1.weight"), [size, d])?;
            names.expect(index, &format!("{prefix}{m}.w2.weight"), [d, size])?;
            sizes.push(size);
        }
        if experts == 0 {
            let message =
                format!("layer {n} is a mixture of experts without experts: it acts as the identity");
            fields.finding(Finding::warning("no-experts", message).about(key("layer.router.gate.weight")));
        }
        Ok(Sublayer::Moe { sizes, top_k: 0 })
    } else if names.has(&key("ffn.w1.weight")) {
        norm("")?;
        let [size, _] = names.full_shape(index, &key("ffn.w1.weight"))?;
        names.expect(index, &key("ffn.w1.weight"), [size, d])?;
        names.expect(index, &key("ffn.w2.weight"), [d, size])?;
        Ok(Sublayer::Ffn { size })
    } else {
        Ok(Sublayer::None)
    }
}

/// One number where the layers agree, else a list.
fn report_layers(fields: &mut Collector, layers: &[IteraLiteLayer], d: usize) {
    let mut put = |name: &str, from: &str, values: Vec<usize>| {
        let value: Value = match values.as_slice() {
            [] => return,
            [first, rest @ ..] if rest.iter().all(|value| value == first) => (*first).into(),
            _ => values.into(),
        };
        fields.counted(name, value, from);
    };
    put("ssm_inner_size", "rows of in_proj / 2", layers.iter().map(|layer| layer.inner_size).collect());
    put("ssm_state_size", "length of A_log", layers.iter().map(|layer| layer.state_size).collect());
    put(
        "ssm_conv_kernel",
        "third dimension of conv1d.weight",
        layers.iter().map(|l| l.conv_kernel).collect(),
    );
    if layers.iter().all(|layer| layer.inner_size.is_multiple_of(d.max(1))) {
        let expand = layers.iter().map(|layer| layer.inner_size / d.max(1)).collect();
        put("ssm_expand_factor", "inner width / hidden size", expand);
    }
    let moe = |layer: &IteraLiteLayer| matches!(layer.sublayer, Sublayer::Moe { .. });
    let mut experts = Vec::new();
    let mut sizes = Vec::new();
    for layer in layers {
        match &layer.sublayer {
            Sublayer::None => {}
            Sublayer::Ffn { size } => sizes.push(*size),
            Sublayer::Moe { sizes: each, .. } => {
                experts.push(each.len());
                sizes.extend(each);
            }
        }
    }
    put("num_experts", "expert indexes and rows of the router gate", experts);
    put("expert_size", "rows of w1", sizes);
    let moe_layers: Vec<usize> = (0..layers.len()).filter(|&n| moe(&layers[n])).collect();
    fields.counted("moe_layers", moe_layers, "layers with a router gate");
}

impl IteraLiteSpec {
    pub(super) fn expected_keys(&self) -> BTreeSet<String> {
        let mut keys: BTreeSet<String> =
            ["embedding.weight", "position_embedding.weight", "norm.weight", "norm.bias"]
                .map(String::from)
                .into();
        if !self.head_absent {
            keys.insert("lm_head.weight".into());
        }
        for (n, layer) in self.layers.iter().enumerate() {
            let mut put = |suffix: &str| keys.insert(format!("layers.{n}.{suffix}"));
            for suffix in [
                "ssm.in_proj.weight",
                "ssm.conv1d.weight",
                "ssm.conv1d.bias",
                "ssm.ssm.A_log",
                "ssm.ssm.B",
                "ssm.ssm.C",
                "ssm.ssm.D",
                "ssm.ssm.delta_proj.weight",
                "ssm.ssm.delta_proj.bias",
                "ssm.out_proj.weight",
                "ssm.norm.weight",
                "ssm.norm.bias",
            ] {
                put(suffix);
            }
            match &layer.sublayer {
                Sublayer::None => {}
                Sublayer::Ffn { .. } => {
                    for suffix in ["norm.weight", "norm.bias", "ffn.w1.weight", "ffn.w2.weight"] {
                        put(&format!("moe.{suffix}"));
                    }
                }
                Sublayer::Moe { sizes, .. } => {
                    for suffix in ["norm.weight", "norm.bias", "router.gate.weight"] {
                        put(&format!("moe.layer.{suffix}"));
                    }
                    for m in 0..sizes.len() {
                        put(&format!("moe.layer.experts.{m}.w1.weight"));
                        put(&format!("moe.layer.experts.{m}.w2.weight"));
                    }
                }
            }
        }
        keys
    }
}

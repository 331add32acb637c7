//! Mamba-2 (Dao and Gu 2024) in the layouts of `transformers` and of the original code, which also
//! knows layers of attention, feed-forward networks, and an SSM that is narrower than its block.
//!
//! ```text
//! z, x, B, C, dt = split(in_proj rms(hidden));   x, B, C = SiLU(conv(x, B, C))
//! delta          = clamp(softplus(dt + dt_bias))              one number for each head
//! y              = ssd(x, delta, B, C) + D x
//! out            = hidden + out_proj rms(y SiLU(z))           per group
//! ```

use statepress_core::{Finding, Role};
use statepress_kernels::program::{Activation, AxisName, Dim, GroupNorm, Op, Ssd, StateSize, VectorId, View};

use super::builder::{Builder, Lin, Tied};
use super::fields::number;
use super::llama;
use super::mamba::kind_of;
use super::mamba2_original as original;
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "mamba2",
    title: "Mamba-2",
    trunk: "backbone.",
    keys: &["layers.*.mixer.dt_bias", "layers.*.mixer.conv1d.weight"],
    without: &["layers.*.mixer.up_proj.weight"],
    aliases: &[("backbone.embedding.", "backbone.embeddings.")],
    table: "backbone.embeddings.weight",
    fields: &[
        ("hidden_size", &["d_model"]),
        ("num_hidden_layers", &["n_layer", "num_layers"]),
        ("num_heads", &[]),
        ("head_dim", &["ssm_cfg.headdim"]),
        ("state_size", &["ssm_cfg.d_state"]),
        ("conv_kernel", &["ssm_cfg.d_conv"]),
        ("n_groups", &["ssm_cfg.ngroups"]),
        ("time_step_limit", &["ssm_cfg.dt_limit"]),
        ("norm_before_gate", &["ssm_cfg.norm_before_gate"]),
        ("layer_norm_epsilon", &["norm_epsilon"]),
        ("tie_word_embeddings", &["tie_embeddings"]),
        ("num_attention_heads", &["attn_cfg.num_heads"]),
        ("attention_head_dim", &["attn_cfg.head_dim"]),
        ("rotary_emb_dim", &["attn_cfg.rotary_emb_dim"]),
        ("rotary_emb_base", &["attn_cfg.rotary_emb_base"]),
        ("rotary_emb_interleaved", &["attn_cfg.rotary_emb_interleaved"]),
        ("softmax_scale", &["attn_cfg.softmax_scale"]),
        ("attention_mlp_dim", &["attn_cfg.mlp_dim"]),
        ("attention_causal", &["attn_cfg.causal"]),
        ("hidden_act", &["ssm_cfg.activation"]),
        ("use_bias", &["ssm_cfg.bias"]),
        ("use_conv_bias", &["ssm_cfg.conv_bias"]),
    ],
    run: Run::Program(declare),
};

/// What a mixer is made of; see [`Mixer::of`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixer {
    /// Channels of the gated network beside the SSM; usually none.
    pub mlp: usize,
    pub heads: usize,
    pub head: usize,
    pub groups: usize,
    pub states: usize,
    pub taps: usize,
    pub limits: [f32; 2],
    /// Of the gated norm.
    pub eps: f64,
    pub norm_before_gate: bool,
    /// Multipliers of the input, of the parts z, x, B, C, dt, and of the output.
    pub scales: Option<([f32; 5], f32)>,
    pub out_scale: f32,
}

/// What a family calls the sizes of its Mamba-2 mixers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldNames {
    pub heads: &'static str,
    pub head: &'static str,
    pub groups: &'static str,
    pub states: &'static str,
    pub taps: &'static str,
    /// Whether a gated network may stand beside the SSM.
    pub mlp: bool,
    /// `None`: the gate comes first, whatever a configuration says.
    pub norm_before_gate: Option<&'static str>,
}

/// As hybrids spell them.
pub(crate) const HYBRID: FieldNames = FieldNames {
    heads: "mamba_n_heads",
    head: "mamba_d_head",
    groups: "mamba_n_groups",
    states: "mamba_d_state",
    taps: "mamba_d_conv",
    mlp: false,
    norm_before_gate: None,
};

const PURE: FieldNames = FieldNames {
    heads: "num_heads",
    head: "head_dim",
    groups: "n_groups",
    states: "state_size",
    taps: "conv_kernel",
    mlp: true,
    norm_before_gate: Some("norm_before_gate"),
};

impl Mixer {
    /// Counts the mixers that stand in these scopes. Only the product of groups and states is in the
    /// tensors: groups are asked for.
    pub fn of(
        b: &mut Builder,
        scopes: &[String],
        names: &FieldNames,
        eps: f64,
    ) -> Result<Vec<Self>, EngineError> {
        let mut mixers = Vec::with_capacity(scopes.len());
        let mut groups = None;
        let limits = limits(b)?;
        let norm_before_gate = match names.norm_before_gate {
            None => false,
            Some(field) => b.fields.flag(field, false)?,
        };
        for scope in scopes {
            let (mlp, heads, inner, product, taps) = b.scoped(scope, |b| -> Result<_, EngineError> {
                let [heads] = b.shape("A_log")?;
                let [conv, _, taps] = b.shape("conv1d.weight")?;
                let [rows, _] = b.shape::<2>("in_proj.weight")?;
                let [_, out] = b.shape::<2>("out_proj.weight")?;
                // rows = 2 mlp + S + conv + H and out = mlp + S.
                let mlp = rows.checked_sub(heads + conv + out).filter(|&mlp| names.mlp || mlp == 0);
                let inner = mlp.and_then(|mlp| out.checked_sub(mlp));
                let fits = inner.is_some_and(|inner| {
                    inner > 0 && inner.is_multiple_of(heads) && conv > inner && (conv - inner).is_multiple_of(2)
                });
                let expected = format!("rows for z, x, B, C and {heads} step sizes, beside {conv} of conv1d and {out} of out_proj");
                b.expect("in_proj.weight", fits, expected)?;
                let (mlp, inner) = (mlp.unwrap_or(0), inner.unwrap_or(0));
                Ok((mlp, heads, inner, (conv - inner) / 2, taps))
            })?;
            let groups = match groups {
                Some(groups) => groups,
                None => {
                    let why = "one group is usual; only groups times states is in the tensors";
                    *groups.insert(b.fields.free_divisor(names.groups, 1, why, product)?)
                }
            };
            // Layers need not be alike, and share the number of groups.
            if !product.is_multiple_of(groups) || !heads.is_multiple_of(groups) {
                let allowed = format!("a divisor of {product} and of {heads} heads, as {scope} has them");
                return Err(b.fields.refuse(names.groups, &groups.into(), &allowed));
            }
            let (head, states) = (inner / heads, product / groups);
            let (scales, out_scale) = (None, 1.0);
            mixers.push(Self {
                mlp,
                heads,
                head,
                groups,
                states,
                taps,
                limits,
                eps,
                norm_before_gate,
                scales,
                out_scale,
            });
        }
        if groups.is_some_and(|groups| groups > 1) {
            let message = "the gated norm is that of each group, as the original and transformers 5 have it; \
                           transformers up to 4.57 normalised the whole width";
            b.fields.finding(Finding::info("grouped-norm", message));
        }
        let each = |of: fn(&Self) -> usize| mixers.iter().map(of).collect::<Vec<_>>();
        b.fields.counted_by_layer(names.heads, &each(|mixer| mixer.heads), "length of A_log");
        b.fields.counted_by_layer(names.head, &each(|mixer| mixer.head), "SSM width / heads");
        b.fields.counted_by_layer(names.states, &each(|mixer| mixer.states), "rows of B / groups");
        b.fields.counted_by_layer(names.taps, &each(|mixer| mixer.taps), "third dimension of conv1d.weight");
        Ok(mixers)
    }

    /// S.
    pub fn inner(&self) -> usize {
        self.heads * self.head
    }
}

/// The least and the largest step size.
fn limits(b: &mut Builder) -> Result<[f32; 2], EngineError> {
    let Some(value) = b.fields.optional("time_step_limit") else { return Ok([0.0, f32::INFINITY]) };
    let pair = value.as_array().and_then(|pair| match pair.as_slice() {
        [low, high] => Some([number(low)? as f32, number(high)? as f32]),
        _ => None,
    });
    pair.filter(|[low, high]| low <= high)
        .ok_or_else(|| b.fields.refuse("time_step_limit", &value, "two numbers, the smaller first"))
}

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    // Only transformers writes what kind of model it is.
    let hub = b.fields.kind(&["mamba2"])?.is_some();
    llama::silu_only(b)?;
    b.vocabulary("backbone.embeddings.weight")?;
    let n_layers = b.layers("backbone.layers.")?;
    let eps = b.fields.free_eps("layer_norm_epsilon", 1e-5, "the default of every Mamba")?;
    let is_ssm: Vec<bool> =
        (0..n_layers).map(|n| b.has(&format!("backbone.layers.{n}.mixer.A_log"))).collect();
    let scopes = (0..n_layers).filter(|&n| is_ssm[n]).map(|n| format!("backbone.layers.{n}.mixer."));
    let names = FieldNames { norm_before_gate: PURE.norm_before_gate.filter(|_| !hub), ..PURE };
    if hub && b.fields.claimed("norm_before_gate").is_some_and(|claimed| claimed != false) {
        let message = "norm_before_gate is true in the configuration, and transformers gates before it normalises \
                       all the same: so does this";
        b.fields.finding(Finding::info("norm-before-gate", message));
    }
    let mut mixers = Mixer::of(b, &scopes.collect::<Vec<_>>(), &names, eps)?.into_iter();
    let kind = kind_of(b, "backbone.norm_f");
    if let Some(first) = is_ssm.iter().position(|is_ssm| *is_ssm) {
        llama::shown_biases(b, &format!("backbone.layers.{first}.mixer.in_proj"), "use_bias");
        llama::shown_biases(b, &format!("backbone.layers.{first}.mixer.conv1d"), "use_conv_bias");
    }

    b.embed("backbone.embeddings.weight", None, 1.0)?;
    for (n, is_ssm) in is_ssm.into_iter().enumerate() {
        b.layer(n, &format!("backbone.layers.{n}."), |b| {
            let x = b.watched_norm("norm", "norm", kind, eps);
            match if is_ssm { mixers.next() } else { None } {
                Some(sizes) => b.scoped("mixer.", |b| mixer(b, &sizes, x)),
                None => b.scoped("mixer.", |b| original::attention(b, x))?,
            }
            if b.has("mlp.fc1.weight") {
                original::mlp(b, kind, eps)?;
            }
            b.watch_layer();
            Ok(())
        })?;
    }
    // The original code ties, transformers does not.
    b.finish_with("backbone.norm_f", kind, eps, 1.0, Tied::AsConfigured { default: !hub })
}

/// The mixer, whose keys begin in the current scope, of the normed input `x`; its output is added to
/// the residual stream.
pub(crate) fn mixer(b: &mut Builder, sizes: &Mixer, x: View) {
    let Mixer { mlp, heads, head, groups, states, .. } = *sizes;
    let (inner, product) = (sizes.inner(), groups * states);
    let channels = b.hidden_axis();
    let by_head = b.axis(AxisName::Head, heads);
    // Heads of a group share B and C.
    let by_head = b.parts(by_head, groups);
    let wide = by_head.each(head);
    let state = b.axis(AxisName::State, states).times(groups);
    let beside = b.axis(AxisName::Ffn, mlp);
    let mut rows =
        vec![wide.named("z"), wide.named("x"), state.named("B"), state.named("C"), by_head.named("dt")];
    if mlp > 0 {
        rows.splice(0..0, [beside.named("z0"), beside.named("x0")]);
    }
    let row_scale = sizes.scales.map(|(parts, _)| {
        let widths = [inner, inner, product, product, heads];
        let each = parts.iter().zip(widths).flat_map(|(&scale, width)| std::iter::repeat_n(scale, width));
        b.constant(each.collect())
    });
    let in_proj = Lin::new("in_proj", Role::InProj, Dim(rows), channels).row_scale(row_scale);
    let zxbcdt = b.linear(in_proj.x_scale(sizes.scales.map_or(1.0, |(_, input)| input)), x);
    b.watch_product("in_proj");
    let [z0, x0, z, xbc, dt] = zxbcdt.split([mlp, mlp, inner, inner + 2 * product, heads]);
    let parts = [wide.named("x"), state.named("B"), state.named("C")];
    let xbc = b.conv1d("conv1d", parts, sizes.taps, xbc);
    b.activate(Activation::Silu, xbc);
    let [u, input, output] = xbc.split([inner, product, product]);
    b.watch("scan_in", u);
    b.watch("B", input);
    b.watch("C", output);
    let bias = b.vector("dt_bias", Role::Dynamics, by_head);
    let delta = b.value(heads);
    b.push(Op::Softplus { x: dt, bias, limits: sizes.limits, y: delta.value });
    b.watch("delta", delta);

    let a = b.decay("A_log", &[by_head.into()]);
    let d = skip(b, inner, wide.into(), by_head.into());
    let h = b.state("h", StateSize::Fixed(vec![heads, head, states]));
    let y = b.value(inner);
    let (dt, h_y) = (delta.value, y.value);
    b.push(Op::Ssd(Ssd { heads, head, groups, states, u, dt, b: input, c: output, a, d, h, y: h_y }));
    b.watch("scan_out", y);
    let norm = b.has("norm.weight").then(|| GroupNorm {
        weight: Some(b.vector("norm.weight", Role::Norm, wide)),
        groups,
        eps: sizes.eps as f32,
        before_gate: sizes.norm_before_gate,
    });
    let mut y = b.gated_norm(norm, y, z);
    b.watch("gated_norm", y);
    if mlp > 0 {
        let gated = b.gate(x0, z0, 1.0);
        y = b.concat(&[gated, y]);
    }
    b.watch("out_proj_in", y);
    let cols = if mlp > 0 { Dim(vec![beside, wide]) } else { wide.into() };
    b.linear_add(Lin::new("out_proj", Role::OutProj, channels, cols).y_scale(sizes.out_scale), y);
    b.watch_product("out_proj");
}

/// `D`: a number for each head, or for each channel.
fn skip(b: &mut Builder, inner: usize, by_channel: Dim, by_head: Dim) -> VectorId {
    let per_channel = b.shape::<1>("D").is_ok_and(|[len]| len == inner && len != by_head.len());
    b.vector("D", Role::Dynamics, if per_channel { by_channel } else { by_head })
}

//! Mamba (Gu and Dao 2023) in the layouts of `transformers` and of the original code; Falcon-Mamba,
//! which normalises step size, B and C without weights.
//!
//! ```text
//! u, z     = split(in_proj rms(x))             inner width D each
//! u        = SiLU(conv(u));  dt, B, C = split(x_proj u, [R, N, N])
//! delta    = softplus(dt_proj dt + bias)
//! y        = selective_scan(u, delta, B, C) + D u
//! out      = x + out_proj (y SiLU(z))
//! ```

use statepress_core::{Finding, Role};
use statepress_kernels::program::{Activation, AxisName, Norm, NormKind, Op, StateSize, View};

use super::builder::{Builder, Kind, Lin, Tied};
use super::llama;
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "mamba",
    title: "Mamba, Falcon-Mamba",
    trunk: "backbone.",
    keys: &["layers.*.mixer.x_proj.weight"],
    without: &[],
    aliases: &[("backbone.embedding.", "backbone.embeddings.")],
    table: "backbone.embeddings.weight",
    fields: &[
        ("hidden_size", &["d_model"]),
        ("num_hidden_layers", &["n_layer", "num_layers"]),
        ("intermediate_size", &["d_inner"]),
        ("state_size", &["ssm_cfg.d_state", "d_state"]),
        ("conv_kernel", &["ssm_cfg.d_conv", "d_conv"]),
        ("time_step_rank", &["ssm_cfg.dt_rank", "dt_rank"]),
        ("layer_norm_epsilon", &["norm_epsilon"]),
        ("tie_word_embeddings", &["tie_embeddings"]),
        ("use_bias", &["ssm_cfg.bias"]),
        ("use_conv_bias", &["ssm_cfg.conv_bias"]),
    ],
    run: Run::Program(declare),
};

/// Norms of step size, B and C before they are used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InnerNorms {
    /// Mamba.
    None,
    /// Falcon-Mamba, with this eps.
    Weightless(f64),
    /// Jamba, with this eps: `dt_layernorm`, `b_layernorm`, `c_layernorm`.
    Learned(f64),
}

/// Widths of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub inner: usize,
    pub states: usize,
    pub taps: usize,
    pub rank: usize,
}

impl Sizes {
    /// From the shapes of a mixer.
    pub fn of(b: &Builder) -> Result<Self, EngineError> {
        let [inner, states] = b.shape("A_log")?;
        let [_, _, taps] = b.shape::<3>("conv1d.weight")?;
        let [_, rank] = b.shape::<2>("dt_proj.weight")?;
        Ok(Self { inner, states, taps, rank })
    }
}

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    let falcon = b.fields.kind(&["mamba", "falcon_mamba"])? == Some("falcon_mamba");
    llama::silu_only(b)?;
    let d = b.vocabulary("backbone.embeddings.weight")?;
    let n_layers = b.layers("backbone.layers.")?;
    let mixers =
        |b: &mut Builder, n: usize| b.scoped(&format!("backbone.layers.{n}.mixer."), |b| Sizes::of(b));
    let sizes: Vec<Sizes> = (0..n_layers).map(|n| mixers(b, n)).collect::<Result<_, _>>()?;
    report(b, &sizes, ["intermediate_size", "state_size", "conv_kernel", "time_step_rank"]);
    if sizes.iter().all(|size| size.inner.is_multiple_of(d)) {
        let expand: Vec<usize> = sizes.iter().map(|size| size.inner / d).collect();
        b.fields.counted_by_layer("expand", &expand, "inner width / hidden size");
    }
    let eps = b.fields.free_eps("layer_norm_epsilon", 1e-5, "the default of every Mamba");
    let norms = if falcon {
        b.family("falcon-mamba");
        InnerNorms::Weightless(b.fields.free_eps("mixer_rms_eps", 1e-6, "Falcon-Mamba's default")?)
    } else {
        if !b.fields.has_config() && (d, n_layers) == (4096, 64) {
            let message = "shaped like Falcon-Mamba, whose norms of step size, B and C leave no trace in a file: \
                           read as Mamba; set model_type=\"falcon_mamba\" if it is one";
            b.fields.finding(Finding::warning("assumed", message));
        }
        InnerNorms::None
    };
    let eps = eps?;
    let kind = kind_of(b, "backbone.norm_f");
    llama::shown_biases(b, "backbone.layers.0.mixer.in_proj", "use_bias");
    llama::shown_biases(b, "backbone.layers.0.mixer.conv1d", "use_conv_bias");

    b.embed("backbone.embeddings.weight", None, 1.0)?;
    for (n, sizes) in sizes.iter().enumerate() {
        b.layer(n, &format!("backbone.layers.{n}."), |b| {
            let x = b.watched_norm("norm", "norm", kind, eps);
            b.scoped("mixer.", |b| mixer(b, sizes, norms, x));
            b.watch_layer();
            Ok(())
        })?;
    }
    b.finish_with("backbone.norm_f", kind, eps, 1.0, Tied::AsConfigured { default: true })
}

/// RMS norms, unless there are biases: the original code's `rms_norm: false`.
pub(super) fn kind_of(b: &Builder, norm: &str) -> Kind {
    if b.has(&format!("{norm}.bias")) { Kind::Layer } else { Kind::Rms }
}

/// Reports sizes under the names of a family's configuration: inner width, states, taps, rank.
pub(super) fn report(b: &mut Builder, sizes: &[Sizes], names: [&str; 4]) {
    let each = |of: fn(&Sizes) -> usize| sizes.iter().map(of).collect::<Vec<_>>();
    b.fields.counted_by_layer(names[0], &each(|size| size.inner), "rows of A_log");
    b.fields.counted_by_layer(names[1], &each(|size| size.states), "columns of A_log");
    b.fields.counted_by_layer(names[2], &each(|size| size.taps), "third dimension of conv1d.weight");
    b.fields.counted_by_layer(names[3], &each(|size| size.rank), "columns of dt_proj.weight");
}

/// The mixer, whose keys begin in the current scope, of the normed input `x`; its output is added to
/// the residual stream.
pub(crate) fn mixer(b: &mut Builder, sizes: &Sizes, norms: InnerNorms, x: View) {
    let Sizes { inner, states, taps, rank } = *sizes;
    let channels = b.hidden_axis();
    let (wide, state) = (b.axis(AxisName::Inner, inner), b.axis(AxisName::State, states));
    let low = b.axis(AxisName::Rank, rank);
    let xz = b.linear(Lin::new("in_proj", Role::InProj, [wide.named("x"), wide.named("z")], channels), x);
    b.watch("in_proj", xz);
    let [u, z] = xz.split([inner, inner]);
    let u = b.conv1d("conv1d", wide, taps, u);
    b.activate(Activation::Silu, u);
    b.watch("scan_in", u);

    let parts = [low.named("dt"), state.named("B"), state.named("C")];
    let dbc = b.linear(Lin::new("x_proj", Role::XProj, parts, wide), u);
    b.watch("x_proj", dbc);
    let mut parts = dbc.split([rank, states, states]);
    for (part, (key, axis)) in
        parts.iter_mut().zip([("dt_layernorm", low), ("b_layernorm", state), ("c_layernorm", state)])
    {
        let norm = match norms {
            InnerNorms::None => continue,
            InnerNorms::Weightless(eps) => Norm { kind: NormKind::Rms, weight: None, eps: eps as f32 },
            InnerNorms::Learned(eps) => b.norm_weights(key, Kind::Rms, eps, axis),
        };
        *part = b.norm(norm, *part);
    }
    let [dt, input, output] = parts;
    b.watch("dt_low_normed", dt);
    b.watch("B", input);
    b.watch("C", output);
    let dt = b.linear(Lin::new("dt_proj", Role::DtProj, wide, low).without_bias(), dt);
    // The bias moves the step size before softplus: it belongs to the dynamics, not to the product.
    let bias = b.vector("dt_proj.bias", Role::Dynamics, wide);
    let delta = b.value(inner);
    b.push(Op::Softplus { x: dt, bias, limits: [0.0, f32::INFINITY], y: delta.value });
    b.watch("delta", delta);

    let a = b.decay("A_log", &[wide.into(), state.into()]);
    let d = b.vector("D", Role::Dynamics, wide);
    let h = b.state("h", StateSize::Fixed(vec![inner, states]));
    let y = b.value(inner);
    b.push(Op::SelectiveScan { u, dt: delta.value, b: input, c: output, a, d, h, y: y.value });
    b.watch("scan_out", y);
    let y = b.gate(y, z, 1.0);
    b.watch("out_proj_in", y);
    b.linear_add(Lin::new("out_proj", Role::OutProj, channels, wide), y);
    b.watch_product("out_proj");
}

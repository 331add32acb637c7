//! Itera-Lite: an SSM block, then a feed-forward network or a mixture of experts, per layer.
//!
//! Per position, with `u` the normed input:
//!
//! ```text
//! x, z  = split(in_proj u)                      inner width D each
//! a     = SiLU(causal_depthwise_conv(x) + bias)
//! dt    = mean(softplus(delta_proj a + bias))   one number per position
//! h     = exp(dt A) h + dt (B a)                N numbers per layer, A = -exp(A_log)
//! y     = C h + D a
//! out   = hidden + out_proj (y SiLU(z))
//! ```
//!
//! Pruning may have made layers unequal. Norms inside blocks always use an eps of 1e-5; only the
//! final one's is configured.

use statepress_core::{Finding, Role};
use statepress_kernels::program::{Activation, AxisName, Expert, Experts, Layout, Op, StateSize};

use super::builder::{Builder, Kind, Lin, Tied};
use super::keys::HEAD;
use super::registry::{Entry, Run};
use crate::EngineError;

pub(crate) const ENTRY: Entry = Entry {
    name: "itera-lite",
    title: "Itera-Lite",
    trunk: "",
    keys: &["layers.*.ssm.in_proj.weight"],
    without: &[],
    // `.moe.moe.` occurs in the research document only.
    aliases: &[(".moe.moe.", ".moe.layer.")],
    table: "embedding.weight",
    fields: &[],
    run: Run::Program(declare),
};

/// The eps of every norm inside a block, and the default of the final one.
pub(super) const NORM_EPS: f64 = 1e-5;

/// Of one layer: inner width, states, taps; widths of a feed-forward network or of experts.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub inner: usize,
    pub states: usize,
    pub taps: usize,
    pub delta_rows: usize,
    sublayer: Sublayer,
}

#[derive(Clone, Debug)]
enum Sublayer {
    None,
    Ffn(usize),
    /// With no expert it is the identity.
    Experts(Vec<usize>),
}

fn declare(b: &mut Builder) -> Result<(), EngineError> {
    let [vocab_size, d] = b.table_shape("embedding.weight")?;
    let [positions, _] = b.shape::<2>("position_embedding.weight")?;
    let n_layers = b.count("layers.")?;
    b.fields.counted("vocab_size", vocab_size, "rows of embedding.weight");
    b.fields.counted("hidden_size", d, "columns of embedding.weight");
    b.fields.counted("max_seq_length", positions, "rows of position_embedding.weight");
    b.fields.counted("num_layers", n_layers, "highest layer index + 1");
    let layers: Vec<Sizes> = (0..n_layers)
        .map(|n| b.scoped(&format!("layers.{n}."), |b| sizes(b, n)))
        .collect::<Result<_, _>>()?;
    report(b, &layers, d);

    let fewest = layers.iter().filter_map(|layer| match &layer.sublayer {
        Sublayer::Experts(sizes) if !sizes.is_empty() => Some(sizes.len()),
        _ => None,
    });
    // All are collected before one is refused: what is written carries all.
    let why = "min(2, experts); upstream's default";
    let top_k = fewest
        .min()
        .map(|fewest| b.fields.free_count("top_k_experts", fewest.min(2), why, 1..=fewest))
        .transpose();
    let eps = b.fields.free_eps("layer_norm_eps", NORM_EPS, "upstream's default");
    let (default, why) = default_offset(b.file_bytes, vocab_size, n_layers);
    let offset = b.fields.free_count("prediction_offset", default, &why, 0..=3);
    let (top_k, eps) = (top_k?.unwrap_or(1), eps?);
    b.offset(offset?);

    b.embed("embedding.weight", Some("position_embedding.weight"), 1.0)?;
    for (n, sizes) in layers.iter().enumerate() {
        b.layer(n, &format!("layers.{n}."), |b| {
            ssm(b, sizes);
            match &sizes.sublayer {
                Sublayer::None => {}
                Sublayer::Ffn(width) => ffn(b, *width),
                Sublayer::Experts(widths) => experts(b, widths, top_k),
            }
            let hidden = b.hidden();
            b.watch("moe", hidden);
            Ok(())
        })?;
    }
    b.finish_with("norm", Kind::Layer, eps, 1.0, Tied::Always)?;
    report_tying(b);
    Ok(())
}

/// Sizes of a layer, from its shapes.
fn sizes(b: &mut Builder, n: usize) -> Result<Sizes, EngineError> {
    let [doubled, _] = b.shape::<2>("ssm.in_proj.weight")?;
    b.expect("ssm.in_proj.weight", doubled.is_multiple_of(2), "an even number of rows (values and gates)")?;
    let [_, _, taps] = b.shape::<3>("ssm.conv1d.weight")?;
    let [states] = b.shape::<1>("ssm.ssm.A_log")?;
    // dt is a mean over rows of delta_proj, so pruning may have left fewer of them.
    let [delta_rows, _] = b.shape::<2>("ssm.ssm.delta_proj.weight")?;
    let sublayer = if b.has("moe.layer.router.gate.weight") {
        let experts = b.count("moe.layer.experts.")?;
        let widths = (0..experts).map(|m| Ok(b.shape::<2>(&format!("moe.layer.experts.{m}.w1.weight"))?[0]));
        let widths = widths.collect::<Result<Vec<_>, EngineError>>()?;
        if experts == 0 {
            let message =
                format!("layer {n} is a mixture of experts without experts: it acts as the identity");
            let about = format!("layers.{n}.moe.layer.router.gate.weight");
            b.fields.finding(Finding::warning("no-experts", message).about(about));
        }
        Sublayer::Experts(widths)
    } else if b.has("moe.ffn.w1.weight") {
        Sublayer::Ffn(b.shape::<2>("moe.ffn.w1.weight")?[0])
    } else {
        Sublayer::None
    };
    Ok(Sizes { inner: doubled / 2, states, taps, delta_rows, sublayer })
}

/// The SSM block, whose keys begin with `ssm.`.
pub(crate) fn ssm(b: &mut Builder, sizes: &Sizes) {
    b.scoped("ssm.", |b| {
        let channels = b.hidden_axis();
        let inner = b.axis(AxisName::Inner, sizes.inner);
        let states = b.axis(AxisName::State, sizes.states);
        let delta = b.axis(AxisName::Delta, sizes.delta_rows);
        let u = b.watched_norm("norm", "ssm.norm", Kind::Layer, NORM_EPS);
        let in_proj = Lin::new("in_proj", Role::InProj, [inner.named("x"), inner.named("z")], channels);
        let xz = b.linear(in_proj.without_bias(), u);
        b.watch("ssm.in_proj", xz);
        let [x, z] = xz.split([sizes.inner, sizes.inner]);
        let a = b.conv1d("conv1d", inner, sizes.taps, x);
        b.watch("ssm.conv_out", a);
        b.activate(Activation::Silu, a);
        b.watch("ssm.scan_in", a);

        let delta_proj = Lin::new("ssm.delta_proj", Role::DeltaProj, delta, inner).without_bias();
        let raw = b.linear(delta_proj, a);
        let bias = b.vector("ssm.delta_proj.bias", Role::Dynamics, delta);
        let dt = b.value(1);
        b.push(Op::SoftplusMean { x: raw.value, bias, y: dt.value });
        b.watch("ssm.delta_raw", raw);

        let bx = b.linear_of(Lin::new("ssm.B", Role::StateMatrix, states, inner), a);
        let decay = b.decay("ssm.A_log", &[states.into()]);
        let h = b.state("h", StateSize::Fixed(vec![sizes.states]));
        let y = b.value(sizes.states);
        b.push(Op::Scan { dt: dt.value, bx: bx.value, a: decay, h, y: y.value });
        b.watch("ssm.h", y);
        let y = b.linear_of(Lin::new("ssm.C", Role::StateMatrix, inner, states), y);
        let d = b.vector("ssm.D", Role::Dynamics, inner);
        b.push(Op::Skip { d, x: a, y: y.value });
        b.watch("ssm.scan_out", y);
        let y = b.gate(y, z, 1.0);
        b.linear_add(Lin::new("out_proj", Role::OutProj, channels, inner).without_bias(), y);
        b.watch_product("ssm.out_proj");
        let hidden = b.hidden();
        b.watch("ssm", hidden);
    });
}

fn ffn(b: &mut Builder, width: usize) {
    b.scoped("moe.", |b| {
        let channels = b.hidden_axis();
        let width = b.axis(AxisName::Ffn, width);
        let x = b.hidden_norm("norm", Kind::Layer, NORM_EPS);
        let y = b.linear(Lin::new("ffn.w1", Role::FfnIn, width, channels).without_bias(), x);
        b.activate(Activation::Gelu, y);
        b.linear_add(Lin::new("ffn.w2", Role::FfnOut, channels, width).without_bias(), y);
    });
}

/// The mixture of experts, whose keys begin with `moe.layer.`.
pub(crate) fn experts(b: &mut Builder, widths: &[usize], top_k: usize) {
    b.scoped("moe.layer.", |b| {
        let channels = b.hidden_axis();
        let count = b.axis(AxisName::Expert, widths.len());
        if widths.is_empty() {
            // Only what names the layer is left of it.
            b.norm_weights("norm", Kind::Layer, NORM_EPS, channels);
            let rows = b.shape::<2>("router.gate.weight").map_or(0, |[rows, _]| rows);
            let count = b.axis(AxisName::Expert, rows);
            b.bare_matrix("router.gate.weight", Role::Router, count, channels, Layout::Plain);
            return;
        }
        let x = b.hidden_norm("norm", Kind::Layer, NORM_EPS);
        let router = b.bare_matrix("router.gate.weight", Role::Router, count, channels, Layout::Plain);
        let experts = widths.iter().enumerate().map(|(m, &width)| {
            let width = b.axis(AxisName::Ffn, width);
            let key = |w: &str| format!("experts.{m}.{w}.weight");
            Expert {
                up: b.bare_matrix(&key("w1"), Role::ExpertIn, width, channels, Layout::Plain),
                down: b.bare_matrix(&key("w2"), Role::ExpertOut, channels, width, Layout::Plain),
            }
        });
        let experts = experts.collect();
        let (activation, y) = (Activation::Gelu, b.hidden());
        b.push(Op::Experts(Experts {
            router,
            experts,
            activation,
            gated: false,
            top_k,
            y_scale: 1.0,
            x: x.value,
            y: y.value,
        }));
        b.watch_router("moe.router_logits");
    });
}

fn report(b: &mut Builder, layers: &[Sizes], d: usize) {
    let each = |of: fn(&Sizes) -> usize| layers.iter().map(of).collect::<Vec<_>>();
    b.fields.counted_by_layer("ssm_inner_size", &each(|layer| layer.inner), "rows of in_proj / 2");
    b.fields.counted_by_layer("ssm_state_size", &each(|layer| layer.states), "length of A_log");
    b.fields.counted_by_layer(
        "ssm_conv_kernel",
        &each(|layer| layer.taps),
        "third dimension of conv1d.weight",
    );
    if layers.iter().all(|layer| layer.inner.is_multiple_of(d.max(1))) {
        let expand: Vec<usize> = layers.iter().map(|layer| layer.inner / d.max(1)).collect();
        b.fields.counted_by_layer("ssm_expand_factor", &expand, "inner width / hidden size");
    }
    let (mut experts, mut sizes, mut moe_layers) = (Vec::new(), Vec::new(), Vec::new());
    for (n, layer) in layers.iter().enumerate() {
        match &layer.sublayer {
            Sublayer::None => {}
            Sublayer::Ffn(width) => sizes.push(*width),
            Sublayer::Experts(widths) => {
                moe_layers.push(n);
                experts.push(widths.len());
                sizes.extend(widths);
            }
        }
    }
    b.fields.counted_by_layer("num_experts", &experts, "expert indexes and rows of the router gate");
    b.fields.counted_by_layer("expert_size", &sizes, "rows of w1");
    b.fields.counted("moe_layers", moe_layers, "layers with a router gate");
}

/// Whether the table makes the logits, as far as headers tell.
pub(super) fn report_tying(b: &mut Builder) {
    let (tied, from) = match (b.has(HEAD), b.shares_head) {
        (false, _) => (true, "lm_head.weight is absent"),
        (true, true) => (true, "lm_head.weight shares the embedding's storage"),
        (true, false) => {
            (false, "lm_head.weight is stored by itself; equal numbers are tied when weights are read")
        }
    };
    b.fields.counted("tie_word_embeddings", tied, from);
}

/// A public upstream file by its size in bytes and what its shapes say.
struct Known {
    file: &'static str,
    bytes: u64,
    vocab_size: usize,
    n_layers: usize,
}

/// The public upstream files, recognised so that what is known of them need not be asked.
///
/// All four were trained by a loop that shifts labels twice: position `t` predicts token
/// `t + 2`. Held-out perplexity of the distilled model read at offsets 0 to 3: 2191, 914,
/// 2.41, 2647.
const KNOWN: [Known; 4] = [
    Known { file: "itera_lite_micro_distilled.pt", bytes: 1_197_653, vocab_size: 2000, n_layers: 3 },
    Known { file: "itera_lite_int4.pt", bytes: 1_200_127, vocab_size: 2000, n_layers: 3 },
    Known { file: "itera_lite_tiny_int8.pt", bytes: 2_328_694, vocab_size: 2000, n_layers: 4 },
    Known { file: "itera_lite_mixed_precision.pt", bytes: 4_164_117, vocab_size: 8000, n_layers: 4 },
];

/// Why an offset of 1 is assumed.
pub(super) const NEXT_TOKEN: &str =
    "next-token prediction is usual; an evaluation on a text can detect how many tokens ahead it predicts";

/// The default prediction offset of a checkpoint, and why.
fn default_offset(file_bytes: u64, vocab_size: usize, n_layers: usize) -> (usize, String) {
    let found = KNOWN
        .iter()
        .find(|known| (known.bytes, known.vocab_size, known.n_layers) == (file_bytes, vocab_size, n_layers));
    match found {
        Some(known) => {
            (2, format!("by its size this is the public {}, which predicts two tokens ahead", known.file))
        }
        None => (1, NEXT_TOKEN.into()),
    }
}

//! Itera-Lite: an SSM block, then a feed-forward network or a mixture of experts, per layer.
//!
//! Per position, with `u` the normed input (`[n, d]` row-major throughout):
//!
//! ```text
//! v, g  = split(in_proj u)                      inner width D each
//! a     = SiLU(causal_depthwise_conv(v) + bias)
//! dt    = mean(softplus(delta_proj a + bias))   one number per position
//! h     = exp(dt A) h + dt (B a)                N numbers per layer, A = -exp(A_log)
//! y     = C h + D a
//! out   = x + out_proj (y SiLU(g))
//! ```

use statepress_kernels::linear::{Weights, linear};
use statepress_kernels::ops::gate::gelu;
use statepress_kernels::ops::{conv1d, gate, route, scan};

use super::load::{Norm, Parts};
use super::{LayerState, State, Trace, Workspace, add, embed, project};
use crate::EngineError;
use crate::spec::{IteraLiteLayer, IteraLiteSpec, NORM_EPS, Sublayer};

/// The weights of a model.
pub(super) struct IteraLite {
    embedding: Weights,
    positions: Weights,
    layers: Vec<Layer>,
    norm: Norm,
    /// `None`: the embedding table serves.
    head: Option<Weights>,
}

struct Layer {
    ssm: Ssm,
    sublayer: Option<(Norm, Mixer)>,
}

/// What follows the SSM block.
enum Mixer {
    Ffn(Ffn),
    Experts { gate: Weights, experts: Vec<Ffn>, top_k: usize },
}

/// `w2 GELU(w1 x)`.
struct Ffn {
    w1: Weights,
    w2: Weights,
}

struct Ssm {
    norm: Norm,
    in_proj: Weights,
    /// Taps, `[k, D]`: tap `k - 1` multiplies the current input.
    conv_taps: Vec<f32>,
    conv_bias: Vec<f32>,
    /// `A = -exp(A_log)`, `[N]`.
    a: Vec<f32>,
    b: Weights,
    c: Weights,
    d: Vec<f32>,
    delta_proj: Weights,
    delta_bias: Vec<f32>,
    out_proj: Weights,
}

impl IteraLite {
    pub fn new(spec: &IteraLiteSpec, parts: &mut Parts) -> Result<Self, EngineError> {
        let layers = spec.layers.iter().enumerate();
        Ok(Self {
            embedding: parts.matrix("embedding.weight")?,
            positions: parts.matrix("position_embedding.weight")?,
            layers: layers.map(|(n, layer)| Layer::new(n, layer, parts)).collect::<Result<_, _>>()?,
            norm: parts.norm("norm", spec.layer_norm_eps)?,
            head: parts.optional_matrix("lm_head.weight"),
        })
    }

    pub fn head(&self) -> &Weights {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    pub fn start(&self) -> Vec<LayerState> {
        let layers = self.layers.iter().map(|layer| {
            let taps_before = layer.ssm.conv_taps.len() - layer.ssm.conv_bias.len();
            LayerState::Ssm { conv_tail: vec![0.0; taps_before], h: vec![0.0; layer.ssm.a.len()] }
        });
        layers.collect()
    }

    pub fn forward(&self, ids: &[u32], state: &mut State, ws: &mut Workspace, trace: &mut impl Trace) {
        embed(&self.embedding, &self.positions, ids, state.position, ws);
        trace.record(None, "embed", &ws.hidden);
        for (n, (layer, memory)) in self.layers.iter().zip(&mut state.layers).enumerate() {
            if let LayerState::Ssm { conv_tail, h } = memory {
                layer.ssm.forward(conv_tail, h, ws, &mut |quantity, values| {
                    trace.record(Some(n), quantity, values)
                });
            }
            if let Some((norm, mixer)) = &layer.sublayer {
                norm.apply(&ws.hidden, &mut ws.buffers.norm);
                mixer.forward(ws, &mut |quantity, values| trace.record(Some(n), quantity, values));
            }
            trace.record(Some(n), "moe", &ws.hidden);
        }
        let hidden = std::mem::take(&mut ws.hidden);
        self.norm.apply(&hidden, &mut ws.buffers.norm);
        ws.hidden = std::mem::replace(&mut ws.buffers.norm, hidden);
        trace.record(None, "final_norm", &ws.hidden);
    }
}

impl Layer {
    fn new(n: usize, spec: &IteraLiteLayer, parts: &mut Parts) -> Result<Self, EngineError> {
        let ffn = |parts: &mut Parts, prefix: &str| -> Result<Ffn, EngineError> {
            let w1 = parts.matrix(&format!("{prefix}.w1.weight"))?;
            Ok(Ffn { w1, w2: parts.matrix(&format!("{prefix}.w2.weight"))? })
        };
        let sublayer = match &spec.sublayer {
            Sublayer::None => None,
            Sublayer::Ffn { .. } => {
                let norm = parts.norm(&format!("layers.{n}.moe.norm"), NORM_EPS)?;
                Some((norm, Mixer::Ffn(ffn(parts, &format!("layers.{n}.moe.ffn"))?)))
            }
            // Experts were lost: the sublayer is the identity, as the findings say.
            Sublayer::Moe { sizes, .. } if sizes.is_empty() => None,
            Sublayer::Moe { sizes, top_k } => {
                let prefix = format!("layers.{n}.moe.layer");
                let experts = (0..sizes.len()).map(|m| ffn(parts, &format!("{prefix}.experts.{m}")));
                let experts = experts.collect::<Result<_, _>>()?;
                let gate = parts.matrix(&format!("{prefix}.router.gate.weight"))?;
                let norm = parts.norm(&format!("{prefix}.norm"), NORM_EPS)?;
                Some((norm, Mixer::Experts { gate, experts, top_k: *top_k }))
            }
        };
        Ok(Self { ssm: Ssm::new(n, spec, parts)?, sublayer })
    }
}

impl Ssm {
    fn new(n: usize, spec: &IteraLiteLayer, parts: &mut Parts) -> Result<Self, EngineError> {
        let key = |suffix: &str| format!("layers.{n}.ssm.{suffix}");
        let taps = parts.vector(&key("conv1d.weight"))?;
        let (inner, k) = (spec.inner_size, spec.conv_kernel);
        let conv_taps =
            (0..k).flat_map(|j| (0..inner).map(move |i| (i, j))).map(|(i, j)| taps[i * k + j]).collect();
        Ok(Self {
            norm: parts.norm(&key("norm"), NORM_EPS)?,
            in_proj: parts.matrix(&key("in_proj.weight"))?,
            conv_taps,
            conv_bias: parts.vector(&key("conv1d.bias"))?,
            a: parts.vector(&key("ssm.A_log"))?.into_iter().map(|a_log| -a_log.exp()).collect(),
            b: parts.matrix(&key("ssm.B"))?,
            c: parts.matrix(&key("ssm.C"))?,
            d: parts.vector(&key("ssm.D"))?,
            delta_proj: parts.matrix(&key("ssm.delta_proj.weight"))?,
            delta_bias: parts.vector(&key("ssm.delta_proj.bias"))?,
            out_proj: parts.matrix(&key("out_proj.weight"))?,
        })
    }

    /// Adds the block's output to `ws.hidden`.
    fn forward(
        &self,
        conv_tail: &mut [f32],
        h: &mut [f32],
        ws: &mut Workspace,
        trace: &mut impl FnMut(&'static str, &[f32]),
    ) {
        let Workspace { kernels, buffers, hidden } = ws;
        let inner = self.d.len();
        self.norm.apply(hidden, &mut buffers.norm);
        trace("ssm.norm", &buffers.norm);
        project(&self.in_proj, &buffers.norm, &mut buffers.wide, kernels);
        trace("ssm.in_proj", &buffers.wide);

        let n = buffers.wide.len() / (2 * inner);
        buffers.conv.resize(n * inner, 0.0);
        conv1d::causal(
            &buffers.wide,
            2 * inner,
            conv_tail,
            &self.conv_taps,
            &self.conv_bias,
            &mut buffers.conv,
        );
        trace("ssm.conv_out", &buffers.conv);
        gate::silu(&mut buffers.conv);
        trace("ssm.scan_in", &buffers.conv);

        project(&self.delta_proj, &buffers.conv, &mut buffers.mixed, kernels);
        buffers.step.resize(n, 0.0);
        gate::softplus_mean(&mut buffers.mixed, &self.delta_bias, &mut buffers.step);
        trace("ssm.delta_raw", &buffers.mixed);

        project(&self.b, &buffers.conv, &mut buffers.driven, kernels);
        buffers.states.resize(n * h.len(), 0.0);
        scan::sequential(&buffers.step, &buffers.driven, &self.a, h, &mut buffers.states);
        trace("ssm.h", &buffers.states);
        project(&self.c, &buffers.states, &mut buffers.mixed, kernels);
        // y = C h + D a, then y SiLU(g) with g the second half of in_proj's rows.
        gate::skip(&mut buffers.mixed, &self.d, &buffers.conv);
        trace("ssm.scan_out", &buffers.mixed);
        gate::silu_gate(&mut buffers.mixed, inner, &buffers.wide[inner..], 2 * inner);
        project(&self.out_proj, &buffers.mixed, &mut buffers.out, kernels);
        trace("ssm.out_proj", &buffers.out);
        add(hidden, &buffers.out);
        trace("ssm", hidden);
    }
}

impl Mixer {
    /// Adds the output for the normed input in `ws.buffers.norm` to `ws.hidden`.
    fn forward(&self, ws: &mut Workspace, trace: &mut impl FnMut(&'static str, &[f32])) {
        let Workspace { kernels, buffers, hidden } = ws;
        match self {
            Self::Ffn(ffn) => {
                project(&ffn.w1, &buffers.norm, &mut buffers.wide, kernels);
                gelu(&mut buffers.wide);
                project(&ffn.w2, &buffers.wide, &mut buffers.out, kernels);
                add(hidden, &buffers.out);
            }
            Self::Experts { gate, experts, top_k } => {
                let d = gate.cols();
                project(gate, &buffers.norm, &mut buffers.mixed, kernels);
                trace("moe.router_logits", &buffers.mixed);
                let routes = route::top_k(&buffers.mixed, experts.len(), *top_k);
                // All tokens of an expert go through it together.
                for (m, expert) in experts.iter().enumerate() {
                    let chosen = || routes.iter().enumerate().filter(|(_, route)| route.expert == m);
                    buffers.gathered.clear();
                    for (at, _) in chosen() {
                        let token = at / top_k;
                        buffers.gathered.extend_from_slice(&buffers.norm[token * d..][..d]);
                    }
                    if buffers.gathered.is_empty() {
                        continue;
                    }
                    project(&expert.w1, &buffers.gathered, &mut buffers.wide, kernels);
                    gelu(&mut buffers.wide);
                    buffers.expert.resize(buffers.gathered.len(), 0.0);
                    linear(&expert.w2, &buffers.wide, &mut buffers.expert, kernels);
                    for ((at, route), row) in chosen().zip(buffers.expert.chunks_exact(d)) {
                        let token = at / top_k;
                        for (x, y) in hidden[token * d..][..d].iter_mut().zip(row) {
                            *x += route.weight * y;
                        }
                    }
                }
            }
        }
    }
}

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

use statepress_kernels::Rows;
use statepress_kernels::linear::{Weights, linear};
use statepress_kernels::network::{Mixer, Ssm};
use statepress_kernels::ops::gate::gelu;
use statepress_kernels::ops::{conv1d, gate, route, scan};

use super::{Workspace, add, normalise, project};

/// Runs the SSM block and adds its output to `ws.hidden`. `conv_tail` is `[k - 1, D]`, `h` `[N]`.
pub(super) fn ssm(
    ssm: &Ssm<Weights>,
    conv_tail: &mut [f32],
    h: &mut [f32],
    ws: &mut Workspace,
    trace: &mut impl FnMut(&'static str, &[f32]),
) {
    let Workspace { kernels, buffers, hidden } = ws;
    let inner = ssm.inner_size();
    normalise(&ssm.norm, hidden, &mut buffers.norm);
    trace("ssm.norm", &buffers.norm);
    project(&ssm.in_proj, &buffers.norm, &mut buffers.wide, kernels);
    trace("ssm.in_proj", &buffers.wide);

    let n = buffers.wide.len() / (2 * inner);
    buffers.conv.resize(n * inner, 0.0);
    let v = Rows::new(&buffers.wide, 0, inner, 2 * inner);
    conv1d::causal(v, conv_tail, &ssm.conv_taps, Some(&ssm.conv_bias), &mut buffers.conv);
    trace("ssm.conv_out", &buffers.conv);
    gate::silu(&mut buffers.conv);
    trace("ssm.scan_in", &buffers.conv);

    project(&ssm.delta_proj, &buffers.conv, &mut buffers.mixed, kernels);
    buffers.step.resize(n, 0.0);
    gate::softplus_mean(&mut buffers.mixed, &ssm.delta_bias, &mut buffers.step);
    trace("ssm.delta_raw", &buffers.mixed);

    project(&ssm.b, &buffers.conv, &mut buffers.driven, kernels);
    buffers.states.resize(n * h.len(), 0.0);
    scan::sequential(&buffers.step, &buffers.driven, &ssm.a, h, &mut buffers.states);
    trace("ssm.h", &buffers.states);
    project(&ssm.c, &buffers.states, &mut buffers.mixed, kernels);
    // y = C h + D a, then y SiLU(g) with g the second half of in_proj's rows.
    gate::skip(&mut buffers.mixed, &ssm.d, Rows::whole(&buffers.conv, inner));
    trace("ssm.scan_out", &buffers.mixed);
    gate::silu_gate(&mut buffers.mixed, Rows::new(&buffers.wide, inner, inner, 2 * inner), 1.0);
    project(&ssm.out_proj, &buffers.mixed, &mut buffers.out, kernels);
    trace("ssm.out_proj", &buffers.out);
    add(hidden, &buffers.out);
    trace("ssm", hidden);
}

/// Adds the output for the normed input in `ws.buffers.norm` to `ws.hidden`.
pub(super) fn mixer(
    mixer: &Mixer<Weights>,
    ws: &mut Workspace,
    trace: &mut impl FnMut(&'static str, &[f32]),
) {
    let Workspace { kernels, buffers, hidden } = ws;
    match mixer {
        Mixer::Ffn(ffn) => {
            project(&ffn.w1, &buffers.norm, &mut buffers.wide, kernels);
            gelu(&mut buffers.wide);
            project(&ffn.w2, &buffers.wide, &mut buffers.out, kernels);
            add(hidden, &buffers.out);
        }
        Mixer::Experts { gate, experts, top_k } => {
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

//! The CPU's ops of language models against plain references, on every width and tail, in every
//! build; and the same to the last bit, however the tokens are cut.

use statepress_kernels::Rows;
use statepress_kernels::ops::{attention, conv1d, gate, norm, scan, selective_scan, ssd};
use statepress_tests::sequence_ops::{
    self, Attention, Columns, Convolution, EPS, SelectiveScan, SequenceOps, Ssd, ranges,
};
use statepress_tests::test;

/// What runs.
struct Fast;

impl SequenceOps for Fast {
    const TOLERANCE: f32 = 5e-6;
    const CUTS_CHANGE_NOTHING: bool = true;

    fn layer_norm(&mut self, x: &Columns, weight: &[f32], bias: &[f32]) -> Vec<f32> {
        filled(x, |out| norm::layer_norm(x.rows(), weight, bias, EPS, out))
    }

    fn rms_norm(&mut self, x: &Columns, weight: Option<&[f32]>) -> Vec<f32> {
        filled(x, |out| norm::rms_norm(x.rows(), weight, EPS, out))
    }

    fn gated_rms_norm(
        &mut self,
        x: &Columns,
        z: &Columns,
        weight: Option<&[f32]>,
        groups: usize,
        norm_before_gate: bool,
    ) -> Vec<f32> {
        filled(x, |out| norm::gated_rms_norm(x.rows(), z.rows(), weight, groups, EPS, norm_before_gate, out))
    }

    fn silu(&mut self, x: &[f32]) -> Vec<f32> {
        changed(x, gate::silu)
    }

    fn gelu(&mut self, x: &[f32]) -> Vec<f32> {
        changed(x, gate::gelu)
    }

    fn gelu_tanh(&mut self, x: &[f32]) -> Vec<f32> {
        changed(x, gate::gelu_tanh)
    }

    fn silu_gate(&mut self, y: &[f32], z: &Columns, z_scale: f32) -> Vec<f32> {
        changed(y, |y| gate::silu_gate(y, z.rows(), z_scale))
    }

    fn softplus(&mut self, x: &Columns, bias: &[f32], limits: (f32, f32)) -> Vec<f32> {
        filled(x, |out| gate::softplus(x.rows(), bias, limits, out))
    }

    fn skip(&mut self, y: &[f32], d: &[f32], a: &Columns) -> Vec<f32> {
        changed(y, |y| gate::skip(y, d, a.rows()))
    }

    fn convolution(&mut self, input: &Convolution, bites: &[usize]) -> Vec<f32> {
        let Convolution { x, tail, taps, bias } = input;
        let (mut out, mut tail) = (nothing(x), tail.clone());
        for part in ranges(bites) {
            let out = &mut out[part.start * x.width..part.end * x.width];
            conv1d::causal(x.part(part), &mut tail, taps, bias.as_deref(), out);
        }
        out.extend(tail);
        out
    }

    fn selective_scan(&mut self, input: &SelectiveScan, bites: &[usize]) -> Vec<f32> {
        let SelectiveScan { u, dt, b, c, a, d, h } = input;
        let (mut out, mut h) = (nothing(u), h.clone());
        for part in ranges(bites) {
            let numbers = part.start * u.width..part.end * u.width;
            let (dt, out) = (&dt[numbers.clone()], &mut out[numbers]);
            let [u, b, c] = [u, b, c].map(|columns| columns.part(part.clone()));
            selective_scan::scan(u, dt, b, c, a, d, &mut h, out);
        }
        out.extend(h);
        out
    }

    fn ssd(&mut self, input: &Ssd, bites: &[usize]) -> Vec<f32> {
        let Ssd { heads, scan: SelectiveScan { u, dt, b, c, a, d, h } } = input;
        let (mut out, mut h) = (nothing(u), h.clone());
        for part in ranges(bites) {
            let dt = &dt[part.start * heads.heads..part.end * heads.heads];
            let out = &mut out[part.start * u.width..part.end * u.width];
            let [u, b, c] = [u, b, c].map(|columns| columns.part(part.clone()));
            ssd::scan(u, dt, b, c, a, d, heads, &mut h, out);
        }
        out.extend(h);
        out
    }

    fn attention(&mut self, input: &Attention, bites: &[usize]) -> Vec<f32> {
        let Attention { q, k, v, .. } = input;
        let (mut out, mut keys, mut values) = (nothing(q), Vec::new(), Vec::new());
        let (heads, mut scratch) = (input.heads(), attention::Scratch::default());
        for part in ranges(bites) {
            let (first, out) = (part.start, &mut out[part.start * q.width..part.end * q.width]);
            let [q, k, v] = [q, k, v].map(|columns| columns.part(part.clone()));
            attention::causal(q, k, v, &heads, first, &mut keys, &mut values, &mut scratch, out);
        }
        let given: Vec<f32> = v.rows().iter().flatten().copied().collect();
        assert!(values.iter().zip(&given).all(|(a, b)| a.to_bits() == b.to_bits()), "values are kept");
        assert_eq!(values.len(), given.len());
        out.extend(keys);
        out
    }
}

/// Results that are not there yet, of the shape of `x`.
fn nothing(x: &Columns) -> Vec<f32> {
    vec![f32::NAN; x.rows().len() * x.width]
}

fn filled(x: &Columns, op: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut out = nothing(x);
    op(&mut out);
    out
}

fn changed(x: &[f32], op: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut x = x.to_vec();
    op(&mut x);
    x
}

macro_rules! bodies {
    ($($body:ident),+) => {$(
        #[test]
        fn $body() {
            sequence_ops::$body(&mut Fast);
        }
    )+};
}

bodies!(norms, activations, extreme_activations, convolutions, selective_scans, ssds, extreme_scans);
bodies!(attentions, extreme_attentions);

#[test]
fn the_scan_of_one_state_for_all_channels_goes_on_where_it_ended() {
    let (n, states, mut rng) = (300, 5, fastrand::Rng::with_seed(28));
    let dt: Vec<f32> = (0..n).map(|_| rng.f32()).collect();
    let driven: Vec<f32> = (0..n * states).map(|_| rng.f32() - 0.5).collect();
    let run = |bite: usize| {
        let (mut h, mut out) = (vec![0.25; states], vec![f32::NAN; n * states]);
        let driven = driven.chunks(bite * states);
        for ((dt, driven), out) in dt.chunks(bite).zip(driven).zip(out.chunks_mut(bite * states)) {
            scan::sequential(dt, driven, &[-1.0, -2.0, -0.5, -0.1, -30.0], &mut h, out);
        }
        out.extend(h);
        out
    };
    let whole = run(n);
    for bite in [1, 7, 64, 256] {
        assert_eq!(run(bite), whole, "by {bite}");
    }
}

#[test]
fn nothing_is_left_as_it_is() {
    let none = |width: usize| Rows::whole(&[], width);
    let mut h = [1.0; 32];
    selective_scan::scan(none(2), &[], none(16), none(16), &[-1.0; 32], &[1.0; 2], &mut h, &mut []);
    let heads = ssd::Heads { heads: 2, groups: 1, head: 4, states: 4 };
    ssd::scan(none(8), &[], none(4), none(4), &[-1.0; 2], &[1.0; 2], &heads, &mut h, &mut []);
    let mut tail = [1.0; 6];
    conv1d::causal(none(2), &mut tail, &[1.0; 8], None, &mut []);
    assert_eq!((h, tail), ([1.0; 32], [1.0; 6]));
}

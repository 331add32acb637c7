//! The ops of language models read and written as columns of rows, and one test body for each:
//! held against the plain references, on every width and tail, and cut into bites of every length.

use std::ops::Range;

use statepress_kernels::Rows;
use statepress_kernels::ops::{attention, conv1d, gate, norm, selective_scan, ssd};

/// Some columns of rows of a wider matrix, as [`Rows`] has them.
pub struct Columns {
    /// The matrix, row-major.
    pub values: Vec<f32>,
    /// The first column.
    pub first: usize,
    /// How many there are.
    pub width: usize,
    /// Numbers of a row of the matrix.
    pub stride: usize,
}

impl Columns {
    /// All of them.
    pub fn rows(&self) -> Rows<'_> {
        Rows::new(&self.values, self.first, self.width, self.stride)
    }

    /// Some of them.
    pub fn part(&self, rows: Range<usize>) -> Rows<'_> {
        let values = &self.values[rows.start * self.stride..rows.end * self.stride];
        Rows::new(values, self.first, self.width, self.stride)
    }
}

/// What a convolution takes: `[n, D]` inputs, the `[k - 1, D]` before them, `[k, D]` taps.
pub struct Convolution {
    /// The inputs.
    pub x: Columns,
    /// Those before the first.
    pub tail: Vec<f32>,
    /// The taps.
    pub taps: Vec<f32>,
    /// `[D]`, or none.
    pub bias: Option<Vec<f32>>,
}

/// What a selective scan takes; the shapes are those of [`selective_scan::scan`].
pub struct SelectiveScan {
    /// Inputs of the channels.
    pub u: Columns,
    /// Step sizes.
    pub dt: Vec<f32>,
    /// Input vectors.
    pub b: Columns,
    /// Output vectors.
    pub c: Columns,
    /// Rates of decay.
    pub a: Vec<f32>,
    /// Skip connections.
    pub d: Vec<f32>,
    /// The state before the first token.
    pub h: Vec<f32>,
}

/// What Mamba-2's scan takes; the shapes are those of [`ssd::scan`].
pub struct Ssd {
    /// How channels and states are divided.
    pub heads: ssd::Heads,
    /// The rest, which has the names of the other scan.
    pub scan: SelectiveScan,
}

/// What attention takes; the shapes are those of [`attention::causal`].
pub struct Attention {
    /// Queries.
    pub q: Columns,
    /// Keys.
    pub k: Columns,
    /// Values.
    pub v: Columns,
    /// Query heads, key heads, and channels of either.
    pub shape: [usize; 3],
    /// Radians per position.
    pub inv_freq: Vec<f32>,
    /// What the rotation multiplies by.
    pub rope_scale: f32,
    /// Norm of the queries.
    pub q_norm: Option<Vec<f32>>,
    /// Norm of the keys.
    pub k_norm: Option<Vec<f32>>,
}

impl Attention {
    /// The division of the channels, as the op takes it.
    pub fn heads(&self) -> attention::Heads<'_> {
        let [heads, kv_heads, head] = self.shape;
        attention::Heads {
            heads,
            kv_heads,
            head,
            scale: (head as f32).sqrt().recip(),
            inv_freq: &self.inv_freq,
            rope_scale: self.rope_scale,
            q_norm: self.q_norm.as_deref().map(|weight| (weight, EPS)),
            k_norm: self.k_norm.as_deref().map(|weight| (weight, EPS)),
        }
    }
}

/// Who computes. Where tokens are taken in bites of certain lengths, the result is the outputs of
/// all of them and then the state that they leave.
pub trait SequenceOps {
    /// f32 sums in another order, and elementary functions of a few units in the last place, as
    /// a share of `1 + |value|`.
    const TOLERANCE: f32;
    /// Whether results are the same to the last bit, however the tokens are cut.
    const CUTS_CHANGE_NOTHING: bool;

    /// Results `[n, d]` of [`norm::layer_norm`], with [`EPS`].
    fn layer_norm(&mut self, x: &Columns, weight: &[f32], bias: &[f32]) -> Vec<f32>;
    /// Results `[n, d]` of [`norm::rms_norm`], with [`EPS`].
    fn rms_norm(&mut self, x: &Columns, weight: Option<&[f32]>) -> Vec<f32>;
    /// Results `[n, d]` of [`norm::gated_rms_norm`], with [`EPS`].
    fn gated_rms_norm(
        &mut self,
        x: &Columns,
        z: &Columns,
        weight: Option<&[f32]>,
        groups: usize,
        norm_before_gate: bool,
    ) -> Vec<f32>;
    /// [`gate::silu`] of `x`.
    fn silu(&mut self, x: &[f32]) -> Vec<f32>;
    /// [`gate::gelu`] of `x`.
    fn gelu(&mut self, x: &[f32]) -> Vec<f32>;
    /// [`gate::gelu_tanh`] of `x`.
    fn gelu_tanh(&mut self, x: &[f32]) -> Vec<f32>;
    /// [`gate::silu_gate`] of `y`.
    fn silu_gate(&mut self, y: &[f32], z: &Columns, z_scale: f32) -> Vec<f32>;
    /// Results `[n, D]` of [`gate::softplus`].
    fn softplus(&mut self, x: &Columns, bias: &[f32], limits: (f32, f32)) -> Vec<f32>;
    /// [`gate::skip`] of `y`.
    fn skip(&mut self, y: &[f32], d: &[f32], a: &Columns) -> Vec<f32>;
    /// [`conv1d::causal`]: outputs `[n, D]`, then the tail `[k - 1, D]`.
    fn convolution(&mut self, input: &Convolution, bites: &[usize]) -> Vec<f32>;
    /// [`selective_scan::scan`]: outputs `[n, D]`, then `h` `[D, N]`.
    fn selective_scan(&mut self, input: &SelectiveScan, bites: &[usize]) -> Vec<f32>;
    /// [`ssd::scan`]: outputs `[n, H P]`, then `h` `[H, P, N]`.
    fn ssd(&mut self, input: &Ssd, bites: &[usize]) -> Vec<f32>;
    /// [`attention::causal`] from position 0 on: outputs `[n, heads head]`, then the keys
    /// `[n, kv_heads head]`.
    fn attention(&mut self, input: &Attention, bites: &[usize]) -> Vec<f32>;
}

/// Of every norm here.
pub const EPS: f32 = 1e-5;

/// Where bites of these lengths lie.
pub fn ranges(bites: &[usize]) -> impl Iterator<Item = Range<usize>> + '_ {
    bites.iter().scan(0, |first, length| {
        *first += length;
        Some(*first - length..*first)
    })
}

/// `n` tokens in bites of 1, 7, 64 and 256, and whole.
fn cuts(n: usize) -> impl Iterator<Item = Vec<usize>> {
    [1, 7, 64, 256, n].into_iter().filter(move |&bite| bite <= n).map(move |bite| {
        let mut bites = vec![bite; n / bite];
        bites.extend(Some(n % bite).filter(|&rest| rest > 0));
        bites
    })
}

fn random(n: usize, scale: f32, rng: &mut fastrand::Rng) -> Vec<f32> {
    // A sum of four uniforms is close enough to normal.
    (0..n).map(|_| (0..4).map(|_| rng.f32() - 0.5).sum::<f32>() * 1.7 * scale).collect()
}

/// Columns of a matrix with one column before them and two behind, which are far off.
fn columns(n: usize, width: usize, scale: f32, rng: &mut fastrand::Rng) -> Columns {
    let stride = width + 3;
    let mut values = random(n * stride, scale, rng);
    for row in values.chunks_exact_mut(stride) {
        for at in [0, width + 1, width + 2] {
            row[at] = 1e9;
        }
    }
    Columns { values, first: 1, width, stride }
}

#[track_caller]
fn close<O: SequenceOps>(what: &str, found: &[f32], exact: &[f32]) {
    assert_eq!(found.len(), exact.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(exact).enumerate() {
        let allowed = O::TOLERANCE * (1.0 + b.abs());
        assert!((a - b).abs() <= allowed, "{what}: element {i} of {}: {a}, {b}", exact.len());
    }
}

/// Holds the results of `n` tokens in bites of every length against the exact ones.
fn in_bites<O: SequenceOps>(what: &str, n: usize, exact: &[f32], mut run: impl FnMut(&[usize]) -> Vec<f32>) {
    let mut first = None;
    for bites in cuts(n) {
        let (what, found) = (format!("{what}, {n} tokens by {}", bites[0]), run(&bites));
        close::<O>(&what, &found, exact);
        let first = first.get_or_insert_with(|| found.clone());
        assert!(!O::CUTS_CHANGE_NOTHING || *first == found, "{what}: other bits than by 1");
    }
}

/// Every length around a vector of four, and lengths around the threads of a workgroup.
fn lengths() -> impl Iterator<Item = usize> {
    (1..20).chain([31, 32, 33, 64, 65, 128, 255, 300])
}

/// Norms of every width, with and without weights.
pub fn norms<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(21);
    for d in lengths() {
        for n in [1, 3] {
            let what = |name: &str| format!("{name}, {n} rows of {d}");
            let (x, z) = (columns(n, d, 3.0, &mut rng), columns(n, d, 3.0, &mut rng));
            let (weight, bias) = (random(d, 1.0, &mut rng), random(d, 1.0, &mut rng));
            let mut exact = vec![0.0; n * d];
            norm::reference::layer_norm(x.rows(), &weight, &bias, EPS, &mut exact);
            close::<O>(&what("layer_norm"), &ops.layer_norm(&x, &weight, &bias), &exact);
            for weight in [None, Some(&weight[..])] {
                norm::reference::rms_norm(x.rows(), weight, EPS, &mut exact);
                close::<O>(&what("rms_norm"), &ops.rms_norm(&x, weight), &exact);
                for groups in [1, 2, 3, 5].into_iter().filter(|groups| d % groups == 0) {
                    for first in [false, true] {
                        let (x_rows, z_rows) = (x.rows(), z.rows());
                        norm::reference::gated_rms_norm(
                            x_rows, z_rows, weight, groups, EPS, first, &mut exact,
                        );
                        let found = ops.gated_rms_norm(&x, &z, weight, groups, first);
                        close::<O>(&what(&format!("gated norm in {groups}, {first}")), &found, &exact);
                    }
                }
            }
        }
    }
}

/// Activations, gates, the skip connection and step sizes of every width.
pub fn activations<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(22);
    for d in lengths() {
        for n in [1, 3] {
            let what = |name: &str| format!("{name}, {n} rows of {d}");
            let (x, z) = (columns(n, d, 6.0, &mut rng), columns(n, d, 6.0, &mut rng));
            let (y, weight) = (random(n * d, 3.0, &mut rng), random(d, 1.0, &mut rng));

            let mut exact = y.clone();
            gate::reference::silu(&mut exact);
            close::<O>(&what("silu"), &ops.silu(&y), &exact);
            exact.clone_from(&y);
            gate::reference::gelu(&mut exact);
            close::<O>(&what("gelu"), &ops.gelu(&y), &exact);
            exact.clone_from(&y);
            gate::reference::gelu_tanh(&mut exact);
            close::<O>(&what("gelu_tanh"), &ops.gelu_tanh(&y), &exact);
            for z_scale in [1.0, 0.7] {
                exact.clone_from(&y);
                gate::reference::silu_gate(&mut exact, z.rows(), z_scale);
                close::<O>(&what("silu_gate"), &ops.silu_gate(&y, &z, z_scale), &exact);
            }
            for limits in [(0.0, f32::INFINITY), (0.01, 2.5)] {
                gate::reference::softplus(x.rows(), &weight, limits, &mut exact);
                close::<O>(&what("softplus"), &ops.softplus(&x, &weight, limits), &exact);
            }
            exact.clone_from(&y);
            gate::reference::skip(&mut exact, &weight, x.rows());
            close::<O>(&what("skip"), &ops.skip(&y, &weight, &x), &exact);
        }
    }
}

/// Activations where they are flat, and what is not a number shows.
pub fn extreme_activations<O: SequenceOps>(ops: &mut O) {
    let x = [-1e30, -1e4, -90.0, -20.0, -0.0, 0.0, 1e-30, 20.0, 90.0, 1e4, 1e30];
    let row = Columns { values: x.to_vec(), first: 0, width: x.len(), stride: x.len() };
    let (mut exact, ones) = (x, [1.0; 11]);
    gate::reference::gelu_tanh(&mut exact);
    close::<O>("gelu_tanh", &ops.gelu_tanh(&x), &exact);
    gate::reference::softplus(row.rows(), &[0.0; 11], (0.0, 1e5), &mut exact);
    close::<O>("softplus", &ops.softplus(&row, &[0.0; 11], (0.0, 1e5)), &exact);
    exact = ones;
    gate::reference::silu_gate(&mut exact, row.rows(), 2.0);
    close::<O>("silu_gate", &ops.silu_gate(&ones, &row, 2.0), &exact);

    let row = Columns { values: vec![0.5, f32::NAN, 0.5, 0.5, 0.5], first: 0, width: 5, stride: 5 };
    let one_nan = |what: &str, found: &[f32]| {
        let nans: Vec<usize> = (0..5).filter(|&i| found[i].is_nan()).collect();
        assert_eq!(nans, [1], "{what}");
    };
    one_nan("gelu_tanh", &ops.gelu_tanh(&row.values));
    one_nan("softplus", &ops.softplus(&row, &[0.0; 5], (0.001, 100.0)));
    one_nan("silu_gate", &ops.silu_gate(&ones[..5], &row, 1.0));
    assert!(ops.rms_norm(&row, None).iter().all(|x| x.is_nan()));
}

/// Convolutions of every width and number of taps, in bites.
pub fn convolutions<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(23);
    for (d, n) in [(1, 9), (3, 70), (4, 1), (5, 300), (12, 2), (65, 300)] {
        for k in 1..6 {
            let input = Convolution {
                x: columns(n, d, 1.0, &mut rng),
                tail: random((k - 1) * d, 1.0, &mut rng),
                taps: random(k * d, 1.0, &mut rng),
                bias: Some(random(d, 1.0, &mut rng)).filter(|_| k % 2 == 0),
            };
            let (mut exact, mut tail) = (vec![0.0; n * d], input.tail.clone());
            let bias = input.bias.as_deref();
            conv1d::reference::causal(input.x.rows(), &mut tail, &input.taps, bias, &mut exact);
            exact.extend(tail);
            let what = format!("convolution of {d}, {k} taps");
            in_bites::<O>(&what, n, &exact, |bites| ops.convolution(&input, bites));
        }
    }
}

fn selective_scan_input(n: usize, d: usize, states: usize, rng: &mut fastrand::Rng) -> SelectiveScan {
    SelectiveScan {
        u: columns(n, d, 1.0, rng),
        dt: (0..n * d).map(|_| rng.f32()).collect(),
        b: columns(n, states, 1.0, rng),
        c: columns(n, states, 1.0, rng),
        a: (0..d * states).map(|_| -0.1 - rng.f32() * 3.0).collect(),
        d: random(d, 1.0, rng),
        h: random(d * states, 1.0, rng),
    }
}

fn selective_scan_exact(input: &SelectiveScan) -> Vec<f32> {
    let SelectiveScan { u, dt, b, c, a, d, h } = input;
    let (mut out, mut h) = (vec![0.0; dt.len()], h.clone());
    selective_scan::reference::scan(u.rows(), dt, b.rows(), c.rows(), a, d, &mut h, &mut out);
    out.extend(h);
    out
}

/// Selective scans of every number of channels and states, in bites.
pub fn selective_scans<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(24);
    for (d, states) in [(1, 1), (2, 3), (3, 4), (4, 16), (5, 16), (7, 5), (9, 17), (12, 8), (66, 16)] {
        for n in [1, 2, 9, 300] {
            let input = selective_scan_input(n, d, states, &mut rng);
            let exact = selective_scan_exact(&input);
            let what = format!("{d} channels of {states} states");
            in_bites::<O>(&what, n, &exact, |bites| ops.selective_scan(&input, bites));
        }
    }
}

fn ssd_input(n: usize, heads: ssd::Heads, rng: &mut fastrand::Rng) -> Ssd {
    let width = heads.heads * heads.head;
    let scan = SelectiveScan {
        u: columns(n, width, 1.0, rng),
        dt: (0..n * heads.heads).map(|_| rng.f32()).collect(),
        b: columns(n, heads.groups * heads.states, 1.0, rng),
        c: columns(n, heads.groups * heads.states, 0.5, rng),
        a: (0..heads.heads).map(|_| -0.1 - rng.f32() * 3.0).collect(),
        d: random(if heads.groups == 1 { heads.heads } else { width }, 1.0, rng),
        h: random(width * heads.states, 1.0, rng),
    };
    Ssd { heads, scan }
}

fn ssd_exact(input: &Ssd) -> Vec<f32> {
    let SelectiveScan { u, dt, b, c, a, d, h } = &input.scan;
    let (mut out, mut h) = (vec![0.0; u.rows().len() * u.width], h.clone());
    ssd::reference::scan(u.rows(), dt, b.rows(), c.rows(), a, d, &input.heads, &mut h, &mut out);
    out.extend(h);
    out
}

/// Mamba-2's scans of every division, in bites.
pub fn ssds<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(25);
    let divisions = [
        (1, 1, 1, 1),
        (2, 1, 3, 5),
        (4, 2, 4, 4),
        (6, 3, 5, 7),
        (3, 3, 8, 16),
        (2, 1, 9, 33),
        (4, 1, 16, 64),
    ];
    for (heads, groups, head, states) in divisions {
        for n in [1, 2, 9, 300] {
            let input = ssd_input(n, ssd::Heads { heads, groups, head, states }, &mut rng);
            let exact = ssd_exact(&input);
            let what = format!("{:?}", input.heads);
            in_bites::<O>(&what, n, &exact, |bites| ops.ssd(&input, bites));
        }
    }
}

/// Steps of size zero keep the state, steps without end forget it, and what is not a number shows.
pub fn extreme_scans<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(26);
    for states in [5, 16] {
        let mut still = selective_scan_input(3, 6, states, &mut rng);
        still.dt.fill(0.0);
        let found = ops.selective_scan(&still, &[3]);
        assert_eq!(found[18..], still.h, "{states} states");
        close::<O>("no step", &found, &selective_scan_exact(&still));

        let mut far = selective_scan_input(2, 6, states, &mut rng);
        far.a.fill(-1e4);
        far.a[0] = f32::NEG_INFINITY;
        far.dt.iter_mut().for_each(|dt| *dt += 1.0);
        let found = ops.selective_scan(&far, &[1, 1]);
        close::<O>("a long step", &found, &selective_scan_exact(&far));
        let driven = far.dt[6 + 3] * far.u.rows().row(1)[3] * far.b.rows().row(1)[2];
        close::<O>("only the last input", &[found[12 + 3 * states + 2]], &[driven]);

        let mut broken = selective_scan_input(2, 6, states, &mut rng);
        broken.h[4 * states + states - 1] = f32::NAN;
        let found = ops.selective_scan(&broken, &[2]);
        let nans: Vec<usize> = (0..12).filter(|&i| found[i].is_nan()).collect();
        assert_eq!(nans, [4, 10], "{states} states");

        let heads = ssd::Heads { heads: 2, groups: 2, head: 3, states };
        let mut still = ssd_input(3, heads, &mut rng);
        still.scan.dt.fill(0.0);
        assert_eq!(ops.ssd(&still, &[3])[18..], still.scan.h, "{states} states");

        let mut far = ssd_input(2, heads, &mut rng);
        far.scan.a = vec![-1e4, f32::NEG_INFINITY];
        far.scan.dt.iter_mut().for_each(|dt| *dt += 1.0);
        close::<O>("a long step", &ops.ssd(&far, &[1, 1]), &ssd_exact(&far));

        let mut broken = ssd_input(2, heads, &mut rng);
        broken.scan.dt[1] = f32::NAN;
        let found = ops.ssd(&broken, &[2]);
        let nans: Vec<usize> = (0..12).filter(|&i| found[i].is_nan()).collect();
        assert_eq!(nans, [3, 4, 5, 9, 10, 11], "{states} states");
    }
}

/// Attention of every division, with and without norms and rotation, in bites.
pub fn attentions<O: SequenceOps>(ops: &mut O) {
    let mut rng = fastrand::Rng::with_seed(27);
    for (shape, rotated, normed) in [
        ([1, 1, 1], 0, false),
        ([3, 1, 4], 2, false),
        ([4, 2, 6], 3, true),
        ([2, 2, 9], 2, true),
        ([6, 3, 5], 0, true),
        ([8, 2, 32], 16, false),
    ] {
        let [heads, kv_heads, head] = shape;
        for n in [1, 2, 5, 270] {
            let input = Attention {
                q: columns(n, heads * head, 2.0, &mut rng),
                k: columns(n, kv_heads * head, 2.0, &mut rng),
                v: columns(n, kv_heads * head, 1.0, &mut rng),
                shape,
                inv_freq: (0..rotated).map(|i| 0.1f32.powf(i as f32 / rotated as f32)).collect(),
                rope_scale: if kv_heads == 1 { 1.1 } else { 1.0 },
                q_norm: Some(random(head, 1.0, &mut rng)).filter(|_| normed),
                k_norm: Some(random(head, 1.0, &mut rng)).filter(|_| normed),
            };
            let (mut exact, mut keys, mut values) = (vec![0.0; n * heads * head], Vec::new(), Vec::new());
            let [q, k, v] = [&input.q, &input.k, &input.v].map(Columns::rows);
            let heads = &input.heads();
            attention::reference::causal(q, k, v, heads, 0, &mut keys, &mut values, &mut exact);
            exact.extend(keys);
            let what = format!("attention {shape:?}, {rotated} turns");
            in_bites::<O>(&what, n, &exact, |bites| ops.attention(&input, bites));
        }
    }
}

/// Scores far apart choose one token, and what is not a number shows in the heads that see it.
pub fn extreme_attentions<O: SequenceOps>(ops: &mut O) {
    let whole = |values: Vec<f32>, width: usize| Columns { values, first: 0, width, stride: width };
    let input = |k: [f32; 5], v: [f32; 5]| Attention {
        q: whole([[1e3, 1.0]; 5].concat(), 2),
        k: whole(k.to_vec(), 1),
        v: whole(v.to_vec(), 1),
        shape: [2, 1, 1],
        inv_freq: Vec::new(),
        rope_scale: 1.0,
        q_norm: None,
        k_norm: None,
    };
    let found = ops.attention(&input([0.0, 3.0, -3.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0]), &[5]);
    let sharp: Vec<f32> = found[..10].iter().copied().step_by(2).collect();
    close::<O>("sharp", &sharp, &[1.0, 2.0, 2.0, 2.0, 2.0]);
    for (k, v) in [([0.0, 0.0, f32::NAN, 0.0, 0.0], [1.0; 5]), ([0.0; 5], [1.0, 1.0, f32::NAN, 1.0, 1.0])] {
        let found = ops.attention(&input(k, v), &[2, 3]);
        let nans: Vec<usize> = (0..10).filter(|&i| found[i].is_nan()).collect();
        assert_eq!(nans, [4, 5, 6, 7, 8, 9]);
    }
}

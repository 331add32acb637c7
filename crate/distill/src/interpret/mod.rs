//! Running a program over windows of a text at once, one op after the other, over tensors with gradients.
//!
//! A value is `[windows * len, width]`, as rows are what nearly all ops work on; ops that look back see it as
//! `[windows, len, width]`. Every window begins with an empty state, so states are zeros and none is kept.

mod attention;
mod experts;
mod scan;

use burn::tensor::activation::{gelu_approximate, silu, softplus};
use burn::tensor::module::layer_norm;
use burn::tensor::{Int, Tensor, TensorData};
use statepress_engine::EngineError;
use statepress_kernels::program::{
    Activation, GroupNorm, Linear, Norm, NormKind, Op, ValueId, VectorId, View,
};

pub(crate) use scan::CHUNK;

use crate::model::Pass;
use crate::sense::Place;

/// Windows of a text that go through a model together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many.
    pub(crate) windows: usize,
    /// Tokens of each.
    pub(crate) len: usize,
    /// All of them, one window after the other.
    pub(crate) ids: Vec<u32>,
}

impl Batch {
    /// Windows of equal length, one after the other.
    ///
    /// # Errors
    /// For no window, empty ones, and windows of different lengths.
    pub fn new(windows: &[impl AsRef<[u32]>]) -> Result<Self, EngineError> {
        let len = windows.first().map_or(0, |window| window.as_ref().len());
        if len == 0 {
            return Err(EngineError::Ids("no token ids were given".into()));
        }
        if let Some(other) = windows.iter().map(|it| it.as_ref().len()).find(|&other| other != len) {
            return Err(EngineError::Ids(format!("windows of {len} and of {other} tokens in one batch")));
        }
        let ids = windows.iter().flat_map(|window| window.as_ref()).copied().collect();
        Ok(Self { windows: windows.len(), len, ids })
    }

    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

/// What a pass gives.
pub(crate) struct Output {
    /// What enters the head, `[windows * len, k]`.
    pub hidden: Tensor<2>,
    /// How unevenly tokens are spread over experts, summed over mixtures; `None` without any.
    pub imbalance: Option<Tensor<1>>,
}

/// Runs the program.
pub(crate) fn forward(pass: &Pass, batch: &Batch) -> Output {
    let program = pass.program();
    let slots = program.slots.widths().iter().map(|_| None).collect();
    let mut interpreter = Interpreter { pass, batch, slots, imbalance: None };
    for node in &program.nodes {
        interpreter.run(&node.op);
    }
    let last = interpreter.whole(program.head.x);
    let hidden = match &program.head.norm {
        Some(norm) => interpreter.normalise(norm, last),
        None => last,
    };
    Output { hidden, imbalance: interpreter.imbalance }
}

/// The matrix that makes logits, `[V, d]`: rows of the ids that exist, with the scale of logits.
pub(crate) fn head(pass: &Pass) -> Tensor<2> {
    let program = pass.program();
    scaled(pass.matrix(program.head.matrix).narrow(0, 0, program.vocab_size), program.head.scale)
}

struct Interpreter<'a> {
    pass: &'a Pass<'a>,
    batch: &'a Batch,
    /// The value that lies in each of the program's slots now.
    slots: Vec<Option<(ValueId, Tensor<2>)>>,
    imbalance: Option<Tensor<1>>,
}

impl Interpreter<'_> {
    /// Every field is named, so that a new one does not compile before it is seen to.
    fn run(&mut self, op: &Op) {
        let y = match op {
            Op::Embed { table, positions, bias, scale, y: _ } => {
                let rows = self.pass.matrix(*table).select(0, self.ids());
                let mut rows = scaled(self.pass.at(Place::LookUp, rows), *scale);
                if let Some(positions) = positions {
                    let places = self.pass.matrix(*positions).narrow(0, 0, self.batch.len);
                    rows = self.flat(self.windows(rows) + places.unsqueeze_dim(0));
                }
                match bias {
                    Some(bias) => rows + self.row(*bias),
                    None => rows,
                }
            }
            Op::Norm { norm, x, y: _ } => self.normalise(norm, self.rows(*x)),
            Op::GatedNorm { norm, x, z, y: _ } => {
                let (x, gate) = (self.rows(*x), silu(self.rows(*z)));
                match norm {
                    None => x * gate,
                    Some(norm) if norm.before_gate => self.group_norm(norm, x) * gate,
                    Some(norm) => self.group_norm(norm, x * gate),
                }
            }
            Op::Linear(op) => self.linear(op),
            Op::Conv1d { x, taps, bias, tail: _, y: _ } => {
                let y = self.conv(self.rows(*x), *taps);
                match bias {
                    Some(bias) => y + self.row(*bias),
                    None => y,
                }
            }
            Op::Activate { activation, y } => activate(*activation, self.whole(*y)),
            Op::Softplus { x, bias, limits: [least, most], y: _ } => {
                let step = softplus(self.rows(*x) + self.row(*bias), 1.0);
                let step = if *least > 0.0 { step.clamp_min(*least) } else { step };
                if most.is_finite() { step.clamp_max(*most) } else { step }
            }
            Op::SoftplusMean { x, bias, y: _ } => softplus(self.whole(*x) + self.row(*bias), 1.0).mean_dim(1),
            Op::Scan { dt, bx, a, h: _, y: _ } => {
                let (dt, bx) = (self.whole(*dt), self.whole(*bx));
                let decay = dt.clone() * self.row(*a);
                self.flat(scan::scan(self.windows(decay), self.windows(dt * bx)))
            }
            Op::SelectiveScan { u, dt, b, c, a, d, h: _, y: _ } => {
                let (u, dt) = (self.rows(*u), self.whole(*dt));
                let (b, c) = (self.rows(*b), self.rows(*c));
                let a = self.pass.vector(*a).reshape([u.dims()[1], b.dims()[1]]);
                let skipped = u.clone() * self.row(*d);
                let [u, dt, b, c] = [u, dt, b, c].map(|it| self.windows(it));
                self.flat(scan::selective(u, dt, b, c, a)) + skipped
            }
            Op::Ssd(op) => {
                let heads = scan::Heads { heads: op.heads, head: op.head, groups: op.groups };
                let (u, dt) = (self.rows(op.u), self.whole(op.dt));
                let skipped = u.clone() * self.skip(op.d, op.heads, op.head);
                let decay = dt.clone() * self.row(op.a);
                let [u, dt, decay, b, c] =
                    [u, dt, decay, self.rows(op.b), self.rows(op.c)].map(|it| self.windows(it));
                self.flat(scan::ssd(u, dt, decay, b, c, &heads)) + skipped
            }
            Op::Skip { d, x, y } => self.whole(*y) + self.rows(*x) * self.row(*d),
            Op::Gate { x, z, z_scale, y: _ } => self.rows(*x) * silu(scaled(self.rows(*z), *z_scale)),
            Op::Attention(op) => {
                let [q, k, v] = [op.q, op.k, op.v].map(|it| self.windows(self.rows(it)));
                self.flat(attention::causal(self.pass, op, q, k, v))
            }
            Op::Experts(op) => {
                let mixed = experts::mix(self.pass, op, self.whole(op.x));
                self.imbalance = match (self.imbalance.take(), mixed.imbalance) {
                    (Some(sum), Some(more)) => Some(sum + more),
                    (sum, more) => sum.or(more),
                };
                self.whole(op.y) + scaled(mixed.y, op.y_scale)
            }
            Op::Copy { x, y } => {
                let x = self.rows(*x);
                let width = self.pass.program().width(y.value);
                let whole = self.held(y.value);
                let whole = whole.unwrap_or_else(|| Tensor::zeros([x.dims()[0], width], &self.pass.device));
                whole.slice_assign([0..x.dims()[0], y.first..y.first + y.width], x)
            }
        };
        let written = op.writes();
        self.slots[self.pass.program().slots.of(written)] = Some((written, y));
    }

    /// What is in the slot of a value, if it is that value.
    fn held(&self, value: ValueId) -> Option<Tensor<2>> {
        match &self.slots[self.pass.program().slots.of(value)] {
            Some((held, tensor)) if *held == value => Some(tensor.clone()),
            _ => None,
        }
    }

    fn whole(&self, value: ValueId) -> Tensor<2> {
        let held = self.held(value);
        held.unwrap_or_else(|| unreachable!("value {} is read before it is written", value.0))
    }

    fn rows(&self, view: View) -> Tensor<2> {
        let whole = self.whole(view.value);
        match view.width == whole.dims()[1] {
            true => whole,
            false => whole.narrow(1, view.first, view.width),
        }
    }

    /// A vector that meets every row.
    fn row(&self, id: VectorId) -> Tensor<2> {
        self.pass.vector(id).unsqueeze_dim(0)
    }

    /// A skip connection of heads, as one number a channel.
    fn skip(&self, d: VectorId, heads: usize, head: usize) -> Tensor<2> {
        let d = self.pass.vector(d);
        match d.dims()[0] == heads {
            true => d.unsqueeze_dim::<2>(1).expand([heads, head]).reshape([1, heads * head]),
            false => d.unsqueeze_dim(0),
        }
    }

    /// Rows as `[windows, len, width]`.
    fn windows(&self, rows: Tensor<2>) -> Tensor<3> {
        let width = rows.dims()[1];
        rows.reshape([self.batch.windows, self.batch.len, width])
    }

    fn flat(&self, windows: Tensor<3>) -> Tensor<2> {
        let [windows_, len, width] = windows.dims();
        windows.reshape([windows_ * len, width])
    }

    fn ids(&self) -> Tensor<1, Int> {
        let ids = self.batch.ids.iter().map(|&id| id as i32).collect();
        Tensor::from_data(TensorData::new::<i32, _>(ids, [self.batch.tokens()]), &self.pass.device)
    }

    fn linear(&self, op: &Linear) -> Tensor<2> {
        let y = self.rows(op.x).matmul(self.pass.matrix(op.w).transpose());
        let mut y = scaled(self.pass.at(Place::Output(op.w), y), op.x_scale);
        if let Some(bias) = op.bias {
            y = y + self.row(bias);
        }
        if let Some(scale) = op.row_scale {
            y = y * self.row(scale);
        }
        y = scaled(y, op.y_scale);
        if op.add { self.whole(op.y) + y } else { y }
    }

    /// A cross-correlation with zeros before the first token: the last tap multiplies the current input.
    fn conv(&self, x: Tensor<2>, taps: VectorId) -> Tensor<2> {
        let [windows, len, channels] = self.windows(x.clone()).dims();
        let taps = self.pass.vector(taps);
        let k = taps.dims()[0] / channels;
        let taps = taps.reshape([k, 1, channels]);
        let before = Tensor::zeros([windows, k - 1, channels], &self.pass.device);
        let padded = Tensor::cat(vec![before, self.windows(x)], 1);
        let shifted = |j: usize| padded.clone().narrow(1, j, len) * taps.clone().narrow(0, j, 1);
        let sum = (1..k).fold(shifted(0), |sum, j| sum + shifted(j));
        self.flat(sum)
    }

    fn normalise(&self, norm: &Norm, x: Tensor<2>) -> Tensor<2> {
        let weight = norm.weight.map(|weight| self.pass.vector(weight));
        match norm.kind {
            NormKind::Rms => {
                let y = rms(x, norm.eps);
                match weight {
                    Some(weight) => y * weight.unsqueeze_dim(0),
                    None => y,
                }
            }
            NormKind::Layer { bias } => {
                let weight = weight.unwrap_or_else(|| Tensor::ones([x.dims()[1]], &self.pass.device));
                layer_norm(x, weight, Some(self.pass.vector(bias)), norm.eps.into())
            }
        }
    }

    fn group_norm(&self, norm: &GroupNorm, x: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let y = rms(x.reshape([rows, norm.groups, width / norm.groups]), norm.eps).reshape([rows, width]);
        match norm.weight {
            Some(weight) => y * self.row(weight),
            None => y,
        }
    }
}

/// `x / sqrt(mean(x^2) + eps)` over the last dimension.
fn rms<const D: usize>(x: Tensor<D>, eps: f32) -> Tensor<D> {
    let mean = x.clone().square().mean_dim(D - 1);
    x / mean.add_scalar(eps).sqrt()
}

fn activate(activation: Activation, x: Tensor<2>) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(x),
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
    }
}

/// `x / 2 (1 + erf(x / sqrt 2))`. Written out: burn's own has the derivative of the approximation by tanh on most backends.
fn gelu(x: Tensor<2>) -> Tensor<2> {
    let erf = x.clone().mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf();
    x.mul_scalar(0.5) * erf.add_scalar(1.0)
}

fn scaled(x: Tensor<2>, scale: f32) -> Tensor<2> {
    if scale == 1.0 { x } else { x.mul_scalar(scale) }
}

//! A program as a graph that takes one token: its ops in ONNX's operators, with what a sequence remembers going in and coming out.
//!
//! A value is `[1, width]`. What an op does is said in `kernels/program/op`; here is nothing but how ONNX says it.

use std::collections::BTreeMap;

use statepress_core::{DType, Index};
use statepress_formats::export::onnx::{Attribute, Dimension, Port};
use statepress_kernels::program::{
    Activation, Attention, Expert, Experts, GroupNorm, Linear, Norm, NormKind, Op, Program, Ssd, StateSize,
    VectorForm, VectorId, View,
};

use super::builder::{Builder, Built};
use super::weights::floats;
use crate::EngineError;
use crate::families::ModelSpec;

/// Builds the graph of one token.
///
/// # Errors
/// A tensor that is not there.
pub(super) fn build(program: &Program, spec: &ModelSpec, index: &Index) -> Result<Built, EngineError> {
    let mut builder = Builder::new(program, spec, index);
    builder.inputs();
    for node in &program.nodes {
        builder.op(&node.op);
    }
    builder.head();
    builder.finish()
}

/// Dimensions that are always the same.
pub(super) fn fixed(shape: &[usize]) -> Vec<Dimension> {
    shape.iter().copied().map(Dimension::Fixed).collect()
}

impl Builder<'_> {
    /// The token, and what the sequence remembers.
    fn inputs(&mut self) {
        let port = |name: &str, dtype, shape| Port { name: name.into(), dtype, shape };
        self.graph.inputs.push(port("input_ids", DType::I64, fixed(&[1])));
        let needs = |op: &Op| match op {
            Op::Embed { positions, .. } => positions.is_some(),
            Op::Attention(attention) => attention.inv_freq.is_some(),
            _ => false,
        };
        if self.program.nodes.iter().any(|node| needs(&node.op)) {
            self.graph.inputs.push(port("position_ids", DType::I64, fixed(&[1])));
        }
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        for state in &self.program.states {
            let plain = state.layer.map_or(state.name.into(), |layer| format!("{layer}.{}", state.name));
            let count = taken.entry(plain.clone()).or_default();
            *count += 1;
            let name = if *count == 1 { plain } else { format!("{plain}.{count}") };
            let (before, after) = match &state.size {
                StateSize::Fixed(dims) => (fixed(dims), fixed(dims)),
                StateSize::PerToken(width) => {
                    let of = |name: &str| vec![Dimension::Named(name.into()), Dimension::Fixed(*width)];
                    (of("past_length"), of("present_length"))
                }
            };
            self.graph.inputs.push(port(&format!("past.{name}"), DType::F32, before));
            self.graph.outputs.push(port(&format!("present.{name}"), DType::F32, after));
            self.remembered.push(name);
        }
    }

    /// The norm behind the last layer, and the logits of the ids that there are.
    fn head(&mut self) {
        let head = self.program.head;
        let mut x = self.whole(head.x);
        if let Some(norm) = &head.norm {
            x = self.norm(norm, &x, self.program.width(head.x));
        }
        let mut logits = self.product(head.matrix, &x);
        logits = self.scaled(logits, head.scale);
        let (rows, ids) = (self.program.matrix(head.matrix).rows, self.program.vocab_size);
        // Rows beyond are padding.
        logits = self.columns(&logits, rows, 0, ids);
        self.push("Identity", "", &[&logits], vec!["logits".into()], Vec::new());
        let port = Port { name: "logits".into(), dtype: DType::F32, shape: fixed(&[1, ids]) };
        self.graph.outputs.insert(0, port);
    }

    fn op(&mut self, op: &Op) {
        let y = op.writes();
        let out = match op {
            Op::Embed { table, positions, bias, scale, .. } => {
                let row = self.row(*table, "input_ids");
                let mut out = self.scaled(row, *scale);
                if let Some(positions) = positions {
                    let place = self.row(*positions, "position_ids");
                    out = self.call("Add", &[&out, &place]);
                }
                match bias {
                    Some(bias) => self.with_vector("Add", &out, *bias),
                    None => out,
                }
            }
            Op::Norm { norm, x, .. } => {
                let input = self.view(*x);
                self.norm(norm, &input, x.width)
            }
            Op::GatedNorm { norm, x, z, .. } => self.gated_norm(norm.as_ref(), *x, *z),
            Op::Linear(linear) => self.linear(linear),
            Op::Conv1d { x, taps, bias, tail, .. } => {
                let VectorForm::Taps { k } = self.program.vector(*taps).form else { return };
                let (before, input) = (self.past(*tail), self.view(*x));
                let all = self.concatenated(0, &[&before, &input]);
                let weights = self.vector(*taps, &[k, x.width]);
                let products = self.call("Mul", &[&all, &weights]);
                let (rows, first, end) = (self.ints(&[0]), self.ints(&[1]), self.ints(&[k as i64]));
                self.present(*tail, "Slice", &[&all, &first, &end, &rows], Vec::new());
                let sum = self.call("ReduceSum", &[&products, &rows]);
                match bias {
                    Some(bias) => self.with_vector("Add", &sum, *bias),
                    None => sum,
                }
            }
            Op::Activate { activation, y } => {
                let x = self.whole(*y);
                self.activated(*activation, &x)
            }
            Op::Softplus { x, bias, limits, .. } => {
                let input = self.view(*x);
                let biased = self.with_vector("Add", &input, *bias);
                let steps = self.call("Softplus", &[&biased]);
                if *limits == [0.0, f32::INFINITY] {
                    steps
                } else {
                    let [least, most] = limits.map(|limit| self.number(limit));
                    self.call("Clip", &[&steps, &least, &most])
                }
            }
            Op::SoftplusMean { x, bias, .. } => {
                let input = self.whole(*x);
                let biased = self.with_vector("Add", &input, *bias);
                let steps = self.call("Softplus", &[&biased]);
                self.values[x.0] = Some(biased);
                let columns = self.ints(&[1]);
                self.call("ReduceMean", &[&steps, &columns])
            }
            Op::Scan { dt, bx, a, h, .. } => {
                let (dt, bx, before) = (self.whole(*dt), self.whole(*bx), self.past(*h));
                let decayed = self.decayed(&dt, *a, &[self.program.vector(*a).len], &before);
                let entering = self.call("Mul", &[&dt, &bx]);
                let after = self.call("Add", &[&decayed, &entering]);
                self.remember(*h, &after);
                after
            }
            Op::SelectiveScan { u, dt, b, c, a, d, h, .. } => {
                let (channels, states) = (u.width, b.width);
                let [input, out] = [self.view(*u), self.view(*c)];
                let dt = self.whole(*dt);
                let dt = self.reshaped(&dt, &[channels, 1]);
                let column = self.reshaped(&input, &[channels, 1]);
                let (b, before) = (self.view(*b), self.past(*h));
                let decayed = self.decayed(&dt, *a, &[channels, states], &before);
                let entering = self.call("Mul", &[&dt, &column]);
                let entering = self.call("Mul", &[&entering, &b]);
                let after = self.call("Add", &[&decayed, &entering]);
                self.remember(*h, &after);
                let out = self.reshaped(&out, &[states, 1]);
                let sum = self.call("MatMul", &[&after, &out]);
                let sum = self.reshaped(&sum, &[1, channels]);
                let skipped = self.with_vector("Mul", &input, *d);
                self.call("Add", &[&sum, &skipped])
            }
            Op::Ssd(ssd) => self.ssd(ssd),
            Op::Skip { d, x, y } => {
                let input = self.view(*x);
                let skipped = self.with_vector("Mul", &input, *d);
                let before = self.whole(*y);
                self.call("Add", &[&before, &skipped])
            }
            Op::Gate { x, z, z_scale, .. } => {
                let (input, gate) = (self.view(*x), self.view(*z));
                let gate = self.scaled(gate, *z_scale);
                let gate = self.activated(Activation::Silu, &gate);
                self.call("Mul", &[&input, &gate])
            }
            Op::Attention(attention) => self.attention(attention),
            Op::Experts(experts) => self.experts(experts),
            Op::Copy { x, y } => {
                let width = self.program.width(y.value);
                let before = match self.values[y.value.0].clone() {
                    Some(before) => before,
                    None => self.zeros(width),
                };
                let end = y.first + y.width;
                let parts = [
                    self.columns(&before, width, 0, y.first),
                    self.view(*x),
                    self.columns(&before, width, end, width - end),
                ];
                let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
                self.concatenated(1, &parts)
            }
        };
        self.values[y.0] = Some(out);
    }

    fn linear(&mut self, linear: &Linear) -> String {
        let x = self.view(linear.x);
        let product = self.product(linear.w, &x);
        let mut out = self.scaled(product, linear.x_scale);
        if let Some(bias) = linear.bias {
            out = self.with_vector("Add", &out, bias);
        }
        if let Some(scale) = linear.row_scale {
            out = self.with_vector("Mul", &out, scale);
        }
        out = self.scaled(out, linear.y_scale);
        if linear.add {
            let before = self.whole(linear.y);
            out = self.call("Add", &[&before, &out]);
        }
        out
    }

    /// `exp(dt a) h`.
    fn decayed(&mut self, dt: &str, a: VectorId, shape: &[usize], h: &str) -> String {
        let a = self.vector(a, shape);
        let rate = self.call("Mul", &[dt, &a]);
        let decay = self.call("Exp", &[&rate]);
        self.call("Mul", &[&decay, h])
    }

    fn ssd(&mut self, ssd: &Ssd) -> String {
        let &Ssd { heads, head, groups, states, .. } = ssd;
        // Heads of a group read the same b and c.
        let each = heads / groups.max(1);
        let input = self.view(ssd.u);
        let u = self.reshaped(&input, &[groups, each, head, 1]);
        let dt = self.whole(ssd.dt);
        let dt = self.reshaped(&dt, &[groups, each, 1, 1]);
        let [b, c] = [self.view(ssd.b), self.view(ssd.c)];
        let b = self.reshaped(&b, &[groups, 1, 1, states]);
        let c = self.reshaped(&c, &[groups, 1, states, 1]);
        let before = self.past(ssd.h);
        let before = self.reshaped(&before, &[groups, each, head, states]);
        let decayed = self.decayed(&dt, ssd.a, &[groups, each, 1, 1], &before);
        let entering = self.call("Mul", &[&dt, &u]);
        let entering = self.call("Mul", &[&entering, &b]);
        let after = self.call("Add", &[&decayed, &entering]);
        self.remember(ssd.h, &after);
        let sum = self.call("MatMul", &[&after, &c]);
        let of_head = self.program.vector(ssd.d).len / heads.max(1);
        let d = self.vector(ssd.d, &[groups, each, of_head, 1]);
        let skipped = self.call("Mul", &[&d, &u]);
        let sum = self.call("Add", &[&sum, &skipped]);
        self.reshaped(&sum, &[1, heads * head])
    }

    fn norm(&mut self, norm: &Norm, x: &str, width: usize) -> String {
        match norm.kind {
            NormKind::Rms => {
                let out = self.rms(x, norm.eps);
                match norm.weight {
                    Some(weight) => self.with_vector("Mul", &out, weight),
                    None => out,
                }
            }
            NormKind::Layer { bias } => {
                let weight = match norm.weight {
                    Some(weight) => self.vector(weight, &[width]),
                    None => self.constant("ones", DType::F32, vec![width], floats(&vec![1.0; width])),
                };
                let bias = self.vector(bias, &[width]);
                let attributes = vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(norm.eps))];
                self.node("LayerNormalization", "", &[x, &weight, &bias], attributes)
            }
        }
    }

    /// `x / sqrt(mean(x^2) + eps)` over the last dimension.
    fn rms(&mut self, x: &str, eps: f32) -> String {
        let squares = self.call("Mul", &[x, x]);
        let (last, eps) = (self.ints(&[-1]), self.number(eps));
        let mean = self.call("ReduceMean", &[&squares, &last]);
        let mean = self.call("Add", &[&mean, &eps]);
        let root = self.call("Sqrt", &[&mean]);
        self.call("Div", &[x, &root])
    }

    fn gated_norm(&mut self, norm: Option<&GroupNorm>, x: View, z: View) -> String {
        let (input, gate) = (self.view(x), self.view(z));
        let gate = self.activated(Activation::Silu, &gate);
        let Some(norm) = norm else { return self.call("Mul", &[&input, &gate]) };
        let entering = if norm.before_gate { input } else { self.call("Mul", &[&input, &gate]) };
        let grouped = self.reshaped(&entering, &[norm.groups, x.width / norm.groups.max(1)]);
        let normal = self.rms(&grouped, norm.eps);
        let mut out = self.reshaped(&normal, &[1, x.width]);
        if let Some(weight) = norm.weight {
            out = self.with_vector("Mul", &out, weight);
        }
        if norm.before_gate { self.call("Mul", &[&out, &gate]) } else { out }
    }

    fn activated(&mut self, activation: Activation, x: &str) -> String {
        match activation {
            Activation::Silu => {
                let share = self.call("Sigmoid", &[x]);
                self.call("Mul", &[x, &share])
            }
            Activation::Gelu => self.call("Gelu", &[x]),
            Activation::GeluTanh => {
                self.node("Gelu", "", &[x], vec![("approximate", Attribute::Text("tanh"))])
            }
        }
    }

    fn attention(&mut self, it: &Attention) -> String {
        let each = it.heads / it.kv_heads.max(1);
        let [q, k, v] = [it.q, it.k, it.v].map(|view| self.view(view));
        let q = self.turned(&q, it.heads, it.head, it.q_norm, it.inv_freq);
        let k = self.turned(&k, it.kv_heads, it.head, it.k_norm, it.inv_freq);
        let k = self.reshaped(&k, &[1, it.kv_heads * it.head]);
        let (keys, values) = (self.past(it.keys), self.past(it.values));
        let behind = vec![("axis", Attribute::Int(0))];
        let keys = self.present(it.keys, "Concat", &[&keys, &k], behind.clone());
        let values = self.present(it.values, "Concat", &[&values, &v], behind);
        let of_heads = |builder: &mut Self, all: &str, order: &'static [i64]| {
            let shape = [-1, it.kv_heads as i64, it.head as i64];
            let heads = builder.reshape(all, &shape);
            builder.node("Transpose", "", &[&heads], vec![("perm", Attribute::Ints(order))])
        };
        // Heads of queries that read the same keys are rows of one matrix: [kv, each, head] by [kv, head, length].
        let q = self.reshaped(&q, &[it.kv_heads, each, it.head]);
        let keys = of_heads(self, &keys, &[1, 2, 0]);
        let scores = self.call("MatMul", &[&q, &keys]);
        let scores = self.scaled(scores, it.scale);
        let shares = self.node("Softmax", "", &[&scores], vec![("axis", Attribute::Int(-1))]);
        let values = of_heads(self, &values, &[1, 0, 2]);
        let out = self.call("MatMul", &[&shares, &values]);
        self.reshaped(&out, &[1, it.heads * it.head])
    }

    /// Heads as `[heads, head]`, normalised and turned by the position of the token.
    fn turned(
        &mut self,
        x: &str,
        heads: usize,
        head: usize,
        norm: Option<(VectorId, f32)>,
        inv_freq: Option<VectorId>,
    ) -> String {
        let mut x = self.reshaped(x, &[heads, head]);
        if let Some((weight, eps)) = norm {
            x = self.rms(&x, eps);
            x = self.with_vector("Mul", &x, weight);
        }
        let Some(inv_freq) = inv_freq else { return x };
        let half = self.program.vector(inv_freq).len;
        let position = self.float32("position_ids", DType::I64);
        let angles = self.with_vector("Mul", &position, inv_freq);
        let (cos, sin) = (self.call("Cos", &[&angles]), self.call("Sin", &[&angles]));
        let (first, second) = (self.columns(&x, head, 0, half), self.columns(&x, head, half, half));
        let mut mixed = |a: &str, by: &str, b: &str, with: &str, how: &'static str| {
            let (left, right) = (self.call("Mul", &[a, by]), self.call("Mul", &[b, with]));
            self.call(how, &[&left, &right])
        };
        let left = mixed(&first, &cos, &second, &sin, "Sub");
        let right = mixed(&second, &cos, &first, &sin, "Add");
        let rest = self.columns(&x, head, 2 * half, head - 2 * half);
        let parts: Vec<&str> =
            [&left, &right, &rest].into_iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
        self.concatenated(1, &parts)
    }

    /// The chosen experts, weighed; of the others a branch is not taken.
    fn experts(&mut self, it: &Experts) -> String {
        let (x, count, width) = (self.whole(it.x), it.experts.len(), self.program.width(it.y));
        let logits = self.product(it.router, &x);
        let [best, chosen] = [self.fresh(), self.fresh()];
        let k = self.ints(&[it.top_k as i64]);
        let last = vec![("axis", Attribute::Int(-1))];
        self.push("TopK", "", &[&logits, &k], vec![best.clone(), chosen.clone()], last.clone());
        let shares = self.node("Softmax", "", &[&best], last.clone());
        let zeros = self.zeros(count);
        let shares = self.node("ScatterElements", "", &[&zeros, &chosen, &shares], last);
        let (nothing, zero) = (self.zeros(width), self.number(0.0));
        let mut sum: Option<String> = None;
        for (at, expert) in it.experts.iter().enumerate() {
            let share = self.columns(&shares, count, at, 1);
            let is_chosen = self.call("Greater", &[&share, &zero]);
            let is_chosen = self.reshape(&is_chosen, &[1]);
            let chosen = self.branch(width, |builder| {
                let out = builder.expert(it, expert, &x);
                builder.call("Mul", &[&out, &share])
            });
            let other = self.branch(width, |builder| builder.call("Identity", &[&nothing]));
            let branches = vec![("then_branch", chosen), ("else_branch", other)];
            let weighed = self.node("If", "", &[&is_chosen], branches);
            sum = Some(match sum {
                Some(sum) => self.call("Add", &[&sum, &weighed]),
                None => weighed,
            });
        }
        let (sum, before) = (sum.unwrap_or_default(), self.whole(it.y));
        let sum = self.scaled(sum, it.y_scale);
        self.call("Add", &[&before, &sum])
    }

    fn expert(&mut self, it: &Experts, expert: &Expert, x: &str) -> String {
        let up = self.product(expert.up, x);
        let width = self.program.matrix(expert.up).rows;
        let inner = if it.gated {
            let gate = self.columns(&up, width, 0, width / 2);
            let gate = self.activated(Activation::Silu, &gate);
            let other = self.columns(&up, width, width / 2, width / 2);
            self.call("Mul", &[&gate, &other])
        } else {
            self.activated(it.activation, &up)
        };
        self.product(expert.down, &inner)
    }
}

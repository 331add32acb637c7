//! Running a program: one op after the other, over slots.

use std::ops::Range;

use statepress_kernels::Rows;
use statepress_kernels::linear::{Scratch, linear};
use statepress_kernels::ops::{attention, conv1d, gate, norm, scan, selective_scan, ssd};
use statepress_kernels::program::{
    Activation, Linear, Node, Norm, NormKind, Op, Program, StateId, ValueId, View, Watched,
};

use super::{CpuNetwork, Observe, State, Workspace};

/// Takes `ids` in and leaves the final norm's output in [`Workspace::hidden`].
pub(super) fn forward(
    network: &CpuNetwork,
    ids: &[u32],
    state: &mut State,
    ws: &mut Workspace,
    observer: Option<&mut dyn Observe>,
) {
    stretch(network, 0..network.program.nodes.len(), &[], ids, state, ws, observer);
}

/// The same from one of [`Program::stops`] to another, given the residual stream before the first.
pub(super) fn stretch(
    network: &CpuNetwork,
    nodes: Range<usize>,
    stream: &[f32],
    ids: &[u32],
    state: &mut State,
    ws: &mut Workspace,
    mut observer: Option<&mut dyn Observe>,
) {
    let program = &*network.program;
    ws.slots.resize_with(program.slots.widths().len(), Vec::new);
    if nodes.start > 0 {
        stream.clone_into(&mut ws.slots[program.slots.of(program.hidden)]);
    }
    let is_last = nodes.end == program.nodes.len();
    for (at, node) in program.nodes.iter().enumerate().take(nodes.end).skip(nodes.start) {
        if let (Op::Norm { x, .. }, Some(observer)) = (&node.op, lent(&mut observer))
            && x.value == program.hidden
        {
            observer.stream(Some(at), &ws.slots[program.slots.of(program.hidden)]);
        }
        let mut interpreter = Interpreter { network, program, ids, state, ws, observer: lent(&mut observer) };
        interpreter.run(&node.op);
        if let Some(observer) = lent(&mut observer) {
            watch(program, node, ws, observer);
        }
    }
    if !is_last {
        return;
    }
    let mut hidden = std::mem::take(&mut ws.hidden);
    let last = &ws.slots[program.slots.of(program.head.x)];
    hidden.resize(last.len(), 0.0);
    match &program.head.norm {
        Some(norm) => normalise(network, norm, Rows::whole(last, program.hidden_size()), &mut hidden),
        None => hidden.copy_from_slice(last),
    }
    if let Some(observer) = observer {
        if program.head.norm.is_some() {
            observer.stream(None, last);
            observer.value(None, "final_norm", &hidden);
        }
        let head = program.head.matrix;
        observer.tap(head, &program.matrix(head).key, &hidden);
    }
    ws.hidden = hidden;
    state.position += ids.len();
}

/// Logits of rows of hidden values, for the ids that exist.
pub(super) fn logits(network: &CpuNetwork, hidden: &[f32], scratch: &mut Scratch, logits: &mut Vec<f32>) {
    let (program, head) = (&*network.program, network.head());
    let rows = hidden.len() / head.cols().max(1);
    logits.resize(rows * program.vocab_size, 0.0);
    linear(head, hidden, logits, scratch);
    if program.head.scale != 1.0 {
        logits.iter_mut().for_each(|logit| *logit *= program.head.scale);
    }
}

/// The observer, for as long as one call takes.
fn lent<'a>(observer: &'a mut Option<&mut dyn Observe>) -> Option<&'a mut dyn Observe> {
    match observer {
        Some(observer) => Some(&mut **observer),
        None => None,
    }
}

/// Tells an observer what a node lets be watched.
fn watch(program: &Program, node: &Node, ws: &Workspace, observer: &mut dyn Observe) {
    for record in &node.records {
        match record.what {
            Watched::View(view) => {
                let mut values = Vec::new();
                let width = program.width(view.value);
                let slot = &ws.slots[program.slots.of(view.value)];
                Rows::new(slot, view.first, view.width, width).gather(&mut values);
                observer.value(node.layer, record.name, &values);
            }
            Watched::Product => observer.value(node.layer, record.name, &ws.watched),
            Watched::Router => observer.value(node.layer, record.name, &ws.experts.logits),
        }
    }
    if node.ends_layer {
        observer.value(node.layer, "residual", &ws.slots[program.slots.of(program.hidden)]);
    }
}

fn normalise(network: &CpuNetwork, norm: &Norm, x: Rows, out: &mut [f32]) {
    let weight = norm.weight.map(|weight| network.vector(weight));
    match norm.kind {
        NormKind::Rms => norm::rms_norm(x, weight, norm.eps, out),
        NormKind::Layer { bias } => {
            let ones;
            let weight = match weight {
                Some(weight) => weight,
                None => {
                    ones = vec![1.0; x.width()];
                    &ones
                }
            };
            norm::layer_norm(x, weight, network.vector(bias), norm.eps, out);
        }
    }
}

/// One op at work.
struct Interpreter<'a, 'b> {
    network: &'a CpuNetwork,
    program: &'a Program,
    ids: &'a [u32],
    state: &'a mut State,
    ws: &'a mut Workspace,
    observer: Option<&'b mut dyn Observe>,
}

impl Interpreter<'_, '_> {
    /// Takes the slot of a value that is about to be written, with room for all tokens.
    fn take(&mut self, y: ValueId) -> Vec<f32> {
        let mut slot = std::mem::take(&mut self.ws.slots[self.program.slots.of(y)]);
        slot.resize(self.ids.len() * self.program.width(y), 0.0);
        slot
    }

    fn put(&mut self, y: ValueId, slot: Vec<f32>) {
        self.ws.slots[self.program.slots.of(y)] = slot;
    }

    fn rows(&self, view: View) -> Rows<'_> {
        let slot = &self.ws.slots[self.program.slots.of(view.value)];
        Rows::of(slot, self.ids.len(), view.first, view.width, self.program.width(view.value))
    }

    fn whole(&self, value: ValueId) -> &[f32] {
        &self.ws.slots[self.program.slots.of(value)]
    }

    fn remembered(&mut self, id: StateId) -> Vec<f32> {
        std::mem::take(&mut self.state.numbers[id.0])
    }

    fn run(&mut self, op: &Op) {
        let network = self.network;
        let vector = |id| network.vector(id);
        if let Op::Linear(linear) = op {
            return self.linear(linear);
        }
        if let Op::Experts(op) = op {
            let (mut hidden, n) = (self.take(op.y), self.ids.len());
            let x = &self.ws.slots[self.program.slots.of(op.x)];
            let before = self.observer.is_some().then(|| hidden.clone());
            let observer = lent(&mut self.observer);
            self.ws.experts.run(network, op, n, x, &mut hidden, &mut self.ws.kernels, observer);
            if let Some(before) = before {
                let sums = hidden.iter().zip(&before).map(|(after, before)| (after - before) / op.y_scale);
                self.ws.watched = sums.collect();
            }
            return self.put(op.y, hidden);
        }
        let written = op.writes();
        let mut out = self.take(written);
        match op {
            Op::Embed { table, positions, bias, scale, .. } => {
                let table = network.matrix(*table);
                let d = table.cols();
                let mut place = std::mem::take(&mut self.ws.gathered);
                place.resize(d, 0.0);
                for (n, (&id, row)) in self.ids.iter().zip(out.chunks_exact_mut(d)).enumerate() {
                    table.row(id as usize, row);
                    if *scale != 1.0 {
                        row.iter_mut().for_each(|x| *x *= scale);
                    }
                    if let Some(positions) = positions {
                        network.matrix(*positions).row(self.state.position + n, &mut place);
                        add(row, &place);
                    }
                    if let Some(bias) = bias {
                        add(row, vector(*bias));
                    }
                }
                self.ws.gathered = place;
            }
            Op::Norm { norm, x, .. } => normalise(network, norm, self.rows(*x), &mut out),
            Op::GatedNorm { norm, x, z, .. } => match norm {
                Some(norm) => norm::gated_rms_norm(
                    self.rows(*x),
                    self.rows(*z),
                    norm.weight.map(vector),
                    norm.groups,
                    norm.eps,
                    norm.before_gate,
                    &mut out,
                ),
                None => {
                    self.rows(*x).gather(&mut out);
                    gate::silu_gate(&mut out, self.rows(*z), 1.0);
                }
            },
            Op::Conv1d { x, taps, bias, tail, .. } => {
                let mut tail_numbers = self.remembered(*tail);
                conv1d::causal(self.rows(*x), &mut tail_numbers, vector(*taps), bias.map(vector), &mut out);
                self.state.numbers[tail.0] = tail_numbers;
            }
            Op::Activate { activation, .. } => activate(*activation, &mut out),
            Op::Softplus { x, bias, limits, .. } => {
                gate::softplus(self.rows(*x), vector(*bias), limits.to_owned().into(), &mut out);
            }
            Op::SoftplusMean { x, bias, .. } => {
                let mut delta = self.take(*x);
                gate::softplus_mean(&mut delta, vector(*bias), &mut out);
                self.put(*x, delta);
            }
            Op::Scan { dt, bx, a, h, .. } => {
                let mut memory = self.remembered(*h);
                scan::sequential(self.whole(*dt), self.whole(*bx), vector(*a), &mut memory, &mut out);
                self.state.numbers[h.0] = memory;
            }
            Op::SelectiveScan { u, dt, b, c, a, d, h, .. } => {
                let mut memory = self.remembered(*h);
                let (b, c) = (self.rows(*b), self.rows(*c));
                let (a, d) = (vector(*a), vector(*d));
                selective_scan::scan(self.rows(*u), self.whole(*dt), b, c, a, d, &mut memory, &mut out);
                self.state.numbers[h.0] = memory;
            }
            Op::Ssd(op) => {
                let mut memory = self.remembered(op.h);
                let heads =
                    ssd::Heads { heads: op.heads, groups: op.groups, head: op.head, states: op.states };
                let (b, c) = (self.rows(op.b), self.rows(op.c));
                let (a, d) = (vector(op.a), vector(op.d));
                ssd::scan(self.rows(op.u), self.whole(op.dt), b, c, a, d, &heads, &mut memory, &mut out);
                self.state.numbers[op.h.0] = memory;
            }
            Op::Skip { d, x, .. } => gate::skip(&mut out, vector(*d), self.rows(*x)),
            Op::Gate { x, z, z_scale, .. } => {
                if x.value != written {
                    self.rows(*x).gather(&mut out);
                }
                gate::silu_gate(&mut out, self.rows(*z), *z_scale);
            }
            Op::Attention(op) => {
                let (mut keys, mut values) = (self.remembered(op.keys), self.remembered(op.values));
                let mut scratch = std::mem::take(&mut self.ws.attention);
                let heads = attention::Heads {
                    heads: op.heads,
                    kv_heads: op.kv_heads,
                    head: op.head,
                    scale: op.scale,
                    inv_freq: op.inv_freq.map_or(&[], vector),
                    rope_scale: 1.0,
                    q_norm: op.q_norm.map(|(weight, eps)| (vector(weight), eps)),
                    k_norm: op.k_norm.map(|(weight, eps)| (vector(weight), eps)),
                };
                let (q, k, v) = (self.rows(op.q), self.rows(op.k), self.rows(op.v));
                let position = self.state.position;
                attention::causal(q, k, v, &heads, position, &mut keys, &mut values, &mut scratch, &mut out);
                self.ws.attention = scratch;
                self.state.numbers[op.keys.0] = keys;
                self.state.numbers[op.values.0] = values;
            }
            Op::Copy { x, y } => {
                let width = self.program.width(y.value);
                for (row, x) in out.chunks_exact_mut(width).zip(self.rows(*x).iter()) {
                    row[y.first..y.first + y.width].copy_from_slice(x);
                }
            }
            Op::Linear(_) | Op::Experts(_) => unreachable!("done above"),
        }
        self.put(written, out);
    }

    fn linear(&mut self, op: &Linear) {
        let network = self.network;
        let weights = network.matrix(op.w);
        let mut gathered = std::mem::take(&mut self.ws.gathered);
        // What is added keeps its value until the product is there.
        let mut out = if op.add { std::mem::take(&mut self.ws.product) } else { self.take(op.y) };
        out.resize(self.ids.len() * weights.rows(), 0.0);
        let slot = &self.ws.slots[self.program.slots.of(op.x.value)];
        let rows = Rows::of(slot, self.ids.len(), op.x.first, op.x.width, self.program.width(op.x.value));
        let x = match rows.contiguous() {
            Some(x) => x,
            None => {
                rows.gather(&mut gathered);
                &gathered
            }
        };
        if let Some(observer) = lent(&mut self.observer) {
            let key = &self.program.matrix(op.w).key;
            match op.x_scale {
                1.0 => observer.tap(op.w, key, x),
                scale => observer.tap(op.w, key, &x.iter().map(|x| x * scale).collect::<Vec<_>>()),
            }
        }
        linear(weights, x, &mut out, &mut self.ws.kernels);
        if op.x_scale != 1.0 || op.bias.is_some() {
            bias(network, op, &mut out);
        }
        if self.observer.is_some() {
            self.ws.watched.clone_from(&out);
        }
        if op.y_scale != 1.0 || op.row_scale.is_some() {
            scale(network, op, &mut out);
        }
        self.ws.gathered = gathered;
        if op.add {
            let mut y = self.take(op.y);
            add(&mut y, &out);
            self.put(op.y, y);
            self.ws.product = out;
        } else {
            self.put(op.y, out);
        }
    }
}

/// The scale of a product's input, and its bias.
fn bias(network: &CpuNetwork, op: &Linear, out: &mut [f32]) {
    let bias = op.bias.map(|bias| network.vector(bias));
    for out in out.chunks_exact_mut(network.matrix(op.w).rows().max(1)) {
        for (i, y) in out.iter_mut().enumerate() {
            *y = *y * op.x_scale + bias.map_or(0.0, |bias| bias[i]);
        }
    }
}

/// The scales of a product's output.
fn scale(network: &CpuNetwork, op: &Linear, out: &mut [f32]) {
    let row_scale = op.row_scale.map(|scale| network.vector(scale));
    for out in out.chunks_exact_mut(network.matrix(op.w).rows().max(1)) {
        for (i, y) in out.iter_mut().enumerate() {
            *y *= row_scale.map_or(1.0, |scale| scale[i]) * op.y_scale;
        }
    }
}

pub(super) fn activate(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => gate::silu(x),
        Activation::Gelu => gate::gelu(x),
        Activation::GeluTanh => gate::gelu_tanh(x),
    }
}

/// `x + y` into `x`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

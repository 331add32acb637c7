//! Neighbours of a program that one kernel does together. Each way says what it looks for and how many
//! nodes it takes; a value that is skipped over must be nobody else's.

use statepress_kernels::program::{Activation, Layout, Linear, Norm, Op, StateId, StateSize, ValueId, View};
use statepress_kernels::shaders::{self as wgsl, Kernel, MAX_NORM_GROUPS, NONE};

use super::op::{finite, scan_groups};
use super::{List, lanes, row_groups};

impl List<'_> {
    /// Fuses what begins at a node, and says how many nodes that were; 0: nothing.
    pub(super) fn fuse(&mut self, at: usize) -> usize {
        if self.network.is_mixed(self.nodes[at].layer) {
            return 0;
        }
        let one: &[fn(&mut Self, usize) -> usize] =
            &[Self::small, Self::normed, Self::projections, Self::convolved, Self::scanned, Self::gated_out];
        let any: &[fn(&mut Self, usize) -> usize] =
            &[Self::conv_silu, Self::product_activation, Self::skip_gate, Self::softplus_ssd];
        let ways = if self.one { one } else { &[] };
        ways.iter().chain(any).map(|fuse| fuse(self, at)).find(|&taken| taken > 0).unwrap_or(0)
    }

    /// A norm and the products of what it gives.
    fn normed(&mut self, at: usize) -> usize {
        let Some(Op::Norm { norm, x, y }) = self.ahead(at, 0) else { return 0 };
        let (norm, x, y) = (*norm, *x, *y);
        let taken = self.products(at + 1, Some((norm, x, y)));
        if taken > 0 { 1 + taken } else { 0 }
    }

    /// Products of one input that go into one kernel.
    fn projections(&mut self, at: usize) -> usize {
        self.products(at, None)
    }

    /// Products from a node on: of one input, which may be what a norm gives, that nobody else reads.
    fn products(&mut self, at: usize, norm: Option<(Norm, View, ValueId)>) -> usize {
        let nodes = self.nodes;
        let linear = |n: usize| match nodes.get(at + n).map(|node| &node.op) {
            Some(Op::Linear(linear)) => Some(linear),
            _ => None,
        };
        let Some(first) = linear(0) else { return 0 };
        let whole = |y: ValueId| View { value: y, first: 0, width: self.network.program.width(y) };
        if norm.is_some_and(|(_, _, y)| first.x != whole(y)) {
            return 0;
        }
        // The normed values are not written: nobody else may want them.
        let alone = |taken: usize| norm.is_none_or(|(_, _, y)| self.is_dead(y, at + taken));
        let plain = |linear: &Linear| {
            let declared = self.network.program.matrix(linear.w);
            linear.x == first.x && !linear.add && declared.layout != Layout::Transposed
        };
        let input = norm.as_ref().map(|(norm, x, _)| (norm, *x));
        let read = input.map_or(first.x, |(_, x)| x).value;
        let gate_of = |n: usize| match nodes.get(at + n).map(|node| &node.op) {
            Some(Op::Gate { x, z, z_scale, y }) => Some((*x, *z, *z_scale, *y)),
            _ => None,
        };
        // gate, up, SiLU(gate) up
        if let (Some(second), Some((x, z, z_scale, y))) = (linear(1), gate_of(2))
            && plain(first)
            && plain(second)
            && (z, x) == (whole(first.y), whole(second.y))
            && alone(3)
            && self.is_dead(first.y, at + 3)
            && (y == second.y || self.is_dead(second.y, at + 3))
            && self.apart(read, y)
        {
            self.gated_product([first, second], [0, 0], x.width, z_scale, y, input);
            return 3;
        }
        // Both halves of one product, SiLU(one) other
        if let Some((x, z, z_scale, y)) = gate_of(1)
            && plain(first)
            && x.value == first.y
            && z.value == first.y
            && y != first.y
            && alone(2)
            && self.is_dead(first.y, at + 2)
            && self.apart(read, y)
        {
            self.gated_product([first, first], [z.first, x.first], x.width, z_scale, y, input);
            return 2;
        }
        // queries, keys, values
        if let (Some(second), Some(third)) = (linear(1), linear(2))
            && [first, second, third].into_iter().all(|linear| plain(linear) && self.apart(read, linear.y))
            && alone(3)
        {
            self.three_products([first, second, third], input);
            return 3;
        }
        // One product, with an activation where one follows.
        if norm.is_none() {
            return 0;
        }
        let activation = match self.ahead(at, 1) {
            Some(Op::Activate { activation, y }) if *y == first.y && !first.add => Some(*activation),
            _ => None,
        };
        let taken = 1 + usize::from(activation.is_some());
        if !alone(taken) || !self.apart(read, first.y) {
            return 0;
        }
        self.linear(first, input, activation);
        taken
    }

    fn three_products(&mut self, three: [&Linear; 3], input: Option<(&Norm, View)>) {
        let network = self.network;
        let [q, k, v] = three.map(|linear| network.matrix(linear.w));
        let [q_affine, k_affine, v_affine] = three.map(|linear| self.affine(linear));
        let [q_y, k_y, v_y] = three.map(|linear| self.places.value(linear.y).at);
        let (norm, x, overrides, vectors) = self.operand(three[0].x, input);
        let params = wgsl::Matvec3 {
            q: q.block,
            k: k.block,
            v: v.block,
            norm,
            q_affine,
            k_affine,
            v_affine,
            x,
            q_y,
            k_y,
            v_y,
            lanes: lanes(&q.block),
        };
        let rows = q.block.rows + k.block.rows + v.block.rows;
        self.push(Kernel::Matvec3, overrides, &params, &[q, k, v], row_groups(rows, params.lanes, 1));
        let vectors = vectors + three.iter().map(|linear| self.affine_vectors(linear)).sum::<usize>();
        self.moves(vectors, q.matrix.cols + rows as usize);
    }

    fn gated_product(
        &mut self,
        [gate, up]: [&Linear; 2],
        [gate_first, up_first]: [usize; 2],
        rows: usize,
        z_scale: f32,
        y: ValueId,
        input: Option<(&Norm, View)>,
    ) {
        let network = self.network;
        let (gate_w, up_w) = (network.matrix(gate.w), network.matrix(up.w));
        let gate_affine = self.affine(gate);
        let (norm, x, overrides, vectors) = self.operand(gate.x, input);
        let params = wgsl::MatvecGated {
            gate: gate_w.block,
            up: up_w.block,
            norm,
            gate_affine: wgsl::Affine { y_scale: gate_affine.y_scale * z_scale, ..gate_affine },
            up_affine: self.affine(up),
            x,
            y: self.places.value(y).at,
            rows: rows as u32,
            gate_first: gate_first as u32,
            up_first: up_first as u32,
            lanes: lanes(&gate_w.block),
        };
        let groups = row_groups(rows as u32, params.lanes, 1);
        self.push(Kernel::MatvecGated, overrides, &params, &[gate_w, up_w], groups);
        let affine = self.affine_vectors(gate) + if gate.w == up.w { 0 } else { self.affine_vectors(up) };
        self.moves(vectors + affine, gate_w.matrix.cols + rows);
    }

    /// What a product with one token reads: the norm of its input, where that stands, what says so, and
    /// the words of the norm.
    fn operand(
        &self,
        x: View,
        input: Option<(&Norm, View)>,
    ) -> (wgsl::Norm, u32, &'static [&'static str], usize) {
        match input {
            None => (wgsl::Norm::default(), self.places.rows(x).at, &[], 0),
            Some((norm, from)) => {
                let vectors = self.norm_vectors(norm, from.width);
                (self.norm(norm, from.width), self.places.rows(from).at, &["NORM"], vectors)
            }
        }
    }

    /// Convolution, SiLU and the projection of their result (Mamba): the convolution is computed while
    /// the product loads it. Its tail waits for the scan, which nobody else may come before.
    fn convolved(&mut self, at: usize) -> usize {
        let nodes = self.nodes;
        let (Some(Op::Conv1d { x, taps, bias, tail, y }), Some(Op::Activate { y: activated, activation })) =
            (self.ahead(at, 0), self.ahead(at, 1))
        else {
            return 0;
        };
        let Some(Op::Linear(linear)) = self.ahead(at, 2) else { return 0 };
        let width = self.network.program.width(*y);
        let scan = nodes[at..].iter().position(|node| matches!(node.op, Op::SelectiveScan { .. }));
        let Some(scan) = scan.map(|ahead| at + ahead) else { return 0 };
        let fits = activated == y
            && *activation == Activation::Silu
            && linear.x == (View { value: *y, first: 0, width })
            && !linear.add
            && self.scan_tail(scan) == Some((*x, *tail))
            // Only the fused scan brings tails up to date.
            && scan.checked_sub(2).is_some_and(|from| self.scan_fuses(from));
        if !fits {
            return 0;
        }
        let k = self.network.program.vector(*taps).len / width.max(1);
        let w = self.network.matrix(linear.w);
        let params = wgsl::Matvec {
            w: w.block,
            affine: self.affine(linear),
            x: self.places.rows(*x).at,
            y: self.places.value(linear.y).at,
            lanes: lanes(&w.block),
            tail: self.places.state(*tail),
            convolved: self.places.value(*y).at,
            taps: self.network.vector(*taps),
            conv_bias: self.network.optional(*bias),
            k: k as u32,
            ..wgsl::Matvec::default()
        };
        self.push(Kernel::Matvec, &["CONV"], &params, &[w], row_groups(w.block.rows, params.lanes, 1));
        let vectors = (k + usize::from(bias.is_some())) * width + self.affine_vectors(linear);
        self.moves(vectors, (k + 1) * width + w.matrix.rows);
        3
    }

    /// The convolution whose tail a scan brings up to date: the one that made its input, when that is
    /// fused with the projection behind it and what it took in is still there.
    fn scan_tail(&self, scan: usize) -> Option<(View, StateId)> {
        let Some(Op::SelectiveScan { u, .. }) = self.nodes.get(scan).map(|node| &node.op) else {
            return None;
        };
        let conv = self.nodes[..scan]
            .iter()
            .rposition(|node| node.op.writes() == u.value && matches!(node.op, Op::Conv1d { .. }))?;
        let Some(Op::Conv1d { x, tail, y, .. }) = self.nodes.get(conv).map(|node| &node.op) else {
            return None;
        };
        let projected = match (self.ahead(conv, 1), self.ahead(conv, 2)) {
            (Some(Op::Activate { y: activated, activation: Activation::Silu }), Some(Op::Linear(linear))) => {
                let whole = View { value: *y, first: 0, width: self.network.program.width(*y) };
                activated == y && linear.x == whole && !linear.add
            }
            _ => false,
        };
        let kept = self.nodes[scan..].iter().any(|node| node.op.reads().contains(&x.value));
        let written = self.nodes[conv..scan].iter().any(|node| node.op.writes() == x.value);
        (projected && kept && !written).then_some((*x, *tail))
    }

    /// Whether the step size's projection, softplus and selective scan begin at a node, and go together.
    fn scan_fuses(&self, at: usize) -> bool {
        let (
            Some(Op::Linear(linear)),
            Some(Op::Softplus { x, y: delta, .. }),
            Some(Op::SelectiveScan { dt, y, .. }),
        ) = (self.ahead(at, 0), self.ahead(at, 1), self.ahead(at, 2))
        else {
            return false;
        };
        let declared = self.network.program.matrix(linear.w);
        let plain = linear.bias.is_none()
            && linear.row_scale.is_none()
            && linear.x_scale * linear.y_scale == 1.0
            && declared.layout == Layout::Plain;
        plain
            && !linear.add
            && x.value == linear.y
            && x.first == 0
            && dt == delta
            && self.is_dead(linear.y, at + 2)
            && self.is_dead(*delta, at + 3)
            && self.apart(linear.x.value, *y)
    }

    /// The step size's projection, softplus, selective scan and gate (Mamba).
    fn scanned(&mut self, at: usize) -> usize {
        let (
            Some(Op::Linear(linear)),
            Some(Op::Softplus { bias, limits, .. }),
            Some(Op::SelectiveScan { u, b, c, a, d, h, y, .. }),
        ) = (self.ahead(at, 0), self.ahead(at, 1), self.ahead(at, 2))
        else {
            return 0;
        };
        if !self.scan_fuses(at) {
            return 0;
        }
        let gate = match self.ahead(at, 3) {
            Some(Op::Gate { x, z, z_scale, y: gated }) if x.value == *y && gated == y && *z_scale == 1.0 => {
                Some(*z)
            }
            _ => None,
        };
        let tail = self.scan_tail(at + 2);
        let inner = u.width;
        let (places, states) = (self.places, b.width);
        let k = tail.map_or(1, |(_, tail)| match &self.network.program.states[tail.0].size {
            StateSize::Fixed(dims) => dims[0] + 1,
            StateSize::PerToken(_) => 1,
        });
        let w = self.network.matrix(linear.w);
        let params = wgsl::SelectiveScan {
            dt_proj: w.block,
            u: places.rows(*u),
            b: places.rows(*b),
            c: places.rows(*c),
            dt: places.rows(linear.x),
            z: gate.map_or_else(wgsl::Rows::default, |z| places.rows(z)),
            y: places.value(*y),
            x: tail.map_or_else(wgsl::Rows::default, |(x, _)| places.rows(x)),
            h: places.state(*h),
            a: self.network.vector(*a),
            d: self.network.vector(*d),
            dt_bias: self.network.vector(*bias),
            dt_least: limits[0],
            dt_most: finite(limits[1]),
            inner: inner as u32,
            n_states: states as u32,
            tail: tail.map_or(0, |(_, tail)| places.state(tail)),
            k: k as u32,
        };
        let mut overrides = vec!["SOFTPLUS", "DT_PROJ"];
        overrides.extend(gate.map(|_| "GATE"));
        overrides.extend(tail.map(|_| "ADVANCE"));
        self.push(Kernel::SelectiveScan, &overrides, &params, &[w], scan_groups(inner));
        // What it scans, the gate, the output; the low-rank step, B and C; the state and the tail,
        // read and written, and the new input.
        let scanned = (2 + usize::from(gate.is_some())) * inner;
        let advanced = if tail.is_some() { (2 * (k - 1) + 1) * inner } else { 0 };
        let activations = scanned + linear.x.width + 2 * states + 2 * inner * states + advanced;
        self.moves(inner * (states + 2), activations);
        3 + usize::from(gate.is_some())
    }

    /// A gate, with a norm or without, and the product behind it.
    fn gated_out(&mut self, at: usize) -> usize {
        let (norm, x, z, y, z_scale) = match self.ahead(at, 0) {
            Some(Op::GatedNorm { norm, x, z, y }) => (*norm, *x, *z, *y, 1.0),
            Some(Op::Gate { x, z, z_scale, y }) => (None, *x, *z, *y, *z_scale),
            _ => return 0,
        };
        let Some(Op::Linear(linear)) = self.ahead(at, 1) else { return 0 };
        let declared = self.network.program.matrix(linear.w);
        let fits = linear.x == (View { value: y, first: 0, width: x.width })
            && declared.layout == Layout::Plain
            && norm.is_none_or(|norm| norm.groups <= MAX_NORM_GROUPS as usize)
            && self.is_dead(y, at + 2)
            && self.apart(x.value, linear.y)
            && self.apart(z.value, linear.y);
        if !fits {
            return 0;
        }
        let w = self.network.matrix(linear.w);
        let block = norm.map_or_else(wgsl::Norm::default, |norm| wgsl::Norm {
            weight: self.network.optional(norm.weight),
            bias: NONE,
            eps: norm.eps,
            d: (x.width / norm.groups) as u32,
        });
        let params = wgsl::Matvec {
            w: w.block,
            norm: block,
            affine: self.affine(linear),
            x: self.places.rows(x).at,
            y: self.places.value(linear.y).at,
            lanes: lanes(&w.block),
            z: self.places.rows(z).at,
            z_scale,
            ..wgsl::Matvec::default()
        };
        let mut overrides = vec!["GATED"];
        overrides.extend(norm.map(|_| "NORM"));
        overrides.extend(norm.filter(|norm| norm.before_gate).map(|_| "NORM_FIRST"));
        overrides.extend(linear.add.then_some("ADD"));
        self.push(Kernel::Matvec, &overrides, &params, &[w], row_groups(w.block.rows, params.lanes, 1));
        let weights = norm.filter(|norm| norm.weight.is_some()).map_or(0, |_| x.width);
        let times = if linear.add { 2 } else { 1 };
        self.moves(weights + self.affine_vectors(linear), 2 * x.width + times * w.matrix.rows);
        2
    }

    /// A convolution and SiLU.
    fn conv_silu(&mut self, at: usize) -> usize {
        let (Some(Op::Conv1d { x, taps, bias, tail, y }), Some(Op::Activate { activation, y: activated })) =
            (self.ahead(at, 0), self.ahead(at, 1))
        else {
            return 0;
        };
        if activated != y || *activation != Activation::Silu {
            return 0;
        }
        let (x, weights, y) = (*x, (*taps, *bias, *tail), self.places.value(*y));
        self.conv1d(x, weights, y, true);
        2
    }

    /// A product and an activation.
    fn product_activation(&mut self, at: usize) -> usize {
        let nodes = self.nodes;
        let (Some(Op::Linear(linear)), Some(Op::Activate { activation, y })) =
            (nodes.get(at).map(|node| &node.op), self.ahead(at, 1))
        else {
            return 0;
        };
        if linear.add || *y != linear.y {
            return 0;
        }
        self.linear(linear, None, Some(*activation));
        2
    }

    /// A skip connection and a gate.
    fn skip_gate(&mut self, at: usize) -> usize {
        let (Some(Op::Skip { d, x, y }), Some(Op::Gate { x: skipped, z, z_scale, y: gated })) =
            (self.ahead(at, 0), self.ahead(at, 1))
        else {
            return 0;
        };
        if skipped.value != *y || gated != y {
            return 0;
        }
        let (skipped, z, z_scale, skip) = (*skipped, *z, *z_scale, (*d, *x));
        self.gate(skipped, z, self.places.value(*y), z_scale, Some(skip));
        2
    }

    /// Dispatch sizes and the scan of Mamba-2.
    fn softplus_ssd(&mut self, at: usize) -> usize {
        let nodes = self.nodes;
        let (Some(Op::Softplus { x, bias, limits, y }), Some(Op::Ssd(ssd))) =
            (self.ahead(at, 0), nodes.get(at + 1).map(|node| &node.op))
        else {
            return 0;
        };
        if ssd.dt != *y || !self.is_dead(*y, at + 2) || !self.apart(x.value, ssd.y) {
            return 0;
        }
        let (dt, raw) = (self.places.rows(*x), (*bias, *limits));
        self.ssd(ssd, dt, Some(raw));
        2
    }
}

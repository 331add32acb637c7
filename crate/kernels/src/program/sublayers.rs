//! Parts of a program that take the residual stream in and leave one, so that a program without some of them is one as well.

use std::ops::Range;

use super::{AxisId, MatrixId, Node, Program, Slots, StateId, Use, ValueId, VectorId, View, Watched};

/// A part of a layer that reads nothing from before it but the residual stream, and leaves nothing but that: a mixer, a
/// feed-forward network, a mixture of experts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sublayer {
    /// Of which layer.
    pub layer: usize,
    /// Nodes of the program.
    pub nodes: Range<usize>,
}

impl Program {
    /// The parts of all layers, in the order in which they run; no part of a layer from which more goes on than the residual
    /// stream.
    pub fn sublayers(&self) -> Vec<Sublayer> {
        let stops = self.goes_on_from();
        let (mut sublayers, mut begin) = (Vec::new(), 0);
        for (at, node) in self.nodes.iter().enumerate() {
            let end = at + 1;
            let Some(layer) = node.layer else {
                begin = end;
                continue;
            };
            if node.op.writes() == self.hidden && stops[end] {
                if self.nodes[begin].layer == Some(layer) {
                    sublayers.push(Sublayer { layer, nodes: begin..end });
                }
                begin = end;
            }
        }
        sublayers
    }

    /// By node, and for the end: whether from there on nothing that was written before is read but the residual stream: no value,
    /// and of states only those of later nodes. A value counts as written once a part of it is.
    pub(super) fn goes_on_from(&self) -> Vec<bool> {
        // Backwards, values that are still to be read, and were not written.
        let mut wanted = vec![false; self.widths.len()];
        let mut others = 0;
        let mut want = |value: ValueId, whether: bool, others: &mut usize| {
            let was = std::mem::replace(&mut wanted[value.0], whether);
            if value != self.hidden {
                *others = *others + usize::from(whether) - usize::from(was);
            }
        };
        want(self.head.x, true, &mut others);
        let mut goes_on = vec![others == 0];
        for Node { op, .. } in self.nodes.iter().rev() {
            want(op.writes(), false, &mut others);
            op.reads().into_iter().for_each(|value| want(value, true, &mut others));
            goes_on.push(others == 0);
        }
        goes_on.reverse();
        goes_on
    }

    /// The program without some runs of nodes. Ids stay: what only those nodes mention is declared still, and nothing uses it.
    pub fn without(&self, gone: &[Range<usize>]) -> Self {
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            if !gone.iter().any(|nodes| nodes.contains(&at)) {
                nodes.push(node.clone());
            } else if let Some(last) =
                nodes.last_mut().filter(|last| node.ends_layer && last.layer == node.layer)
            {
                // What is left of the layer ends it, and what was watched of the stream there is watched here.
                let of_stream =
                    |what| matches!(what, Watched::View(View { value, .. }) if value == self.hidden);
                last.records.extend(node.records.iter().filter(|record| of_stream(record.what)));
                last.ends_layer = true;
            }
        }
        Self { nodes, ..self.clone() }
    }

    /// The same, and without the weights, states and axes that nothing mentions any more.
    pub fn cut_out(&self, gone: &[Range<usize>]) -> Self {
        let mut program = self.without(gone);
        let went = Used::of(gone.iter().flat_map(|nodes| &self.nodes[nodes.clone()]));
        let mut used = Used::of(&program.nodes);
        used.add_head(self);
        let goes = |went: &[usize], used: &[usize], id: usize| went.contains(&id) && !used.contains(&id);
        let matrices = kept(&mut program.matrices, |id| goes(&went.matrices, &used.matrices, id));
        let vectors = kept(&mut program.vectors, |id| goes(&went.vectors, &used.vectors, id));
        let states = kept(&mut program.states, |id| goes(&went.states, &used.states, id));
        let ids = |of: &[usize], id: &mut usize| *id = of[*id];
        for node in &mut program.nodes {
            node.op.each_use(&mut |used| match used {
                Use::Matrix(MatrixId(id)) => ids(&matrices, id),
                Use::Vector(VectorId(id)) => ids(&vectors, id),
                Use::State(StateId(id)) => ids(&states, id),
            });
        }
        ids(&matrices, &mut program.head.matrix.0);
        ids(&matrices, &mut program.table.0);
        if let Some(norm) = &mut program.head.norm {
            norm.each_vector(&mut |VectorId(id)| ids(&vectors, id));
        }
        if let Some(reduced) = &mut program.reduced {
            ids(&vectors, &mut reduced.ids.0);
        }
        program.keep_mentioned_axes();
        program.slots = Slots::new(&program.nodes, &program.widths, program.hidden, program.head.x);
        program
    }

    /// Lets axes go that no dimension of a weight mentions, and no other axis goes along with.
    fn keep_mentioned_axes(&mut self) {
        let dims = |program: &Self| {
            let of_matrices = program.matrices.iter().flat_map(|matrix| matrix.dims.clone());
            of_matrices
                .chain(program.vectors.iter().flat_map(|vector| vector.dims.clone()))
                .collect::<Vec<_>>()
        };
        let mentioned: Vec<AxisId> = dims(self).iter().flat_map(|dim| &dim.0).map(|part| part.axis).collect();
        let mut axes = std::mem::take(&mut self.axes);
        let along: Vec<AxisId> = axes.iter().filter_map(|axis| axis.with).collect();
        let at = kept(&mut axes, |id| !mentioned.contains(&AxisId(id)) && !along.contains(&AxisId(id)));
        let renumber = |axis: &mut AxisId| axis.0 = at[axis.0];
        axes.iter_mut().filter_map(|axis| axis.with.as_mut()).for_each(renumber);
        let of_matrices = self.matrices.iter_mut().flat_map(|matrix| &mut matrix.dims);
        let of_vectors = self.vectors.iter_mut().flat_map(|vector| &mut vector.dims);
        of_matrices.chain(of_vectors).flat_map(|dim| &mut dim.0).for_each(|part| renumber(&mut part.axis));
        self.axes = axes;
    }
}

/// What ops mention.
#[derive(Default)]
struct Used {
    matrices: Vec<usize>,
    vectors: Vec<usize>,
    states: Vec<usize>,
}

impl Used {
    fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        let mut used = Self::default();
        for node in nodes {
            node.op.clone().each_use(&mut |it| match it {
                Use::Matrix(id) => used.matrices.push(id.0),
                Use::Vector(id) => used.vectors.push(id.0),
                Use::State(id) => used.states.push(id.0),
            });
        }
        used
    }

    fn add_head(&mut self, program: &Program) {
        self.matrices.extend([program.head.matrix.0, program.table.0]);
        if let Some(mut norm) = program.head.norm {
            norm.each_vector(&mut |id| self.vectors.push(id.0));
        }
    }
}

/// Lets some of a list go, and says of each where it is now, or the next that is there.
fn kept<T>(all: &mut Vec<T>, goes: impl Fn(usize) -> bool) -> Vec<usize> {
    let (mut now, mut left) = (Vec::with_capacity(all.len()), 0);
    all.retain(|_| {
        let stays = !goes(now.len());
        now.push(left);
        left += usize::from(stays);
        stays
    });
    now
}

//! Where a model has what a prune step removes: axes, and what goes along with them.

use statepress_core::recipe::{Prune, PruneKind};
use statepress_kernels::program::{AxisId, AxisName, Dim, MatrixId, Op, Program, Vector, View};

use crate::EngineError;
use crate::calibrate::entered;
use crate::techniques::pairs::Pairs;

/// What stays of each axis, by index.
pub(super) type Kept = Pairs<AxisId, Vec<usize>>;

/// An axis that something can be removed of.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub layer: Option<usize>,
    pub axis: AxisId,
    pub size: usize,
    /// Equal parts, of which each keeps as many.
    pub parts: usize,
    /// How many are to stay.
    pub after: usize,
    /// Axes of which every element takes so many along.
    along: Vec<(AxisId, usize)>,
}

/// What there is of a model that can be removed.
pub(crate) fn prunable(program: &Program) -> Vec<PruneKind> {
    let has = |kind| match kind {
        PruneKind::Layers => program.n_layers() > 1 && super::layers::stand_alone(program),
        PruneKind::Sublayers => super::layers::stand_alone(program) && super::layers::has_parts(program),
        _ => of_kind(program, kind).next().is_some(),
    };
    PruneKind::ALL.into_iter().filter(|&kind| has(kind)).collect()
}

/// Every place where a step removes something.
///
/// # Errors
/// Where the model has no such structure, or cannot lose any of it.
pub(super) fn places(program: &Program, step: &Prune) -> Result<Vec<Place>, EngineError> {
    let n_layers = program.n_layers();
    if let Some(layer) = step.layers.iter().flatten().find(|&&layer| layer >= n_layers) {
        let allowed = format!("layers from 0 to {}", n_layers.saturating_sub(1));
        return Err(EngineError::option("prune.layers", layer, allowed));
    }
    let wanted =
        |layer: Option<usize>| step.layers.as_ref().is_none_or(|all| layer.is_some_and(|n| all.contains(&n)));
    let axes = of_kind(program, step.kind).filter(|&id| wanted(program.axes[id.0].layer));
    let mut places = Vec::new();
    for id in axes {
        let axis = &program.axes[id.0];
        let along = program.axes.iter().enumerate().filter(|(_, other)| other.with == Some(id));
        let along = along.map(|(at, other)| (AxisId(at), other.size / axis.size)).collect();
        let (size, parts) = (axis.size, axis.parts);
        // A count is that of the whole, a share that of each part.
        let after = match step.keep > 1.0 {
            true => count(step, size, parts)?,
            false => parts * step.kept(size / parts).max(1),
        };
        places.push(Place { layer: axis.layer, axis: id, size, parts, after, along });
    }
    if places.is_empty() {
        let words = step.kind.words();
        let layers: Vec<_> = of_kind(program, step.kind).filter_map(|id| program.axes[id.0].layer).collect();
        if let (Some(wanted), false) = (&step.layers, layers.is_empty()) {
            let allowed = format!("layers with {words}: {}", numbers(&layers));
            return Err(EngineError::option("prune.layers", numbers(wanted), allowed));
        }
        let there: Vec<_> = prunable(program).into_iter().map(PruneKind::name).collect();
        let allowed = format!("what there is: the model has no {words}; it has {}", there.join(", "));
        return Err(EngineError::option("prune.kind", step.kind.name(), allowed));
    }
    places.retain(|place| place.after < place.size);
    places.iter().try_for_each(|place| allowed(program, step, place))?;
    Ok(places)
}

fn numbers(layers: &[usize]) -> String {
    let mut layers = layers.to_vec();
    layers.dedup();
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// How many stay where a recipe says how many.
fn count(step: &Prune, size: usize, parts: usize) -> Result<usize, EngineError> {
    let kept = step.kept(size);
    if kept.is_multiple_of(parts) {
        return Ok(kept);
    }
    let allowed = format!("a multiple of the {parts} groups, which share their input and output matrices");
    Err(EngineError::option("prune.keep", step.keep, allowed))
}

fn of_kind(program: &Program, kind: PruneKind) -> impl Iterator<Item = AxisId> {
    let fits = move |name: AxisName, with: Option<AxisId>| match kind {
        PruneKind::Inner => name == AxisName::Inner,
        PruneKind::State => name == AxisName::State,
        PruneKind::Head => name == AxisName::Head,
        PruneKind::AttentionHead => name == AxisName::KvHead || name == AxisName::QueryHead && with.is_none(),
        PruneKind::Width => name == AxisName::Ffn,
        PruneKind::Experts => name == AxisName::Expert,
        PruneKind::Delta => name == AxisName::Delta,
        PruneKind::Hidden => name == AxisName::Hidden,
        PruneKind::Vocabulary => name == AxisName::Vocab,
        PruneKind::Layers | PruneKind::Sublayers => false,
    };
    let axes = program.axes.iter().enumerate();
    axes.filter(move |(_, axis)| axis.size > 0 && fits(axis.name, axis.with)).map(|(at, _)| AxisId(at))
}

/// Refuses what would not be the same model without the removed.
fn allowed(program: &Program, step: &Prune, place: &Place) -> Result<(), EngineError> {
    for node in &program.nodes {
        match &node.op {
            Op::Experts(op)
                if place.after < op.top_k && mentions(&program.matrix(op.router).dims[0], place.axis) =>
            {
                let allowed = format!("at least {}, through so many goes every token", op.top_k);
                return Err(EngineError::option("prune.keep", step.keep, allowed));
            }
            // Behind other directions readers make up for it.
            Op::Norm { norm, x, .. }
                if step.kind != PruneKind::Hidden
                    && norm.weight.is_none()
                    && runs_over(program, *x, place.axis) =>
            {
                let layer = place.layer.map_or(String::new(), |layer| format!(" of layer {layer}"));
                let allowed = format!(
                    "kinds that every norm can do without: one{layer} takes the mean of all {}, and has no weights to make \
                     up for fewer",
                    step.kind.words()
                );
                return Err(EngineError::option("prune.kind", step.kind.name(), allowed));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether some columns of a product's output are of an axis.
fn runs_over(program: &Program, x: View, axis: AxisId) -> bool {
    let rows = program.nodes.iter().find_map(|node| match &node.op {
        Op::Linear(linear) if linear.y == x.value => Some(&program.matrix(linear.w).dims[0]),
        _ => None,
    });
    let mut first = 0;
    rows.is_some_and(|rows| {
        rows.0.iter().any(|segment| {
            let begin = first;
            first += segment.len();
            segment.axis == axis && begin < x.first + x.width && x.first < first
        })
    })
}

/// Whether a dimension has indexes of an axis.
pub(super) fn mentions(dim: &Dim, axis: AxisId) -> bool {
    dim.0.iter().any(|segment| segment.axis == axis)
}

impl Place {
    #[cfg(test)]
    pub fn of(size: usize, parts: usize, after: usize) -> Self {
        Self { layer: None, axis: AxisId(0), size, parts, after, along: Vec::new() }
    }

    /// The axis, and those that go along, with how many of each go with an element.
    pub fn axes(&self) -> impl Iterator<Item = (AxisId, usize)> {
        std::iter::once((self.axis, 1)).chain(self.along.iter().copied())
    }

    /// What stays of the axis and of those that go along.
    pub fn keep(&self, elements: &[usize], kept: &mut Kept) {
        for (axis, each) in self.axes() {
            let mut of = Vec::with_capacity(elements.len() * each);
            elements.iter().for_each(|at| of.extend(at * each..(at + 1) * each));
            kept.insert(axis, of);
        }
    }

    /// The elements of the highest scores, in their order: as many of each part.
    pub fn best(&self, scores: &[f64]) -> Vec<usize> {
        let (part, stays) = (self.size / self.parts, self.after / self.parts);
        let mut kept = Vec::with_capacity(self.after);
        for first in (0..self.size).step_by(part.max(1)) {
            let order = ascending(&scores[first..first + part]);
            kept.extend(order[part - stays..].iter().map(|at| first + at));
        }
        kept.sort_unstable();
        kept
    }

    /// The indexes of a dimension that belong to each element; none of a dimension that has nothing of them.
    pub fn indexes(&self, dim: &Dim) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new(); self.size];
        let mut first = 0;
        for segment in &dim.0 {
            if let Some((_, each)) = self.axes().find(|(axis, _)| *axis == segment.axis) {
                for at in 0..segment.len() {
                    all[at / segment.inner % segment.size / each].push(first + at);
                }
            }
            first += segment.len();
        }
        all
    }

    /// Whether a dimension has indexes of it.
    pub fn is_in(&self, dim: &Dim) -> bool {
        self.axes().any(|(axis, _)| mentions(dim, axis))
    }

    /// The matrices that multiply what is removed.
    pub fn readers(&self, program: &Program) -> Vec<MatrixId> {
        let entered = entered(program);
        let all = (0..program.matrices.len()).map(MatrixId);
        all.filter(|id| self.is_in(&program.matrix(*id).dims[1]) && entered.contains(id)).collect()
    }

    /// The matrices that make what is removed.
    pub fn writers(&self, program: &Program) -> Vec<MatrixId> {
        let entered = entered(program);
        let all = (0..program.matrices.len()).map(MatrixId);
        all.filter(|id| self.is_in(&program.matrix(*id).dims[0]) && entered.contains(id)).collect()
    }

    /// The keys of all weights that have it.
    pub fn keys(&self, program: &Program) -> Vec<String> {
        let matrices = program.matrices.iter().filter(|it| it.dims.iter().any(|dim| self.is_in(dim)));
        let vectors = program.vectors.iter().filter(|it| it.dims.iter().any(|dim| self.is_in(dim)));
        let mut keys: Vec<String> = Vec::new();
        for key in matrices.map(|it| it.key.as_str()).chain(vectors.filter_map(Vector::key)) {
            if !keys.iter().any(|known| known == key) {
                keys.push(key.into());
            }
        }
        keys
    }
}

/// Indexes by what they score, least first; of equals the later first, so that the earlier stay.
pub(super) fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
    order
}

/// What stays of a dimension; `None`: all of it.
pub(super) fn select(dim: &Dim, kept: &Kept) -> Option<Vec<usize>> {
    if !dim.0.iter().any(|segment| kept.has(&segment.axis)) {
        return None;
    }
    let (mut selected, mut first) = (Vec::new(), 0);
    for segment in &dim.0 {
        let all: Vec<usize>;
        let elements = match kept.get(&segment.axis) {
            Some(elements) => elements,
            None => {
                all = (0..segment.size).collect();
                &all
            }
        };
        for i in 0..segment.outer {
            for j in elements {
                let begin = first + (i * segment.size + j) * segment.inner;
                selected.extend(begin..begin + segment.inner);
            }
        }
        first += segment.len();
    }
    Some(selected)
}

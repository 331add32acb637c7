//! What a prune step leaves: a checkpoint that runs, and what a report says of it.

use serde_json::{Map, Value};
use statepress_core::recipe::{Prune, PruneKind};
use statepress_core::report::{Pruned, PrunedPlace};
use statepress_core::{Entry, Finding, Index};
use statepress_kernels::program::{Axis, AxisId, AxisName, Op, Program};

use super::cut::cuts;
use super::places::{Kept, Place, places};
use super::{layers, slice, vocabulary};
use crate::EngineError;
use crate::families::{ModelSpec, PRUNED, is_buffer};
use crate::techniques::derived::{Derived, Draft, Fitted, program, real};

/// What a step will leave, and what is to be said of that.
pub(crate) struct Planned {
    pub index: Index,
    pub spec: ModelSpec,
    pub report: Pruned,
    pub findings: Vec<Finding>,
}

/// What a step leaves, by arithmetic alone: in place of what will be chosen goes what comes last.
pub(crate) fn planned(index: &Index, spec: &ModelSpec, step: &Prune) -> Result<Planned, EngineError> {
    let program = program(spec)?;
    if let PruneKind::Hidden | PruneKind::AttentionHead = step.kind
        && spec.fields.contains_key(PRUNED)
    {
        let allowed = "before parts of layers go: what the file says of those would have another width";
        return Err(EngineError::option("prune.kind", step.kind.name(), allowed.to_string()));
    }
    let goes_whole = matches!(step.kind, PruneKind::Layers | PruneKind::Sublayers);
    let estimated = goes_whole.then(|| layers::estimated(index, spec, &program, step)).flatten();
    let (index, spec, report) = match step.kind {
        PruneKind::Hidden => slice::planned(index, spec, &program, step)?,
        PruneKind::Layers | PruneKind::Sublayers => layers::planned(index, spec, &program, step)?,
        PruneKind::Vocabulary => vocabulary::planned(index, spec, &program, step)?,
        _ => cut(index, spec, &program, step)?,
    };
    let findings = idle(&report).or(estimated).into_iter().collect();
    Ok(Planned { index, spec, report, findings })
}

/// What is left where something of every place goes.
fn cut(
    index: &Index,
    spec: &ModelSpec,
    program: &Program,
    step: &Prune,
) -> Result<(Index, ModelSpec, Pruned), EngineError> {
    let (mut kept, mut done) = (Kept::default(), Vec::new());
    for place in places(program, step)? {
        place.keep(&place.best(&vec![0.0; place.size]), &mut kept);
        done.push(told(program, spec, index, &place, Vec::new(), None));
    }
    let smaller = smaller((index, spec), program, step, &kept, 0, &mut Fitted::default())?;
    let report = report(step, index, &smaller.index, done);
    Ok((smaller.index, smaller.spec, report))
}

/// The checkpoint that is left, which has to run.
pub(super) fn smaller(
    (index, spec): (&Index, &ModelSpec),
    program: &Program,
    step: &Prune,
    kept: &Kept,
    len: u64,
    fitted: &mut Fitted,
) -> Result<Derived, EngineError> {
    let mut smaller = Draft::new(index, spec, len, &cuts(program, kept), fitted);
    if step.kind == PruneKind::AttentionHead {
        smaller = smaller.with_config(heads(program, spec, kept));
    }
    running(smaller.understood()?, step)
}

/// Refuses what does not run.
pub(super) fn running(left: Derived, step: &Prune) -> Result<Derived, EngineError> {
    match &left.spec.refusal {
        None => Ok(left),
        Some(reason) => {
            let allowed = format!("what leaves a model that runs, which this would not: {reason}");
            Err(EngineError::option("prune.kind", step.kind.name(), allowed))
        }
    }
}

/// What a configuration says of attention's heads: those of the first layer that attends, and their width where it is no
/// longer what the width of the model makes of it.
pub(super) fn heads(program: &Program, spec: &ModelSpec, kept: &Kept) -> Map<String, Value> {
    let attention = program.nodes.iter().find_map(|node| match &node.op {
        Op::Attention(attention) => Some((node.layer, attention)),
        _ => None,
    });
    let mut fields = Map::new();
    if let Some((layer, attention)) = attention {
        let mut axes = program.axes.iter().enumerate();
        let of = |(_, axis): &(usize, &Axis)| axis.layer == layer && axis.name == AxisName::QueryHead;
        let stay = axes.find(of).and_then(|(at, _)| kept.get(&AxisId(at)));
        let heads = stay.map_or(attention.heads, Vec::len);
        fields.insert("num_attention_heads".into(), heads.into());
        if !spec.fields.contains_key("head_dim") {
            fields.insert("head_dim".into(), attention.head.into());
        }
    }
    fields
}

pub(super) fn report(step: &Prune, before: &Index, after: &Index, places: Vec<PrunedPlace>) -> Pruned {
    let params = |index: &Index| {
        let weights = index.tensors.iter().filter(|entry| entry.tied_to.is_none() && !is_buffer(entry));
        weights.map(Entry::params).sum()
    };
    Pruned { step: step.clone(), params_before: params(before), params_after: params(after), places }
}

/// Says that a step removes nothing.
pub(super) fn idle(pruned: &Pruned) -> Option<Finding> {
    let Prune { kind, keep, .. } = pruned.step;
    let message = format!(
        "the prune step of kind {} removes nothing, as keep is {keep}: that is no fewer than there are, or one, which always stays",
        kind.name()
    );
    pruned.places.is_empty().then(|| Finding::warning("nothing-removed", message))
}

pub(super) fn told(
    program: &Program,
    spec: &ModelSpec,
    index: &Index,
    place: &Place,
    removed: Vec<usize>,
    error: Option<f64>,
) -> PrunedPlace {
    let tensors = place.keys(program).iter().map(|key| real(spec, index, key)).collect();
    PrunedPlace { layer: place.layer, tensors, before: place.size, after: place.after, removed, error }
}

//! Parts of layers that pruning has taken out: a file without their tensors says which they were.
//!
//! A family declares the model as if they were there, with the shapes that the file says; then they go from the program. So every
//! family reads such files, and none has to be told of them.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;
use statepress_core::Finding;
use statepress_core::words::counted;
use statepress_kernels::program::{Program, Sublayer, Use};

use super::fields::Collector;
use super::infer::MOST;
use crate::EngineError;

/// The field that says of every tensor that was taken out, by its usual key, what shape it had.
pub(crate) const PRUNED: &str = "pruned_tensors";

/// Shapes by usual key.
pub(crate) type Shapes = BTreeMap<String, Vec<usize>>;

/// What a configuration says of them.
///
/// # Errors
/// For what is no such field.
pub(super) fn read(fields: &mut Collector) -> Result<Shapes, EngineError> {
    let Some(value) = fields.said(PRUNED) else { return Ok(Shapes::new()) };
    let dim = |dim: &Value| usize::try_from(dim.as_u64()?).ok().filter(|dim| (1..=MOST).contains(dim));
    let shape = |shape: &Value| shape.as_array()?.iter().map(dim).collect::<Option<Vec<usize>>>();
    let entry = |(key, value): (&String, &Value)| Some((key.clone(), shape(value)?));
    value.as_object().and_then(|said| said.iter().map(entry).collect()).ok_or_else(|| {
        let allowed = format!("shapes by key, of no dimension of zero or above {MOST}");
        fields.refuse(PRUNED, &value, &allowed)
    })
}

/// A program without the parts of layers whose tensors were taken out.
///
/// # Errors
/// Where what was taken out is no whole part of a layer.
pub(super) fn taken_out(
    program: Program,
    shapes: &Shapes,
    findings: &mut Vec<Finding>,
) -> Result<Program, EngineError> {
    if shapes.is_empty() {
        return Ok(program);
    }
    let (mut gone, mut left): (Vec<Range<usize>>, Shapes) = (Vec::new(), shapes.clone());
    let (mut there, mut without): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for Sublayer { layer, nodes } in program.sublayers() {
        let keys = keys(&program, nodes.clone());
        if keys.iter().any(|key| shapes.contains_key(key)) {
            if let Some(there) = keys.iter().find(|key| !shapes.contains_key(*key)) {
                return Err(refused(&format!(
                    "names other tensors of the same part of a layer, but not {there}"
                )));
            }
            keys.iter().for_each(|key| drop(left.remove(key)));
            gone.push(nodes);
            without.push(layer);
        } else {
            there.push(layer);
        }
    }
    if let Some(layer) = without.iter().find(|layer| !there.contains(layer)) {
        return Err(refused(&format!("names all parts of layer {layer}, of which one has to be there")));
    }
    if let Some(key) = left.keys().next() {
        return Err(refused(&format!("names {key}, which belongs to no part of a layer")));
    }
    let parts = counted(gone.len(), "part of a layer was", "parts of layers were");
    findings.push(Finding::info(
        "pruned-sublayers",
        format!("{parts} taken out by pruning ({PRUNED} says which)"),
    ));
    Ok(program.cut_out(&gone))
}

/// The usual keys of the tensors that some nodes read.
pub(crate) fn keys(program: &Program, nodes: Range<usize>) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for node in &program.nodes[nodes] {
        node.op.clone().each_use(&mut |used| {
            let key = match used {
                Use::Matrix(id) => Some(program.matrix(*id).key.as_str()),
                Use::Vector(id) => program.vector(*id).key(),
                Use::State(_) => None,
            };
            if let Some(key) = key.filter(|key| !keys.iter().any(|known| known == key)) {
                keys.push(key.into());
            }
        });
    }
    keys
}

fn refused(why: &str) -> EngineError {
    EngineError::UnknownModel { reason: format!("{PRUNED} {why}") }
}

//! Who writes the residual stream, and who reads it: what has to change together when it gets other directions.
//!
//! Whatever is added to the stream is linear in it, so that writers can be turned. It is read through norms alone, and what a
//! norm leaves goes into products: a turn of the stream stands between both.

use statepress_core::recipe::PruneKind;
use statepress_kernels::program::{AxisId, AxisName, Dim, MatrixId, Norm, NormKind, Op, Program, ValueId};

use crate::EngineError;
use crate::techniques::prune::places::mentions;

/// The readers of the residual stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub axis: AxisId,
    /// In the order in which they run; the final norm comes last.
    pub norms: Vec<Reading>,
    /// Whether any norm takes the mean of the stream away: one direction that then has to stay what it is.
    pub takes_mean: bool,
}

/// A norm of the residual stream, and what multiplies what it leaves.
#[derive(Debug)]
pub(super) struct Reading {
    /// The node; `None`: the final norm.
    pub node: Option<usize>,
    pub norm: Norm,
    /// Only the table, where that is the head.
    pub readers: Vec<MatrixId>,
}

impl Stream {
    /// # Errors
    /// Where the stream is written or read in a way that a turn would change.
    pub fn of(program: &Program) -> Result<Self, EngineError> {
        let hidden = program.hidden;
        let axis = program.axes.iter().position(|axis| axis.name == AxisName::Hidden);
        let axis = AxisId(axis.ok_or_else(|| refused("the residual stream, which no weight mentions"))?);
        let mut norms: Vec<(ValueId, Reading)> = Vec::new();
        for (at, node) in program.nodes.iter().enumerate() {
            let layer = node.layer.map_or(String::new(), |layer| format!(" of layer {layer}"));
            let reads = |value: ValueId, matrices: &[MatrixId], norms: &mut Vec<(ValueId, Reading)>| {
                let norm = norms.iter_mut().rev().find(|(normed, _)| *normed == value);
                norm.map(|(_, reading)| reading.readers.extend(matrices)).is_some()
            };
            let key = |id: MatrixId| program.matrix(id).key.clone();
            match &node.op {
                Op::Embed { .. } => {}
                Op::Norm { norm, x, y } if x.value == hidden => {
                    let reading = Reading { node: Some(at), norm: *norm, readers: Vec::new() };
                    norms.push((*y, reading));
                }
                Op::Linear(op) => {
                    let is_read = reads(op.x.value, &[op.w], &mut norms);
                    if is_read && op.x.width != program.width(op.x.value) || op.x.value == hidden {
                        return Err(refused(&format!(
                            "{}, which reads the residual stream in parts or without a norm",
                            key(op.w)
                        )));
                    }
                    if op.y == hidden && (!op.add || op.row_scale.is_some()) {
                        return Err(refused(&format!(
                            "{}, which writes the residual stream with a scale for every channel, or anew",
                            key(op.w)
                        )));
                    }
                }
                Op::Experts(op) => {
                    let all: Vec<MatrixId> =
                        std::iter::once(op.router).chain(op.experts.iter().map(|it| it.up)).collect();
                    if op.x == hidden || !reads(op.x, &all, &mut norms) {
                        return Err(refused(&format!(
                            "{}, which reads something else than a norm of the residual stream",
                            key(op.router)
                        )));
                    }
                }
                op => {
                    let is_here = |value: &ValueId| *value == hidden || norms.iter().any(|(y, _)| y == value);
                    if op.reads().iter().any(is_here) || op.writes() == hidden {
                        return Err(refused(&format!(
                            "an op{layer} that is no product, and works on channels by themselves"
                        )));
                    }
                }
            }
        }
        let Some(norm) = program.head.norm else { return Err(refused("a table with a basis of its own")) };
        if norm.weight.is_none() && program.head.matrix == program.table {
            let key = &program.matrix(program.table).key;
            return Err(refused(&format!("{key}, which is the head as well, behind a norm without weights")));
        }
        let mut norms: Vec<Reading> = norms.into_iter().map(|(_, reading)| reading).collect();
        norms.push(Reading { node: None, norm, readers: vec![program.head.matrix] });
        simple(program, axis)?;
        let takes_mean = norms.iter().any(|reading| matches!(reading.norm.kind, NormKind::Layer { .. }));
        Ok(Self { axis, norms, takes_mean })
    }
}

/// Refuses dimensions that are not the channels of the stream, one after the other and nothing else.
fn simple(program: &Program, axis: AxisId) -> Result<(), EngineError> {
    let is_odd = |dim: &Dim| mentions(dim, axis) && !(dim.0.len() == 1 && dim.len() == program.hidden_size());
    match program.matrices.iter().find(|matrix| matrix.dims.iter().any(is_odd)) {
        Some(matrix) => Err(refused(&format!("{}, of which channels are a part of a dimension", matrix.key))),
        None => Ok(()),
    }
}

fn refused(what: &str) -> EngineError {
    let allowed =
        format!("kinds that leave the residual stream alone: it cannot have other directions for {what}");
    EngineError::option("prune.kind", PruneKind::Hidden.name(), allowed)
}

//! What a search chooses about, and what is known of it already.

use std::collections::BTreeMap;

use statepress_core::report::{CostRows, TensorCosts};
use statepress_core::{Encoding, Index, Role};
use statepress_kernels::program::{Program, VectorId, VectorSource};

use crate::EngineError;
use crate::families::ModelSpec;

/// A tensor that is chosen about, or a class of its rows.
pub(super) struct Chosen {
    /// Where it is in the index.
    pub position: usize,
    pub rows: Option<CostRows>,
    pub role: Option<Role>,
    /// What its tensor takes as the base says; of the classes of a tensor the first has it.
    pub bytes: u64,
    /// What says which class a row of its tensor is of; likewise.
    pub index_bytes: u64,
}

/// Known costs in their places. Of a tensor of which not all classes are known none is: they are measured together.
pub(super) fn in_places(
    chosen: &[Chosen],
    index: &Index,
    known: Vec<TensorCosts>,
) -> Result<Vec<Option<TensorCosts>>, EngineError> {
    let mut measured: Vec<Option<TensorCosts>> = chosen.iter().map(|_| None).collect();
    for costs in known {
        let is_of = |it: &Chosen| index.tensors[it.position].name == costs.tensor && it.rows == costs.rows;
        let Some(at) = chosen.iter().position(is_of) else {
            return Err(EngineError::option("costs", &costs.tensor, "those of a search of this model"));
        };
        measured[at] = Some(costs);
    }
    let complete: Vec<bool> = (0..chosen.len()).map(|at| is_complete(chosen, &measured, at)).collect();
    measured.iter_mut().zip(complete).filter(|(_, complete)| !complete).for_each(|(it, _)| *it = None);
    Ok(measured)
}

/// Whether all are measured that are classes of the same tensor as one of them is.
pub(super) fn is_complete(chosen: &[Chosen], measured: &[Option<TensorCosts>], at: usize) -> bool {
    let mut classes = chosen.iter().zip(measured).filter(|(it, _)| it.position == chosen[at].position);
    classes.all(|(_, measured)| measured.is_some())
}

/// Tensors that no product goes over and that take codes of that encoding, such as `A_log` of Mamba and the taps of a convolution,
/// and which vectors of the program are made of them.
pub(super) fn vectors(
    index: &Index,
    spec: &ModelSpec,
    program: &Program,
    encoding: Encoding,
) -> BTreeMap<String, Vec<VectorId>> {
    let mut vectors: BTreeMap<String, Vec<VectorId>> = BTreeMap::new();
    for (n, vector) in program.vectors.iter().enumerate() {
        let VectorSource::Key(key) = &vector.source else { continue };
        let Some(entry) = spec.names.get(index, key) else { continue };
        let fits = encoding.refusal(&entry.shape).is_none();
        if entry.is_plain() && fits && matches!(vector.role, Role::Dynamics | Role::Conv) {
            vectors.entry(entry.name.clone()).or_default().push(VectorId(n));
        }
    }
    vectors
}

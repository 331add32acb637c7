//! The slices that are taken out of every tensor.

use statepress_kernels::program::{Layout, NormKind, Op, Program, VectorForm, VectorId, VectorSource};

use super::places::{Kept, select};
use crate::techniques::change::{Along, Change};
use crate::techniques::derived::Changes;

/// The cuts that leave of every axis what is kept.
pub(super) fn cuts(program: &Program, kept: &Kept) -> Changes {
    let mut cuts = Changes::default();
    let mut cut = |key: &str, dims: Vec<Option<Vec<usize>>>, factor: f32| {
        if dims.iter().any(Option::is_some) {
            let dims = dims.into_iter().map(|stays| stays.map(Along::Stays)).collect();
            let cut = Change { dims, factor, ..Change::none(key) };
            if !cuts.has(key) {
                cuts.insert(key.into(), Some(cut));
            }
        }
    };
    let experts = |key: &str| {
        program.nodes.iter().find_map(|node| match &node.op {
            Op::Experts(op) => {
                let up = &program.matrix(op.experts.first()?.up).key;
                let down = &program.matrix(op.experts.first()?.down).key;
                let axis = program.matrix(op.router).dims[0].0.first()?.axis;
                (key == up || key == down).then(|| kept.get(&axis).cloned()).flatten()
            }
            _ => None,
        })
    };
    for matrix in &program.matrices {
        let [rows, cols] = [0, 1].map(|dim| select(&matrix.dims[dim], kept));
        let dims = match matrix.layout {
            Layout::Plain => vec![rows, cols],
            Layout::Transposed => vec![cols, rows],
            Layout::Part { .. } => vec![experts(&matrix.key), rows, cols],
        };
        cut(&matrix.key, dims, 1.0);
    }
    let scales = norm_scales(program, kept);
    for (at, vector) in program.vectors.iter().enumerate() {
        if let VectorSource::Key(key) = &vector.source {
            let dims = vector.dims.iter().map(|dim| select(dim, kept)).collect();
            // Decay and taps are no weights of norms.
            let scale = if vector.form == VectorForm::Plain { scales[at] } else { 1.0 };
            cut(key, dims, scale);
        }
    }
    renumber(program, kept, &mut cuts);
    cuts
}

/// Experts that have tensors of their own move up to the numbers of those that go.
fn renumber(program: &Program, kept: &Kept, cuts: &mut Changes) {
    for node in &program.nodes {
        let Op::Experts(op) = &node.op else { continue };
        let axis = program.matrix(op.router).dims[0].0.first().map(|segment| segment.axis);
        let Some(stay) = axis.and_then(|axis| kept.get(&axis)) else { continue };
        for (at, expert) in op.experts.iter().enumerate() {
            let keys = |m: usize| {
                let expert = op.experts.get(m)?;
                Some([expert.up, expert.down].map(|id| program.matrix(id)))
            };
            for (n, id) in [expert.up, expert.down].into_iter().enumerate() {
                let matrix = program.matrix(id);
                if matches!(matrix.layout, Layout::Part { .. }) {
                    continue;
                }
                let cut = stay.get(at).and_then(|&m| keys(m)).map(|from| Change::none(&from[n].key));
                cuts.insert(matrix.key.clone(), cut);
            }
        }
    }
}

/// By vector: what weights of norms over fewer numbers are multiplied by. Zeros count in the mean square of a norm; where
/// they are gone its mean is larger, and weights make up for it.
fn norm_scales(program: &Program, kept: &Kept) -> Vec<f32> {
    let mut scales = vec![1.0; program.vectors.len()];
    for node in &program.nodes {
        let weight = match &node.op {
            Op::GatedNorm { norm: Some(norm), .. } => norm.weight,
            Op::Norm { norm, .. } if norm.kind == NormKind::Rms => norm.weight,
            _ => None,
        };
        let Some(VectorId(at)) = weight else { continue };
        let Some(dim) = program.vectors[at].dims.first() else { continue };
        if let Some(stays) = select(dim, kept).filter(|stays| !stays.is_empty()) {
            scales[at] = (dim.len() as f32 / stays.len() as f32).sqrt();
        }
    }
    scales
}

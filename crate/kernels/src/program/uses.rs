//! What an op mentions beside values: weights and states, wherever they stand in it.

use super::{Attention, Expert, Experts, Linear, MatrixId, Norm, NormKind, Op, Ssd, StateId, VectorId};

/// One mention.
#[derive(Debug)]
pub enum Use<'a> {
    /// Of a matrix.
    Matrix(&'a mut MatrixId),
    /// Of a vector.
    Vector(&'a mut VectorId),
    /// Of a state.
    State(&'a mut StateId),
}

impl Norm {
    /// Shows its vectors.
    pub fn each_vector(&mut self, show: &mut dyn FnMut(&mut VectorId)) {
        self.weight.iter_mut().for_each(&mut *show);
        if let NormKind::Layer { bias } = &mut self.kind {
            show(bias);
        }
    }
}

impl Op {
    /// Shows every weight and state that it mentions, to be changed.
    pub fn each_use(&mut self, show: &mut dyn FnMut(Use<'_>)) {
        match self {
            Self::Embed { table, positions, bias, .. } => {
                show(Use::Matrix(table));
                positions.iter_mut().for_each(|id| show(Use::Matrix(id)));
                bias.iter_mut().for_each(|id| show(Use::Vector(id)));
            }
            Self::Norm { norm, .. } => norm.each_vector(&mut |id| show(Use::Vector(id))),
            Self::GatedNorm { norm, .. } => {
                norm.iter_mut().filter_map(|norm| norm.weight.as_mut()).for_each(|id| show(Use::Vector(id)));
            }
            Self::Linear(Linear { w, bias, row_scale, .. }) => {
                show(Use::Matrix(w));
                bias.iter_mut().chain(row_scale).for_each(|id| show(Use::Vector(id)));
            }
            Self::Conv1d { taps, bias, tail, .. } => {
                show(Use::Vector(taps));
                bias.iter_mut().for_each(|id| show(Use::Vector(id)));
                show(Use::State(tail));
            }
            Self::Softplus { bias, .. } | Self::SoftplusMean { bias, .. } => show(Use::Vector(bias)),
            Self::Scan { a, h, .. } => {
                show(Use::Vector(a));
                show(Use::State(h));
            }
            Self::SelectiveScan { a, d, h, .. } | Self::Ssd(Ssd { a, d, h, .. }) => {
                [a, d].into_iter().for_each(|id| show(Use::Vector(id)));
                show(Use::State(h));
            }
            Self::Skip { d, .. } => show(Use::Vector(d)),
            Self::Attention(Attention { inv_freq, q_norm, k_norm, keys, values, .. }) => {
                let norms = q_norm.iter_mut().chain(k_norm).map(|(id, _)| id);
                inv_freq.iter_mut().chain(norms).for_each(|id| show(Use::Vector(id)));
                [keys, values].into_iter().for_each(|id| show(Use::State(id)));
            }
            Self::Experts(Experts { router, experts, .. }) => {
                show(Use::Matrix(router));
                let products = experts.iter_mut().flat_map(|Expert { up, down }| [up, down]);
                products.for_each(|id| show(Use::Matrix(id)));
            }
            Self::Activate { .. } | Self::Gate { .. } | Self::Copy { .. } => {}
        }
    }
}

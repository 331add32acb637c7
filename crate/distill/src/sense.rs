//! Gradients inside a pass: zeros are added where they are wanted, and have the gradients of what they are added to.

use std::cell::RefCell;

use burn::tensor::{Gradients, Tensor};
use statepress_kernels::program::MatrixId;

use crate::Trainable;
use crate::model::Pass;

/// Where gradients are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The rows that ids look up in the table.
    LookUp,
    /// What a matrix puts out, before anything is added to it or it is scaled.
    Output(MatrixId),
}

/// The zeros, `[n, width]`.
#[derive(Default)]
pub(crate) struct Zeros(RefCell<Vec<(Place, Tensor<2>)>>);

impl Trainable {
    /// Weights for a pass of which gradients inside are wanted, and none of weights.
    pub(crate) fn sense(&self) -> Pass<'_> {
        let mut pass = self.pass(|it| it.computed().autodiff());
        pass.zeros = Some(Zeros::default());
        pass
    }
}

impl Pass<'_> {
    /// What is in a place, as gradients of it may be wanted.
    pub(crate) fn at(&self, place: Place, y: Tensor<2>) -> Tensor<2> {
        let Some(zeros) = &self.zeros else { return y };
        let zero = Tensor::zeros(y.dims(), &self.device).require_grad();
        zeros.0.borrow_mut().push((place, zero.clone()));
        y + zero
    }

    /// The gradients of all places that the loss depends on, without graphs.
    pub(crate) fn sensed(self, mut gradients: Gradients) -> Vec<(Place, Tensor<2>)> {
        let zeros = self.zeros.unwrap_or_default().0.into_inner();
        let of = |(place, zero): (Place, Tensor<2>)| Some((place, zero.grad_remove(&mut gradients)?));
        zeros.into_iter().filter_map(of).collect()
    }
}

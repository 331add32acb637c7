//! A program with its weights, generic over how a matrix is held, so that every backend runs the
//! same one.

use std::rc::Rc;

use crate::program::{MatrixId, Program, VectorId};

/// A program and its weights.
pub struct Network<M> {
    /// What is done.
    pub program: Rc<Program>,
    /// By [`MatrixId`]; `None` for those that nothing uses.
    pub matrices: Vec<Option<M>>,
    /// By [`VectorId`].
    pub vectors: Vec<Vec<f32>>,
}

impl<M> Network<M> {
    /// A matrix.
    ///
    /// # Panics
    /// For one that nothing uses: loading has seen to all others.
    pub fn matrix(&self, id: MatrixId) -> &M {
        self.matrices[id.0].as_ref().unwrap_or_else(|| panic!("matrix {} was not loaded", id.0))
    }

    /// A vector.
    pub fn vector(&self, id: VectorId) -> &[f32] {
        &self.vectors[id.0]
    }

    /// The matrix that gives the logits.
    pub fn head(&self) -> &M {
        self.matrix(self.program.head.matrix)
    }
}

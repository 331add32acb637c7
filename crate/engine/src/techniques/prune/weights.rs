//! Numbers of a checkpoint's weights, one tensor at a time.

use std::rc::Rc;

use statepress_core::{Index, Source};
use statepress_kernels::codecs;
use statepress_kernels::program::Matrix;

use super::score::logical;
use crate::EngineError;
use crate::families::ModelSpec;

/// Reads tensors, and holds the last.
pub(super) struct Weights<'a> {
    source: &'a dyn Source,
    index: &'a Index,
    spec: &'a ModelSpec,
    last: Option<(String, Vec<usize>, Rc<Vec<f32>>)>,
}

impl<'a> Weights<'a> {
    pub fn new(source: &'a dyn Source, index: &'a Index, spec: &'a ModelSpec) -> Self {
        Self { source, index, spec, last: None }
    }

    /// Shape and numbers of the tensor of a usual key.
    pub fn tensor(&mut self, key: &str) -> Result<(Vec<usize>, Rc<Vec<f32>>), EngineError> {
        if let Some((held, shape, values)) = &self.last
            && held == key
        {
            return Ok((shape.clone(), values.clone()));
        }
        let missing = || EngineError::Keys { missing: vec![key.into()], unexpected: Vec::new() };
        let entry = self.spec.names.get(self.index, key).ok_or_else(missing)?;
        let values = Rc::new(codecs::decode(&statepress_formats::read_tensor(self.source, entry)?));
        self.last = Some((key.into(), entry.shape.clone(), values.clone()));
        Ok((entry.shape.clone(), values))
    }

    /// Numbers of a matrix, `[rows, cols]`.
    pub fn matrix(&mut self, matrix: &Matrix) -> Result<Vec<f32>, EngineError> {
        Ok(logical(matrix, &self.tensor(&matrix.key)?.1))
    }
}

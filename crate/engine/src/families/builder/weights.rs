//! Weights as a family declares them: key, role, and what the dimensions mean.

use statepress_core::Role;
use statepress_kernels::program::{
    Dim, Layout, Matrix, MatrixId, Norm, NormKind, Vector, VectorForm, VectorId, VectorSource,
};

use super::{Builder, Kind};

/// A product that is to be declared.
#[derive(Clone, Debug)]
pub(crate) struct Lin {
    pub(super) key: String,
    pub(super) role: Role,
    pub(super) rows: Dim,
    pub(super) cols: Dim,
    pub(super) layout: Layout,
    pub(super) bias: bool,
    pub(super) x_scale: f32,
    pub(super) y_scale: f32,
    pub(super) row_scale: Option<VectorId>,
}

impl Lin {
    /// `KEY.weight` `[rows, cols]`, and `KEY.bias` `[rows]` where there is one.
    pub fn new(key: &str, role: Role, rows: impl Into<Dim>, cols: impl Into<Dim>) -> Self {
        Self {
            key: key.into(),
            role,
            rows: rows.into(),
            cols: cols.into(),
            layout: Layout::Plain,
            bias: true,
            x_scale: 1.0,
            y_scale: 1.0,
            row_scale: None,
        }
    }

    /// Its bias is nobody's, or somebody else's.
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// Stored as `[cols, rows]`.
    pub fn transposed(self) -> Self {
        Self { layout: Layout::Transposed, ..self }
    }

    /// The input times this.
    pub fn x_scale(self, x_scale: f32) -> Self {
        Self { x_scale, ..self }
    }

    /// The output, bias and all, times this.
    pub fn y_scale(self, y_scale: f32) -> Self {
        Self { y_scale, ..self }
    }

    /// Every output times its own.
    pub fn row_scale(self, row_scale: Option<VectorId>) -> Self {
        Self { row_scale, ..self }
    }
}

impl Builder<'_> {
    pub(super) fn matrix(&mut self, lin: &Lin, key: String) -> MatrixId {
        let (rows, cols) = (lin.rows.len(), lin.cols.len());
        match lin.layout {
            Layout::Plain => self.check(&key, &[rows, cols]),
            Layout::Transposed => self.check(&key, &[cols, rows]),
            Layout::Part { count, .. } => self.check(&key, &[count, rows, cols]),
        }
        self.matrices.push(Matrix {
            key,
            rows,
            cols,
            layout: lin.layout,
            role: lin.role,
            dims: [lin.rows.clone(), lin.cols.clone()],
            layer: self.layer,
        });
        MatrixId(self.matrices.len() - 1)
    }

    /// The matrix of exactly that key in the current scope, which nothing multiplies yet.
    pub fn bare_matrix(
        &mut self,
        key: &str,
        role: Role,
        rows: impl Into<Dim>,
        cols: impl Into<Dim>,
        layout: Layout,
    ) -> MatrixId {
        let lin = Lin { layout, ..Lin::new(key, role, rows, cols) };
        let key = self.key(key);
        self.matrix(&lin, key)
    }

    pub(super) fn keyed(
        &mut self,
        key: &str,
        role: Role,
        dims: Vec<Dim>,
        shape: &[usize],
        form: VectorForm,
    ) -> VectorId {
        let key = self.key(key);
        self.check(&key, shape);
        let (source, len) = (VectorSource::Key(key), shape.iter().product());
        self.vectors.push(Vector { source, len, form, role, dims, layer: self.layer });
        VectorId(self.vectors.len() - 1)
    }

    /// The vector of exactly that key in the current scope.
    pub fn vector(&mut self, key: &str, role: Role, dim: impl Into<Dim>) -> VectorId {
        let dim = dim.into();
        let shape = [dim.len()];
        self.keyed(key, role, vec![dim], &shape, VectorForm::Plain)
    }

    /// `-exp(A_log)`: how states decay.
    pub fn decay(&mut self, key: &str, dims: &[Dim]) -> VectorId {
        let shape: Vec<usize> = dims.iter().map(Dim::len).collect();
        self.keyed(key, Role::Dynamics, dims.to_vec(), &shape, VectorForm::NegExp)
    }

    /// Numbers that the configuration says.
    pub fn constant(&mut self, values: Vec<f32>) -> VectorId {
        let len = values.len();
        self.vectors.push(Vector {
            source: VectorSource::Constant(values),
            len,
            form: VectorForm::Plain,
            role: Role::Bias,
            dims: Vec::new(),
            layer: self.layer,
        });
        VectorId(self.vectors.len() - 1)
    }

    /// `KEY.weight` and, of a LayerNorm, `KEY.bias`, over `dim`.
    pub fn norm_weights(&mut self, key: &str, kind: Kind, eps: f64, dim: impl Into<Dim>) -> Norm {
        let dim = dim.into();
        let weight = Some(self.vector(&format!("{key}.weight"), Role::Norm, dim.clone()));
        let kind = match kind {
            Kind::Rms => NormKind::Rms,
            Kind::Layer => NormKind::Layer { bias: self.vector(&format!("{key}.bias"), Role::Norm, dim) },
        };
        Norm { kind, weight, eps: eps as f32 }
    }
}

//! Ops as a family writes them: each takes views of values and gives one.

use statepress_core::Role;
use statepress_kernels::program::{
    Activation, AxisName, Dim, GroupNorm, Layout, Linear, Node, Norm, Op, State, StateId, StateSize,
    VectorForm, View,
};

use super::{Builder, HEAD, Kind, Lin, beside};
use crate::EngineError;

impl Builder<'_> {
    /// Appends a node.
    pub fn push(&mut self, op: Op) {
        self.nodes.push(Node { op, layer: self.layer, records: Vec::new(), ends_layer: false });
    }

    /// The residual stream: rows of the table times `scale`, plus those of `positions`, plus the bias of the table, which one
    /// that was centered has. Rows of either may be written in a basis of the table's own.
    pub fn embed(&mut self, table: &str, positions: Option<&str>, scale: f32) -> Result<(), EngineError> {
        let [vocab, k] = self.shape(table)?;
        let [_, d] = self.table_shape(table)?;
        let (key, [basis, bias]) = (table, ["basis", "bias"].map(|what| beside(table, what)));
        let has_basis = self.has(&basis);
        if has_basis && self.has(HEAD) {
            let reason =
                format!("{HEAD} is beside a table with a basis of its own, which is the head as well");
            return Err(EngineError::UnknownModel { reason });
        }
        self.hidden = Some(self.value(d).value);
        if self.vocab_size == 0 || self.vocab_size > vocab {
            self.vocab_size = vocab;
        }
        let (channels, tokens) = (self.hidden_axis(), self.axis(AxisName::Vocab, vocab));
        let directions = if has_basis { self.axis(AxisName::Basis, k) } else { channels };
        let table = self.bare_matrix(table, Role::Table, tokens, directions, Layout::Plain);
        self.table = Some(table);
        let positions = match positions {
            None => None,
            Some(key) => {
                let [rows, _] = self.shape(key)?;
                self.max_tokens = Some(rows);
                let axis = self.axis(AxisName::Position, rows);
                Some(self.bare_matrix(key, Role::Positions, axis, directions, Layout::Plain))
            }
        };
        let bias = self.has(&bias).then(|| self.vector(&bias, Role::Bias, channels));
        self.reduced = self.ids_with_rows(key, tokens)?;
        let hidden = self.hidden();
        if has_basis {
            let x = self.value(k);
            self.push(Op::Embed { table, positions, bias: None, scale, y: x.value });
            let w = self.bare_matrix(&basis, Role::Basis, channels, directions, Layout::Transposed);
            self.push(Op::Linear(Linear { bias, ..Linear::new(w, x, hidden.value) }));
            self.basis = Some((basis, directions));
        } else {
            self.push(Op::Embed { table, positions, bias, scale, y: hidden.value });
        }
        self.watch("embed", hidden);
        if let Some(node) = self.nodes.last_mut() {
            node.ends_layer = true;
        }
        Ok(())
    }

    /// What enters a table with a basis of its own as the head: the product of the basis with what the final norm gives.
    pub(super) fn onto_basis(&mut self, norm: Norm) -> Option<View> {
        let (key, directions) = self.basis.take()?;
        let channels = self.hidden_axis();
        let x = self.norm(norm, self.hidden());
        self.watch("final_norm", x);
        let y = self.value(directions.size);
        let w = self.bare_matrix(&key, Role::Basis, directions, channels, Layout::Plain);
        self.push(Op::Linear(Linear::new(w, x, y.value)));
        Some(y)
    }

    /// A norm over the whole of what it is given.
    pub fn norm(&mut self, norm: Norm, x: View) -> View {
        let y = self.value(x.width);
        self.push(Op::Norm { norm, x, y: y.value });
        y
    }

    /// A norm of the residual stream.
    pub fn hidden_norm(&mut self, key: &str, kind: Kind, eps: f64) -> View {
        let channels = self.hidden_axis();
        let norm = self.norm_weights(key, kind, eps, channels);
        self.norm(norm, self.hidden())
    }

    /// As [`Self::hidden_norm`], watched as `tap`.
    pub fn watched_norm(&mut self, key: &str, tap: &'static str, kind: Kind, eps: f64) -> View {
        let y = self.hidden_norm(key, kind, eps);
        self.watch(tap, y)
    }

    fn product(&mut self, lin: Lin, key: String, x: View, y: View, add: bool) {
        let bias_key = format!("{}.bias", lin.key);
        let bias = (lin.bias && self.has(&bias_key)).then(|| {
            let rows = lin.rows.clone();
            self.vector(&bias_key, Role::Bias, rows)
        });
        debug_assert_eq!(x.width, lin.cols.len(), "{key}: what goes in is {} wide", x.width);
        debug_assert_eq!(self.whole(y.value).width, lin.rows.len(), "{key}: what comes out");
        let w = self.matrix(&lin, key);
        let Lin { row_scale, x_scale, y_scale, .. } = lin;
        self.push(Op::Linear(Linear { w, bias, row_scale, x_scale, y_scale, x, y: y.value, add }));
    }

    /// A product.
    pub fn linear(&mut self, lin: Lin, x: View) -> View {
        let y = self.value(lin.rows.len());
        let key = self.key(&format!("{}.weight", lin.key));
        self.product(lin, key, x, y, false);
        y
    }

    /// A product with the matrix of exactly that key, which has no bias.
    pub fn linear_of(&mut self, lin: Lin, x: View) -> View {
        let y = self.value(lin.rows.len());
        let key = self.key(&lin.key);
        self.product(lin.without_bias(), key, x, y, false);
        y
    }

    /// A product that the residual stream takes.
    pub fn linear_add(&mut self, lin: Lin, x: View) {
        let y = self.hidden();
        let key = self.key(&format!("{}.weight", lin.key));
        self.product(lin, key, x, y, true);
    }

    /// `KEY.weight` `[C, 1, k]` and, where there is one, `KEY.bias`.
    pub fn conv1d(&mut self, key: &str, channels: impl Into<Dim>, k: usize, x: View) -> View {
        let channels = channels.into();
        let width = channels.len();
        let axis = self.axis(AxisName::Tap, k);
        let weight = format!("{key}.weight");
        let dims = vec![channels.clone(), Dim::default(), axis.into()];
        let taps = self.keyed(&weight, Role::Conv, dims, &[width, 1, k], VectorForm::Taps { k });
        let bias = format!("{key}.bias");
        let bias = self.has(&bias).then(|| self.vector(&bias, Role::Conv, channels));
        let tail = self.state("conv_tail", StateSize::Fixed(vec![k - 1, width]));
        let y = self.value(width);
        self.push(Op::Conv1d { x, taps, bias, tail, y: y.value });
        y
    }

    /// A function of every number of a whole value, in place.
    pub fn activate(&mut self, activation: Activation, y: View) -> View {
        debug_assert_eq!(y, self.whole(y.value), "a part of a value cannot be activated by itself");
        self.push(Op::Activate { activation, y: y.value });
        y
    }

    /// `x SiLU(z_scale z)`; in place where `x` is the whole of a value, which is then gone.
    pub fn gate(&mut self, x: View, z: View, z_scale: f32) -> View {
        debug_assert_eq!(x.width, z.width, "a gate is as wide as what it gates");
        debug_assert_ne!(Some(x.value), self.hidden, "the residual stream would be overwritten");
        let y = if x == self.whole(x.value) { x } else { self.value(x.width) };
        self.push(Op::Gate { x, z, z_scale, y: y.value });
        y
    }

    /// A gate with a norm.
    pub fn gated_norm(&mut self, norm: Option<GroupNorm>, x: View, z: View) -> View {
        let y = self.value(x.width);
        self.push(Op::GatedNorm { norm, x, z, y: y.value });
        y
    }

    /// Values side by side.
    pub fn concat(&mut self, parts: &[View]) -> View {
        let y = self.value(parts.iter().map(|part| part.width).sum());
        let mut first = 0;
        for &x in parts {
            self.push(Op::Copy { x, y: y.part(first, x.width) });
            first += x.width;
        }
        y
    }

    /// Something to remember.
    pub fn state(&mut self, name: &'static str, size: StateSize) -> StateId {
        self.states.push(State { name, layer: self.layer, size });
        StateId(self.states.len() - 1)
    }
}

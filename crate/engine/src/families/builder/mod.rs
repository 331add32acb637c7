//! What a family's file writes its program with. Here: shapes, axes, values, layers and the end;
//! weights and ops stand in files of their own.
//!
//! Calls declare weights as they use them: key, role and what the dimensions mean, against which the
//! stored shape is held. The first tensor that is missing or does not fit is kept as the error of the
//! whole, so that a family reads as the model does, without a question mark on every line; the sizes
//! that it counts itself are asked for with errors of their own.

use statepress_core::words::plural;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use statepress_core::{Finding, Role};
use statepress_kernels::program::{
    Axis, AxisId, AxisName, Head, Layout, Matrix, MatrixId, Node, Program, Record, ReducedVocabulary,
    Segment, Slots, State, ValueId, Vector, View, Watched,
};

mod ops;
mod vocabulary;
mod weights;

pub(crate) use vocabulary::{ORIGINAL_VOCABULARY, UNKNOWN, UNKNOWN_SHARE};
pub(crate) use weights::Lin;

use super::fields::Collector;
use super::keys::HEAD;
use crate::EngineError;

/// A program under construction.
pub(crate) struct Builder<'a> {
    /// Configuration fields.
    pub fields: Collector<'a>,
    /// Whether the head shares the table's storage.
    pub shares_head: bool,
    /// Bytes of the file; known files are recognised by it.
    pub file_bytes: u64,
    /// Shapes by usual key.
    shapes: &'a BTreeMap<String, Vec<usize>>,
    family: &'static str,
    offset: usize,
    scope: String,
    layer: Option<usize>,
    nodes: Vec<Node>,
    widths: Vec<usize>,
    states: Vec<State>,
    matrices: Vec<Matrix>,
    vectors: Vec<Vector>,
    axes: Vec<Axis>,
    hidden: Option<ValueId>,
    table: Option<MatrixId>,
    end: Option<Head>,
    /// The key of the table's own basis, and its directions.
    basis: Option<(String, Segment)>,
    vocab_size: usize,
    reduced: Option<ReducedVocabulary>,
    max_tokens: Option<usize>,
    error: Option<EngineError>,
}

impl<'a> Builder<'a> {
    pub fn new(
        fields: Collector<'a>,
        shapes: &'a BTreeMap<String, Vec<usize>>,
        family: &'static str,
    ) -> Self {
        Self {
            fields,
            shares_head: false,
            file_bytes: 0,
            shapes,
            family,
            offset: 1,
            scope: String::new(),
            layer: None,
            nodes: Vec::new(),
            widths: Vec::new(),
            states: Vec::new(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            axes: Vec::new(),
            hidden: None,
            table: None,
            end: None,
            basis: None,
            vocab_size: 0,
            reduced: None,
            max_tokens: None,
            error: None,
        }
    }

    /// A closer name for what this is.
    pub fn family(&mut self, name: &'static str) {
        self.family = name;
    }

    /// Position `t` predicts token `t + offset`; 1 unless a family says otherwise.
    pub fn offset(&mut self, offset: usize) {
        self.offset = offset;
    }

    /// The most tokens of a sequence.
    pub fn max_tokens(&mut self, max_tokens: Option<usize>) {
        self.max_tokens = max_tokens;
    }

    // Shapes.

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.scope)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, key: &str) -> bool {
        self.shapes.contains_key(&self.key(key))
    }

    /// A tensor's shape, which must have `N` dimensions, none of them zero.
    pub fn shape<const N: usize>(&self, key: &str) -> Result<[usize; N], EngineError> {
        let key = self.key(key);
        let found = self
            .shapes
            .get(&key)
            .ok_or_else(|| EngineError::Keys { missing: vec![key.clone()], unexpected: Vec::new() })?;
        let shape: [usize; N] = found.as_slice().try_into().map_err(|_| EngineError::Shape {
            tensor: key.clone(),
            found: found.clone(),
            expected: format!("{N} dimensions"),
        })?;
        if shape.contains(&0) {
            return Err(EngineError::Shape {
                tensor: key,
                found: found.clone(),
                expected: "no dimension of zero".into(),
            });
        }
        Ok(shape)
    }

    /// Rows of a table, and numbers of what is looked up in it.
    pub fn table_shape(&self, table: &str) -> Result<[usize; 2], EngineError> {
        let [rows, k] = self.shape(table)?;
        let basis = beside(table, "basis");
        Ok([rows, if self.has(&basis) { self.shape::<2>(&basis)?[1] } else { k }])
    }

    /// The number of `PREFIX.0.`, `PREFIX.1.`, ... without a gap.
    pub fn count(&self, prefix: &str) -> Result<usize, EngineError> {
        let prefix = self.key(prefix);
        let indexes: BTreeSet<usize> = self
            .shapes
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix)?.split('.').next()?.parse().ok())
            .collect();
        match (0..indexes.len()).find(|index| !indexes.contains(index)) {
            None => Ok(indexes.len()),
            Some(gap) => {
                Err(EngineError::Keys { missing: vec![format!("{prefix}{gap}.*")], unexpected: Vec::new() })
            }
        }
    }

    /// The width of the token table, whose rows and columns are reported. Rows beyond the vocabulary of
    /// the configuration are padding.
    pub fn vocabulary(&mut self, table: &str) -> Result<usize, EngineError> {
        let [rows, d] = self.table_shape(table)?;
        let from = format!("rows of {table}");
        let value = self.fields.optional("vocab_size");
        let claimed =
            value.as_ref().and_then(Value::as_u64).and_then(|claimed| usize::try_from(claimed).ok());
        if let Some(value) = value.filter(|_| self.fields.is_set("vocab_size"))
            && claimed.is_none_or(|claimed| !(1..=rows).contains(&claimed))
        {
            return Err(self.fields.refuse(
                "vocab_size",
                &value,
                &format!("a whole number from 1 to {rows}"),
            ));
        }
        match claimed.filter(|claimed| (1..rows).contains(claimed)) {
            Some(claimed) => {
                let message = format!(
                    "{} of {rows} rows of the table {} padding: never an input, and never a logit",
                    rows - claimed,
                    plural(&(rows - claimed), "is", "are")
                );
                self.fields.finding(Finding::info("padded-vocabulary", message).about(table));
                self.vocab_size = claimed;
            }
            None => {
                self.fields.counted("vocab_size", rows, &from);
                self.vocab_size = rows;
            }
        }
        self.fields.counted("hidden_size", d, &format!("columns of {table}"));
        Ok(d)
    }

    /// How many layers there are, which is reported.
    pub fn layers(&mut self, prefix: &str) -> Result<usize, EngineError> {
        let n_layers = self.count(prefix)?;
        self.fields.counted("num_hidden_layers", n_layers, "highest layer index + 1");
        Ok(n_layers)
    }

    /// What divides a count that is counted without a rest, or the error that names the tensor.
    pub fn expect(&self, key: &str, fits: bool, expected: impl Into<String>) -> Result<(), EngineError> {
        if fits {
            return Ok(());
        }
        let key = self.key(key);
        let found = self.shapes.get(&key).cloned().unwrap_or_default();
        Err(EngineError::Shape { tensor: key, found, expected: expected.into() })
    }

    fn fail(&mut self, error: EngineError) {
        self.error.get_or_insert(error);
    }

    /// Holds a stored shape against the declared one.
    fn check(&mut self, key: &str, expected: &[usize]) {
        let error = match self.shapes.get(key) {
            Some(found) if found == expected => return,
            Some(found) => EngineError::Shape {
                tensor: key.into(),
                found: found.clone(),
                expected: format!("{expected:?}"),
            },
            None => EngineError::Keys { missing: vec![key.into()], unexpected: Vec::new() },
        };
        self.fail(error);
    }

    // Places.

    /// Declares what belongs to layer `n`, whose keys begin with `scope`; then the layer ends.
    pub fn layer(
        &mut self,
        n: usize,
        scope: &str,
        declare: impl FnOnce(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.layer = Some(n);
        self.scoped(scope, declare)?;
        if let Some(node) = self.nodes.last_mut() {
            node.ends_layer = true;
        }
        self.layer = None;
        Ok(())
    }

    /// Keys within begin with `scope`, behind what they begin with already: what is asked for and declared
    /// within a layer is named from there on, what is counted before the layers by its whole key.
    pub fn scoped<T>(&mut self, scope: &str, declare: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.scope.len();
        self.scope.push_str(scope);
        let declared = declare(self);
        self.scope.truncate(outer);
        declared
    }

    /// A new axis of the current layer, whole: what has the same name and size elsewhere is another one.
    pub fn axis(&mut self, name: AxisName, size: usize) -> Segment {
        self.axes.push(Axis { name, layer: self.layer, size, parts: 1, with: None });
        Segment { axis: AxisId(self.axes.len() - 1), size, outer: 1, inner: 1, label: "" }
    }

    /// The axis falls into so many equal parts, which have to stay equally long.
    pub fn parts(&mut self, axis: Segment, parts: usize) -> Segment {
        self.axes[axis.axis.0].parts = parts;
        axis
    }

    /// Heads of attention's keys and values, and those of queries, which go with them.
    pub fn attention_heads(&mut self, heads: usize, kv_heads: usize) -> [Segment; 2] {
        let kv = self.axis(AxisName::KvHead, kv_heads);
        let queries = self.axis(AxisName::QueryHead, heads);
        self.axes[queries.axis.0].with = Some(kv.axis);
        [queries, kv]
    }

    /// Channels of the residual stream: an axis of the whole model.
    pub fn hidden_axis(&mut self) -> Segment {
        let known = self.axes.iter().position(|axis| axis.name == AxisName::Hidden);
        let size = self.hidden_size();
        match known {
            Some(id) => Segment { axis: AxisId(id), size, outer: 1, inner: 1, label: "" },
            None => {
                let layer = self.layer.take();
                let axis = self.axis(AxisName::Hidden, size);
                self.layer = layer;
                axis
            }
        }
    }

    /// d.
    pub fn hidden_size(&self) -> usize {
        self.hidden.map_or(0, |hidden| self.widths[hidden.0])
    }

    /// A value of so many numbers a token.
    pub fn value(&mut self, width: usize) -> View {
        self.widths.push(width);
        self.whole(ValueId(self.widths.len() - 1))
    }

    fn whole(&self, value: ValueId) -> View {
        View { value, first: 0, width: self.widths[value.0] }
    }

    /// The residual stream.
    pub fn hidden(&self) -> View {
        // Embedding comes first; a family that forgets it fails its first test.
        self.whole(self.hidden.unwrap_or(ValueId(0)))
    }

    /// Lets columns of a value be watched under a name, as the op that was written last leaves them: call
    /// it right behind the op.
    pub fn watch(&mut self, name: &'static str, view: View) -> View {
        if let Some(node) = self.nodes.last_mut() {
            node.records.push(Record { name, what: Watched::View(view) });
        }
        view
    }

    /// Lets the residual stream be watched as the layer leaves it.
    pub fn watch_layer(&mut self) {
        let hidden = self.hidden();
        self.watch("layer", hidden);
    }

    /// Lets what the last product gave be watched by itself, before scales and sums.
    pub fn watch_product(&mut self, name: &'static str) {
        if let Some(node) = self.nodes.last_mut() {
            node.records.push(Record { name, what: Watched::Product });
        }
    }

    /// Lets the logits of the last experts' router be watched.
    pub fn watch_router(&mut self, name: &'static str) {
        if let Some(node) = self.nodes.last_mut() {
            node.records.push(Record { name, what: Watched::Router });
        }
    }

    /// The final norm and the head. Without a head of its own the table serves, if `tied` says that it
    /// may: where there is no configuration, and where one is silent.
    pub fn finish_with(
        &mut self,
        norm: &str,
        kind: Kind,
        eps: f64,
        scale: f32,
        tied: Tied,
    ) -> Result<(), EngineError> {
        let channels = self.hidden_axis();
        let norm = self.norm_weights(norm, kind, eps, channels);
        let Some(table) = self.table else { return Ok(()) };
        let matrix = if self.has(HEAD) {
            let dims = self.matrices[table.0].dims.clone();
            let [rows, _] = dims;
            self.bare_matrix(HEAD, Role::Head, rows, channels, Layout::Plain)
        } else {
            if let Tied::AsConfigured { default } = tied {
                let why = "the family's default";
                if !self.fields.free_flag("tie_word_embeddings", default, why)? {
                    let reason = format!(
                        "{HEAD} is not in the file, and the table is not tied to it (tie_word_embeddings is \
                         false): the file has no head; set tie_word_embeddings=true if the table serves"
                    );
                    return Err(EngineError::UnknownModel { reason });
                }
            }
            table
        };
        let turned = if matrix == table { self.onto_basis(norm) } else { None };
        let norm = turned.is_none().then_some(norm);
        self.end = Some(Head { x: turned.unwrap_or(self.hidden()).value, norm, matrix, scale });
        Ok(())
    }

    /// The program, once everything was there and fitted.
    pub fn finish(self) -> (Collector<'a>, &'static str, usize, Result<Program, EngineError>) {
        let program = match (self.error, self.end, self.table, self.hidden) {
            (Some(error), ..) => Err(error),
            (None, Some(head), Some(table), Some(hidden)) => Ok(Program {
                slots: Slots::new(&self.nodes, &self.widths, hidden, head.x),
                nodes: self.nodes,
                widths: self.widths,
                states: self.states,
                matrices: self.matrices,
                vectors: self.vectors,
                axes: self.axes,
                hidden,
                head,
                table,
                vocab_size: self.vocab_size,
                reduced: self.reduced,
                max_tokens: self.max_tokens,
            }),
            _ => Err(EngineError::UnknownModel { reason: "the family has not called finish_with".into() }),
        };
        (self.fields, self.family, self.offset, program)
    }
}

/// The key of what belongs to a table.
pub(crate) fn beside(table: &str, what: &str) -> String {
    format!("{}{what}", table.strip_suffix("weight").unwrap_or(table))
}

/// Kinds of norms with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// LayerNorm, with weight and bias.
    Layer,
    /// RMS norm, with a weight.
    Rms,
}

/// Whether the table makes the logits where there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tied {
    /// Always, without asking; a head that is there is taken all the same.
    Always,
    /// If `tie_word_embeddings` says so.
    AsConfigured {
        /// Where it says nothing.
        default: bool,
    },
}

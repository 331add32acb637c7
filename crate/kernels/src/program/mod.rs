//! A model as a program: what its family declares once, and every reader takes its part from.
//!
//! A program is a list of [nodes](Node) over *values*, which are rows of numbers for every token of a
//! step, over *states*, which are what a sequence remembers from step to step, and over declared
//! weights. The CPU interprets the list; the GPU lowers it to dispatches; loading, recipes, reports
//! and calibration read the declarations. Nothing in it depends on a backend or on how many tokens a
//! step has.

mod op;
mod slots;
mod sublayers;
mod uses;
mod weights;

pub use op::{Activation, Attention, Expert, Experts, GroupNorm, Linear, Norm, NormKind, Op, Ssd, View};
pub use slots::Slots;
pub use sublayers::Sublayer;
pub use uses::Use;
pub use weights::{
    Axis, AxisId, AxisName, Dim, Layout, Matrix, MatrixId, Segment, Vector, VectorForm, VectorId,
    VectorSource,
};

/// A value: `[n, width]` numbers, where a step has `n` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// What a sequence remembers from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub usize);

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// In the order in which they run, from the embedding to the last layer.
    pub nodes: Vec<Node>,
    /// Numbers a token of every value.
    pub widths: Vec<usize>,
    /// Every state.
    pub states: Vec<State>,
    /// Every matrix.
    pub matrices: Vec<Matrix>,
    /// Everything else that is read from the checkpoint, and constants.
    pub vectors: Vec<Vector>,
    /// What dimensions of weights mean.
    pub axes: Vec<Axis>,
    /// The residual stream.
    pub hidden: ValueId,
    /// What makes logits once all nodes have run.
    pub head: Head,
    /// The token table.
    pub table: MatrixId,
    /// Rows of ids that exist. Rows of table and head beyond are padding: never an input, never a logit.
    pub vocab_size: usize,
    /// Where not every id has a row; `None`: id `i` has row `i`.
    pub reduced: Option<ReducedVocabulary>,
    /// The most tokens of a sequence; `None`: the model sets no limit.
    pub max_tokens: Option<usize>,
    /// Where values lie while the program runs.
    pub slots: Slots,
}

/// One step of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// In which layer; `None` before the first.
    pub layer: Option<usize>,
    /// What can be watched once it is done.
    pub records: Vec<Record>,
    /// Whether the residual stream is now that after the embedding, or after a layer.
    pub ends_layer: bool,
}

/// A quantity that can be watched, under the name that references give it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// `ssm.in_proj`, `scan_in`, ...
    pub name: &'static str,
    /// What is watched.
    pub what: Watched,
}

/// What is watched of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Watched {
    /// Columns of a value.
    View(View),
    /// What a product's matrix and bias give, before scales and before it is added; or the sum over
    /// experts, likewise.
    Product,
    /// The router's logits.
    Router,
}

/// What a sequence remembers of one kind in one layer. It begins as zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `conv_tail`, `h`, `k`, `v`.
    pub name: &'static str,
    /// Of which layer.
    pub layer: Option<usize>,
    /// How much it is.
    pub size: StateSize,
}

/// How many numbers a state has.
#[derive(Clone, Debug, PartialEq)]
pub enum StateSize {
    /// The same number throughout, in a tensor of these dimensions.
    Fixed(Vec<usize>),
    /// So many for every token that was taken in.
    PerToken(usize),
}

/// A vocabulary of which some ids have rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReducedVocabulary {
    /// The ids of the rows, ascending.
    pub ids: VectorId,
    /// V: how many ids there are.
    pub size: usize,
    /// The id that those without a row are read as.
    pub unknown: usize,
    /// The probability that all of them have together.
    pub share: f64,
}

/// What makes logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// What it reads, `[n, k]`: the residual stream after the last layer, unless the table has a basis of its own.
    pub x: ValueId,
    /// Of what it reads; `None`: a node has done it.
    pub norm: Option<Norm>,
    /// `[V, k]`.
    pub matrix: MatrixId,
    /// Logits are multiplied by it.
    pub scale: f32,
}

impl Program {
    /// A matrix.
    pub fn matrix(&self, id: MatrixId) -> &Matrix {
        &self.matrices[id.0]
    }

    /// A vector.
    pub fn vector(&self, id: VectorId) -> &Vector {
        &self.vectors[id.0]
    }

    /// Numbers a token of a value.
    pub fn width(&self, id: ValueId) -> usize {
        self.widths[id.0]
    }

    /// d: the width of the residual stream.
    pub fn hidden_size(&self) -> usize {
        self.width(self.hidden)
    }

    /// The norm behind the last layer, and the basis of the table that reads it where the table has one.
    pub fn end(&self) -> (Option<Norm>, Option<MatrixId>) {
        let writer =
            |value: ValueId| self.nodes.iter().rev().map(|node| &node.op).find(|op| op.writes() == value);
        match (self.head.norm, writer(self.head.x)) {
            (None, Some(Op::Linear(Linear { w, x, .. }))) => match writer(x.value) {
                Some(Op::Norm { norm, .. }) => (Some(*norm), Some(*w)),
                _ => (None, Some(*w)),
            },
            (norm, _) => (norm, None),
        }
    }

    /// What rows of the table are multiplied by where they are looked up.
    pub fn table_scale(&self) -> f32 {
        let scale = |node: &Node| if let Op::Embed { scale, .. } = node.op { Some(scale) } else { None };
        self.nodes.iter().find_map(scale).unwrap_or(1.0)
    }

    /// How many layers there are.
    pub fn n_layers(&self) -> usize {
        self.nodes.iter().filter_map(|node| node.layer).max().map_or(0, |last| last + 1)
    }

    /// The node at which a layer begins, or that follows the last layer, if from there on nothing that was written before it is read
    /// but the residual stream.
    pub fn begin(&self, layer: usize) -> Option<usize> {
        let is_before = |node: &Node| node.layer.is_some_and(|at| at < layer);
        let begin = self.nodes.iter().rposition(is_before)? + 1;
        self.goes_on_from()[begin].then_some(begin)
    }

    /// Nodes before which a pass can stop, and go on with the residual stream alone: the first, and those of [`Self::begin`], of
    /// which the last may be behind all nodes, where the final norm follows.
    pub fn stops(&self) -> Vec<usize> {
        let between = (1..=self.n_layers()).filter_map(|layer| self.begin(layer));
        let mut stops: Vec<usize> = [0].into_iter().chain(between).collect();
        stops.dedup();
        stops
    }

    /// Whether a sequence's memory does not grow with it: there is a recurrence in the model.
    pub fn is_recurrent(&self) -> bool {
        self.states.iter().any(|state| state.name == "h")
    }

    /// Lets the table make the logits: the head's own matrix is not needed.
    pub fn tie_head(&mut self) {
        self.head.matrix = self.table;
    }

    /// Matrices that anything multiplies or looks up, in the order of their declaration.
    pub fn used_matrices(&self) -> impl Iterator<Item = MatrixId> {
        let (head, table) = (self.head.matrix, self.table);
        (0..self.matrices.len()).map(MatrixId).filter(move |&id| {
            self.matrix(id).role != statepress_core::Role::Head || id == head || id == table
        })
    }
}

impl StateSize {
    /// Numbers once `tokens` were taken in.
    pub fn numbers(&self, tokens: usize) -> usize {
        match self {
            Self::Fixed(dims) => dims.iter().product(),
            Self::PerToken(width) => width * tokens,
        }
    }
}

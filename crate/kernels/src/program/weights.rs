//! What a program reads from its checkpoint, and what the dimensions of that mean.

use statepress_core::Role;

/// A matrix of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MatrixId(pub usize);

/// A vector of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VectorId(pub usize);

/// An axis of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AxisId(pub usize);

/// A matrix that products or look-ups use, `[rows, cols]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Canonical key of the tensor.
    pub key: String,
    /// Outputs of a product.
    pub rows: usize,
    /// Inputs of a product.
    pub cols: usize,
    /// How it lies in its tensor.
    pub layout: Layout,
    /// What it does.
    pub role: Role,
    /// What its rows and columns mean.
    pub dims: [Dim; 2],
    /// In which layer.
    pub layer: Option<usize>,
}

/// How a matrix lies in its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[rows, cols]`.
    Plain,
    /// `[cols, rows]`, as GPT-2 stores it.
    Transposed,
    /// The `index`th of `[count, rows, cols]`.
    Part {
        /// Which.
        index: usize,
        /// Of how many.
        count: usize,
    },
}

/// Numbers that no product goes over: norms, biases, taps, dynamics.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    /// Where they come from.
    pub source: VectorSource,
    /// How many.
    pub len: usize,
    /// What is made of them.
    pub form: VectorForm,
    /// What they do.
    pub role: Role,
    /// What their dimensions mean.
    pub dims: Vec<Dim>,
    /// In which layer.
    pub layer: Option<usize>,
}

/// Where numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum VectorSource {
    /// A tensor's canonical key.
    Key(String),
    /// The configuration: multipliers, frequencies.
    Constant(Vec<f32>),
}

/// What is made of numbers when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorForm {
    /// They stay as they are.
    Plain,
    /// `-exp(x)`: `A = -exp(A_log)`.
    NegExp,
    /// `[channels, 1, k]` becomes `[k, channels]`.
    Taps {
        /// k.
        k: usize,
    },
}

/// Something that weights have in common, such as the inner channels of a layer: whoever takes one of
/// them away does so in every weight that mentions the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// What it is.
    pub name: AxisName,
    /// Of which layer; `None`: of the whole model.
    pub layer: Option<usize>,
    /// How long it is.
    pub size: usize,
    /// Equal parts, one after the other, of which each has to stay as long as the others.
    pub parts: usize,
    /// The axis whose elements each take as many of this one's along, in their order: heads of queries go with theirs of
    /// keys and values.
    pub with: Option<AxisId>,
}

/// What an axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AxisName {
    /// Channels of the residual stream.
    Hidden,
    /// Tokens.
    Vocab,
    /// Positions.
    Position,
    /// Directions that the rows of a table with a basis of its own are written in.
    Basis,
    /// Channels inside an SSM block.
    Inner,
    /// States of a channel or a head.
    State,
    /// Groups that share input and output matrices.
    Group,
    /// Heads of an SSM.
    Head,
    /// Heads of attention's queries.
    QueryHead,
    /// Heads of attention's keys and values.
    KvHead,
    /// Channels of a head.
    HeadChannel,
    /// The low rank of the step size.
    Rank,
    /// Rows of the step size's projection, over which a mean is taken.
    Delta,
    /// Taps of a convolution.
    Tap,
    /// Experts.
    Expert,
    /// Channels inside a feed-forward network or an expert.
    Ffn,
}

impl Vector {
    /// The usual key of its tensor, where it has one.
    pub fn key(&self) -> Option<&str> {
        match &self.source {
            VectorSource::Key(key) => Some(key),
            VectorSource::Constant(_) => None,
        }
    }
}

impl Matrix {
    /// Whether it makes looked-up rows of what they are written in: the basis of a table, from the side of the look-up.
    pub fn is_look_up(&self) -> bool {
        self.role == Role::Basis && self.layout == Layout::Transposed
    }
}

/// What the indexes of one dimension of a weight mean: segments, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dim(pub Vec<Segment>);

/// A run of indexes: index `(i * size + j) * inner + l` belongs to element `j` of the axis, for `i`
/// below `outer` and `l` below `inner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The axis.
    pub axis: AxisId,
    /// Its length.
    pub size: usize,
    /// How often the axis is gone through.
    pub outer: usize,
    /// How many neighbours every element has.
    pub inner: usize,
    /// What the part is called: `z`, `x`, `B`, `C`, `dt`; empty where there is one part.
    pub label: &'static str,
}

impl Segment {
    /// Indexes in it.
    pub fn len(&self) -> usize {
        self.outer * self.size * self.inner
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, called so.
    pub fn named(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    /// Every element has so many neighbours: a head of so many channels.
    pub fn each(self, inner: usize) -> Self {
        Self { inner: self.inner * inner, ..self }
    }

    /// The axis is gone through so often: once for every group.
    pub fn times(self, outer: usize) -> Self {
        Self { outer: self.outer * outer, ..self }
    }
}

impl Dim {
    /// Indexes in all.
    pub fn len(&self) -> usize {
        self.0.iter().map(Segment::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Segment> for Dim {
    fn from(segment: Segment) -> Self {
        Self(vec![segment])
    }
}

impl<const N: usize> From<[Segment; N]> for Dim {
    fn from(segments: [Segment; N]) -> Self {
        Self(segments.to_vec())
    }
}

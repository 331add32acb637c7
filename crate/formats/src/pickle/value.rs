//! What a pickle is read into: inert values in one list, referring to each other by index.
//!
//! Values may share and even contain each other, as Python's do: whoever walks them counts steps.

use std::rc::Rc;

use super::element::Element;

/// Everything a pickle holds.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub(crate) heap: Heap,
    pub(crate) root: Value,
}

/// A small value, or a reference to a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Ref(u32),
}

impl Value {
    /// The node that it refers to.
    pub(crate) fn node(self) -> Option<u32> {
        match self {
            Self::Ref(node) => Some(node),
            _ => None,
        }
    }
}

/// A value that is too large to copy.
#[derive(Debug)]
pub(crate) enum Node {
    Str(Box<str>),
    /// Bytes: how many (of long texts of old protocols, at the most), and the first eight, where a scalar
    /// fits.
    Bytes {
        len: u64,
        first: [u8; 8],
    },
    Tuple(Vec<Value>),
    /// A list or a set.
    List(Vec<Value>),
    /// Pairs in the order they were set; a key may occur more than once.
    Dict(Vec<(Value, Value)>),
    /// A global by the strings of its module and its name, never resolved.
    Global(Value, Value),
    Storage(Rc<StorageRef>),
    Tensor(Rc<TensorRef>),
    /// A tensor whose numbers this crate does not read.
    Unread(Rc<Unread>),
    /// What calling anything else would have made; nothing is called.
    Record(Record),
}

/// An object or the result of a call, by what it would have been made from.
#[derive(Debug)]
pub(crate) struct Record {
    /// What would have been called, usually a global.
    pub(crate) callee: Value,
    /// What with.
    pub(crate) args: Value,
    /// What `__setstate__` would have been given: usually a dict of fields.
    pub(crate) state: Value,
    /// What subclasses of list, set and dict hold.
    pub(crate) held: Option<Box<Held>>,
}

/// The items of a container that is an object.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) items: Vec<Value>,
    pub(crate) pairs: Vec<(Value, Value)>,
}

/// A storage of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageRef {
    pub(crate) key: String,
    pub(crate) element: Element,
    pub(crate) elements: u64,
    /// Elements before it, where it is a part of a larger storage (legacy files).
    pub(crate) skip: u64,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(crate) struct TensorRef {
    pub(crate) storage: Rc<StorageRef>,
    /// The type of its elements, which is not always that of the storage.
    pub(crate) dtype: statepress_core::DType,
    pub(crate) first: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<u64>,
    /// torch's negative bit: the numbers are the opposite of what is stored.
    pub(crate) negated: bool,
    pub(crate) quantizer: Option<Quantizer>,
    /// The global of a subclass of tensors.
    pub(crate) class: Option<Value>,
}

/// A tensor that is not read: what it is, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    /// `a sparse tensor`, say.
    pub(crate) what: String,
    pub(crate) help: String,
    /// Numbers in it, where that is known.
    pub(crate) elements: Option<u64>,
}

/// Affine quantization parameters of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Quantizer {
    PerTensor { scale: f64, zero_point: i64 },
    PerChannel { scales: Rc<TensorRef>, zero_points: Rc<TensorRef>, axis: i64 },
}

/// Pairs by which an object is known.
const FIRST_PAIRS: usize = 64;

/// All nodes of a pickle.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    pub(super) nodes: Vec<Node>,
}

impl Heap {
    pub(crate) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Ref(at) => self.nodes.get(at as usize),
            _ => None,
        }
    }

    /// All of them, in the order they were made.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn str(&self, value: Value) -> Option<&str> {
        match self.node(value)? {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The items of a list, a tuple or an object that holds items.
    pub(crate) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Tuple(items) | Node::List(items) => Some(items),
            Node::Record(Record { held: Some(held), .. }) => Some(&held.items),
            _ => None,
        }
    }

    /// The pairs of a dict, or of an object that is one (`defaultdict`, `Counter`, a subclass).
    pub(crate) fn mapping(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value)? {
            Node::Dict(pairs) => Some(pairs),
            Node::Record(Record { held: Some(held), .. }) if !held.pairs.is_empty() => Some(&held.pairs),
            _ => None,
        }
    }

    pub(crate) fn record(&self, value: Value) -> Option<&Record> {
        match self.node(value)? {
            Node::Record(record) => Some(record),
            _ => None,
        }
    }

    pub(crate) fn tensor(&self, value: Value) -> Option<&Rc<TensorRef>> {
        match self.node(value)? {
            Node::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    pub(crate) fn unread(&self, value: Value) -> Option<&Rc<Unread>> {
        match self.node(value)? {
            Node::Unread(unread) => Some(unread),
            _ => None,
        }
    }

    /// `module.name` of a global.
    pub(crate) fn global(&self, value: Value) -> Option<String> {
        match self.node(value)? {
            Node::Global(module, name) => Some(format!("{}.{}", self.str(*module)?, self.str(*name)?)),
            _ => None,
        }
    }

    /// The value that a mapping holds under a string. The last one set counts, as in Python.
    pub(crate) fn get(&self, mapping: Value, key: &str) -> Option<Value> {
        let mut pairs = self.mapping(mapping)?.iter().rev();
        pairs.find(|(found, _)| self.str(*found) == Some(key)).map(|(_, value)| *value)
    }

    /// The first pairs of a mapping: enough to know an object by, and few, because a hostile file may ask
    /// for the same mapping again and again.
    pub(crate) fn first_pairs(&self, mapping: Value) -> &[(Value, Value)] {
        let pairs = self.mapping(mapping).unwrap_or_default();
        &pairs[..pairs.len().min(FIRST_PAIRS)]
    }

    /// Whether an object is a `torch.nn.Module`, by its fields.
    pub(crate) fn is_module(&self, value: Value) -> bool {
        self.record(value).is_some_and(|record| {
            let fields = self.first_pairs(record.state);
            let has = |field| fields.iter().any(|(key, _)| self.str(*key) == Some(field));
            has("_parameters") && has("_modules")
        })
    }

    /// Every storage that is mentioned anywhere, with repetitions.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &StorageRef> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }
}

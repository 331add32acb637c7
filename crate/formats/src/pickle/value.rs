//! What a pickle is read into: inert values in one list, referring to each other by index.
//!
//! Values may share and even contain each other, as Python's do: whoever walks them counts steps.

use std::rc::Rc;

use statepress_core::DType;

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

/// A value that is too large to copy.
#[derive(Debug)]
pub(crate) enum Node {
    Str(Box<str>),
    /// Bytes, of which only the number matters to anyone.
    Bytes(u64),
    Tuple(Vec<Value>),
    /// A list or a set.
    List(Vec<Value>),
    /// Pairs in the order they were set; a key may occur more than once.
    Dict(Vec<(Value, Value)>),
    /// A global by the strings of its module and its name, never resolved.
    Global(Value, Value),
    Storage(Rc<StorageRef>),
    Tensor(Rc<TensorRef>),
    /// An instance of an unknown class: what its constructor would have been given, and its
    /// fields, usually a dict.
    Record {
        args: Value,
        state: Value,
    },
}

/// A storage of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageRef {
    pub(crate) key: String,
    pub(crate) dtype: DType,
    pub(crate) elements: u64,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(crate) struct TensorRef {
    pub(crate) storage: Rc<StorageRef>,
    pub(crate) first: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<u64>,
    pub(crate) quantizer: Option<Quantizer>,
}

/// Affine quantization parameters of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Quantizer {
    PerTensor { scale: f64, zero_point: i64 },
    PerChannel { scales: Rc<TensorRef>, zero_points: Rc<TensorRef>, axis: i64 },
}

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

    pub(crate) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.node(value)? {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    pub(crate) fn tensor(&self, value: Value) -> Option<&Rc<TensorRef>> {
        match self.node(value)? {
            Node::Tensor(tensor) => Some(tensor),
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

    /// The value that a dict holds under a string. The last one set counts, as in Python.
    pub(crate) fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let mut pairs = self.dict(dict)?.iter().rev();
        pairs.find(|(found, _)| self.str(*found) == Some(key)).map(|(_, value)| *value)
    }

    /// Every storage that is mentioned anywhere, with repetitions.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &StorageRef> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }
}

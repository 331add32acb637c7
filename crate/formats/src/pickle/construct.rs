//! What a call would have made. Nothing is called: the few functions that make weights and dicts are
//! understood, and every other call becomes a record of its callee and arguments.

use std::rc::Rc;

use super::machine::Stop;
use super::{Heap, Node, Record, TensorRef, Value, tensor};

/// The result of a construction: a new node, or one of the arguments.
pub(super) enum Made {
    Node(Node),
    Value(Value),
}

/// How many `_rebuild_from_type_v2` may stand within each other: a subclass rebuilds its plain tensor.
const SUBCLASSES: usize = 4;

/// Bytes of a text whose characters are counted.
const COUNTED: usize = 4096;

/// What `callee(*args)` would make.
pub(super) fn construct(heap: &mut Heap, callee: Value, args: Value) -> Result<Made, Stop> {
    let (mut function, mut arguments) = (callee, args);
    let mut class = None;
    let mut state = Value::None;
    for _ in 0..SUBCLASSES {
        // `_rebuild_from_type_v2(function, class, arguments, state)`
        let name = heap.global(function);
        match (name.as_deref(), heap.tuple(arguments)) {
            (
                Some("torch._tensor._rebuild_from_type_v2" | "torch._tensor._rebuild_from_type"),
                Some(&[inner, of, inner_args, attributes]),
            ) => {
                (function, arguments, state) = (inner, inner_args, attributes);
                class.get_or_insert(of);
            }
            _ => break,
        }
    }
    match torch(heap, function, arguments)? {
        Some(made) => Ok(subclass(heap, made, class, state)),
        None => Ok(Made::Node(plain(heap, callee, args))),
    }
}

/// The tensors of torch, by the function that rebuilds them.
fn torch(heap: &Heap, function: Value, args: Value) -> Result<Option<Made>, Stop> {
    let (Some(name), Some(values)) = (heap.global(function), heap.tuple(args)) else { return Ok(None) };
    let Some(rebuild) = name.strip_prefix("torch.") else { return Ok(None) };
    let is_tensor = |value: Value| matches!(heap.node(value), Some(Node::Tensor(_) | Node::Unread(_)));
    let node = match (rebuild, values) {
        ("_utils._rebuild_tensor" | "_utils._rebuild_tensor_v2", _) => tensor::of_storage_type(heap, values)?,
        ("_utils._rebuild_tensor_v3", _) => tensor::of_dtype(heap, values)?,
        ("_utils._rebuild_qtensor", _) => tensor::quantized(heap, values)?,
        ("_utils._rebuild_parameter_with_state", &[data, _, _, state, ..]) if is_tensor(data) => {
            match tensor::quantized_by_attributes(heap, state) {
                Some(unread) => unread,
                None => return Ok(Some(Made::Value(data))),
            }
        }
        (
            "_utils._rebuild_parameter"
            | "_utils._rebuild_device_tensor_from_cpu_tensor"
            | "nn.parameter.Parameter"
            | "nn.parameter.Buffer",
            &[data, ..],
        ) if is_tensor(data) => return Ok(Some(Made::Value(data))),
        ("_utils._rebuild_parameter" | "_utils._rebuild_parameter_with_state", _) => {
            return Err("a parameter without a tensor".into());
        }
        _ if rebuild.rsplit('.').next().is_some_and(|word| word.starts_with("_rebuild_")) => {
            tensor::other(heap, &name, values)
        }
        _ => return Ok(None),
    };
    Ok(Some(Made::Node(node)))
}

/// A tensor with its subclass. Subclasses that are only names have the numbers of the plain tensor.
fn subclass(heap: &Heap, made: Made, class: Option<Value>, state: Value) -> Made {
    let Some(class) = class else { return made };
    if let Some(unread) = tensor::quantized_by_attributes(heap, state) {
        return Made::Node(unread);
    }
    let plain = heap.global(class).is_some_and(|name| {
        matches!(name.as_str(), "torch.Tensor" | "torch.nn.parameter.Parameter" | "torch.nn.parameter.Buffer")
    });
    match made {
        Made::Node(Node::Tensor(tensor)) if !plain => {
            Made::Node(Node::Tensor(Rc::new(TensorRef { class: Some(class), ..(*tensor).clone() })))
        }
        Made::Value(value) => match heap.tensor(value) {
            Some(tensor) if !plain => {
                Made::Node(Node::Tensor(Rc::new(TensorRef { class: Some(class), ..(**tensor).clone() })))
            }
            _ => Made::Value(value),
        },
        made => made,
    }
}

/// Containers of Python that are what they are made from, and records of everything else.
fn plain(heap: &mut Heap, callee: Value, args: Value) -> Node {
    let name = heap.global(callee).unwrap_or_default();
    match (name.as_str(), heap.tuple(args)) {
        ("collections.OrderedDict" | "__builtin__.dict" | "builtins.dict", Some([])) => {
            return Node::Dict(Vec::new());
        }
        // Python 2 writes an OrderedDict with a fresh list of its pairs, which are moved and not copied.
        ("collections.OrderedDict", Some(&[list])) => {
            if let Some(pairs) = take_pairs(heap, list) {
                return Node::Dict(pairs);
            }
        }
        // Protocols before 3 have no bytes: they are text in Latin-1.
        ("_codecs.encode", Some(&[text, ..])) => {
            if let Some(&Node::Bytes { len, first }) = heap.node(text) {
                return Node::Bytes { len, first };
            }
            if let Some(text) = heap.str(text) {
                let mut first = [0; 8];
                for (byte, char) in first.iter_mut().zip(text.chars()) {
                    *byte = u8::try_from(u32::from(char)).unwrap_or(0);
                }
                // The same long text may be encoded a million times: then nobody counts it.
                let len = if text.len() <= COUNTED { text.chars().count() } else { text.len() };
                return Node::Bytes { len: len as u64, first };
            }
        }
        (
            "__builtin__.bytearray" | "builtins.bytearray" | "__builtin__.bytes" | "builtins.bytes",
            Some(&[bytes]),
        ) => {
            if let Some(&Node::Bytes { len, first }) = heap.node(bytes) {
                return Node::Bytes { len, first };
            }
        }
        _ => {}
    }
    Node::Record(Record { callee, args, state: Value::None, held: None })
}

/// The pairs of a list of two-element lists or tuples. They are taken out of it, whatever it holds, so
/// that asking again costs nothing.
fn take_pairs(heap: &mut Heap, list: Value) -> Option<Vec<(Value, Value)>> {
    let Value::Ref(at) = list else { return None };
    let items = match heap.nodes.get_mut(at as usize)? {
        Node::List(items) => std::mem::take(items),
        _ => return None,
    };
    let pair = |item: Value| match heap.node(item)? {
        Node::List(pair) | Node::Tuple(pair) => match pair[..] {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    };
    items.into_iter().map(pair).collect()
}

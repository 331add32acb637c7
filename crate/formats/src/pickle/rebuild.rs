//! What REDUCE, NEWOBJ and BINPERSID make: tensors, storages, empty dicts and records. The
//! allow-list is here; what is not on it is refused by name or kept as a record.

use std::rc::Rc;

use statepress_core::DType;
use statepress_core::limits::DIMENSIONS;

use super::machine::Stop;
use super::{Heap, Node, Quantizer, StorageRef, TensorRef, Value};
use crate::FormatError;

/// Bytes of a storage key: torch writes short decimal numbers.
const KEY_BYTES: usize = 64;

/// The result of a construction: a new node, or one of the arguments.
pub(super) enum Made {
    Node(Node),
    Value(Value),
}

/// Modules whose classes do things when they are made. They are not called here either, but a
/// file that mentions them is not what it seems.
const REFUSED_MODULES: [&str; 12] = [
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "builtins",
    "__builtin__",
    "importlib",
    "runpy",
    "shutil",
    "socket",
    "ctypes",
];

/// Does what `callee(*args)` would, for the few callees there are.
pub(super) fn construct(heap: &Heap, callee: Value, args: Value) -> Result<Made, Stop> {
    let name = heap.global(callee).ok_or("the callee is not a global")?;
    let values = heap.tuple(args).ok_or("the arguments are not a tuple")?;
    match name.as_str() {
        "collections.OrderedDict" => match values {
            [] => Ok(Made::Node(Node::Dict(Vec::new()))),
            _ => Err("an OrderedDict with arguments".into()),
        },
        "torch._utils._rebuild_tensor_v2" => match values {
            [storage, first, size, strides, ..] => {
                Ok(Made::Node(tensor(heap, *storage, *first, *size, *strides, None)?))
            }
            _ => Err("too few arguments for a tensor".into()),
        },
        "torch._utils._rebuild_qtensor" => match values {
            [storage, first, size, strides, params, ..] => {
                let quantizer = quantizer(heap, *params)?;
                Ok(Made::Node(tensor(heap, *storage, *first, *size, *strides, Some(quantizer))?))
            }
            _ => Err("too few arguments for a quantized tensor".into()),
        },
        "torch._utils._rebuild_parameter" => match values {
            [tensor, ..] if heap.tensor(*tensor).is_some() => Ok(Made::Value(*tensor)),
            _ => Err("a parameter without a tensor".into()),
        },
        class if is_class(class) => Ok(Made::Node(Node::Record { args, state: Value::None })),
        function => Err(FormatError::RefusedGlobal { name: function.into() }.into()),
    }
}

/// By convention: classes are capitalised, functions are not.
fn is_class(name: &str) -> bool {
    let (module, name) = name.rsplit_once('.').unwrap_or(("", name));
    let top = module.split('.').next().unwrap_or(module);
    name.starts_with(|first: char| first.is_uppercase()) && !REFUSED_MODULES.contains(&top)
}

/// The storage of a persistent id `("storage", torch.XStorage, key, device, elements, ...)`.
pub(super) fn storage(heap: &Heap, id: Value) -> Result<StorageRef, Stop> {
    let Some([kind, class, key, _device, elements, ..]) = heap.tuple(id) else {
        return Err("a persistent id that is not a storage".into());
    };
    let (Some("storage"), Some(class), Some(key)) = (heap.str(*kind), heap.global(*class), heap.str(*key))
    else {
        return Err("a persistent id that is not a storage".into());
    };
    let dtype = storage_dtype(&class).ok_or_else(|| {
        FormatError::unsupported(
            format!("storage `{key}` has the element type `{class}`"),
            "convert such tensors with tensor.float() before torch.save",
        )
    })?;
    if key.len() > KEY_BYTES {
        return Err(format!("a storage key of {} bytes (limit {KEY_BYTES})", key.len()).into());
    }
    let elements = unsigned(*elements).ok_or("a storage without a size")?;
    Ok(StorageRef { key: key.into(), dtype, elements })
}

/// The element type of a storage class.
fn storage_dtype(class: &str) -> Option<DType> {
    Some(match class.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::Bf16,
        "Double" => DType::F64,
        "Long" => DType::I64,
        "Int" | "QInt32" => DType::I32,
        "Short" => DType::I16,
        "Char" | "QInt8" => DType::I8,
        "Byte" | "QUInt8" => DType::U8,
        "Bool" => DType::Bool,
        _ => return None,
    })
}

fn tensor(
    heap: &Heap,
    storage: Value,
    first: Value,
    size: Value,
    strides: Value,
    quantizer: Option<Quantizer>,
) -> Result<Node, Stop> {
    let Some(Node::Storage(storage)) = heap.node(storage) else {
        return Err("a tensor without a storage".into());
    };
    let first = unsigned(first).ok_or("a tensor without an offset")?;
    let shape = numbers(heap, size, |dim| usize::try_from(dim).ok()).ok_or("a tensor without a size")?;
    let strides = numbers(heap, strides, Some).ok_or("a tensor without strides")?;
    if shape.len() > DIMENSIONS || shape.len() != strides.len() {
        let (dims, steps) = (shape.len(), strides.len());
        return Err(format!("a tensor of {dims} dimensions (limit {DIMENSIONS}) with {steps} strides").into());
    }
    Ok(Node::Tensor(Rc::new(TensorRef { storage: storage.clone(), first, shape, strides, quantizer })))
}

/// `(torch.per_tensor_affine, scale, zero_point)` or
/// `(torch.per_channel_affine, scales, zero_points, axis)`.
fn quantizer(heap: &Heap, params: Value) -> Result<Quantizer, Stop> {
    let params = heap.tuple(params).ok_or("quantization parameters that are not a tuple")?;
    let scheme = params.first().and_then(|&scheme| heap.global(scheme));
    let scheme = scheme.ok_or("quantization parameters without a scheme")?;
    match (scheme.as_str(), params) {
        ("torch.per_tensor_affine", [_, Value::Float(scale), Value::Int(zero_point)]) => {
            Ok(Quantizer::PerTensor { scale: *scale, zero_point: *zero_point })
        }
        ("torch.per_channel_affine", [_, scales, zero_points, Value::Int(axis)]) => {
            let plain = |value: Value| {
                let tensor = heap.tensor(value).filter(|tensor| tensor.quantizer.is_none());
                tensor.cloned().ok_or("quantization parameters that are not plain tensors")
            };
            Ok(Quantizer::PerChannel {
                scales: plain(*scales)?,
                zero_points: plain(*zero_points)?,
                axis: *axis,
            })
        }
        (scheme, _) => Err(FormatError::unsupported(
            format!("a tensor is quantized as `{scheme}`"),
            "save it dequantized: tensor.dequantize()",
        )
        .into()),
    }
}

/// A tuple or list of at most [`DIMENSIONS`] + 1 numbers; more are an error of the caller's.
fn numbers<T>(heap: &Heap, value: Value, convert: impl Fn(u64) -> Option<T>) -> Option<Vec<T>> {
    let items = match heap.node(value)? {
        Node::Tuple(items) | Node::List(items) => items,
        _ => return None,
    };
    items.iter().take(DIMENSIONS + 1).map(|&item| convert(unsigned(item)?)).collect()
}

fn unsigned(value: Value) -> Option<u64> {
    match value {
        Value::Int(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

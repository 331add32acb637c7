//! Tensors from the arguments of torch's rebuild functions, and storages from persistent ids.
//!
//! What is read becomes a [`TensorRef`]; every other kind of tensor becomes an [`Unread`] that says
//! what it is. Source: `torch/_utils.py`, `torch/serialization.py`.

use statepress_core::words::counted;
use std::rc::Rc;

use statepress_core::DType;
use statepress_core::limits::DIMENSIONS;

use super::element::Element;
use super::machine::Stop;
use super::{Heap, Node, Quantizer, StorageRef, TensorRef, Unread, Value};

/// Bytes of a storage key: torch writes short decimal numbers.
const KEY_BYTES: usize = 64;

/// The storage of a persistent id `("storage", class, key, device, elements)`, which in legacy files
/// ends with None or with `(view key, offset, elements)`.
pub(super) fn storage(heap: &Heap, id: Value) -> Result<StorageRef, Stop> {
    let Some([kind, class, key, _device, elements, rest @ ..]) = heap.tuple(id) else {
        return Err("a persistent id that is not a storage".into());
    };
    let (Some("storage"), Some(class), Some(key)) = (heap.str(*kind), heap.global(*class), heap.str(*key))
    else {
        return Err("a persistent id that is not a storage".into());
    };
    if key.len() > KEY_BYTES {
        return Err(format!("a storage key of {} bytes (limit {KEY_BYTES})", key.len()).into());
    }
    let whole = unsigned(*elements).ok_or("a storage without a size")?;
    let (skip, elements) = match rest.first().and_then(|&view| heap.tuple(view)) {
        Some([_, offset, size]) => {
            let (offset, size) =
                unsigned(*offset).zip(unsigned(*size)).ok_or("a part of a storage without a place")?;
            if offset.checked_add(size).is_none_or(|end| end > whole) {
                return Err(format!(
                    "{} from {offset} of a storage of {whole}",
                    counted(size, "element", "elements")
                )
                .into());
            }
            (offset, size)
        }
        _ => (0, whole),
    };
    Ok(StorageRef { key: key.into(), element: Element::of_storage(&class), elements, skip })
}

/// The class of a persistent id `("module", class, file, source)`, by which legacy files keep the source
/// of pickled modules.
pub(super) fn module(heap: &Heap, id: Value) -> Option<Value> {
    match heap.tuple(id)? {
        [kind, class, ..] if heap.str(*kind) == Some("module") => Some(*class),
        _ => None,
    }
}

/// The arguments that all views have.
#[derive(Clone, Copy)]
struct View<'a> {
    storage: &'a Rc<StorageRef>,
    first: Value,
    size: Value,
    strides: Value,
}

/// `_rebuild_tensor(storage, offset, size, stride)`, and v2 with `requires_grad, hooks, metadata` behind.
pub(super) fn of_storage_type(heap: &Heap, args: &[Value]) -> Result<Node, Stop> {
    let view = view(heap, args)?;
    let metadata = args.get(6).copied();
    rebuild(heap, view, view.storage.element.clone(), metadata, None)
}

/// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)`: the
/// storage is bytes.
pub(super) fn of_dtype(heap: &Heap, args: &[Value]) -> Result<Node, Stop> {
    let view = view(heap, args)?;
    let dtype = args.get(6).and_then(|&dtype| heap.global(dtype)).ok_or("a tensor without a dtype")?;
    rebuild(heap, view, Element::of_dtype(&dtype), args.get(7).copied(), None)
}

/// `_rebuild_qtensor(storage, offset, size, stride, quantizer, ...)`.
pub(super) fn quantized(heap: &Heap, args: &[Value]) -> Result<Node, Stop> {
    let view = view(heap, args)?;
    let params = args.get(4).copied().ok_or("too few arguments for a quantized tensor")?;
    match quantizer(heap, params)? {
        Ok(quantizer) => rebuild(heap, view, view.storage.element.clone(), None, Some(quantizer)),
        Err(scheme) => Ok(unread(
            format!("a tensor quantized as `{scheme}`"),
            "save it dequantized: tensor.dequantize()",
            count(heap, view.size),
        )),
    }
}

/// A tensor of a kind that this crate does not read, by the last word of the function that rebuilds it.
pub(super) fn other(heap: &Heap, function: &str, args: &[Value]) -> Node {
    let size = |at: usize| count(heap, *args.get(at)?);
    match function.rsplit('.').next().unwrap_or(function) {
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => {
            // `(layout, (indices, values, size, ...))`, or four of them for the compressed layouts.
            let parts = args.get(1).and_then(|&data| heap.tuple(data)).unwrap_or_default();
            let elements = parts.iter().skip(2).take(4).find_map(|&size| count(heap, size));
            unread("a sparse tensor".into(), "save it dense: tensor.to_dense()", elements)
        }
        "_rebuild_meta_tensor_no_storage" => unread(
            "a meta tensor, which has a shape and no numbers".into(),
            "load the weights before saving: the model was made under torch.device(\"meta\")",
            size(1),
        ),
        "_rebuild_nested_tensor" => {
            unread("a nested tensor".into(), "save its parts: tensor.unbind()", size(1))
        }
        "_rebuild_device_tensor_from_numpy" | "_rebuild_xla_tensor" => unread(
            "a tensor of a device that was saved as a NumPy array".into(),
            "move it to the CPU before saving: tensor.cpu()",
            None,
        ),
        "_rebuild_wrapper_subclass" => {
            let class = args.first().and_then(|&class| heap.global(class));
            let class = class.unwrap_or_else(|| "an unknown class".into());
            unread(
                format!("a tensor of the subclass `{class}`, which keeps its numbers elsewhere"),
                "save plain tensors: tensor.full_tensor() of distributed ones, tensor.dequantize() of quantized ones",
                size(2),
            )
        }
        _ => unread(
            format!("a tensor that `{function}` would rebuild"),
            "save it as a plain tensor: torch.empty_like(t).copy_(t)",
            None,
        ),
    }
}

/// A parameter with the attributes of bitsandbytes' codes is not what it seems.
pub(super) fn quantized_by_attributes(heap: &Heap, state: Value) -> Option<Node> {
    let state = match heap.node(state)? {
        // What `__getstate__` of a class with slots gives: (dict, slots).
        Node::Tuple(parts) => *parts.first()?,
        _ => state,
    };
    let fields = heap.first_pairs(state);
    let filled =
        |name| fields.iter().any(|&(key, value)| value != Value::None && heap.str(key) == Some(name));
    (filled("quant_state") || filled("SCB")).then(|| {
        unread(
            "a parameter of bitsandbytes, whose codes and scales are pickled as an object".into(),
            "save model.state_dict(), which has them as tensors",
            None,
        )
    })
}

pub(super) fn unread(what: String, help: &str, elements: Option<u64>) -> Node {
    Node::Unread(Rc::new(Unread { what, help: help.into(), elements }))
}

fn view<'a>(heap: &'a Heap, args: &[Value]) -> Result<View<'a>, Stop> {
    let [storage, first, size, strides, ..] = *args else {
        return Err("too few arguments for a tensor".into());
    };
    match heap.node(storage) {
        Some(Node::Storage(storage)) => Ok(View { storage, first, size, strides }),
        _ => Err("a tensor without a storage".into()),
    }
}

/// The view as a tensor of `element`, if this crate reads what it is.
fn rebuild(
    heap: &Heap,
    view: View<'_>,
    element: Element,
    metadata: Option<Value>,
    quantizer: Option<Quantizer>,
) -> Result<Node, Stop> {
    let first = unsigned(view.first).ok_or("a tensor without an offset")?;
    let shape = numbers(heap, view.size, |dim| usize::try_from(dim).ok()).ok_or("a tensor without a size")?;
    let strides = numbers(heap, view.strides, Some).ok_or("a tensor without strides")?;
    if shape.len() != strides.len() {
        let (dims, steps) = (shape.len(), strides.len());
        return Err(format!("a tensor of {dims} dimensions (limit {DIMENSIONS}) with {steps} strides").into());
    }
    let elements = count(heap, view.size);
    if shape.len() > DIMENSIONS {
        let what = format!("a tensor of more than {DIMENSIONS} dimensions");
        return Ok(unread(what, "reshape it before saving", elements));
    }
    let Element::Read(dtype) = element else {
        let what = format!("a tensor of {}", element.name());
        return Ok(unread(what, element.help(), elements));
    };
    let negated = match bits(heap, metadata, dtype) {
        Ok(negated) => negated,
        Err(what) => {
            return Ok(unread(
                what,
                "resolve it before saving: tensor.resolve_conj().resolve_neg()",
                elements,
            ));
        }
    };
    let storage = view.storage.clone();
    let tensor = TensorRef { storage, dtype, first, shape, strides, negated, quantizer, class: None };
    Ok(Node::Tensor(Rc::new(tensor)))
}

/// Whether the metadata of a tensor negates it; an error for what the metadata says and nobody here
/// understands. Conjugation does nothing to real numbers.
fn bits(heap: &Heap, metadata: Option<Value>, dtype: DType) -> Result<bool, String> {
    let mut negated = false;
    let metadata = metadata.unwrap_or(Value::None);
    let pairs = heap.first_pairs(metadata);
    if heap.mapping(metadata).is_some_and(|all| all.len() > pairs.len()) {
        return Err(format!("a tensor with more than {} entries of metadata", pairs.len()));
    }
    for &(key, value) in pairs {
        match (heap.str(key), value) {
            (_, Value::Bool(false) | Value::None) => {}
            (Some("neg"), Value::Bool(true)) => negated = true,
            (Some("conj"), Value::Bool(true)) if dtype != DType::C64 => {}
            (Some("conj"), _) => return Err("a lazily conjugated tensor".into()),
            (key, _) => return Err(format!("a tensor with the metadata `{}`", key.unwrap_or("?"))),
        }
    }
    if negated && !dtype.is_float() {
        return Err(format!("a lazily negated tensor of {}", dtype.name()));
    }
    Ok(negated)
}

/// `(torch.per_tensor_affine, scale, zero_point)` or
/// `(torch.per_channel_affine, scales, zero_points, axis)`; the inner error is another scheme.
fn quantizer(heap: &Heap, params: Value) -> Result<Result<Quantizer, String>, Stop> {
    let params = heap.tuple(params).ok_or("quantization parameters that are not a tuple")?;
    let scheme = params.first().and_then(|&scheme| heap.global(scheme));
    let scheme = scheme.ok_or("quantization parameters without a scheme")?;
    Ok(match (scheme.as_str(), params) {
        ("torch.per_tensor_affine", [_, Value::Float(scale), Value::Int(zero_point)]) => {
            Ok(Quantizer::PerTensor { scale: *scale, zero_point: *zero_point })
        }
        ("torch.per_channel_affine", [_, scales, zero_points, Value::Int(axis)]) => {
            let plain = |value: Value| {
                let tensor = heap.tensor(value).filter(|tensor| tensor.quantizer.is_none());
                tensor.cloned().ok_or("quantization parameters that are not plain tensors")
            };
            let (scales, zero_points) = (plain(*scales)?, plain(*zero_points)?);
            Ok(Quantizer::PerChannel { scales, zero_points, axis: *axis })
        }
        _ => Err(scheme),
    })
}

/// The numbers in a tensor of a size, if it is one.
pub(crate) fn count(heap: &Heap, size: Value) -> Option<u64> {
    let dims = heap.items(size).or_else(|| {
        // torch.Size(...) where it is written as a call.
        let args = heap.tuple(heap.record(size)?.args)?;
        heap.items(*args.first()?)
    });
    let product =
        |dims: &[Value]| dims.iter().take(64).try_fold(1u64, |n, &dim| n.checked_mul(unsigned(dim)?));
    dims.and_then(product)
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

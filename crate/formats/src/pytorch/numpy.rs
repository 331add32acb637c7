//! What NumPy puts into a pickle: scalars, which losses and learning rates become when nobody calls `.item()`, and arrays.

use crate::pickle::{self, Heap, Node, Record, Value};

/// The number of `numpy.core.multiarray.scalar(numpy.dtype("f8"), bytes)`, where it is a little-endian
/// number of up to eight bytes.
pub(super) fn scalar(heap: &Heap, record: &Record) -> Option<Value> {
    let [dtype, bytes] = *heap.tuple(record.args)? else { return None };
    let callee = heap.global(record.callee)?;
    if !(callee.starts_with("numpy.") && callee.ends_with(".multiarray.scalar")) {
        return None;
    }
    let Some(&Node::Bytes { len, first }) = heap.node(bytes) else { return None };
    let dtype = heap.record(dtype)?;
    // The state is `(version, byte order, ...)`; `>` is big-endian.
    let big = heap.tuple(dtype.state).and_then(|state| heap.str(*state.get(1)?)) == Some(">");
    let kind = heap.str(*heap.tuple(dtype.args)?.first()?)?;
    if big || kind.len() != 2 || kind.get(1..)?.parse() != Ok(len) {
        return None;
    }
    let whole = i64::from_le_bytes(first);
    let shift = 64u32.checked_sub(8 * u32::try_from(len).ok()?)?;
    Some(match kind {
        "f8" => Value::Float(f64::from_le_bytes(first)),
        "f4" => Value::Float(f32::from_bits(whole as u32).into()),
        "b1" => Value::Bool(whole != 0),
        _ if kind.starts_with('i') && shift < 64 => Value::Int(whole << shift >> shift),
        _ if kind.starts_with('u') && whole >= 0 => Value::Int(whole),
        _ => return None,
    })
}

/// The numbers in an array of NumPy, where a value is one; of some pickles the shape is not known.
pub(super) fn array(heap: &Heap, value: Value) -> Option<Option<u64>> {
    let record = heap.record(value)?;
    let callee = heap.global(record.callee)?;
    let function = callee.strip_prefix("numpy.")?.rsplit('.').next()?;
    if !["_reconstruct", "_frombuffer"].contains(&function) {
        return None;
    }
    // `(version, shape, dtype, is Fortran's, bytes)`
    let shape = heap.tuple(record.state).and_then(|state| state.get(1));
    Some(shape.and_then(|&shape| pickle::count(heap, shape)))
}

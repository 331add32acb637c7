//! Values under the keys of a GGUF header, as JSON.

use serde_json::{Map, Number, Value};

use super::PART;
use crate::FormatError;
use crate::cursor::Cursor;

/// The number of an array's type, and of a string's.
const ARRAY: u32 = 9;
const STRING: u32 = 8;

/// Arrays within arrays: llama.cpp has none.
const DEPTH: usize = 4;

/// Elements of all arrays together, which take more room here than in the file: the largest vocabularies have a quarter of
/// a million tokens, and as many merges.
const ELEMENTS: u64 = 1 << 22;

/// The values of those of the next `count` keys that are wanted; the others are passed over.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
    wanted: impl Fn(&str) -> bool,
) -> Result<Map<String, Value>, FormatError> {
    let mut values = Map::new();
    let mut left = ELEMENTS;
    for _ in 0..count {
        let key = string(cursor)?;
        let kind = cursor.u32()?;
        if wanted(&key) {
            let value = value(cursor, kind, DEPTH, &mut left)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(FormatError::malformed(PART, format!("the key `{key}` is there twice")));
            }
        } else {
            skip(cursor, kind, DEPTH)?;
        }
    }
    Ok(values)
}

/// A text: how many bytes, then they.
pub(super) fn string(cursor: &mut Cursor<'_>) -> Result<String, FormatError> {
    let len = cursor.u64()?;
    // Tokens need not be whole characters.
    Ok(String::from_utf8_lossy(&cursor.take(len)?).into_owned())
}

fn value(cursor: &mut Cursor<'_>, kind: u32, depth: usize, left: &mut u64) -> Result<Value, FormatError> {
    Ok(match kind {
        0 => cursor.u8()?.into(),
        1 => (cursor.u8()? as i8).into(),
        2 => cursor.u16()?.into(),
        3 => (cursor.u16()? as i16).into(),
        4 => cursor.u32()?.into(),
        5 => (cursor.u32()? as i32).into(),
        6 => float32(f32::from_le_bytes(cursor.array()?)),
        7 => (cursor.u8()? != 0).into(),
        STRING => string(cursor)?.into(),
        ARRAY => {
            let (kind, len) = array(cursor, depth)?;
            *left = left.checked_sub(len).ok_or_else(|| FormatError::TooLarge {
                what: "elements of arrays in the GGUF header".into(),
                value: len,
                limit: ELEMENTS,
            })?;
            // There may be fewer than it says: nothing is reserved for them.
            let values = (0..len).map(|_| value(cursor, kind, depth - 1, left));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        10 => cursor.u64()?.into(),
        11 => (cursor.u64()? as i64).into(),
        12 => Number::from_f64(f64::from_le_bytes(cursor.array()?)).map_or(Value::Null, Value::Number),
        _ => return Err(unknown(kind)),
    })
}

fn skip(cursor: &mut Cursor<'_>, kind: u32, depth: usize) -> Result<(), FormatError> {
    match kind {
        STRING => {
            let len = cursor.u64()?;
            cursor.skip(len)
        }
        ARRAY => {
            let (kind, len) = array(cursor, depth)?;
            match size(kind) {
                Some(size) => cursor.skip(len.saturating_mul(size)),
                None => (0..len).try_for_each(|_| skip(cursor, kind, depth - 1)),
            }
        }
        kind => cursor.skip(size(kind).ok_or_else(|| unknown(kind))?),
    }
}

/// The type of an array's elements, and how many there are.
fn array(cursor: &mut Cursor<'_>, depth: usize) -> Result<(u32, u64), FormatError> {
    if depth == 0 {
        return Err(FormatError::malformed(PART, "arrays stand within arrays too often"));
    }
    Ok((cursor.u32()?, cursor.u64()?))
}

/// Bytes of a value of that type, where all have as many.
fn size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A float32 as the shortest decimals that mean it: 0.00001, not 0.00000999999974.
fn float32(value: f32) -> Value {
    let value = value.to_string().parse().ok();
    value.and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

fn unknown(kind: u32) -> FormatError {
    FormatError::malformed(PART, format!("no type of values has the number {kind}"))
}

//! Files that torch wrote before version 1.6, or with `_use_new_zipfile_serialization=False`: five
//! pickles one behind the other, then the storages.
//!
//! The pickles are a magic number, the protocol, the machine, the object, and the keys of the storages.
//! Each storage is its number of elements in 8 bytes and then these. Source: `_legacy_save` and
//! `_legacy_load` in `torch/serialization.py`.

use std::collections::HashMap;

use statepress_core::index::Extent;
use statepress_core::limits::HEADER_BYTES;
use statepress_core::{Index, Source};

use super::storages::{Place, Storages};
use crate::FormatError;
use crate::choice::Choice;
use crate::cursor::{Cursor, range_end, read};
use crate::pickle::{self, Pickle, Value};

const PART: &str = "legacy file";

/// The start of such a file: protocol 2 and the long 0x1950a86a20f9469cfc6c.
pub(crate) const MAGIC: &[u8] =
    &[0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];

/// The version of the format: there was never another.
const VERSION: i64 = 1001;

/// Reads the pickles and the places of the storages.
pub(crate) fn open(source: &dyn Source, choice: &Choice<'_>) -> Result<Index, FormatError> {
    let begin = MAGIC.len() as u64;
    let mut cursor = Cursor::to_end(source, PART, begin, HEADER_BYTES)?;
    let version = pickle::load(&mut cursor)?.root;
    if version != Value::Int(VERSION) {
        return Err(FormatError::malformed(PART, format!("its protocol is not {VERSION}")));
    }
    let machine = pickle::load(&mut cursor)?;
    if machine.heap.get(machine.root, "little_endian") == Some(Value::Bool(false)) {
        return Err(FormatError::unsupported(
            "the byte order of this file is `big`",
            "save it again on a little-endian machine",
        ));
    }
    let pickle = pickle::load(&mut cursor)?;
    let keys = pickle::load(&mut cursor)?;
    let extents = extents(source, &pickle, &keys, begin + cursor.position())?;
    super::index(&pickle, Storages::new(Place::Behind(extents), source.len()), choice)
}

/// Where each storage lies, from `at` on.
fn extents(
    source: &dyn Source,
    pickle: &Pickle,
    keys: &Pickle,
    mut at: u64,
) -> Result<HashMap<String, Extent>, FormatError> {
    let sizes: HashMap<&str, Option<u64>> =
        pickle.heap.storages().map(|storage| (storage.key.as_str(), storage.element.bytes())).collect();
    let mut extents = HashMap::new();
    for &key in keys.heap.items(keys.root).unwrap_or_default() {
        let Some(key) = keys.heap.str(key) else {
            return Err(FormatError::malformed(PART, "the key of a storage is not a text"));
        };
        let size = match sizes.get(key) {
            Some(&Some(size)) => size,
            Some(None) => {
                return Err(FormatError::unsupported(
                    format!("the storage `{key}` has elements of an unknown type"),
                    "convert the file with torch.save(torch.load(\"old.pt\", map_location=\"cpu\"), \"new.pt\")",
                ));
            }
            None => {
                return Err(FormatError::malformed(PART, format!("nothing is in the storage `{key}`")));
            }
        };
        let what = format!("the storage `{key}`");
        let header = read(source, &what, at, 8)?;
        let elements = header.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        let len = elements.checked_mul(size).ok_or_else(|| {
            FormatError::malformed(PART, format!("{what} has {elements} elements, which overflows"))
        })?;
        let extent = Extent { offset: at + 8, len };
        at = range_end(source, &what, extent.offset, len)?;
        if extents.insert(key.to_string(), extent).is_some() {
            return Err(FormatError::malformed(PART, format!("{what} occurs twice")));
        }
    }
    Ok(extents)
}

//! Reading the header of a safetensors file, with the checks of the reference implementation
//! and two more: no key twice, no bytes that belong to nobody.

use statepress_core::words::counted;
use statepress_core::words::kind;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use statepress_core::index::{Extent, Format, Stored, Strided};
use statepress_core::limits::{HEADER_BYTES, TENSORS};
use statepress_core::{DType, Entry, Finding, Index, Source};

use super::{METADATA, PREFIX_BYTES};
use crate::choice::{BARE, bare};
use crate::cursor::{Cursor, range_end, read};
use crate::findings::list;
use crate::json::{Pairs, unique_keys};
use crate::packed::{self, PackedTensors};
use crate::shape::checked_elements;
use crate::{FormatError, view};

const PART: &str = "safetensors header";

/// One value of the header: a tensor, or the strings under `__metadata__`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a tensor has `dtype`, `shape` and `data_offsets`, metadata are strings")]
enum HeaderValue {
    Tensor {
        dtype: String,
        shape: Vec<usize>,
        data_offsets: [u64; 2],
    },
    Metadata(#[serde(deserialize_with = "unique_keys")] BTreeMap<String, String>),
    /// The reference implementation takes `null` for no metadata.
    Null(()),
}

/// A tensor whose offsets have not been compared with its neighbours yet.
struct Array {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    begin: u64,
    end: u64,
}

/// Reads the header.
pub(crate) fn open(source: &dyn Source) -> Result<Index, FormatError> {
    let len = Cursor::new(source, PART, 0, PREFIX_BYTES)?.u64()?;
    range_end(source, "the safetensors header", PREFIX_BYTES, len)?;
    if len > HEADER_BYTES {
        return Err(FormatError::TooLarge {
            what: "bytes of the safetensors header".into(),
            value: len,
            limit: HEADER_BYTES,
        });
    }
    let header = read(source, "the safetensors header", PREFIX_BYTES, len)?;
    let pairs: Pairs<HeaderValue> =
        serde_json::from_slice(&header).map_err(|error| malformed(&header, &error.to_string()))?;
    drop(header);
    if pairs.0.len() > TENSORS {
        let (value, limit) = (pairs.0.len() as u64, TENSORS as u64);
        return Err(FormatError::TooLarge { what: "tensors in the file".into(), value, limit });
    }

    let mut metadata = BTreeMap::new();
    let mut arrays = Vec::new();
    for (name, value) in pairs.0 {
        match value {
            HeaderValue::Metadata(strings) if name == METADATA => metadata = strings,
            HeaderValue::Null(()) if name == METADATA => {}
            HeaderValue::Tensor { dtype, shape, data_offsets: [begin, end] } if name != METADATA => {
                let dtype = DType::from_name(&dtype).ok_or_else(|| unknown_dtype(&name, &dtype))?;
                arrays.push(Array { name, dtype, shape, begin, end });
            }
            _ => {
                let why = format!("`{name}` is neither a tensor nor the metadata");
                return Err(FormatError::malformed(PART, why));
            }
        }
    }
    if arrays.is_empty() {
        let keys: Vec<String> = metadata.into_keys().collect();
        let beside =
            if keys.is_empty() { String::new() } else { format!(", only metadata: {}", list(&keys)) };
        return Err(FormatError::unsupported(
            format!("a safetensors file with no tensors{beside}"),
            "save the weights into it: save_file(model.state_dict(), \"model.safetensors\")",
        ));
    }
    let data = PREFIX_BYTES + len;
    check_offsets(&mut arrays, data, source)?;

    let entries = arrays.into_iter().map(|array| array.entry(data)).collect::<Result<_, _>>()?;
    index(entries, metadata)
}

/// Element types that the format has and this version does not read, and names that no format has.
fn unknown_dtype(name: &str, dtype: &str) -> FormatError {
    let help = match dtype {
        "F4" | "F6_E2M3" | "F6_E3M2" | "C128" => {
            "elements of less than a byte and complex numbers of doubles are not read: convert it to F32, F16 or BF16 first"
        }
        _ => {
            "safetensors has no such type; its names are like F32, F16, BF16, I64: write the file with safetensors' own library"
        }
    };
    FormatError::unsupported(format!("tensor `{name}` has the element type `{dtype}`"), help)
}

/// Why the header is not one, by the key that is wrong where there is one.
fn malformed(header: &[u8], error: &str) -> FormatError {
    let Ok(Pairs::<Value>(pairs)) = serde_json::from_slice(header) else {
        return FormatError::malformed(PART, error);
    };
    for (name, value) in &pairs {
        let why = match value {
            Value::Object(fields) if name == METADATA => {
                match fields.iter().find(|(_, value)| !value.is_string()) {
                    Some((key, value)) => format!(
                        "the metadata `{key}` is {}, and metadata are strings: write it as text (json.dumps)",
                        kind(value)
                    ),
                    None => continue,
                }
            }
            Value::Object(fields) => {
                let whole =
                    |value: &Value| value.as_array().is_some_and(|dims| dims.iter().all(Value::is_u64));
                let wrong = ["dtype", "shape", "data_offsets"].into_iter().find(|&field| {
                    let fits = |value: &Value| match field {
                        "dtype" => value.is_string(),
                        "shape" => whole(value),
                        _ => whole(value) && value.as_array().is_some_and(|offsets| offsets.len() == 2),
                    };
                    !fields.get(field).is_some_and(fits)
                });
                match wrong {
                    Some("dtype") => format!("tensor `{name}` has no `dtype` that is a string"),
                    Some("shape") => format!("tensor `{name}` has no `shape` of whole numbers from 0"),
                    Some(_) => format!("tensor `{name}` has no `data_offsets` of two whole numbers from 0"),
                    None => continue,
                }
            }
            other if name == METADATA => {
                format!("`{name}` is {}, and metadata are an object of strings", kind(other))
            }
            other => format!("`{name}` is {}, not a tensor", kind(other)),
        };
        return FormatError::malformed(PART, why);
    }
    FormatError::malformed(PART, error)
}

/// Sorts arrays by offset and checks that they fill the data from the first byte to the last.
fn check_offsets(arrays: &mut [Array], data: u64, source: &dyn Source) -> Result<(), FormatError> {
    arrays.sort_by_key(|array| (array.begin, array.end));
    let mut end = 0;
    for array in arrays {
        if array.begin != end || array.end < array.begin {
            let why = format!(
                "its bytes {}..{} leave a hole or overlap: {end} was expected as the first",
                array.begin, array.end
            );
            return Err(FormatError::tensor(&array.name, why));
        }
        end = array.end;
    }
    let file_end = range_end(source, "the data of the safetensors file", data, end)?;
    if file_end != source.len() {
        let why = format!(
            "{} to nobody",
            counted(
                source.len() - file_end,
                "byte after the last tensor belongs",
                "bytes after the last tensor belong"
            )
        );
        return Err(FormatError::malformed("safetensors file", why));
    }
    Ok(())
}

impl Array {
    fn entry(self, data: u64) -> Result<Entry, FormatError> {
        let expected = checked_elements(&self.name, &self.shape)? as u64 * self.dtype.bytes() as u64;
        let len = self.end - self.begin;
        if len != expected {
            let (dtype, shape) = (self.dtype.name(), &self.shape);
            let why = format!(
                "{dtype} {shape:?} is {}, but the header gives it {len}",
                counted(expected, "byte", "bytes")
            );
            return Err(FormatError::tensor(self.name, why));
        }
        let storage = Extent { offset: data + self.begin, len };
        let strides = view::row_major(&self.shape);
        let stored =
            Stored::Strided(Strided { dtype: self.dtype, storage, first: 0, strides, negated: false });
        Ok(Entry { name: self.name, shape: self.shape, stored, tied_to: None })
    }
}

/// Joins the parts of our own layout and reads the metadata that this crate understands.
fn index(mut entries: Vec<Entry>, mut metadata: BTreeMap<String, String>) -> Result<Index, FormatError> {
    let mut found = Vec::new();
    if let Some(json) = metadata.remove(packed::KEY) {
        entries = PackedTensors::parse(&json)?.join(entries)?;
    }
    let config = metadata.get("config").map(|json| serde_json::from_str::<Map<String, Value>>(json));
    let config = match config {
        Some(Ok(config)) => {
            metadata.remove("config");
            Some(config)
        }
        Some(Err(error)) => {
            let message = format!("the metadata key `config` is not a JSON object and was not used: {error}");
            found.push(Finding::warning("config-unreadable", message));
            None
        }
        None => None,
    };
    let wrapper: String = BARE.into();
    let weights = bare(&entries);
    let format = Format::Safetensors;
    Ok(Index { format, wrapper, weights, config, metadata, tensors: entries, findings: found })
}

//! Our own packed layout: codes under the tensor's key, scales beside it, and a description in
//! the metadata. `FORMAT.md` documents it for strangers.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use statepress_core::index::Stored;
use statepress_core::words::kind;
use statepress_core::{Encoding, Entry, Form};

use crate::safetensors::TensorSpec;
use crate::shape::checked_elements;
use crate::view::contiguous_extent;
use crate::{FormatError, json, streamed};

/// The metadata key of the description.
pub(crate) const KEY: &str = "statepress";

/// The version of the layout that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The quantized tensors of a file, by name.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackedTensors {
    version: u32,
    #[serde(deserialize_with = "json::unique_keys")]
    tensors: BTreeMap<String, Map<String, Value>>,
}

/// What the description of an entropy-coded tensor says beside its encoding.
const CODED: &str = "coded";

/// The JSON description of those of `tensors` that are quantized, if any is; `streams` has the bytes of entropy-coded codes.
pub(crate) fn describe(
    tensors: &[TensorSpec],
    streams: &[Option<u64>],
) -> Result<Option<String>, serde_json::Error> {
    let mut described = BTreeMap::new();
    for (spec, stream) in tensors.iter().zip(streams) {
        let Form::Coded(encoding) = spec.form else { continue };
        if !encoding.is_described() {
            continue;
        }
        let mut fields = Map::from_iter([("shape".to_string(), Value::from(spec.shape.clone()))]);
        if let Value::Object(encoding) = serde_json::to_value(encoding)? {
            fields.extend(encoding);
        }
        if stream.is_some() {
            fields.insert(CODED.into(), true.into());
        }
        described.insert(spec.name.clone(), fields);
    }
    if described.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&PackedTensors { version: VERSION, tensors: described }).map(Some)
}

impl PackedTensors {
    pub(crate) fn parse(json: &str) -> Result<Self, FormatError> {
        let malformed = |why: String| FormatError::malformed("metadata `statepress`", why);
        let value: Value = serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?;
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(FormatError::unsupported(
                    format!("a file in version {version} of the statepress layout"),
                    format!("this program reads version {VERSION}; use a newer one"),
                ));
            }
            None => return Err(malformed("it has no version".into())),
        }
        serde_json::from_str(json).map_err(|error| malformed(error.to_string()))
    }

    /// Joins the arrays of every described tensor into one entry, at the place of its codes.
    pub(crate) fn join(self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, FormatError> {
        let places: HashMap<String, usize> =
            entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        let mut hidden = vec![false; entries.len()];
        for (name, mut fields) in self.tensors {
            let wrong = |why: String| FormatError::tensor(&name, why);
            let shape = fields.remove("shape").unwrap_or(Value::Null);
            let shape: Vec<usize> =
                serde_json::from_value(shape).map_err(|error| wrong(format!("its shape: {error}")))?;
            let coded = match fields.remove(CODED) {
                None => false,
                Some(Value::Bool(coded)) => coded,
                Some(other) => {
                    return Err(wrong(format!("its `{CODED}` is {}, not true or false", kind(&other))));
                }
            };
            let encoding: Encoding = serde_json::from_value(Value::Object(fields))
                .map_err(|error| wrong(format!("its encoding: {error}")))?;
            checked_elements(&name, &shape)?;
            if let Some(why) = encoding.refusal(&shape) {
                return Err(wrong(why));
            }
            if coded && encoding.coding().is_none() {
                return Err(wrong(format!("{} has no codes that are `{CODED}`", encoding.name())));
            }
            let mut parts = Vec::new();
            let mut first = None;
            for mut part in encoding.parts(&shape) {
                let key = format!("{name}{}", part.suffix);
                let at = *places.get(&key).ok_or_else(|| wrong(format!("`{key}` is missing")))?;
                let Stored::Strided(stored) = &entries[at].stored else {
                    return Err(wrong(format!("`{key}` is used twice")));
                };
                if coded && first.is_none() {
                    part = streamed::part(entries[at].params());
                    if let Some(why) = streamed::refusal(&shape, part.bytes()) {
                        return Err(wrong(why));
                    }
                }
                if hidden[at] || stored.dtype != part.dtype || entries[at].shape != part.shape {
                    return Err(wrong(format!(
                        "`{key}` is {} {:?} where {} {:?} is expected",
                        stored.dtype.name(),
                        entries[at].shape,
                        part.dtype.name(),
                        part.shape
                    )));
                }
                parts.push(contiguous_extent(&key, &part.shape, stored)?);
                hidden[at] = first.is_some();
                first.get_or_insert(at);
            }
            if let Some(at) = first {
                entries[at] =
                    Entry { name, shape, stored: Stored::Packed { encoding, coded, parts }, tied_to: None };
            }
        }
        let mut hidden = hidden.into_iter();
        entries.retain(|_| !hidden.next().unwrap_or(false));
        Ok(entries)
    }
}

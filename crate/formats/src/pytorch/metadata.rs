//! What lies beside the state dict: the configuration, scalars, and the state of a trainer,
//! which is skipped.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};
use statepress_core::Finding;
use statepress_core::limits::PICKLE_DEPTH;

use super::numpy;
use super::weights::Weights;
use crate::findings::list;
use crate::pickle::{Heap, Node, Record, Value};

/// Bytes of one value that is kept as metadata, and of all of them.
const VALUE_BYTES: usize = 1 << 16;
const ALL_BYTES: usize = 1 << 20;

/// Values that are looked at; bounds the walk over values that contain each other.
const VALUES: usize = 1 << 20;

/// What was found beside the state dict.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) config: Option<Map<String, Json>>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) findings: Vec<Finding>,
    /// Keys that hold tensors, or the state of an optimizer or a scheduler.
    pub(super) skipped: Vec<String>,
}

/// Reads everything beside the state dict.
pub(super) fn read(heap: &Heap, weights: &Weights) -> Beside {
    let mut beside = Beside::default();
    let mut bytes = 0usize;
    let mut left_out = Vec::new();
    let mut not_finite = Vec::new();
    let mut walk = ToJson { heap, values: 0, not_finite: false };
    let bare = weights.around.is_empty();
    let around: Vec<Value> = match weights.parts.first() {
        Some((state, _)) if bare => vec![*state],
        _ => weights.around.clone(),
    };
    // What lies deeper than the file itself is told with its path.
    let mut prefix = String::new();
    let mut steps = weights.path.split('.');
    let mut pairs = Vec::new();
    for outer in around {
        let held = heap.mapping(outer).unwrap_or_default();
        pairs.extend(held.iter().filter_map(|&(key, value)| {
            let key = heap.str(key)?;
            let inner = value.node().is_some_and(|node| weights.inner.contains(&node));
            (!inner && value != Value::None).then(|| (format!("{prefix}{key}"), key, value))
        }));
        prefix = format!("{prefix}{}.", steps.next().unwrap_or_default());
    }
    for (name, key, value) in pairs {
        let quantized = bare && key.contains("._packed_params.");
        if bare && (heap.tensor(value).is_some() || heap.unread(value).is_some() || quantized) {
            continue;
        }
        if key.contains("optimizer") || key.contains("scheduler") {
            beside.skipped.push(name.clone());
            continue;
        }
        walk.not_finite = false;
        let json = match walk.convert(value, 0) {
            Ok(json) => json,
            Err(Refusal::Tensor) => {
                beside.skipped.push(name.clone());
                continue;
            }
            Err(Refusal::TooMuch) => {
                left_out.push(name.clone());
                continue;
            }
        };
        if walk.not_finite {
            not_finite.push(name.clone());
        }
        match json {
            Json::Object(fields) if key == "config" => {
                beside.config.get_or_insert(fields);
            }
            _ if key == "config" => {
                let message = "`config` is neither a dict nor an object with fields, and was not used";
                beside.findings.push(Finding::warning("config-unreadable", message));
            }
            json => {
                let text = match json {
                    Json::String(text) => text,
                    json => json.to_string(),
                };
                bytes = bytes.saturating_add(key.len()).saturating_add(text.len());
                if text.len() > VALUE_BYTES || bytes > ALL_BYTES {
                    left_out.push(name.clone());
                } else {
                    beside.metadata.insert(name, text);
                }
            }
        }
    }
    let mut tell = |code, what: &str, keys: &[String]| {
        if !keys.is_empty() {
            beside.findings.push(Finding::info(code, format!("{what}: {}", list(keys))));
        }
    };
    tell("not-finite", "infinities or NaN were read as null in", &not_finite);
    tell("metadata-skipped", "left out of the metadata, because too large or too deep", &left_out);
    beside
}

/// Why a value does not become JSON.
enum Refusal {
    Tensor,
    TooMuch,
}

struct ToJson<'a> {
    heap: &'a Heap,
    values: usize,
    not_finite: bool,
}

impl ToJson<'_> {
    fn convert(&mut self, value: Value, depth: usize) -> Result<Json, Refusal> {
        self.values += 1;
        if self.values > VALUES || depth > PICKLE_DEPTH {
            return Err(Refusal::TooMuch);
        }
        let node = match value {
            Value::None => return Ok(Json::Null),
            Value::Bool(value) => return Ok(Json::Bool(value)),
            Value::Int(value) => return Ok(Json::from(value)),
            Value::Float(value) => return Ok(self.float(value)),
            Value::Ref(_) => self.heap.node(value),
        };
        match node {
            Some(Node::Str(text)) => self.text(text),
            Some(Node::Bytes { len, .. }) => Ok(Json::String(format!("{len} bytes"))),
            Some(Node::Tuple(items) | Node::List(items)) => {
                items.iter().map(|&item| self.convert(item, depth + 1)).collect()
            }
            Some(Node::Dict(pairs)) => self.object(pairs, depth),
            Some(Node::Record(record)) => self.record(record, depth),
            Some(Node::Global(..)) => match self.heap.global(value) {
                Some(name) => Ok(Json::String(name)),
                None => Ok(Json::Null),
            },
            Some(Node::Tensor(_) | Node::Unread(_) | Node::Storage(_)) => Err(Refusal::Tensor),
            None => Ok(Json::Null),
        }
    }

    /// The fields of an object; without fields what it holds; without either what it was made from.
    fn record(&mut self, record: &Record, depth: usize) -> Result<Json, Refusal> {
        let heap = self.heap;
        if let Some(number) = numpy::scalar(heap, record) {
            return Ok(match number {
                Value::Float(value) => self.float(value),
                Value::Bool(value) => Json::Bool(value),
                Value::Int(value) => Json::from(value),
                _ => Json::Null,
            });
        }
        match (record.state, record.held.as_deref()) {
            (Value::None, Some(held)) if !held.pairs.is_empty() => self.object(&held.pairs, depth),
            (Value::None, Some(held)) => {
                held.items.iter().map(|&item| self.convert(item, depth + 1)).collect()
            }
            // `set([1, 2])`, `torch.Size((2, 3))`: the list is all there is.
            (Value::None, None) => match heap.tuple(record.args) {
                Some(&[only]) if heap.items(only).is_some() || heap.mapping(only).is_some() => {
                    self.convert(only, depth + 1)
                }
                _ => self.convert(record.args, depth + 1),
            },
            (state, _) => self.convert(state, depth + 1),
        }
    }

    fn object(&mut self, pairs: &[(Value, Value)], depth: usize) -> Result<Json, Refusal> {
        let mut object = Map::new();
        for &(key, value) in pairs {
            let key = match self.convert(key, depth + 1)? {
                Json::String(key) => key,
                other => other.to_string(),
            };
            object.insert(key, self.convert(value, depth + 1)?);
        }
        Ok(Json::Object(object))
    }

    fn text(&mut self, text: &str) -> Result<Json, Refusal> {
        // A long string that is mentioned a thousand times must not become a thousand strings.
        self.values = self.values.saturating_add(text.len() / 64);
        Ok(Json::String(text.into()))
    }

    fn float(&mut self, value: f64) -> Json {
        match Number::from_f64(value) {
            Some(number) => Json::Number(number),
            None => {
                self.not_finite = true;
                Json::Null
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;
    use crate::pickle;

    /// What lies beside the state dict `{}` in a dict with these items, in opcodes.
    fn beside(items: &[u8]) -> Beside {
        let pickle = [b"}(X\x10\0\0\0model_state_dict}".as_slice(), items, b"u."].concat();
        let pickle =
            pickle::load(&mut Cursor::new(&pickle, "pickle", 0, pickle.len() as u64).unwrap()).unwrap();
        let path = "model_state_dict".to_string();
        let state = pickle.heap.get(pickle.root, &path).unwrap();
        let around = vec![pickle.root];
        let parts = vec![(state, String::new())];
        let inner = [pickle.root, state].into_iter().filter_map(Value::node).collect();
        let (candidates, findings) = (Vec::new(), Vec::new());
        read(&pickle.heap, &Weights { path, parts, around, inner, candidates, findings })
    }

    #[test]
    fn scalars_are_text_and_containers_are_json() {
        let found = beside(
            b"\x8c\x05epochK\x03\x8c\x04name\x8c\x01x\x8c\x04seed\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0",
        );
        assert_eq!(found.metadata["epoch"], "3");
        assert_eq!(found.metadata["name"], "x");
        assert_eq!(found.metadata["seed"], "18446744073709551615");
        let found = beside(b"\x8c\x04maps}K\x01]\x88as\x8c\x03setc__main__\nMode\n\x8c\x01b\x85R");
        assert!(found.findings.is_empty());
        assert_eq!(found.metadata["maps"], r#"{"1":[true]}"#);
        assert_eq!(found.metadata["set"], r#"["b"]"#, "an instance without fields is what it was made from");
    }

    #[test]
    fn what_json_cannot_say_is_null_and_told() {
        let inf = [b'G', 0x7f, 0xf0, 0, 0, 0, 0, 0, 0];
        let found = beside(&[b"\x8c\x06config}\x8c\x01a".as_slice(), &inf, b"s"].concat());
        assert_eq!(found.config.unwrap()["a"], Json::Null);
        assert_eq!(found.findings[0].code, "not-finite");
        assert!(found.findings[0].message.contains("`config`"));
    }

    #[test]
    fn what_is_not_metadata_is_told() {
        let found = beside(b"\x8c\x13optimizer_statedict}\x8c\x06configK\x01");
        assert_eq!(found.skipped, ["optimizer_statedict"]);
        assert_eq!((found.config, found.findings[0].code.as_str()), (None, "config-unreadable"));
        let long = [b"\x8c\x04textX\x01\0\x01\0".as_slice(), &[b'a'; (1 << 16) + 1]].concat();
        let found = beside(&long);
        assert!(found.metadata.is_empty());
        assert_eq!(found.findings[0].code, "metadata-skipped");
    }
}

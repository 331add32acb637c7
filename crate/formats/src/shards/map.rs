//! `model.safetensors.index.json`: which tensor lies in which shard, as transformers and accelerate write it.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use statepress_core::limits::TENSORS;

use crate::FormatError;
use crate::json::Pairs;

/// The index of a checkpoint in shards.
#[derive(Clone, Debug)]
pub struct ShardMap {
    /// What the index is called, for errors.
    pub name: String,
    /// The shard of every tensor.
    pub(super) shard_of: HashMap<String, String>,
    /// The tensors in the order of the file.
    pub(super) keys: Vec<String>,
    /// Bytes of all tensors, as the index counts them.
    pub(super) total_size: Option<u64>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
    weight_map: Pairs<String>,
}

impl ShardMap {
    /// Reads the text of an index.
    pub fn parse(name: &str, text: &str) -> Result<Self, FormatError> {
        let refused = |why: String| FormatError::malformed("index of shards", format!("{name}: {why}"));
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let Written { metadata, weight_map: Pairs(pairs) } =
            serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
        if pairs.is_empty() {
            return Err(refused("its `weight_map` names no tensor".into()));
        }
        if pairs.len() > TENSORS {
            let (value, limit) = (pairs.len() as u64, TENSORS as u64);
            return Err(FormatError::TooLarge { what: format!("tensors in {name}"), value, limit });
        }
        // An index says nothing of folders: a shard that lies elsewhere is not part of the checkpoint.
        if let Some((key, file)) =
            pairs.iter().find(|(_, file)| file.is_empty() || file.contains(['/', '\\']))
        {
            return Err(refused(format!(
                "`{key}` is said to be in `{file}`, which is no file beside the index"
            )));
        }
        // accelerate writes whole numbers, some converters write floats.
        let total_size = metadata.as_ref().and_then(|fields| {
            let size = fields.get("total_size")?;
            size.as_u64().or_else(|| size.as_f64().filter(|size| *size >= 0.0).map(|size| size as u64))
        });
        let keys = pairs.iter().map(|(key, _)| key.clone()).collect();
        Ok(Self { name: name.into(), shard_of: pairs.into_iter().collect(), keys, total_size })
    }

    /// The shards in the order of their names.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.shard_of.values().map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ShardMap::parse("model.safetensors.index.json", text).unwrap_err().to_string()
    }

    #[test]
    fn shards_are_named_once_in_their_order() {
        let text = "\u{feff}{\"metadata\": {\"total_size\": 12.0, \"x\": []}, \"weight_map\": {\"c\": \"2.bin\", \"a\": \"1.bin\", \"b\": \"2.bin\"}}";
        let map = ShardMap::parse("x.index.json", text).unwrap();
        assert_eq!((map.files(), map.total_size), (vec!["1.bin", "2.bin"], Some(12)));
        assert_eq!(map.keys, ["c", "a", "b"]);
        let bare =
            ShardMap::parse("x.index.json", r#"{"metadata": null, "weight_map": {"a": "1.bin"}}"#).unwrap();
        assert_eq!(bare.total_size, None);
    }

    #[test]
    fn what_is_no_index_is_refused_by_name() {
        assert!(refused("{").contains("model.safetensors.index.json: EOF"));
        assert!(refused("{}").contains("missing field `weight_map`"));
        assert!(refused(r#"{"weight_map": {}}"#).contains("names no tensor"));
        assert!(refused(r#"{"weight_map": {"a": 1}}"#).contains("expected a string"));
        assert!(refused(r#"{"weight_map": {"a": "1", "a": "2"}}"#).contains("the key `a` occurs twice"));
        for file in ["../x.bin", "/etc/passwd", "a\\\\b", ""] {
            assert!(
                refused(&format!(r#"{{"weight_map": {{"a": "{file}"}}}}"#)).contains("no file beside"),
                "{file}"
            );
        }
    }
}

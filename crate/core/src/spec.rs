//! What a checkpoint is: its family and every configuration field, each with its origin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Family {
    IteraLite,
    Transformer,
    Mamba,
    Mamba2,
    Unknown,
}

/// Where the value of a field comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Stored in the file.
    Read,
    /// Counted from names and shapes.
    Counted,
    /// Not in the file: a default.
    Assumed,
    /// Given by the user.
    Given,
}

/// One field of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// A number, a boolean or a list of numbers.
    #[cfg_attr(feature = "types", ts(type = "number | boolean | string | number[]"))]
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: Origin,
    /// The tensor, the config key or the rule that it comes from.
    pub from: String,
}

/// Every field by its usual config name: `vocab_size`, `hidden_size`, ...
pub type Fields = BTreeMap<String, Field>;

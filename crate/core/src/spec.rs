//! What a checkpoint is: its family and every configuration field, each with its origin.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A family of models, by its name in reports: `mamba2`. The list is open: families are declared
/// where they are read, and a report of a newer version may name one that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(transparent)]
pub struct Family(#[cfg_attr(feature = "types", ts(type = "string"))] pub Cow<'static, str>);

impl Family {
    /// A state-space model with a mixture of experts.
    pub const ITERA_LITE: Self = Self::named("itera-lite");
    /// The Transformer baseline.
    pub const TRANSFORMER: Self = Self::named("transformer");
    /// Mamba, whose steps, B and C are made by `x_proj`.
    pub const MAMBA: Self = Self::named("mamba");
    /// Mamba-2.
    pub const MAMBA2: Self = Self::named("mamba2");
    /// None that is known.
    pub const UNKNOWN: Self = Self::named("unknown");

    /// A family of that name.
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
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

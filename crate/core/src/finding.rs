//! Findings: what was assumed, skipped, refused or found odd. Reports carry them.

use serde::{Deserialize, Serialize};

/// One thing worth telling, with the tensor that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How loud it is.
    pub level: Level,
    /// A stable kebab-case word for programs: `tied-again`, `unmatched`, ...
    pub code: String,
    /// One sentence for people, lower case.
    pub message: String,
    /// The tensor, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub tensor: Option<String>,
}

/// How loud a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Something was assumed or lost; look at it.
    Warning,
    /// A part of the input is unusable.
    Error,
}

impl Finding {
    /// An informative finding.
    pub fn info(code: &str, message: impl Into<String>) -> Self {
        Self { level: Level::Info, code: code.into(), message: message.into(), tensor: None }
    }

    /// A warning.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::info(code, message) }
    }

    /// The same finding, about a tensor.
    pub fn about(self, tensor: impl Into<String>) -> Self {
        Self { tensor: Some(tensor.into()), ..self }
    }
}

//! Options that recipes of version 1 may have though they can have one value only: read, and never written.

use serde::Deserialize;

use super::{Compensation, GroupOptions, Int4Options, Int8Options, Nf4Options, Quantize, RecipeError, Rule};
use crate::Precision;
use crate::encoding::ScaleType;

/// A quantize step as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct QuantizeRead {
    rules: Vec<Rule>,
    otherwise: Precision,
    #[serde(default)]
    int8: Int8Options,
    #[serde(default)]
    nf4: Nf4Options,
    #[serde(default)]
    int4: Int4Options,
    #[serde(default)]
    groups: GroupOptions,
    #[serde(default)]
    compensation: Option<Compensation>,
    /// Read for its one value.
    #[serde(default, rename = "errorCompensation")]
    _error_compensation: ErrorCompensation,
}

/// Whether later weights make up for the rounding of earlier ones.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ErrorCompensation {
    #[default]
    None,
}

impl From<QuantizeRead> for Quantize {
    fn from(
        QuantizeRead { rules, otherwise, int8, nf4, int4, groups, compensation, .. }: QuantizeRead,
    ) -> Self {
        Self { rules, otherwise, int8, nf4, int4, groups, compensation }
    }
}

/// Options of INT4 as they are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Int4Read {
    group: usize,
    symmetric: bool,
    scale: ScaleType,
}

impl Default for Int4Read {
    fn default() -> Self {
        let Int4Options { group, scale } = Int4Options::default();
        Self { group, symmetric: true, scale }
    }
}

impl TryFrom<Int4Read> for Int4Options {
    type Error = RecipeError;

    fn try_from(Int4Read { group, symmetric, scale }: Int4Read) -> Result<Self, RecipeError> {
        if !symmetric {
            return Err(RecipeError::option("int4.symmetric", false, "true"));
        }
        Ok(Self { group, scale })
    }
}

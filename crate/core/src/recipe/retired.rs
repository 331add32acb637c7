//! An option that recipes of version 1 may have though it can have one value only: read, and never written.

use serde::Deserialize;

use super::{ClipBy, Int4Options, RecipeError};
use crate::encoding::ScaleType;

/// Options of INT4 as they are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Int4Read {
    group: usize,
    symmetric: bool,
    scale: ScaleType,
    clip: ClipBy,
}

impl Default for Int4Read {
    fn default() -> Self {
        let Int4Options { group, scale, clip } = Int4Options::default();
        Self { group, symmetric: true, scale, clip }
    }
}

impl TryFrom<Int4Read> for Int4Options {
    type Error = RecipeError;

    fn try_from(Int4Read { group, symmetric, scale, clip }: Int4Read) -> Result<Self, RecipeError> {
        if !symmetric {
            return Err(RecipeError::option("int4.symmetric", false, "true"));
        }
        Ok(Self { group, scale, clip })
    }
}

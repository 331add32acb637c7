//! An encoding as the metadata of a file describe it: `FORMAT.md` has the fields.

use serde::{Deserialize, Serialize};

use super::{Coding, Encoding, Granularity, Group, ScaleType};
use crate::{Grid, Precision};

/// The fields of a description. Which of them there are depends on the precision.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    precision: Precision,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    granularity: Option<Granularity>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    group: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    scale: Option<ScaleType>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    block: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    absmax: Option<ScaleType>,
}

impl From<Encoding> for Described {
    fn from(encoding: Encoding) -> Self {
        let precision = encoding.precision();
        let none = Self { precision, granularity: None, group: None, scale: None, block: None, absmax: None };
        let Some(Coding { grid, group, scale }) = encoding.coding() else { return none };
        match (grid, group) {
            (Grid::Nf4, Group::Values(block)) => Self { block: Some(block), absmax: Some(scale), ..none },
            (_, Group::Values(group)) => Self { group: Some(group), scale: Some(scale), ..none },
            (_, whole) => {
                let granularity = if whole == Group::Row { Granularity::Row } else { Granularity::Tensor };
                // INT8 had scales of one type before others had a choice.
                let scale = (grid != Grid::Int8 || scale != ScaleType::Fp32).then_some(scale);
                Self { granularity: Some(granularity), scale, ..none }
            }
        }
    }
}

impl TryFrom<Described> for Encoding {
    type Error = String;

    fn try_from(it: Described) -> Result<Self, String> {
        let Precision::Codes(grid) = it.precision else {
            let any = it.granularity.is_some()
                || it.group.or(it.block).is_some()
                || it.scale.or(it.absmax).is_some();
            return match it.precision {
                _ if any => Err(format!("{} has no groups and no scales", it.precision.name())),
                Precision::Fp16 => Ok(Self::Fp16),
                Precision::Bf16 => Ok(Self::Bf16),
                _ => Ok(Self::Fp32),
            };
        };
        let name = grid.name();
        let (group, scale) = match grid {
            Grid::Nf4 => (it.block, it.absmax),
            _ => (it.group, it.scale),
        };
        let foreign = match grid {
            Grid::Nf4 => it.group.is_some() || it.scale.is_some(),
            _ => it.block.is_some() || it.absmax.is_some(),
        };
        let (size, scales) = if grid == Grid::Nf4 { ("block", "absmax") } else { ("group", "scale") };
        if foreign {
            return Err(format!("{name} is described by `{size}` and `{scales}`"));
        }
        let group = match (it.granularity, group) {
            (Some(granularity), None) => granularity.into(),
            (None, Some(size)) => Group::Values(size),
            _ => return Err(format!("{name} needs `{size}` or `granularity`, one of them")),
        };
        let scale = match (scale, grid, group) {
            (Some(scale), ..) => scale,
            (None, Grid::Int8, Group::Row | Group::Tensor) => ScaleType::Fp32,
            _ => return Err(format!("{name} needs `{scales}`")),
        };
        Ok(Self::Codes(Coding { grid, group, scale }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_those_of_version_1_and_read_back() {
        for (encoding, json) in [
            (Encoding::Bf16, r#"{"precision":"bf16"}"#),
            (Encoding::int8(Granularity::Row), r#"{"precision":"int8","granularity":"row"}"#),
            (Encoding::int4(32, ScaleType::Fp16), r#"{"precision":"int4","group":32,"scale":"fp16"}"#),
            (Encoding::nf4(64, ScaleType::Double), r#"{"precision":"nf4","block":64,"absmax":"double"}"#),
            (
                Encoding::grouped(Grid::Lm3, 64, ScaleType::Log8),
                r#"{"precision":"lm3","group":64,"scale":"log8"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&encoding).unwrap(), json);
            assert_eq!(serde_json::from_str::<Encoding>(json).unwrap(), encoding);
        }
        for (json, why) in [
            (r#"{"precision":"int4","group":32}"#, "needs `scale`"),
            (r#"{"precision":"nf4","group":32,"scale":"fp16"}"#, "described by `block` and `absmax`"),
            (r#"{"precision":"int3","group":32,"granularity":"row","scale":"fp16"}"#, "one of them"),
            (r#"{"precision":"fp16","group":32}"#, "no groups"),
        ] {
            let error = serde_json::from_str::<Encoding>(json).unwrap_err().to_string();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}

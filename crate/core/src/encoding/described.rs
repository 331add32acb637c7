//! An encoding as the metadata of a file describe it: `FORMAT.md` has the fields.

use serde::{Deserialize, Serialize};

use super::{Coding, Encoding, Granularity, Group, RowClass, RowClasses, ScaleType};
use crate::{Grid, Precision};

/// The fields of a description. Which of them there are depends on the precision.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    /// Of a class of rows: how many they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    precision: Option<Precision>,
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
    /// Instead of all that: the classes of its rows.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    rows: Vec<Described>,
}

/// What a grid calls the size of a group and the type of its scales: NF4 has bitsandbytes' words.
fn names(grid: Grid) -> (&'static str, &'static str) {
    if grid == Grid::Nf4 { ("block", "absmax") } else { ("group", "scale") }
}

impl From<Encoding> for Described {
    fn from(encoding: Encoding) -> Self {
        if let Encoding::Rows(classes) = encoding {
            let class = |class: &RowClass| Self { count: Some(class.rows), ..class.encoding().into() };
            return Self { rows: classes.all().iter().map(class).collect(), ..Self::default() };
        }
        let none = Self { precision: Some(encoding.precision()), ..Self::default() };
        let Some(Coding { grid, group, scale }) = encoding.coding() else { return none };
        let (granularity, size) = match group {
            Group::Row => (Some(Granularity::Row), None),
            Group::Tensor => (Some(Granularity::Tensor), None),
            Group::Values(size) => (None, Some(size)),
        };
        // Version 1 never names the type that INT8's scales of rows usually have.
        let is_usual = grid == Grid::Int8 && size.is_none() && scale == ScaleType::Fp32;
        let scale = (!is_usual).then_some(scale);
        match names(grid) {
            ("block", _) => Self { granularity, block: size, absmax: scale, ..none },
            _ => Self { granularity, group: size, scale, ..none },
        }
    }
}

impl TryFrom<Described> for Encoding {
    type Error = String;

    fn try_from(it: Described) -> Result<Self, String> {
        let precision = match (it.precision, it.count) {
            (Some(precision), None) if it.rows.is_empty() => precision,
            (None, None)
                if it.granularity.is_none()
                    && it.group.or(it.block).is_none()
                    && it.scale.or(it.absmax).is_none() =>
            {
                return classes(it.rows);
            }
            _ => return Err("it is described by `precision` or by `rows`, one of them".into()),
        };
        let name = precision.name();
        let Precision::Codes(grid) = precision else {
            let any = it.granularity.is_some()
                || it.group.or(it.block).is_some()
                || it.scale.or(it.absmax).is_some();
            return match precision {
                _ if any => Err(format!("{name} has no groups and no scales")),
                Precision::Fp16 => Ok(Self::Fp16),
                Precision::Bf16 => Ok(Self::Bf16),
                _ => Ok(Self::Fp32),
            };
        };
        let (size, kind) = names(grid);
        let (group, scale, foreign) = match size {
            "block" => (it.block, it.absmax, it.group.is_some() || it.scale.is_some()),
            _ => (it.group, it.scale, it.block.is_some() || it.absmax.is_some()),
        };
        if foreign {
            return Err(format!("{name} is described by `{size}` and `{kind}`"));
        }
        let group = match (it.granularity, group) {
            (Some(granularity), None) => granularity.into(),
            (None, Some(size)) => Group::Values(size),
            _ => return Err(format!("{name} needs `{size}` or `granularity`, one of them")),
        };
        let scale = match scale {
            None if grid == Grid::Int8 && it.granularity.is_some() => ScaleType::Fp32,
            named => named.ok_or_else(|| format!("{name} needs `{kind}`"))?,
        };
        Ok(Self::Codes(Coding { grid, group, scale }))
    }
}

/// Classes of rows, none of which has classes itself.
fn classes(described: Vec<Described>) -> Result<Encoding, String> {
    if described.is_empty() {
        return Err("it needs `precision`, or `rows` of which each has one".into());
    }
    let class = |(at, mut class): (usize, Described)| {
        let rows = class.count.take().ok_or_else(|| format!("`rows` {at} needs `count`"))?;
        let plain = Encoding::try_from(class).map_err(|why| format!("`rows` {at}: {why}"))?.plain();
        Ok(RowClass { rows, plain: plain.ok_or_else(|| format!("`rows` {at} needs `precision`"))? })
    };
    let classes: Result<Vec<RowClass>, String> = described.into_iter().enumerate().map(class).collect();
    RowClasses::new(&classes?).map(Encoding::Rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_those_of_version_1_and_read_back() {
        let rows = [(2, Encoding::int8(Granularity::Row)), (6, Encoding::Fp16)];
        let rows = rows.map(|(rows, encoding)| RowClass { rows, plain: encoding.plain().unwrap() });
        for (encoding, json) in [
            (Encoding::Bf16, r#"{"precision":"bf16"}"#),
            (Encoding::int8(Granularity::Row), r#"{"precision":"int8","granularity":"row"}"#),
            (Encoding::stepped(), r#"{"precision":"int8","granularity":"row","scale":"log8"}"#),
            (
                Encoding::grouped(Grid::Int8, 32, ScaleType::Fp16),
                r#"{"precision":"int8","group":32,"scale":"fp16"}"#,
            ),
            (Encoding::int4(32, ScaleType::Fp16), r#"{"precision":"int4","group":32,"scale":"fp16"}"#),
            (Encoding::nf4(64, ScaleType::Double), r#"{"precision":"nf4","block":64,"absmax":"double"}"#),
            (
                Encoding::grouped(Grid::Lm3, 64, ScaleType::Log8),
                r#"{"precision":"lm3","group":64,"scale":"log8"}"#,
            ),
            (
                Encoding::Rows(RowClasses::new(&rows).unwrap()),
                r#"{"rows":[{"count":2,"precision":"int8","granularity":"row"},{"count":6,"precision":"fp16"}]}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&encoding).unwrap(), json);
            assert_eq!(serde_json::from_str::<Encoding>(json).unwrap(), encoding);
        }
        for &grid in Grid::ALL {
            for group in [Group::Row, Group::Tensor, Group::Values(8)] {
                use ScaleType::{Affine, Double, Fp16, Fp32, Log8};
                for scale in [Fp16, Fp32, Log8, Double, Affine] {
                    let encoding = Encoding::Codes(Coding { grid, group, scale });
                    if encoding.refusal(&[8, 16]).is_none() {
                        let json = serde_json::to_string(&encoding).unwrap();
                        assert_eq!(serde_json::from_str::<Encoding>(&json).unwrap(), encoding, "{json}");
                    }
                }
            }
        }
        for (json, why) in [
            (r#"{"precision":"int4","group":32}"#, "needs `scale`"),
            (r#"{"precision":"int8","group":32}"#, "needs `scale`"),
            (r#"{"precision":"int8","scale":"fp32"}"#, "needs `group` or `granularity`"),
            (r#"{"precision":"nf4","group":32,"scale":"fp16"}"#, "described by `block` and `absmax`"),
            (r#"{"precision":"int3","group":32,"granularity":"row","scale":"fp16"}"#, "one of them"),
            (r#"{"precision":"fp16","group":32}"#, "no groups"),
            ("{}", "needs `precision`"),
            (r#"{"rows":[{"count":1,"precision":"fp16"}],"group":1}"#, "one of them"),
            (r#"{"precision":"fp16","count":1}"#, "one of them"),
            (r#"{"rows":[{"count":1,"precision":"fp16"}]}"#, "2 to 8"),
            (
                r#"{"rows":[{"count":0,"precision":"fp16"},{"count":1,"precision":"fp16"}]}"#,
                "class 0 of its rows",
            ),
            (r#"{"rows":[{"precision":"fp16"},{"count":1,"precision":"fp16"}]}"#, "`rows` 0 needs `count`"),
            (
                r#"{"rows":[{"count":1,"precision":"int3","group":8},{"count":1,"precision":"fp16"}]}"#,
                "`rows` 0: int3 needs `scale`",
            ),
            (
                r#"{"rows":[{"count":1,"rows":[{"count":1,"precision":"fp16"},{"count":1,"precision":"fp32"}]},{"count":1,"precision":"fp16"}]}"#,
                "`rows` 0 needs `precision`",
            ),
        ] {
            let error = serde_json::from_str::<Encoding>(json).unwrap_err().to_string();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}

//! How each precision is done: what a recipe says of it, what is allowed, and the encoding that comes of it.

use serde::{Deserialize, Serialize};

use super::{RecipeError, retired};
use crate::encoding::{Granularity, ScaleType};
use crate::{Encoding, Grid, Precision};

/// How precisions are done where no rule chooses among them: a quantize step without its rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Codecs {
    /// How `int8` is done.
    pub int8: Int8Options,
    /// How `nf4` is done.
    pub nf4: Nf4Options,
    /// How `int4` is done.
    pub int4: Int4Options,
    /// How the other grids are done.
    pub groups: GroupOptions,
}

impl Codecs {
    /// Checks every option against what is allowed.
    pub fn check(&self) -> Result<(), RecipeError> {
        let Self { int8, nf4, int4, groups } = self;
        if !(int8.percentile > 0.0 && int8.percentile <= 100.0) {
            return Err(RecipeError::option("int8.percentile", int8.percentile, "above 0 and at most 100"));
        }
        for (option, size, allowed) in [
            ("int4.group", int4.group, &Int4Options::GROUPS[..]),
            ("nf4.block", nf4.block, &Nf4Options::BLOCKS),
            ("groups.group", groups.group, &GroupOptions::GROUPS),
        ] {
            if !allowed.contains(&size) {
                let allowed: Vec<_> = allowed.iter().map(usize::to_string).collect();
                return Err(RecipeError::option(option, size, &allowed.join(", ")));
            }
        }
        for (option, scale, allowed) in [
            ("int4.scale", int4.scale, &Int4Options::SCALES[..]),
            ("nf4.absmax", nf4.absmax, &Nf4Options::SCALES),
            ("groups.scale", groups.scale, &GroupOptions::SCALES),
        ] {
            if !allowed.contains(&scale) {
                let allowed: Vec<_> = allowed.iter().map(|scale| scale.name()).collect();
                return Err(RecipeError::option(option, scale.name(), &allowed.join(", ")));
            }
        }
        for (option, clip) in [("int4.clip", int4.clip), ("nf4.clip", nf4.clip), ("groups.clip", groups.clip)]
        {
            if clip == ClipBy::Percentile {
                let allowed =
                    "minmax, mse, activation; percentiles are int8's, whose scales are of many numbers";
                return Err(RecipeError::option(option, "percentile", allowed));
            }
        }
        Ok(())
    }

    /// Whether `groups` says how a grid is done: it does of all that have no options of their own.
    pub const fn in_groups(grid: Grid) -> bool {
        !matches!(grid, Grid::Int8 | Grid::Int4 | Grid::Nf4)
    }

    /// Where the scales of a grid clip.
    pub fn clip(&self, grid: Grid) -> ClipBy {
        match grid {
            Grid::Int8 => self.int8.clip,
            Grid::Int4 => self.int4.clip,
            Grid::Nf4 => self.nf4.clip,
            _ => self.groups.clip,
        }
    }

    /// The encoding that a precision stands for under these options.
    pub fn encoding(&self, precision: Precision) -> Encoding {
        let grid = match precision {
            Precision::Fp32 => return Encoding::Fp32,
            Precision::Fp16 => return Encoding::Fp16,
            Precision::Bf16 => return Encoding::Bf16,
            Precision::Codes(grid) => grid,
        };
        match grid {
            Grid::Int8 => Encoding::int8(self.int8.granularity),
            Grid::Int4 => Encoding::int4(self.int4.group, self.int4.scale),
            Grid::Nf4 if self.nf4.double_quant => Encoding::nf4(self.nf4.block, ScaleType::Double),
            Grid::Nf4 => Encoding::nf4(self.nf4.block, self.nf4.absmax),
            _ => Encoding::grouped(grid, self.groups.group, self.groups.scale),
        }
    }
}

/// INT8: `scale = c / 127` with `c` where magnitudes are clipped, as a rule the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Int8Options {
    /// What one scale covers.
    pub granularity: Granularity,
    /// Where a scale clips.
    #[serde(alias = "calibration")]
    pub clip: ClipBy,
    /// With `percentile`: which one, above 0 and at most 100.
    pub percentile: f64,
}

/// Where the numbers that share a scale are clipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ClipBy {
    /// At the largest magnitude: nowhere. With errors made up for, at the least error of what the numbers are multiplied with.
    #[default]
    Minmax,
    /// At a percentile of the magnitudes.
    Percentile,
    /// Where their squared error is least.
    Mse,
    /// Where the squared error is least of what they are multiplied with while the model reads a calibration text.
    Activation,
}

impl ClipBy {
    fn is_minmax(&self) -> bool {
        *self == Self::Minmax
    }
}

impl Default for Int8Options {
    fn default() -> Self {
        Self { granularity: Granularity::Row, clip: ClipBy::Minmax, percentile: 99.99 }
    }
}

/// INT4: symmetric groups along rows, `scale = absmax / 7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", try_from = "retired::Int4Read")]
pub struct Int4Options {
    /// Values of a row that share a scale: 16, 32, 64 or 128.
    pub group: usize,
    /// The type of the scales.
    pub scale: ScaleType,
    /// Where a scale clips: anything but `percentile`. `minmax` when left out.
    #[serde(skip_serializing_if = "ClipBy::is_minmax")]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<ClipBy>"))]
    pub clip: ClipBy,
}

impl Int4Options {
    /// What [`Self::group`] may be.
    pub const GROUPS: [usize; 4] = [16, 32, 64, 128];
    /// What [`Self::scale`] may be.
    pub const SCALES: [ScaleType; 2] = [ScaleType::Fp16, ScaleType::Fp32];
}

impl Default for Int4Options {
    fn default() -> Self {
        Self { group: 32, scale: ScaleType::Fp16, clip: ClipBy::Minmax }
    }
}

/// Integers of 6, 5, 3 and 2 bits and Lloyd-Max levels, in groups of the flattened tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GroupOptions {
    /// Values that share a scale: 16, 32, 64, 128 or 256.
    pub group: usize,
    /// The type of the scales: `log8`, `fp16` or `fp32`.
    pub scale: ScaleType,
    /// Where a scale clips: anything but `percentile`. `minmax` when left out.
    #[serde(skip_serializing_if = "ClipBy::is_minmax")]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<ClipBy>"))]
    pub clip: ClipBy,
}

impl GroupOptions {
    /// What [`Self::group`] may be.
    pub const GROUPS: [usize; 5] = [16, 32, 64, 128, 256];
    /// What [`Self::scale`] may be.
    pub const SCALES: [ScaleType; 3] = [ScaleType::Log8, ScaleType::Fp16, ScaleType::Fp32];
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self { group: 64, scale: ScaleType::Fp16, clip: ClipBy::Minmax }
    }
}

/// NF4 as in QLoRA and bitsandbytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Nf4Options {
    /// Values that share an absmax: 32, 64, 128, 256, 512, 1024, 2048 or 4096.
    pub block: usize,
    /// Whether the absmax values are themselves quantized to 8 bits.
    pub double_quant: bool,
    /// The type of the absmax values when they are not.
    pub absmax: ScaleType,
    /// Where a scale clips: anything but `percentile`. `minmax` when left out.
    #[serde(skip_serializing_if = "ClipBy::is_minmax")]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<ClipBy>"))]
    pub clip: ClipBy,
}

impl Nf4Options {
    /// What [`Self::block`] may be.
    pub const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];
    /// What [`Self::absmax`] may be; `doubleQuant` is said apart.
    pub const SCALES: [ScaleType; 2] = [ScaleType::Fp16, ScaleType::Fp32];
}

impl Default for Nf4Options {
    fn default() -> Self {
        Self { block: 64, double_quant: true, absmax: ScaleType::Fp32, clip: ClipBy::Minmax }
    }
}

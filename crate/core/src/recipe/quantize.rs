//! Storing numbers in fewer bits: which tensors, which precision, and how.

use serde::{Deserialize, Serialize};

use super::{
    ClipBy, Codecs, ErrorCompensation, GptqOptions, GroupOptions, Int4Options, Int8Options, Nf4Options, ROLE,
    RecipeError, RowRule,
};
use crate::{Grid, Precision, Role};

/// Store numbers in fewer bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quantize {
    /// First match wins.
    pub rules: Vec<Rule>,
    /// The precision of tensors that no rule matches.
    pub otherwise: Precision,
    /// How `int8` is done.
    #[serde(default)]
    pub int8: Int8Options,
    /// How `nf4` is done.
    #[serde(default)]
    pub nf4: Nf4Options,
    /// How `int4` is done.
    #[serde(default)]
    pub int4: Int4Options,
    /// How `int6`, `int5`, `int3`, `int2`, `lm3` and `lm2` are done.
    #[serde(default)]
    pub groups: GroupOptions,
    /// Whether the codes of quantized tensors are entropy-coded in the file, which is smaller for it; in memory they are
    /// what they are without. `false` when left out.
    #[serde(default)]
    pub coded: bool,
    /// Whether rounding errors are made up for. `none` when left out.
    #[serde(default)]
    pub error_compensation: ErrorCompensation,
    /// How `gptq` is done, if not as usual.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub gptq: Option<GptqOptions>,
}

impl Default for Quantize {
    /// A step to start from: no rules, so that every tensor is stored in FP32.
    fn default() -> Self {
        let Codecs { int8, nf4, int4, groups } = Codecs::default();
        Self {
            rules: Vec::new(),
            otherwise: Precision::Fp32,
            int8,
            nf4,
            int4,
            groups,
            coded: false,
            error_compensation: ErrorCompensation::None,
            gptq: None,
        }
    }
}

/// Which tensors, which precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// A glob over the checkpoint's keys, with or without their prefix, or `role:` and a [`Role`]: `role:norm`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The precision of what matches.
    pub precision: Precision,
    /// Of `int8` with errors made up for: how far apart the levels of a row are, in units of what the matrix puts out, instead
    /// of as close as 8 bits allow. Most codes are small then, and take few bits once they are entropy-coded. Numbers whose errors
    /// cannot be made up for, as no product goes over them, have levels that far apart themselves; the report says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub step: Option<f64>,
    /// Rows of a matrix that take another precision than the rest of it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "types", ts(optional, as = "Option<Vec<RowRule>>"))]
    pub rows: Vec<RowRule>,
}

impl Quantize {
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        self.codecs().check()?;
        self.gptq.map_or(Ok(()), |gptq| gptq.check())?;
        if let Some(rule) = self.rules.iter().find(|rule| rule.pattern.is_empty()) {
            let pattern = format!("{:?}", rule.pattern);
            return Err(RecipeError::option("rules.match", pattern, "a glob over tensor names"));
        }
        self.rules.iter().try_for_each(|rule| self.check_step(rule))?;
        self.rules.iter().try_for_each(|rule| self.check_rows(rule))?;
        let known = |role: &str| Role::ALL.iter().any(|known| known.name() == role);
        let mut roles = self.rules.iter().filter_map(|rule| rule.pattern.strip_prefix(ROLE));
        if let Some(role) = roles.find(|role| !known(role)) {
            let all: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
            let pattern = format!("{ROLE}{role}");
            let allowed = format!("{ROLE} and one of {}", all.join(", "));
            return Err(RecipeError::option("rules.match", pattern, &allowed));
        }
        Ok(())
    }

    /// Steps are those of 8-bit codes whose errors are made up for: nothing else is fitted to what a matrix puts out.
    fn check_step(&self, rule: &Rule) -> Result<(), RecipeError> {
        let Some(step) = rule.step else { return Ok(()) };
        let refused = |allowed| Err(RecipeError::option("rules.step", step, allowed));
        match (rule.precision, self.error_compensation) {
            _ if !(step > 0.0 && step.is_finite()) => refused("a number above 0"),
            (Precision::Codes(Grid::Int8), ErrorCompensation::Gptq) => Ok(()),
            (Precision::Codes(Grid::Int8), _) => refused("none without errorCompensation gptq"),
            (precision, _) => refused(&format!("none for {}, which has no step: int8 has", precision.name())),
        }
    }

    /// How errors of rounding are made up for, if they are.
    pub fn compensation(&self) -> Option<GptqOptions> {
        match self.error_compensation {
            ErrorCompensation::None => None,
            ErrorCompensation::Gptq => Some(self.gptq.unwrap_or_default()),
        }
    }

    /// Whether it has to be known of any tensor what enters it: errors are made up for, or scales clip by it.
    pub fn needs_calibration(&self) -> bool {
        self.compensation().is_some() || Grid::ALL.iter().any(|&grid| self.clips_by_activation(grid))
    }

    /// Whether a rule asks for codes of a grid whose scales clip by what enters a tensor.
    fn clips_by_activation(&self, grid: Grid) -> bool {
        self.asks_for(|precision| precision == Precision::Codes(grid))
            && self.codecs().clip(grid) == ClipBy::Activation
    }

    /// Whether any rule, or what no rule matches, has such a precision.
    pub(super) fn asks_for(&self, is_such: impl Fn(Precision) -> bool) -> bool {
        let rows = |rule: &Rule| rule.rows.iter().any(|row| is_such(row.precision));
        is_such(self.otherwise) || self.rules.iter().any(|rule| is_such(rule.precision) || rows(rule))
    }

    /// How its precisions are done.
    pub fn codecs(&self) -> Codecs {
        Codecs { int8: self.int8, nf4: self.nf4, int4: self.int4, groups: self.groups }
    }
}

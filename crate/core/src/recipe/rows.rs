//! Rows of a matrix that are finer or coarser than the rest of it.

use serde::{Deserialize, Serialize};

use super::{ErrorCompensation, Quantize, RecipeError, Rule};
use crate::Precision;
use crate::encoding::MOST_CLASSES;

/// Some rows of a matrix, and their precision: those of a part of it that has a name, or the most used of a vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RowRule {
    /// What the rows are called: `z`, `x`, `B`, `C`, `dt`, as `inspect` names the parts of a matrix.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub label: Option<String>,
    /// How many of the rows that are left, the most used first: of a token table or a head, by how often a calibration text
    /// makes the model predict them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub count: Option<usize>,
    /// Their precision.
    pub precision: Precision,
}

impl Quantize {
    /// Rows are told apart by labels or by counts, and are not entropy-coded.
    pub(super) fn check_rows(&self, rule: &Rule) -> Result<(), RecipeError> {
        let rows = &rule.rows;
        let Some(first) = rows.first() else { return Ok(()) };
        let refused = |value: String, allowed: &str| Err(RecipeError::option("rules.rows", value, allowed));
        let given = format!("given for {}", rule.pattern);
        if self.coded {
            return refused(given, "none with coded: codes of rows in classes are not entropy-coded");
        }
        if rule.step.is_some() {
            return refused(given, "none with step, which the most used rows have smaller anyway");
        }
        if rows.len() >= MOST_CLASSES {
            let allowed = format!("at most {}, as all other rows are one more class", MOST_CLASSES - 1);
            return refused(rows.len().to_string(), &allowed);
        }
        if rows.iter().any(|it| it.label.is_some() == it.count.is_some()) {
            return refused(given, "each with a label or a count, one of them");
        }
        if rows.iter().any(|it| it.label.is_some() != first.label.is_some()) {
            return refused(given, "labels for all of them or counts for all of them");
        }
        if rows.iter().any(|it| it.count == Some(0)) {
            return Err(RecipeError::option("rules.rows.count", 0, "1 or more"));
        }
        if first.count.is_some() && self.error_compensation == ErrorCompensation::None {
            let allowed = "labels alone without errorCompensation gptq, whose calibration text tells which rows are used most";
            return refused("counts".into(), allowed);
        }
        let labels = rows.iter().filter_map(|it| it.label.as_deref());
        match labels.enumerate().find(|(at, label)| {
            label.is_empty() || rows[..*at].iter().any(|it| it.label.as_deref() == Some(*label))
        }) {
            Some((_, label)) => {
                Err(RecipeError::option("rules.rows.label", format!("{label:?}"), "each part's name once"))
            }
            None => Ok(()),
        }
    }
}

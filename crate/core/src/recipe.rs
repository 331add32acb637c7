//! Recipes: what to do to a checkpoint, as JSON. One schema for the CLI, JS and the page.
//!
//! Rules are tried in order and the first match decides; patterns are globs over the keys of
//! the checkpoint, with and without what wrappers put before and into them (`module.`), where
//! `*` stands for any text (dots included) and `?` for one character. A tensor that no rule matches takes `otherwise` and is reported.

mod compensation;
mod options;
mod prune;
mod quantize;
mod recover;
mod retired;
mod rows;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::words::kind;
use crate::{Precision, Role};
pub use compensation::{ErrorCompensation, GptqOptions};
pub use options::{ClipBy, Codecs, GroupOptions, Int4Options, Int8Options, Nf4Options};
pub use prune::{Prune, PruneBy, PruneKind};
pub use quantize::{Quantize, Rule};
pub use recover::{Recover, RecoverWeights};
pub use rows::RowRule;

/// What to do to a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recipe {
    /// Version of the schema: 1.
    pub version: u32,
    /// A short name; it goes into the produced file and the report.
    pub name: String,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub description: Option<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// One step of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Step {
    /// Remove structure; before anything is quantized.
    Prune(Prune),
    /// Move the mean row of the token table to a bias of the table; before anything is quantized. What is left of the rows is
    /// smaller, and so are its rounding errors; predictions stay what they were.
    Center(Center),
    /// Write the rows of the token table in a basis of its own; before anything is quantized. Predictions stay what they were.
    Basis(TableBasis),
    /// Store numbers in fewer bits.
    Quantize(Quantize),
    /// Train what the other steps have made to predict as the original does; the last step.
    Recover(Recover),
}

/// Center the token table: there is nothing to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct Center {}

/// Write the rows of the token table in a basis in which all directions matter alike and have nothing in common, as far as a
/// calibration text tells: the basis is stored beside the table. Such rows take fewer bits once they are entropy-coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TableBasis {
    /// Windows of 256 tokens of the calibration text that are read, evenly spaced, 1 to 4096; of a shorter text as many as it
    /// has. 16 when left out.
    pub windows: usize,
}

impl Default for TableBasis {
    fn default() -> Self {
        Self { windows: 16 }
    }
}

impl TableBasis {
    fn check(&self) -> Result<(), RecipeError> {
        match self.windows {
            1..=4096 => Ok(()),
            windows => Err(RecipeError::option("basis.windows", windows, "1 to 4096")),
        }
    }
}

/// A recipe that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// Not JSON of this schema.
    #[error("not a recipe: {0}")]
    Schema(String),
    /// An option outside what is allowed.
    #[error("recipe option {option} is {value}; allowed: {allowed}")]
    Option {
        /// Path of the option: `int4.group`.
        option: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Recipe {
    /// The metadata of a file under which it says what made it.
    pub const KEY: &str = "recipe";

    /// The recipe that made a file, as far as its metadata say.
    pub fn recorded(metadata: &BTreeMap<String, String>) -> Option<Self> {
        Self::from_json(metadata.get(Self::KEY)?).ok()
    }

    /// Reads a recipe and checks its options.
    pub fn from_json(json: &str) -> Result<Self, RecipeError> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| RecipeError::Schema(error.to_string()))?;
        let recipe = Self::deserialize(&value).map_err(|error| not_a_recipe(&value, &error))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Checks every option against what is allowed.
    pub fn check(&self) -> Result<(), RecipeError> {
        if self.version != 1 {
            return Err(RecipeError::option("version", self.version, "1"));
        }
        let (mut quantizes, mut trains) = (false, false);
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                _ if trains => {
                    let value = format!("{} after recover", step.name());
                    return Err(RecipeError::option("steps", value, "recover as the last step"));
                }
                Step::Recover(_) if position == 0 => {
                    let allowed = "what it makes up for before it";
                    return Err(RecipeError::option("steps", "recover at first", allowed));
                }
                Step::Recover(recover) => {
                    trains = true;
                    recover.check()?;
                }
                Step::Prune(_) | Step::Center(_) | Step::Basis(_) if quantizes => {
                    let value = format!("{} after quantize", step.name());
                    let allowed =
                        "steps that change numbers before quantize, as codes cannot be fitted again";
                    return Err(RecipeError::option("steps", value, allowed));
                }
                Step::Prune(prune) => prune.check()?,
                Step::Center(_) => {}
                Step::Basis(basis) => basis.check()?,
                Step::Quantize(quantize) => {
                    quantizes = true;
                    quantize.check()?;
                }
            }
        }
        Ok(())
    }
}

/// Why a value is no recipe. What lacks a field that every recipe has hears of all of them.
fn not_a_recipe(value: &Value, error: &serde_json::Error) -> RecipeError {
    const NEEDED: [&str; 3] = ["version", "name", "steps"];
    let needs = "a recipe is an object with version, name and steps";
    let why = match value {
        Value::Object(fields) => match NEEDED.iter().find(|field| !fields.contains_key(**field)) {
            Some(lacking) => format!("{needs}; {lacking} is missing"),
            None => error.to_string(),
        },
        other => format!("{needs}, not {}", kind(other)),
    };
    RecipeError::Schema(why)
}

impl Recipe {
    /// Its steps before anything is quantized or trained, in order.
    pub fn first_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().take_while(|step| !matches!(step, Step::Quantize(_) | Step::Recover(_)))
    }

    /// Whether what the other steps have made is trained at the end.
    pub fn trains(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Recover(_)))
    }

    /// Whether a text has to be read for any of its steps.
    pub fn needs_calibration(&self) -> bool {
        self.steps.iter().any(Step::needs_calibration)
    }

    /// The same with errors of rounding made up for, as usual where it does not say how; but where it says itself that a text
    /// is for scales alone, it is. Where it asks for no codes there is nothing to make up for.
    pub fn compensated(mut self) -> Self {
        for step in &mut self.steps {
            if let Step::Quantize(quantize) = step
                && quantize.asks_for(|precision| matches!(precision, Precision::Codes(_)))
            {
                if !quantize.needs_calibration() {
                    quantize.error_compensation = ErrorCompensation::Gptq;
                }
                quantize.gptq.get_or_insert_default();
            }
        }
        self
    }
}

impl Step {
    /// Its name in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prune(_) => "prune",
            Self::Center(_) => "center",
            Self::Basis(_) => "basis",
            Self::Quantize(_) => "quantize",
            Self::Recover(_) => "recover",
        }
    }

    /// Whether a text has to be read for it.
    pub fn needs_calibration(&self) -> bool {
        match self {
            Self::Prune(prune) => prune.needs_calibration(),
            Self::Center(_) | Self::Recover(_) => false,
            Self::Basis(_) => true,
            Self::Quantize(quantize) => quantize.needs_calibration(),
        }
    }
}

impl RecipeError {
    fn option(option: &str, value: impl ToString, allowed: &str) -> Self {
        Self::Option { option: option.into(), value: value.to_string(), allowed: allowed.into() }
    }
}

/// What a pattern begins with that is a role and no glob: `role:norm`.
pub const ROLE: &str = "role:";

/// Whether a rule of this pattern decides the tensor of that name and role.
pub fn decides(pattern: &str, name: &str, role: Option<Role>) -> bool {
    match pattern.strip_prefix(ROLE) {
        Some(wanted) => role.is_some_and(|role| role.name() == wanted),
        None => matches(pattern, name),
    }
}

/// Whether `name` matches the glob `pattern` from end to end.
pub fn matches(pattern: &str, name: &str) -> bool {
    // Greedy with one point of return: on a mismatch, the last star takes one more byte.
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    p = at + 1;
                    n = taken + 1;
                    star = Some((at, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_cross_dots() {
        assert!(matches("layers.*.ssm.D", "layers.0.ssm.ssm.D"));
        assert!(matches("*embedding.weight", "position_embedding.weight"));
        assert!(matches("*", ""));
        assert!(matches("a?c*", "abc"));
        assert!(!matches("norm*", "layers.0.norm"));
        assert!(!matches("layers.*.D", "layers.0.Dx"));
    }

    #[test]
    fn what_is_no_recipe_hears_what_a_recipe_needs() {
        let refused = |json: &str| Recipe::from_json(json).unwrap_err().to_string();
        let needs = "not a recipe: a recipe is an object with version, name and steps";
        assert_eq!(refused("[]"), format!("{needs}, not a list"));
        assert_eq!(refused("3"), format!("{needs}, not a number"));
        assert_eq!(refused("{}"), format!("{needs}; version is missing"));
        assert_eq!(refused(r#"{"version":1,"name":"t"}"#), format!("{needs}; steps is missing"));
        let within = refused(r#"{"version":1,"name":"t","steps":[{"quantize":{"rules":[]}}]}"#);
        assert_eq!(within, "not a recipe: missing field `otherwise`");
        // Of JSON that is broken the place helps.
        assert!(refused("{\n,").ends_with("at line 2 column 1"), "{}", refused("{\n,"));
    }

    #[test]
    fn unknown_fields_and_bad_options_are_refused_by_name() {
        let recipe = |quantize: &str| {
            let json = format!(
                r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[],"otherwise":"int8"{quantize}}}}}]}}"#
            );
            Recipe::from_json(&json)
        };
        assert!(recipe("").is_ok());
        let error = recipe(r#","int4":{"group":48}"#).unwrap_err().to_string();
        assert_eq!(error, "recipe option int4.group is 48; allowed: 16, 32, 64, 128");
        let rule = |precision: &str, step: &str, compensation: &str| {
            let json = format!(
                r#"{{"version":1,"name":"t","steps":[{{"quantize":{{"rules":[{{"match":"a","precision":"{precision}","step":{step}}}],
                "otherwise":"int8","errorCompensation":"{compensation}"}}}}]}}"#
            );
            Recipe::from_json(&json).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(rule("int8", "0.02", "gptq"), Ok(()));
        assert!(
            rule("int8", "0", "gptq").unwrap_err().contains("rules.step is 0; allowed: a number above 0")
        );
        assert!(rule("int8", "1", "none").unwrap_err().contains("none without errorCompensation gptq"));
        assert!(rule("nf4", "1", "gptq").unwrap_err().contains("none for nf4"));
        let error = recipe(r#","int3":{}"#).unwrap_err().to_string();
        assert!(error.contains("int3"), "{error}");
    }

    #[test]
    fn older_names_and_an_option_of_one_value_are_read_and_never_written() {
        let recipe = |quantize: &str| {
            let step = format!(r#"{{"quantize":{{"rules":[],"otherwise":"int8"{quantize}}}}}"#);
            Recipe::from_json(&format!(r#"{{"version":1,"name":"t","steps":[{step}]}}"#))
        };
        let older = r#","int8":{"calibration":"percentile"},"int4":{"symmetric":true}"#;
        let read = recipe(older).unwrap();
        assert_eq!(read, recipe(r#","int8":{"clip":"percentile"}"#).unwrap());
        let written = serde_json::to_string(&read).unwrap();
        assert!(written.contains(r#""clip":"percentile""#), "{written}");
        for gone in ["calibration", "symmetric"] {
            assert!(!written.contains(gone), "{written}");
        }
        let error = recipe(r#","int4":{"symmetric":false}"#).unwrap_err().to_string();
        assert!(error.contains("recipe option int4.symmetric is false; allowed: true"), "{error}");
        let error = recipe(r#","errorCompensation":"obq""#).unwrap_err().to_string();
        assert!(error.contains("obq"), "{error}");
        let compensation = |json: &str| match &recipe(json).unwrap().steps[..] {
            [Step::Quantize(step)] => step.compensation(),
            steps => panic!("{steps:?}"),
        };
        let asked = compensation(r#","errorCompensation":"gptq","gptq":{"passes":0}"#);
        assert_eq!(asked, Some(GptqOptions { passes: 0, ..GptqOptions::default() }));
        assert_eq!(compensation(r#","errorCompensation":"gptq""#), Some(GptqOptions::default()));
        assert_eq!(compensation(r#","gptq":{"passes":0}"#), None);
    }
}

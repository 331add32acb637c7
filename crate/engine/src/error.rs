//! What can go wrong in the engine.

use statepress_core::recipe::RecipeError;
use statepress_core::source::SourceError;
use statepress_formats::FormatError;
use statepress_kernels::KernelError;
use statepress_kernels::backend::BackendError;

/// An error of the engine. Messages name the tensor or option and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The container could not be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A tensor could not be coded.
    #[error("tensor {tensor}: {error}")]
    Codec {
        /// The tensor.
        tensor: String,
        /// The reason.
        error: KernelError,
    },
    /// A tensor of which a number has no code.
    #[error(
        "tensor {tensor}: number {index} is {number}: only finite numbers can be quantized to {precision}; {keeps}"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Position in the flattened tensor.
        index: usize,
        /// The number, as it is in the file.
        number: String,
        /// What was asked for.
        precision: &'static str,
        /// What keeps the number.
        keeps: &'static str,
    },
    /// A GPU could not do its work.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Bytes could not be read or written.
    #[error(transparent)]
    Io(#[from] SourceError),
    /// The recipe cannot be followed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A step of a recipe that cannot be done here.
    #[error("recipe step {step} cannot be done here: {hint}")]
    UnsupportedStep {
        /// The step.
        step: String,
        /// What to do instead.
        hint: String,
    },
    /// No built-in recipe of that name.
    #[error("no recipe is named {name:?}; there are: {known}")]
    UnknownRecipe {
        /// What was asked for.
        name: String,
        /// Every name there is.
        known: String,
    },
    /// No tensor of that name.
    #[error("no tensor is named {name:?}{}", alike(near))]
    UnknownTensor {
        /// What was asked for.
        name: String,
        /// Names that look like it, the nearest first.
        near: Vec<String>,
    },
    /// The keys belong to no model this version can run.
    #[error("{reason}")]
    UnknownModel {
        /// What was found instead.
        reason: String,
    },
    /// Strict loading: keys that are missing or that nobody expects.
    #[error(
        "the keys do not fit the model: {}{}{}",
        in_brackets("missing", missing),
        if missing.is_empty() || unexpected.is_empty() { "" } else { ", " },
        in_brackets("unexpected", unexpected)
    )]
    Keys {
        /// Keys that the model needs.
        missing: Vec<String>,
        /// Keys that the model has no place for.
        unexpected: Vec<String>,
    },
    /// A tensor whose shape contradicts the others.
    #[error("tensor {tensor} has shape {found:?}; {expected} was expected")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What the other tensors say.
        expected: String,
    },
    /// An option outside what is allowed.
    #[error("option {option} is {value}; allowed: {allowed}")]
    Option {
        /// The option.
        option: String,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Token ids that the model cannot take.
    #[error("{0}")]
    Ids(String),
    /// An evaluation that produced no number.
    #[error("the evaluation failed: {0}")]
    Evaluation(String),
}

impl EngineError {
    pub(crate) fn option(option: &str, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self::Option { option: option.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// The facts in the message, as fields for programs.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Format(error) => error.facts(),
            Self::Codec { tensor, .. } | Self::NotFinite { tensor, .. } | Self::Shape { tensor, .. } => {
                vec![("tensor", tensor.clone())]
            }
            Self::Recipe(RecipeError::Option { option, value, allowed })
            | Self::Option { option, value, allowed } => {
                vec![("option", option.clone()), ("value", value.clone()), ("allowed", allowed.clone())]
            }
            Self::UnsupportedStep { step, .. } => vec![("step", step.clone())],
            Self::UnknownRecipe { name, known } => vec![("recipe", name.clone()), ("allowed", known.clone())],
            Self::UnknownTensor { name, near } if near.is_empty() => vec![("tensor", name.clone())],
            Self::UnknownTensor { name, near } => vec![("tensor", name.clone()), ("near", near.join(", "))],
            Self::Keys { missing, unexpected } => {
                vec![("missing", missing.join(", ")), ("unexpected", unexpected.join(", "))]
            }
            Self::Backend(error) => error.facts(),
            Self::Io(_)
            | Self::Recipe(RecipeError::Schema(_))
            | Self::UnknownModel { .. }
            | Self::Ids(_)
            | Self::Evaluation(_) => Vec::new(),
        }
    }

    /// A stable kebab-case word from a closed list.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Format(error) => error.code(),
            Self::Codec { .. } | Self::NotFinite { .. } => "bad-tensor",
            Self::Backend(error) => error.code(),
            Self::Io(_) => "io",
            Self::Recipe(_) | Self::UnknownRecipe { .. } => "bad-recipe",
            Self::UnsupportedStep { .. } => "unsupported-step",
            Self::UnknownTensor { .. } => "unknown-tensor",
            Self::UnknownModel { .. } => "unknown-model",
            Self::Keys { .. } => "bad-keys",
            Self::Shape { .. } => "bad-shape",
            Self::Option { .. } => "bad-option",
            Self::Ids(_) => "bad-ids",
            Self::Evaluation(_) => "evaluation-failed",
        }
    }
}

/// `missing [a, b]`, or nothing where there is none.
fn in_brackets(what: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{what} [{}]", listed(names)) }
}

fn alike(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; near to it: {}", near.join(", ")) }
}

/// The first of many, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

//! Every error a user can meet, with a stable code.

use statepress_core::recipe::RecipeError;
use statepress_core::source::SourceError;
use statepress_engine::EngineError;
use statepress_formats::FormatError;
use statepress_kernels::backend::BackendError;

/// An error of statepress. [`Error::code`] is for programs, the message for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the engine, or from the formats below it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file could not be opened.
    #[error("{path}: {reason}")]
    File {
        /// The path.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// A `config.json` that is no JSON object.
    #[error("line {line}, column {column}: {reason}")]
    Config {
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
}

impl Error {
    /// A kebab-case word from a closed list.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::File { .. } => "io",
            Self::Config { .. } => "bad-config",
        }
    }

    /// The facts in the message (`tensor`, `option`, `allowed`, ...), as fields for programs.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Engine(error) => error.facts(),
            Self::File { path, .. } => vec![("path", path.clone())],
            Self::Config { line, column, .. } => {
                vec![("line", line.to_string()), ("column", column.to_string())]
            }
        }
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::Engine(error.into())
    }
}

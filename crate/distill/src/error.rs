//! What can go wrong in training.

use statepress_engine::EngineError;
use statepress_formats::FormatError;

/// An error of training. Messages name the tensor or option and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum DistillError {
    /// The model could not be understood, loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A tensor could not be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The device did not give its numbers back.
    #[error("the device {device} failed: {why}")]
    Device {
        /// Its name.
        device: &'static str,
        /// What it said.
        why: String,
    },
}

impl DistillError {
    pub(crate) fn ids(message: impl Into<String>) -> Self {
        EngineError::Ids(message.into()).into()
    }

    /// A stable kebab-case word from a closed list.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Format(error) => error.code(),
            Self::Device { .. } => "device-failed",
        }
    }
}

//! The one error of this crate. Messages are lower case and hold the offending name, value and limit.

use statepress_core::source::SourceError;
use statepress_core::words::{counted, plural};

/// Why a file could not be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes could not be read or written at all.
    #[error(transparent)]
    Io(#[from] SourceError),
    /// A file that is fine, but not one that this crate reads.
    #[error("{what}: {help}")]
    Unsupported {
        /// What the file is.
        what: String,
        /// What would help.
        help: String,
    },
    /// The file ends before it should.
    #[error("{what}: the file of {} is cut off, fetch it again", counted(*len, "byte", "bytes"))]
    Truncated {
        /// What is missing.
        what: String,
        /// Bytes there are.
        len: u64,
    },
    /// The file contradicts its own format.
    #[error("malformed {part}: {why}")]
    Malformed {
        /// The part of the file: `zip directory`, `pickle`, `safetensors header`, ...
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The header of one tensor contradicts itself or its bytes.
    #[error("tensor `{tensor}`: {why}")]
    Tensor {
        /// The real key.
        tensor: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are no weights where the user says they are.
    #[error("no tensors are at `{path}` in this file; weights are at {}", crate::findings::describe_list(&candidates.iter().map(|path| crate::choice::say(path)).collect::<Vec<_>>()))]
    NoWeightsAt {
        /// What the user said.
        path: String,
        /// What would do.
        candidates: Vec<String>,
    },
    /// The file is nothing but a function call. Nothing in a pickle is ever called.
    #[error("the file is a call of `{name}`, which is refused: save a state dict of plain tensors")]
    RefusedGlobal {
        /// Module and name.
        name: String,
    },
    /// A whole `torch.nn.Module` was pickled.
    #[error(
        "a whole module was pickled (class `{class}`), which only its own program can read: there, save \
         model.state_dict() instead, as torch.save(model.state_dict(), \"model.pt\")"
    )]
    WholeModule {
        /// Its class.
        class: String,
    },
    /// More than this crate is willing to read, or than the file can justify.
    #[error("{what}: {value} is more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large it is.
        value: u64,
        /// How large it may be.
        limit: u64,
    },
    /// Shards of a checkpoint are not there.
    #[error("{} of {} {} missing: {names}; fetch what is missing into the same folder", .missing.len(), counted(*count, "shard", "shards"), plural(&.missing.len(), "is", "are"))]
    MissingShards {
        /// Their names.
        missing: Vec<String>,
        /// The first of them, for people.
        names: String,
        /// How many shards there should be.
        count: usize,
    },
    /// One shard of several could not be read.
    #[error("{shard}: {error}")]
    Shard {
        /// Its name.
        shard: String,
        /// What is wrong with it.
        error: Box<FormatError>,
    },
    /// The caller asked the writer for something it cannot write.
    #[error("cannot write tensor `{tensor}`: {why}")]
    Write {
        /// Its name.
        tensor: String,
        /// Why not.
        why: String,
    },
}

impl FormatError {
    /// The stable word for programs, from a closed list.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::Unsupported { .. } => "unsupported-format",
            Self::Truncated { .. } => "truncated",
            Self::Malformed { .. } => "malformed",
            Self::Tensor { .. } => "malformed-tensor",
            Self::NoWeightsAt { .. } => "bad-option",
            Self::RefusedGlobal { .. } => "refused-global",
            Self::WholeModule { .. } => "whole-module",
            Self::TooLarge { .. } => "too-large",
            Self::MissingShards { .. } => "missing-shard",
            Self::Shard { error, .. } => error.code(),
            Self::Write { .. } => "write-mismatch",
        }
    }

    /// The facts in the message, as fields for programs.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Tensor { tensor, .. } | Self::Write { tensor, .. } => vec![("tensor", tensor.clone())],
            Self::NoWeightsAt { path, candidates } => vec![
                ("option", "weights".into()),
                ("value", path.clone()),
                ("allowed", candidates.join(", ")),
            ],
            Self::RefusedGlobal { name } => vec![("global", name.clone())],
            Self::WholeModule { class } => vec![("class", class.clone())],
            Self::TooLarge { value, limit, .. } => {
                vec![("value", value.to_string()), ("limit", limit.to_string())]
            }
            Self::MissingShards { missing, count, .. } => {
                vec![("shard", missing.join(", ")), ("count", count.to_string())]
            }
            Self::Shard { shard, error } => {
                error.facts().into_iter().chain([("shard", shard.clone())]).collect()
            }
            Self::Io(_) | Self::Unsupported { .. } | Self::Truncated { .. } | Self::Malformed { .. } => {
                Vec::new()
            }
        }
    }

    pub(crate) fn malformed(part: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { part, why: why.into() }
    }

    pub(crate) fn tensor(tensor: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Tensor { tensor: tensor.into(), why: why.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), help: help.into() }
    }

    pub(crate) fn write(tensor: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Write { tensor: tensor.into(), why: why.into() }
    }
}

//! PyTorch zip checkpoints.

use statepress_core::{Index, Source};

use crate::FormatError;

pub(crate) fn open(_source: &dyn Source) -> Result<Index, FormatError> {
    Err(FormatError::unsupported("a zip archive", "safetensors only so far"))
}

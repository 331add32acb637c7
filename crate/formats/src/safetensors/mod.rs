//! The safetensors container, read and written.
//!
//! Eight bytes: length of the header. The header: JSON, `__metadata__` and one object per
//! tensor. Then the bytes of all tensors without holes.
//! Source: <https://github.com/huggingface/safetensors>, section "Format".

mod read;
mod write;

pub(crate) use read::open;
pub use write::{Layout, TensorSpec, TensorWriter, Writer};

/// Bytes of the length before the header.
const PREFIX_BYTES: u64 = 8;

/// The header key of the strings beside the tensors.
const METADATA: &str = "__metadata__";

//! Checkpoint containers: hostile bytes in, well-formed bytes out.
//!
//! [`open`] recognises a file by its content and reads its headers into an
//! [`Index`](statepress_core::Index): every tensor with its place, no weight. Where a file holds several
//! mappings of tensors, [`open_with`] is told which are the weights. [`read_tensor`] reads one tensor in
//! the precision it is stored in. [`Writer`] writes safetensors, with quantized tensors in the layout that
//! `FORMAT.md` beside this crate documents.
//!
//! Nothing here trusts a byte: no code of a pickle is run, every length is compared with the file before
//! memory is asked for, and caps are in [`statepress_core::limits`].

mod choice;
mod coded;
mod cursor;
mod detect;
pub mod entropy;
mod error;
pub mod export;
mod findings;
mod foreign;
pub mod gguf;
mod json;
mod numpy;
mod packed;
mod pickle;
mod prefix;
mod pytorch;
mod quantized;
mod safetensors;
mod shape;
mod shards;
mod small_float;
mod streamed;
mod survey;
mod tensor;
mod view;
mod zip;

pub use choice::{Choice, Fit, Key, Whole};
pub use error::FormatError;
pub use safetensors::{Layout, TensorSpec, TensorWriter, Writer};
pub use shards::{ShardMap, ShardName, open_shards};
pub use streamed::coded_bytes;
pub use survey::{Survey, survey};
pub use tensor::read_tensor;

use statepress_core::{Index, Source};

/// Recognises a checkpoint by its content and reads its headers, no weight.
pub fn open(source: &dyn Source) -> Result<Index, FormatError> {
    open_with(source, &Choice::default())
}

/// As [`open`], with what is known about where the weights are.
pub fn open_with(source: &dyn Source, choice: &Choice<'_>) -> Result<Index, FormatError> {
    quantized::join(source, prefix::choose(detect::headers(source, choice)?, choice)?, choice.config)
}

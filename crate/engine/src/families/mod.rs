//! What a checkpoint is: which family, every configuration field with its origin, and the program that
//! runs it.
//!
//! A family is one file here and one line in [`REGISTRY`]: how its keys are spelled, what its
//! configuration says, and its program. Sizes are counted from shapes, never assumed. What shapes do
//! not tell (heads, eps, limits, top-k) is taken from `--set`, else from a configuration, else
//! assumed, and the report says which.

mod builder;
mod fields;
mod fit;
mod gguf;
mod infer;
mod keys;
mod places;
mod pruned;
mod registry;
mod rewritten;
mod roles;

mod attention;
mod bamba;
mod falcon_h1;
mod gpt2;
mod granite;
mod hybrid;
mod itera_lite;
mod jamba;
mod llama;
mod mamba;
mod mamba2;
mod mamba2_original;
mod rope;
mod transformer;

pub(crate) use builder::{ORIGINAL_VOCABULARY, UNKNOWN, UNKNOWN_SHARE, beside};

pub(crate) use fields::ASSUMED;
pub use fit::fit;
pub use gguf::translated;
pub use infer::{Hints, ModelSpec, WeightSpec, infer};
pub use keys::Names;
pub use keys::{HEAD, is_buffer, is_model};
pub(crate) use keys::{is_mask, storage_of};
pub(crate) use pruned::{PRUNED, keys as keys_of_nodes};
pub use registry::{FamilyInfo, families};

/// Every field that says what was pruned, without which a file could not be read.
pub(crate) const PRUNED_FIELDS: [&str; 4] = [PRUNED, ORIGINAL_VOCABULARY, UNKNOWN, UNKNOWN_SHARE];

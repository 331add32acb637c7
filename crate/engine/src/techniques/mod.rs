//! What is done to checkpoints: recipes, the plan they stand for, and carrying it out.

mod builtin;
pub(crate) mod coding;
pub(crate) mod compensate;
pub mod compress;
pub mod follow;
mod keep;
pub(crate) mod measure;
pub mod plan;
pub(crate) mod prune;
mod stored;
pub mod tying;

pub use builtin::{builtin, find};

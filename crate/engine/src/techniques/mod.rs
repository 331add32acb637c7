//! What is done to checkpoints: recipes, the plan they stand for, and carrying it out.

mod basis;
mod builtin;
mod center;
mod change;
pub(crate) mod coding;
pub(crate) mod compensate;
pub mod compress;
mod derived;
pub mod follow;
mod keep;
mod large;
mod loading;
pub(crate) mod measure;
mod pairs;
pub mod plan;
pub(crate) mod prune;
pub(crate) mod rows;
pub mod shares;
mod stored;
pub mod tying;

pub use builtin::{builtin, find};
pub use derived::Checkpoint;

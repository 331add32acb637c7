//! What the product does, as functions: understand a checkpoint, plan and carry out a recipe,
//! run models from packed weights, judge quality, give advice.
//!
//! Everything is synchronous. Long work is a [`statepress_core::job::Job`].

pub mod advise;
mod error;
pub mod eval;
pub mod generate;
pub mod models;
pub mod spec;
pub mod techniques;

pub use error::EngineError;

/// Seconds since some fixed moment. The platform gives it: wasm has no clock of its own.
pub type Clock = fn() -> f64;

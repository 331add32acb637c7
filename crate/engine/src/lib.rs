//! What the product does, as functions: understand a checkpoint, plan and carry out a recipe,
//! run models from packed weights, judge quality, give advice.
//!
//! Long work is a [`statepress_core::job::Job`]. What runs models is generic over the backend, and
//! async for the sake of those that have to be waited for.

pub mod advise;
mod bands;
pub mod calibrate;
mod check;
mod error;
pub mod eval;
pub mod export;
pub mod families;
pub mod generate;
pub mod models;
pub mod search;
pub mod techniques;
pub mod view;

pub use error::EngineError;

/// Seconds since some fixed moment. The platform gives it: wasm has no clock of its own.
pub type Clock = fn() -> f64;

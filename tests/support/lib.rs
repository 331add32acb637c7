//! Shared helpers of the tests.

#[cfg(not(target_family = "wasm"))]
pub mod files;
pub mod golden;

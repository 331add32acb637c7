//! Shared helpers of the tests.

pub mod codes;
#[cfg(not(target_family = "wasm"))]
pub mod edit;
#[cfg(not(target_family = "wasm"))]
pub mod families;
#[cfg(not(target_family = "wasm"))]
pub mod files;
#[cfg(not(target_family = "wasm"))]
pub mod gguf;
pub mod golden;
#[cfg(not(target_family = "wasm"))]
pub mod gpu;
#[cfg(not(target_family = "wasm"))]
pub mod gpu_reference;
pub mod ops;
pub mod sequence_ops;
#[cfg(not(target_family = "wasm"))]
pub mod yardstick;
pub mod zip;

/// `#[test]`, on every target: one body runs natively and in wasm.
#[cfg(not(target_family = "wasm"))]
pub use core::prelude::v1::test;
#[cfg(target_family = "wasm")]
pub use wasm_bindgen_test::wasm_bindgen_test as test;

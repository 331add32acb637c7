//! The arithmetic: quantization codecs and model ops.
//!
//! Every codec and op is a folder with a plain reference beside what runs; one test body holds
//! them together on every build. Instruction sets are named in [`lanes`] alone. There is no
//! tensor framework and no GPU API in this crate.

pub mod backend;
pub mod codecs;
pub mod eigen;
mod error;
pub mod gptq;
pub mod lanes;
pub mod linear;
pub mod network;
pub mod ops;
pub mod program;
pub mod rows;
pub mod shaders;

pub use error::KernelError;
pub use rows::Rows;

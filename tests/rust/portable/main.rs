//! The tests that run on every target: natively, and as wasm in Node.

mod codecs;
mod entropy;
mod kernels;
mod rows;
mod sequence_ops;

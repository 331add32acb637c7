//! The GPU backend, and the only crate that knows one: WebGPU in pages and in Node; Vulkan, Metal
//! or DirectX natively.
//!
//! A network is [recorded](record) once as a list of dispatches, which is plain data. A
//! [runner](GpuRunner) turns the list into pipelines and bind groups over the memory of one
//! sequence and [submits](submit) it for every step; only results that somebody asked for come
//! back.

mod backend;
mod checked;
mod device;
mod explain;
mod matrix;
mod memory;
mod network;
mod one;
mod pipelines;
mod pool;
mod record;
mod runner;
mod submit;

pub use device::{Adapter, Gpu, GpuOptions};
pub use explain::{Explained, explain};
pub use matrix::GpuMatrix;
pub use network::GpuNetwork;
pub use one::One;
pub use runner::GpuRunner;

//! What is written for other tools. The bytes alone: what a tensor is called there, and which
//! type it gets, is said by whoever knows the model.

pub mod bitsandbytes;
pub mod gguf;

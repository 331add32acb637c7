//! Formats that are written for other tools and not read here. The bytes alone: what a tensor is called there, and which
//! type it gets, is said by whoever knows the model.

pub mod gguf;

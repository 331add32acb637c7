//! Tensors that a file spreads over several keys: joined into one entry each.

mod packed;
mod weight_int8;

pub(crate) use packed::{KEY, PackedTensors, describe};
pub(crate) use weight_int8::join_weight_int8;

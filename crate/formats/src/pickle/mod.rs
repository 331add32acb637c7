//! A pickle machine that calls nothing.
//!
//! It understands the opcodes that `torch.save` writes, with protocols 1 to 5, and builds inert
//! values: numbers, strings, containers, tensors by their storage and strides, and records for
//! instances of classes it does not know. Everything else is refused by name.
//! Source: Python's `pickletools.py`; `torch/_utils.py` for the rebuild functions.

mod literal;
mod machine;
mod opcode;
mod rebuild;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use machine::load;
pub(crate) use value::{Heap, Node, Pickle, Quantizer, StorageRef, TensorRef, Value};

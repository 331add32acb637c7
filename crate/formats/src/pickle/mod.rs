//! A pickle machine that calls nothing.
//!
//! It understands every opcode of protocols 0 to 5 and builds inert values: numbers, strings,
//! containers, tensors by their storage and strides, and records of everything else, which hold what
//! would have been called and with what. Nothing is imported, looked up or called.
//! Source: Python's `pickletools.py`; `torch/_utils.py` for the rebuild functions.

mod callees;
mod construct;
mod element;
mod literal;
mod machine;
mod opcode;
mod stack;
mod tensor;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use callees::{Callees, is_dangerous};
pub(crate) use machine::load;
pub(crate) use tensor::count;
pub(crate) use value::{Heap, Node, Pickle, Quantizer, Record, StorageRef, TensorRef, Unread, Value};

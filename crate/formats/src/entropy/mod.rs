//! Integer codes in fewer bytes than their bits: static rANS with a table for each class of rows and columns.
//!
//! Nothing here knows a tensor: [`encode`] takes a matrix of codes, [`Decoder`] gives its rows back, in order and as
//! many at a time as asked for, so that they can be packed without a whole matrix beside them. `FORMAT.md` has the
//! stream byte by byte. Integers decide everything, so the bytes and the codes are the same on every machine.
//!
//! A row's class is the logarithm of its mean square, a column's that of what is left when the rows are divided by
//! theirs; how an element is distributed depends on the sum of the two, and neighbouring sums share a table where
//! that is shorter. Several states take turns, by column, because each waits for its own last step only.
//!
//! Why the coder is ours: `constriction` is well kept, but decodes with one state that waits for itself, looks its
//! tables up behind `unsafe`, and brings `probability`, `libm` and `hashbrown`; `ans` is small and safe, but has one
//! state too and calls itself not optimised. What they would share with this folder is three lines of arithmetic, while
//! its tables, classes and checks, which are the rest, neither has.

mod bits;
mod classes;
mod crc32;
mod decode;
mod encode;
mod fit;
mod merge;
mod table;

pub use decode::{Decoder, decode};
pub use encode::encode;

/// What errors call the stream.
const PART: &str = "entropy-coded stream";

/// The first byte of every stream.
const VERSION: u8 = 1;

/// Frequencies of a table add up to two to this.
const PRECISION: u32 = 12;

/// What a state begins with in the encoder, ends with in the decoder, and never falls below between.
const STATE: u32 = 1 << 16;

/// States that take turns.
const LANES: usize = 8;

/// Matrices of fewer codes have one state: there beginning and ending the others costs more than waiting for it.
const FEW: usize = 1 << 14;

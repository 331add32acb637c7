//! What can go wrong in a kernel.

use statepress_core::words::counted;

/// A tensor that cannot be coded or run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KernelError {
    /// The shape cannot take the encoding.
    #[error("{0}")]
    Shape(String),
    /// Codes or scales of the wrong length.
    #[error("{part} has {}; the shape needs {expected}", counted(*found, "element", "elements"))]
    Length {
        /// `codes`, `scales`, ...
        part: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A percentile outside 0 to 100.
    #[error("percentile {0}: allowed is 0 to 100")]
    Percentile(f64),
    /// A number that no code stands for.
    #[error("element {index} is {value}: only finite numbers can be quantized")]
    NotFinite {
        /// Position in the flattened tensor.
        index: usize,
        /// The number.
        value: f32,
    },
}

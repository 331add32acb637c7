//! The words that every floor of statepress shares.
//!
//! Formats and kernels speak about the same tensors, precisions and reports without knowing
//! each other; what they share lives here. There is no IO, no arithmetic on tensors and no
//! platform in this crate.

pub mod coded;
pub mod dtype;
pub mod encoding;
pub mod finding;
pub mod ggml;
pub mod grid;
pub mod index;
pub mod job;
pub mod joined;
pub mod limits;
pub mod precision;
pub mod recipe;
pub mod report;
pub mod role;
pub mod second;
pub mod shape;
pub mod source;
pub mod spec;
pub mod tables;
pub mod tensor;
pub mod words;

pub use dtype::DType;
pub use encoding::{Coding, Encoding, Form, Group, Part};
pub use finding::{Finding, Level};
pub use ggml::GgmlType;
pub use grid::{Grid, Levels};
pub use index::{Entry, Index, WeightsAt};
pub use joined::Joined;
pub use precision::{Precision, StoredAs};
pub use recipe::Recipe;
pub use role::Role;
pub use source::{Sink, Source};
pub use tensor::{ClassedRows, Codes, Packed, Scales, Tensor};

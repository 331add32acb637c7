//! What a model really computes while it reads a calibration text: statistics for whoever rounds weights so that errors are
//! made up for (`kernels/gptq`), or removes some.
//!
//! Everything here needs forward passes only. What the loss feels of the outputs of a product would need a gradient, and is
//! left out; what it feels of rows that are looked up has a substitute ([`lookup_substitute`]), which reports name.
//!
//! On the CPU the same text gives the same bytes with every wasm build. Natively the exponentials of a model's layers are
//! those of the platform, and a GPU adds up in another order: a code between two levels may fall the other way.

mod head;
mod lookup;
mod marks;
mod rows;
mod statistics;
mod windows;

pub use head::HeadStatistics;
pub use lookup::{Probe, Probed, head_rows, of_model as lookup_substitute};
pub use marks::Marks;
pub use rows::RowUse;
pub use statistics::{BUDGET, Measured, Statistics, StatisticsOptions, entered, groups};
pub use windows::{Sample, windows};

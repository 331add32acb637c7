//! Fitting codes to what a model really computes: statistics of a calibration text, scales that clip
//! where it hurts least, and rounding whose errors are made up for.
//!
//! Everything here needs forward passes only. What would need a gradient has its place
//! ([`Sensitivity`]), and stays empty until somebody computes it: nothing stands in for it unasked.
//!
//! On the CPU the same text gives the same bytes with every wasm build. Natively the exponentials of a model's layers are
//! those of the platform, and a GPU adds up in another order: a code between two levels may fall the other way.

mod cholesky;
mod fit;
mod gptq;
mod grid;
mod groups;
mod head;
mod refit;
mod statistics;
mod table;
mod windows;

pub use fit::Fit;
pub use gptq::{Options, Prepared, Rounded, fitted};
pub use grid::{Integers, Quantizer, Table, round};
pub use groups::Groups;
pub use head::HeadStatistics;
pub use statistics::{BUDGET, Measured, Statistics, StatisticsOptions, entered, groups};
pub use table::{half_square, lookup_substitute, probed, table_metric};
pub use windows::Sample;

/// What the loss feels of a matrix, of backward passes: `g = d loss / d y` for labels drawn from the
/// model's own distribution, which makes it the Fisher information of the divergence.
#[derive(Clone, Debug, PartialEq)]
pub enum Sensitivity {
    /// `G[i] = mean g_i^2`, one an output.
    Outputs(Vec<f32>),
    /// `F = mean g g^T` at what a look-up gives, `[d, d]`: [`table_metric`] takes it.
    Lookups(Vec<f32>),
}

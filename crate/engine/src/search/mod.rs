//! "Give me this size", "lose no more than this": which tensor to store in how many bits.
//!
//! [`Costs`] measures what rounding each tensor alone costs in divergence, at a few precisions; [`allocate`] then spends bits
//! where a byte saves most of it. Sums of single costs predict the whole: divergences of small errors add up. What was predicted
//! is tried and measured, and [`next_try`] says what to try next.

mod allocate;
mod begin;
mod chosen;
mod costs;
mod rows;
mod steps;
mod tries;

pub use allocate::{allocate, check_target};
pub use begin::{first_steps, split_text};
pub use costs::{Costs, CostsOptions};
pub use tries::next_try;

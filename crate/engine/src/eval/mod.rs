//! Judging quality on a text.
//!
//! Protocol: windows of `window` tokens from token 0, not overlapping, no BOS, the incomplete
//! last window dropped, state reset per window, natural logarithm. Position `t` is scored
//! against token `t + offset` of the same window.

pub mod compare;
pub mod divergence;
mod evaluate;
mod windows;

pub use compare::{Compare, CompareOptions, ComparedShare};
pub(crate) use divergence::{Divergence, STREAMS};
pub use evaluate::{Evaluate, EvaluateOptions, EvaluatedShare, Offset};

//! What a model really computes while it reads a calibration text: statistics for whoever rounds weights so that errors are
//! made up for (`kernels/gptq`), or removes some.
//!
//! Everything here needs forward passes only. What the loss feels of the outputs of a product, and of rows that are looked up,
//! takes gradients: whoever takes them gives them ([`Graded`]). Without them all outputs count alike, and what is looked up has a
//! substitute ([`lookup_substitute`]); reports say which it was.
//!
//! On the CPU the same text gives the same bytes with every wasm build. Natively the exponentials of a model's layers are
//! those of the platform, and a GPU adds up in another order: a code between two levels may fall the other way.

mod fisher;
mod head;
mod lookup;
mod marks;
pub mod passes;
mod rows;
mod statistics;
mod windows;

pub use fisher::{Graded, part};
pub use head::HeadStatistics;
pub use lookup::{Probe, Probed, SUBSTITUTE, head_rows, in_basis, of_model as lookup_substitute};
pub use marks::Marks;
pub use passes::entered;
pub use rows::{RowUse, mirrored, used_rows};
pub use statistics::{BUDGET, Measured, Statistics, StatisticsOptions};
pub use windows::{Sample, spaced, windows};

use std::rc::Rc;

use statepress_core::report::Fisher;

use crate::models::Model;

/// What compressing is fitted to.
#[derive(Clone)]
pub struct Calibration<'a> {
    /// The model of the very checkpoint that is compressed, on the CPU as it decides bytes.
    pub model: &'a Model,
    /// What it reads: text like what the model will be used on, and none that it is judged by.
    pub ids: &'a [u32],
    /// What takes gradients to know, where somebody has taken them.
    pub fisher: Option<Rc<Fisher>>,
}

impl<'a> Calibration<'a> {
    /// A model and what it reads.
    pub fn new(model: &'a Model, ids: &'a [u32]) -> Self {
        Self { model, ids, fisher: None }
    }
}

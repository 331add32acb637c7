//! Findings that both containers make.

use statepress_core::index::Stored;
use statepress_core::{DType, Entry, Finding};

/// Says that float64 tensors lose precision, once for all of them.
pub(crate) fn precision_lost(entries: &[Entry]) -> Option<Finding> {
    let is_f64 = |entry: &&Entry| matches!(&entry.stored, Stored::Strided(view) if view.dtype == DType::F64);
    let first = entries.iter().find(is_f64)?;
    let count = entries.iter().filter(is_f64).count();
    let message = format!("{count} float64 tensors are read as float32: digits beyond the seventh are lost");
    Some(Finding::warning("float64-narrowed", message).about(&first.name))
}

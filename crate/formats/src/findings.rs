//! Findings that both containers make.

use statepress_core::index::Stored;
use statepress_core::{DType, Entry, Finding};

/// Says that float64 tensors lose precision where they are computed with, once for all of them.
pub(crate) fn precision_lost(entries: &[Entry]) -> Option<Finding> {
    let is_f64 = |entry: &&Entry| matches!(&entry.stored, Stored::Strided(view) if view.dtype == DType::F64);
    let first = entries.iter().find(is_f64)?;
    let count = entries.iter().filter(is_f64).count();
    let message = format!(
        "{count} float64 tensors are read as float32 to compute with and to code: digits beyond the seventh are lost; recipe `none` keeps them as they are"
    );
    Some(Finding::warning("float64-narrowed", message).about(&first.name))
}

/// The first names of a list, and how many more there are.
pub(crate) fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

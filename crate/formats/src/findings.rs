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

/// Says that a file holds what was learnt beside a model, and not the model.
pub(crate) fn adapter(entries: &[Entry]) -> Option<Finding> {
    const LEARNT: [&str; 6] =
        ["lora_A", "lora_B", "lora_up", "lora_down", "lora_embedding_A", "lora_embedding_B"];
    let is_learnt = |entry: &&Entry| {
        entry.name.starts_with("base_model.model.") || entry.name.split('.').any(|it| LEARNT.contains(&it))
    };
    let first = entries.iter().find(is_learnt)?;
    let count = entries.iter().filter(is_learnt).count();
    let message = format!(
        "{count} of {} tensors are of an adapter (LoRA or another of peft) and no model by themselves: merge it into its base model with `model.merge_and_unload().save_pretrained(\"merged\")` and open that",
        entries.len()
    );
    Some(Finding::warning("adapter", message).about(&first.name))
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

//! Findings that both containers make.

use statepress_core::index::Stored;
use statepress_core::words::{counted, plural};
use statepress_core::{DType, Entry, Finding};

use crate::FormatError;

/// Says that float64 tensors lose precision where they are computed with, once for all of them.
pub(crate) fn precision_lost(entries: &[Entry]) -> Option<Finding> {
    let is_f64 = |entry: &&Entry| matches!(&entry.stored, Stored::Strided(view) if view.dtype == DType::F64);
    let first = entries.iter().find(is_f64)?;
    let count = entries.iter().filter(is_f64).count();
    let message = format!(
        "{} read as float32 to compute with and to code: digits beyond the seventh are lost; recipe `none` keeps them",
        counted(count, "float64 tensor is", "float64 tensors are")
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
        "{count} of {} {} of an adapter (LoRA or another of peft), which is no model by itself: merge it into its base model with `model.merge_and_unload().save_pretrained(\"merged\")` and open that",
        counted(entries.len(), "tensor", "tensors"),
        plural(&count, "is", "are")
    );
    Some(Finding::warning("adapter", message).about(&first.name))
}

/// Names or descriptions that are written out in a message.
const SHOWN: usize = 8;

/// The first names of a list, and how many more there are.
pub(crate) fn list(names: &[String]) -> String {
    join(names, |name| format!("`{name}`"))
}

/// The first descriptions of a list, and how many more there are.
pub(crate) fn describe_list(said: &[String]) -> String {
    join(said, String::clone)
}

fn join(items: &[String], say: impl Fn(&String) -> String) -> String {
    let shown = items.iter().take(SHOWN).map(say).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Tensors that stand in the way of a file are at most so much of its numbers: one in ten.
const STRAY: u64 = 10;

/// A tensor of the weights that is not read, and why.
pub(crate) struct LeftOut {
    pub(crate) name: String,
    /// `a sparse tensor`, say.
    pub(crate) what: String,
    pub(crate) help: String,
    /// Numbers in it; where nobody knows, more than in all others.
    pub(crate) elements: u64,
}

/// Says of each tensor that is not read that it is left out. Where that is more than a stray one, the
/// file is not opened: what would be written without them is not the model any more.
pub(crate) fn left_out(entries: &[Entry], left: &[LeftOut]) -> Result<Vec<Finding>, FormatError> {
    let Some(first) = left.iter().max_by_key(|tensor| tensor.elements) else { return Ok(Vec::new()) };
    let lost = left.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.elements));
    let all = entries.iter().fold(lost, |sum, entry| sum.saturating_add(entry.params()));
    if lost > all / STRAY || entries.is_empty() {
        let rest = match left.len() - 1 {
            0 => String::new(),
            more => format!(" (and {} not read)", counted(more, "more tensor is", "more tensors are")),
        };
        let what = format!("tensor `{}` is {}{rest}", first.name, first.what);
        return Err(FormatError::unsupported(what, first.help.clone()));
    }
    Ok(left
        .iter()
        .map(|LeftOut { name, what, help, .. }| {
            let message = format!(
                "`{name}` is {what}, which is not read: it is missing here and in all that is written; {help}"
            );
            Finding::warning("tensor-left-out", message).about(name)
        })
        .collect())
}

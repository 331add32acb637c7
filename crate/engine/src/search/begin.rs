//! How a search begins: which part of a text is for what, and which steps come before anything is chosen.

use statepress_core::recipe::{Center, Step, TableBasis};
use statepress_core::report::SearchSteps;
use statepress_core::{Entry, Finding, Index, Recipe, Role};

use crate::EngineError;
use crate::families::ModelSpec;
use crate::techniques::plan::plan;

/// Ids that judge, at the most.
const JUDGED: usize = 4096;

/// Two parts of a calibration text: what is read, three quarters, and of the rest what judges, as what was fitted to a text looks
/// better on it than it is.
pub fn split_text(ids: &[u32]) -> (&[u32], &[u32]) {
    let (read, rest) = ids.split_at(ids.len() - ids.len() / 4);
    (read, &rest[..rest.len().min(JUDGED)])
}

/// What a search begins with: the steps of a recipe, and for an entropy coder what it wants of a table, as far as they do not do it
/// already. A table that is centered and written in a basis of its own has codes of which it makes fewer bytes; nothing else
/// gains by either.
///
/// # Errors
/// For a step that quantizes, which is for the search to find, or comes after that, and for one that cannot be done.
pub fn first_steps(
    (index, spec): (&Index, &ModelSpec),
    mut first: Recipe,
    coded: bool,
) -> Result<SearchSteps, EngineError> {
    let has = |is_such: fn(&Step) -> bool| first.steps.iter().any(is_such);
    if let Some(later) = first.steps.iter().find(|step| matches!(step, Step::Quantize(_) | Step::Recover(_)))
    {
        let allowed = "a list of steps of a recipe that come before quantize";
        return Err(EngineError::option("first", format!("with a {} step", later.name()), allowed));
    }
    let of_role = |role| {
        let is_such = move |it: &&Entry| spec.weights.get(&it.name).is_some_and(|weight| weight.role == role);
        index.tensors.iter().filter(|it| it.tied_to.is_none()).find(is_such)
    };
    let centers = has(|step| matches!(step, Step::Center(_)));
    let in_basis = of_role(Role::Basis).is_some() || has(|step| matches!(step, Step::Basis(_)));
    let mut findings = Vec::new();
    if has(|step| matches!(step, Step::Prune(_))) {
        let message = "predictions are of rounding alone: what pruning loses comes on top of them, and is in what is measured";
        findings.push(Finding::info("predicts-rounding", message));
    }
    if coded && !in_basis {
        if !centers {
            first.steps.push(Step::Center(Center {}));
        }
        match of_role(Role::Head) {
            Some(head) => {
                let message = "stored by itself: the table is not written in a basis of its own, which takes a table that is the \
                               head as well";
                findings.push(Finding::info("no-basis", message).about(&head.name));
            }
            None => first.steps.push(Step::Basis(TableBasis::default())),
        }
    }
    // What cannot be done is refused before anything is measured.
    plan(index, spec, &first, &[])?;
    Ok(SearchSteps { reads_text: first.needs_calibration(), first, findings })
}

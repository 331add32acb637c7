//! Which of the mappings of tensors in a pickle are the weights.
//!
//! The path that the caller gives; else the mapping with the keys of a known model; else, among what is
//! no average, copy or helper by its name and no state of an optimizer, a usual wrapper, unless another has more than twice its
//! parameters; else the most parameters.

use std::cmp::Reverse;

use statepress_core::second::is_second;
use statepress_core::{Finding, WeightsAt};

use super::search::{Found, Mapping, search};
use crate::FormatError;
use crate::choice::{BARE, Choice};
use crate::findings::{describe_list, list};
use crate::foreign::SAVE;
use crate::pickle::{Heap, Node, Pickle, Value, is_dangerous};

/// The state dict of a pickle and what lies beside it.
pub(super) struct Weights {
    /// The keys to it: `model_state_dict`, `state_dict.model`, ..., or `bare`.
    pub(super) path: String,
    pub(super) state: Value,
    /// The mappings around it, outermost first.
    pub(super) around: Vec<Value>,
    /// Every mapping that could have been taken, this one first.
    pub(super) candidates: Vec<WeightsAt>,
    pub(super) findings: Vec<Finding>,
}

/// Mappings that the caller is asked about.
const JUDGED: usize = 16;

/// How usual a name is for the weights.
pub(super) fn preference(key: &str) -> usize {
    match key {
        "model_state_dict" => 3,
        "state_dict" => 2,
        "model" | "module" | "net" | "network" | "params" | "parameters" | "weights" | "model_state" => 1,
        _ => 0,
    }
}

/// Mappings of tensors that are seldom meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Weights,
    /// An average or another copy, a helper, gradients.
    Second,
    Optimizer,
}

impl Kind {
    fn of(path: &str) -> Self {
        let lower = path.to_ascii_lowercase();
        let optimizer = ["optim", "scheduler", "momentum", "exp_avg", "scaler"];
        if optimizer.iter().any(|part| lower.contains(part)) {
            Self::Optimizer
        } else if is_second(path) {
            Self::Second
        } else {
            Self::Weights
        }
    }
}

/// Finds the state dict.
pub(super) fn find(pickle: &Pickle, choice: &Choice<'_>) -> Result<Weights, FormatError> {
    let mut found = search(pickle);
    let lists = std::mem::take(&mut found.lists);
    if let Some(path) = choice.path {
        return given(pickle, found, path, lists);
    }
    let mut mappings: Vec<Mapping> = std::mem::take(&mut found.mappings);
    mappings.retain(|mapping| mapping.plausible);
    // The sort is stable: what comes first in the file goes first among equals.
    mappings.sort_by_key(|mapping| Reverse(mapping.params));
    let usual = mappings.iter().filter(|mapping| preference(last_key(&mapping.path)) > 0);
    let judged: Vec<Value> = usual.chain(&mappings).take(JUDGED).map(|mapping| mapping.value).collect();
    let is_model = |mapping: &Mapping| {
        judged.contains(&mapping.value) && (choice.is_model)(&names(&pickle.heap, mapping.value))
    };
    let mut ranked: Vec<_> = mappings
        .into_iter()
        .map(|mapping| ((!is_model(&mapping), Kind::of(&mapping.path)), mapping))
        .collect();
    // Stable again: by parameters within what is equally likely.
    ranked.sort_by_key(|(rank, _)| *rank);
    let Some(best) = ranked.first() else { return Err(nothing(pickle, &found, &lists)) };
    // A usual name goes before more parameters, unless those are many more: then it is a trap.
    let (rank, most) = (best.0, best.1.params);
    let equal = ranked
        .iter()
        .enumerate()
        .filter(|(_, (other, mapping))| *other == rank && mapping.params >= most / 2);
    let first = equal.max_by_key(|(at, (_, mapping))| (preference(last_key(&mapping.path)), Reverse(*at)));
    let first = first.map_or(0, |(at, _)| at);
    let taken = ranked.remove(first).1;
    let others = ranked.into_iter().map(|(_, mapping)| mapping).collect();
    Ok(weights(taken, others, lists))
}

/// The mapping at a path that the user gave.
fn given(
    pickle: &Pickle,
    mut found: Found,
    path: &str,
    lists: Vec<(String, usize)>,
) -> Result<Weights, FormatError> {
    let path = if path.is_empty() { BARE } else { path };
    match found.mappings.iter().position(|mapping| mapping.path == path) {
        Some(at) => {
            let taken = found.mappings.remove(at);
            found.mappings.retain(|mapping| mapping.plausible);
            Ok(weights(taken, found.mappings, lists))
        }
        None if found.mappings.is_empty() => Err(nothing(pickle, &found, &lists)),
        None => {
            let candidates = found.mappings.iter().map(|mapping| mapping.path.clone()).collect();
            Err(FormatError::NoWeightsAt { path: path.into(), candidates })
        }
    }
}

fn weights(taken: Mapping, others: Vec<Mapping>, lists: Vec<(String, usize)>) -> Weights {
    let mut findings = Vec::new();
    if !others.is_empty() {
        let said: Vec<String> = others
            .iter()
            .map(|other| format!("`{}` ({} tensors, {} numbers)", other.path, other.tensors, other.params))
            .collect();
        // Nothing but the order in the file speaks for it.
        let alike = |other: &Mapping| {
            let rank = |it: &Mapping| (Kind::of(&it.path), preference(last_key(&it.path)), it.params);
            rank(other) == rank(&taken)
        };
        let told = if others.iter().any(alike) { Finding::warning } else { Finding::info };
        findings.push(told(
            "other-weights",
            format!(
                "the weights are taken from `{}` ({} tensors, {} numbers); the file also holds {}: name the one \
                 to take with `weights`",
                taken.path,
                taken.tensors,
                taken.params,
                describe_list(&said)
            ),
        ));
    }
    if Kind::of(&taken.path) == Kind::Second {
        let message = format!(
            "the weights are taken from `{}`, by its name not the model that is trained but an average, a copy or a helper",
            taken.path
        );
        findings.push(Finding::info("averaged-weights", message));
    }
    if !lists.is_empty() {
        findings.push(Finding::info(
            "tensors-without-names",
            format!("lists of tensors without names cannot be opened as weights: {}", say_lists(&lists)),
        ));
    }
    let at = |mapping: &Mapping| WeightsAt {
        path: mapping.path.clone(),
        tensors: mapping.tensors as u64,
        // What a hostile file says of itself has to pass as a number of JavaScript.
        params: mapping.params.min(1 << 53),
    };
    let candidates = std::iter::once(&taken).chain(&others).map(at).collect();
    Weights { path: taken.path, state: taken.value, around: taken.around, candidates, findings }
}

fn say_lists(lists: &[(String, usize)]) -> String {
    describe_list(
        &lists.iter().map(|(path, count)| format!("`{path}` ({count} tensors)")).collect::<Vec<_>>(),
    )
}

fn last_key(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The keys of the tensors of a mapping.
fn names(heap: &Heap, value: Value) -> Vec<&str> {
    let pairs = heap.mapping(value).unwrap_or_default();
    let tensors = pairs.iter().filter(|(_, value)| {
        matches!(heap.node(*value), Some(Node::Tensor(_) | Node::Unread(_) | Node::Tuple(_)))
    });
    tensors.filter_map(|(key, _)| heap.str(*key)).collect()
}

/// Why there are no weights: what the file holds instead.
fn nothing(pickle: &Pickle, found: &Found, lists: &[(String, usize)]) -> FormatError {
    let Pickle { heap, root } = pickle;
    if let Some(class) = &found.module {
        return FormatError::WholeModule { class: class.clone() };
    }
    if let Some(class) = heap.record(*root).and_then(|record| heap.global(record.callee)) {
        if is_dangerous(&class) {
            return FormatError::RefusedGlobal { name: class };
        }
        if heap.mapping(*root).is_none() {
            return FormatError::unsupported(format!("the file holds an object of `{class}`"), SAVE);
        }
    }
    if !lists.is_empty() {
        let what = format!("the file holds tensors without names: {}", say_lists(lists));
        return FormatError::unsupported(
            what,
            "put the list back into the model it was taken from (an average has a copy_to or apply_shadow) and save \
             model.state_dict()",
        );
    }
    let what = match heap.mapping(*root) {
        Some([]) => "an empty dict".into(),
        Some(pairs) => {
            let held: Vec<String> = pairs
                .iter()
                .map(|&(key, value)| format!("{} ({})", say_key(heap, key), say_value(heap, value)))
                .collect();
            format!("no weights: {}", describe_list(&held))
        }
        None => say_value(heap, *root),
    };
    FormatError::unsupported(format!("the file holds {what}"), SAVE)
}

fn say_key(heap: &Heap, key: Value) -> String {
    match (key, heap.str(key)) {
        (_, Some(text)) => list(&[text.chars().take(64).collect()]),
        (Value::Int(number), None) => format!("the key {number}"),
        _ => "a key".into(),
    }
}

fn say_value(heap: &Heap, value: Value) -> String {
    match (value, heap.node(value)) {
        (Value::None, _) => "None".into(),
        (_, None) => "a number".into(),
        (_, Some(Node::Str(_))) => "a text".into(),
        (_, Some(Node::Bytes { .. })) => "bytes".into(),
        (_, Some(Node::List(items) | Node::Tuple(items))) => format!("a list of {}", items.len()),
        (_, Some(Node::Dict(pairs))) => format!("a dict of {}", pairs.len()),
        (_, Some(Node::Tensor(tensor))) => format!("a single tensor of shape {:?}", tensor.shape),
        (_, Some(Node::Unread(unread))) => unread.what.clone(),
        (_, Some(Node::Storage(_))) => "a storage".into(),
        (_, Some(Node::Global(..))) => "the name of a class or function".into(),
        (_, Some(Node::Record(record))) => match heap.global(record.callee) {
            Some(class) => format!("an object of `{class}`"),
            None => "an object".into(),
        },
    }
}

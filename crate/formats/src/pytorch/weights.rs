//! Which of the mappings of tensors in a pickle are the weights.
//!
//! The path that the caller gives; else the mapping with the keys of a known model; else, among what is
//! no average, copy or helper by its name, a usual wrapper, unless another has more than twice its parameters; else the
//! most parameters. What is one model with it is read with it (`join`). The state of an optimizer is no candidate.

use statepress_core::words::counted;
use std::cmp::Reverse;
use std::collections::HashSet;

use statepress_core::second::is_second;
use statepress_core::{Finding, WeightsAt};

use super::join::{self, Joined, Part};
use super::path;
use super::search::{Found, Mapping, search};
use crate::FormatError;
use crate::choice::{AND, BARE, Choice, Whole, say};
use crate::findings::{describe_list, list};
use crate::foreign::SAVE;
use crate::pickle::{Heap, Node, Pickle, Value, is_dangerous};

/// The state dict of a pickle and what lies beside it.
pub(super) struct Weights {
    /// The keys to it: `model_state_dict`, `state_dict.model`, ..., or `bare`.
    pub(super) path: String,
    /// The mappings that it is made of, usually one, and what is put before the keys of each.
    pub(super) parts: Vec<(Value, String)>,
    /// The mappings around all of them, outermost first.
    pub(super) around: Vec<Value>,
    /// The parts and everything around any of them.
    pub(super) inner: HashSet<u32>,
    /// Every mapping that could have been taken, this one first.
    pub(super) candidates: Vec<WeightsAt>,
    pub(super) findings: Vec<Finding>,
}

/// Mappings that the caller is asked about.
const JUDGED: usize = 16;

/// Mappings that are named in advice.
const LISTED: usize = 4;

/// Mappings that are told of as what could be taken: of a tree of an unknown model there are hundreds.
const CANDIDATES: usize = 64;

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
        const OPTIMIZERS: [&str; 6] = ["optim", "scheduler", "schedulers", "scaler", "momentum", "momentums"];
        let lower = path.to_ascii_lowercase();
        let optimizer = |word: &str| OPTIMIZERS.contains(&word) || word.starts_with("optimizer");
        if lower.contains("exp_avg") || lower.split(['.', '_']).any(optimizer) {
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
    let mut mappings: Vec<Mapping> = std::mem::take(&mut found.mappings);
    mappings.retain(|mapping| mapping.plausible && Kind::of(&mapping.path) != Kind::Optimizer);
    if let Some(given) = choice.path.and_then(|path| given(pickle, &mappings, path, choice)) {
        return Ok(given.told(&lists));
    }
    // The sort is stable: what comes first in the file goes first among equals.
    mappings.sort_by_key(|mapping| Reverse(mapping.params));
    let usual = mappings.iter().filter(|mapping| preference(last_key(&mapping.path)) > 0);
    let judged: HashSet<u32> = usual.chain(&mappings).take(JUDGED).filter_map(|it| it.value.node()).collect();
    let is_model = |mapping: &Mapping| {
        mapping.value.node().is_some_and(|node| judged.contains(&node))
            && (choice.is_model)(&names(&pickle.heap, mapping.value))
    };
    let mut ranked: Vec<_> =
        mappings.iter().map(|mapping| ((!is_model(mapping), Kind::of(&mapping.path)), mapping)).collect();
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
    let others: Vec<&Mapping> = ranked.into_iter().map(|(_, mapping)| mapping).collect();
    let joined = match others.is_empty() {
        true => Joined::alone(taken),
        false => join::join(&pickle.heap, taken, &others, choice),
    };
    Ok(weights(&pickle.heap, joined, &others).told(&lists))
}

/// What the user names: a mapping by any of its paths; several, with `+` between; all that is in a mapping of mappings;
/// or keys that begin alike, of which their mapping is taken here.
fn given(pickle: &Pickle, mappings: &[Mapping], path: &str, choice: &Choice<'_>) -> Option<Weights> {
    let heap = &pickle.heap;
    let path = if path.is_empty() { BARE } else { path };
    let mapping = |path: &str| {
        let path::At { value, around } = path::at(pickle, path)?;
        // One that was found is known by where its path may be cut.
        let known = mappings.iter().find(|it| it.value == value && it.path == path);
        known.cloned().or_else(|| Mapping::at(heap, path, value, around))
    };
    let all: Vec<&Mapping> = mappings.iter().collect();
    if let Some(taken) = mapping(path) {
        return Some(weights(heap, Joined::alone(&taken), &all));
    }
    if path.contains(AND)
        && let Some(parts) = path.split(AND).map(mapping).collect::<Option<Vec<_>>>()
    {
        let parts = join::together(heap, parts.iter().collect(), choice);
        return Some(weights(heap, Joined::of(parts), &all));
    }
    if let Some(path::At { value, around }) = path::at(pickle, path) {
        let depth = around.len();
        let tree = join::inside(&all, depth, value);
        if !tree.is_empty() {
            let parts = tree.into_iter().map(|it| Part { mapping: it, before: it.within(depth) }).collect();
            let joined = Joined { tree: Some(depth), ..Joined::of(parts) };
            return Some(weights(heap, joined, &all));
        }
    }
    let cuts = path.rmatch_indices('.').map(|(at, _)| (&path[..at], &path[at..]));
    for (outer, prefix) in cuts.chain([(BARE, path)]) {
        let Some(taken) = mapping(outer) else { continue };
        let prefix = format!("{}.", prefix.trim_start_matches('.'));
        if names(heap, taken.value).iter().any(|name| name.starts_with(&prefix)) {
            return Some(weights(heap, Joined::alone(&taken), &all));
        }
    }
    None
}

/// What is read, beside what else could be.
fn weights(heap: &Heap, joined: Joined<'_>, all: &[&Mapping]) -> Weights {
    let Joined { parts, tree, whole } = joined;
    let first = parts[0].mapping;
    let path = match tree.and_then(|depth| Some((depth, *first.ends.get(depth)?))) {
        Some((0, _)) => BARE.into(),
        Some((_, end)) => first.path[..end].to_string(),
        None => {
            parts.iter().map(|part| part.mapping.path.as_str()).collect::<Vec<_>>().join(&AND.to_string())
        }
    };
    let taken: HashSet<u32> = parts.iter().filter_map(|part| part.mapping.value.node()).collect();
    let is_other = |it: &&&Mapping| it.value.node().is_none_or(|node| !taken.contains(&node));
    let others: Vec<&Mapping> = all.iter().filter(is_other).copied().collect();
    let at = |path: &str, mappings: &[&Mapping]| WeightsAt {
        path: path.into(),
        tensors: mappings.iter().map(|it| it.tensors as u64).sum(),
        // What a hostile file says of itself has to pass as a number of JavaScript.
        params: mappings.iter().fold(0u64, |sum, it| sum.saturating_add(it.params)).min(1 << 53),
    };
    let read: Vec<&Mapping> = parts.iter().map(|part| part.mapping).collect();
    let mut candidates = vec![at(&path, &read)];
    let mut findings = Vec::new();
    if read.len() > 1 {
        findings.push(told_of_parts(&path, &parts, tree.is_some()));
        // The parts of a tree are no weights by themselves.
        if tree.is_none() {
            candidates.extend(read.iter().map(|it| at(&it.path, &[it])));
        }
    }
    candidates.extend(others.iter().map(|it| at(&it.path, &[it])));
    // A key with a dot and a mapping in a mapping can have the same path: it means the first.
    let mut paths = HashSet::new();
    candidates.retain(|it| paths.insert(it.path.clone()));
    candidates.truncate(CANDIDATES);
    if !others.is_empty() {
        findings.push(told_of_others(heap, &candidates[0], &read, &others, whole));
    }
    if read.iter().all(|it| Kind::of(&it.path) == Kind::Second) {
        let message = format!(
            "the weights are taken from {}, by its name not the model that is trained but an average, a copy or a helper",
            say(&path)
        );
        findings.push(Finding::info("averaged-weights", message));
    }
    let around: Vec<Value> = (0..first.around.len())
        .map_while(|at| {
            let outer = first.around[at];
            read.iter().all(|it| it.around.get(at) == Some(&outer)).then_some(outer)
        })
        .collect();
    let nodes = read.iter().flat_map(|it| it.around.iter().chain([&it.value]));
    let inner = nodes.filter_map(|value| value.node());
    Weights {
        path,
        inner: inner.collect(),
        around,
        parts: parts.into_iter().map(|part| (part.mapping.value, part.before)).collect(),
        candidates,
        findings,
    }
}

fn told_of_parts(path: &str, parts: &[Part<'_>], is_tree: bool) -> Finding {
    const CODE: &str = "joined-weights";
    if is_tree {
        let message = format!(
            "the {} mappings of tensors in {} are one model together: their keys are read with the way to each before them, \
             as `{}`",
            parts.len(),
            say(path),
            parts[0].before
        );
        return Finding::info(CODE, message);
    }
    let said: Vec<String> = parts.iter().map(|part| describe(part.mapping)).collect();
    let named: Vec<String> =
        parts.iter().map(|part| part.before.clone()).filter(|before| !before.is_empty()).collect();
    let before = match named.as_slice() {
        [] => String::new(),
        named => format!(", with what they are called put before their keys ({})", list(named)),
    };
    Finding::info(
        CODE,
        format!(
            "{} mappings are one model together and are read as one{before}: {}; name one with `weights` to take it alone",
            parts.len(),
            describe_list(&said)
        ),
    )
}

/// Says what else is in the file. It is a warning where it may well be meant, or belong to what is taken.
fn told_of_others(
    heap: &Heap,
    at: &WeightsAt,
    read: &[&Mapping],
    others: &[&Mapping],
    whole: Whole,
) -> Finding {
    let said: Vec<String> = others.iter().map(|other| describe(other)).collect();
    // Nothing but the order in the file speaks for it.
    let rank = |it: &Mapping| (Kind::of(&it.path), preference(last_key(&it.path)), it.params);
    let alike = read.len() == 1 && others.iter().any(|other| rank(other) == rank(read[0]));
    // What has other keys may be the rest of the model.
    let rest = if whole < Whole::Yes { join::apart(heap, read, others) } else { Vec::new() };
    let rest = rest.iter().map(|it| it.path.as_str()).filter(|path| Kind::of(path) == Kind::Weights);
    let rest: Vec<&str> = rest.take(LISTED).collect();
    let mut message = format!(
        "the weights are taken from {} ({}, {}); the file also holds {}: name the one to take with \
         `weights`",
        say(&at.path),
        counted(at.tensors, "tensor", "tensors"),
        counted(at.params, "number", "numbers"),
        describe_list(&said)
    );
    if !rest.is_empty() {
        let all: Vec<&str> = read.iter().map(|it| it.path.as_str()).chain(rest.iter().copied()).collect();
        message += &format!(
            ". {} may be the rest of the model, for its keys are others: then name them together, as `{}`",
            list(&rest.iter().map(|path| (*path).to_string()).collect::<Vec<_>>()),
            all.join(&AND.to_string())
        );
    }
    let told = if alike || !rest.is_empty() { Finding::warning } else { Finding::info };
    told("other-weights", message)
}

fn describe(it: &Mapping) -> String {
    format!(
        "{} ({}, {})",
        say(&it.path),
        counted(it.tensors, "tensor", "tensors"),
        counted(it.params, "number", "numbers")
    )
}

impl Weights {
    /// Says what lies in the file and is no weights.
    fn told(mut self, lists: &[(String, usize)]) -> Self {
        if !lists.is_empty() {
            self.findings.push(Finding::info(
                "tensors-without-names",
                format!("lists of tensors without names cannot be opened as weights: {}", say_lists(lists)),
            ));
        }
        self
    }
}

fn say_lists(lists: &[(String, usize)]) -> String {
    describe_list(
        &lists
            .iter()
            .map(|(path, count)| format!("`{path}` ({})", counted(*count, "tensor", "tensors")))
            .collect::<Vec<_>>(),
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

//! One model in several mappings of a pickle: `{"trainable": {..}, "frozen": {..}}`, a dict for each module, trees.
//!
//! The keys decide, as the caller knows them: mappings without a common key are one model where together they are
//! more of it than each by itself.

use std::borrow::Cow;
use std::collections::HashSet;

use super::search::{Mapping, PACKED};
use crate::choice::{Choice, Fit, Whole};
use crate::pickle::{Heap, Node, Value};

/// Mappings that are tried one by one.
const TRIED: usize = 16;

/// Keys that the caller is asked about, all questions together.
const ASKED: usize = 1 << 18;

/// A mapping that is read, and what is put before its keys.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) before: String,
}

/// The tensors of a mapping by their keys, with their shapes.
fn tensors(heap: &Heap, value: Value) -> impl Iterator<Item = (Cow<'_, str>, &[usize])> {
    heap.mapping(value).unwrap_or_default().iter().filter_map(|&(key, value)| {
        let name = heap.str(key)?;
        let packed = name.strip_suffix(PACKED).and_then(|module| Some((module, heap.tuple(value)?.first()?)));
        let (name, value) = match packed {
            Some((module, &weight)) => (Cow::Owned(format!("{module}.weight")), weight),
            None => (Cow::Borrowed(name), value),
        };
        match heap.node(value)? {
            Node::Tensor(tensor) => Some((name, tensor.shape.as_slice())),
            Node::Unread(_) => Some((name, [].as_slice())),
            _ => None,
        }
    })
}

/// Those of some mappings that have no key of what is read: they are no copies, and may be parts.
pub(super) fn apart<'a>(heap: &Heap, read: &[&Mapping], others: &[&'a Mapping]) -> Vec<&'a Mapping> {
    let keys: HashSet<_> = read.iter().flat_map(|it| tensors(heap, it.value)).map(|(name, _)| name).collect();
    let is_apart = |it: &&&Mapping| !tensors(heap, it.value).any(|(name, _)| keys.contains(&name));
    others.iter().filter(is_apart).copied().collect()
}

/// Mappings under one set of keys.
struct Set<'a> {
    parts: Vec<(&'a Mapping, String)>,
    keys: Vec<(String, &'a [usize])>,
    names: HashSet<String>,
    fit: Fit,
}

/// Asks the caller, so often as is reasonable.
struct Judge<'a> {
    heap: &'a Heap,
    choice: &'a Choice<'a>,
    asked: usize,
}

impl<'a> Judge<'a> {
    /// The parts as one; none where they have a key in common.
    fn set(&mut self, parts: Vec<(&'a Mapping, String)>) -> Option<Set<'a>> {
        let count: usize = parts.iter().map(|(mapping, _)| mapping.tensors).sum();
        self.asked += count;
        if self.asked > ASKED {
            return None;
        }
        let mut keys = Vec::with_capacity(count);
        let mut names = HashSet::with_capacity(count);
        for (mapping, before) in &parts {
            for (name, shape) in tensors(self.heap, mapping.value) {
                let name = format!("{before}{name}");
                if !names.insert(name.clone()) {
                    return None;
                }
                keys.push((name, shape));
            }
        }
        let asked: Vec<_> = keys.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        let fit = (self.choice.fit)(&asked);
        Some(Set { parts, keys, names, fit })
    }

    /// The set with one more part, if it is more of a model then.
    fn grown(&mut self, set: &Set<'a>, more: &'a Mapping, before: String) -> Option<Set<'a>> {
        let twice = |(name, _): (Cow<str>, _)| set.names.contains(&format!("{before}{name}"));
        if tensors(self.heap, more.value).any(twice) {
            return None;
        }
        let mut parts = set.parts.clone();
        parts.push((more, before));
        let grown = self.set(parts)?;
        let gain = grown.fit.read.saturating_sub(set.fit.read);
        let more_whole = grown.fit.whole > set.fit.whole;
        let more_read = grown.fit.whole == set.fit.whole && gain > 0 && 2 * gain >= more.tensors;
        (more_whole || more_read).then_some(grown)
    }
}

/// How many mappings are around both.
fn shared(a: &Mapping, b: &Mapping) -> usize {
    let inside = |it: &Mapping| it.around.iter().copied().chain([it.value]).collect::<Vec<_>>();
    inside(a).iter().zip(&inside(b)).take_while(|(a, b)| a == b).count()
}

/// Several mappings that are read as one.
pub(super) struct Joined<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// The mapping around them, where everything in it is read.
    pub(super) tree: Option<usize>,
    /// Whether the model that they are is whole.
    pub(super) whole: Whole,
}

impl<'a> Joined<'a> {
    /// Parts that are taken as they are given.
    pub(super) fn of(parts: Vec<Part<'a>>) -> Self {
        Self { parts, tree: None, whole: Whole::Yes }
    }

    /// One mapping.
    pub(super) fn alone(mapping: &'a Mapping) -> Self {
        Self::of(vec![Part { mapping, before: String::new() }])
    }
}

/// What is one model with the mapping that is taken, that one first; it alone where it is one by itself.
pub(super) fn join<'a>(
    heap: &'a Heap,
    taken: &'a Mapping,
    others: &[&'a Mapping],
    choice: &'a Choice<'a>,
) -> Joined<'a> {
    let mut judge = Judge { heap, choice, asked: 0 };
    let Some(mut set) = judge.set(vec![(taken, String::new())]) else {
        return Joined { whole: Whole::No, ..Joined::alone(taken) };
    };
    let mut tree = None;
    if set.fit.whole < Whole::Yes
        && let Some((all, depth)) = around(&mut judge, &set, taken, others)
    {
        (set, tree) = (all, depth);
    }
    // A second time: what is nothing without another may be something with it.
    for other in others.iter().take(TRIED).chain(others.iter().take(TRIED)) {
        if set.parts.iter().any(|(part, _)| part.value == other.value) {
            continue;
        }
        let depth = shared(taken, other);
        let styles = [String::new(), other.within(depth.saturating_sub(1))];
        let grown = styles.into_iter().filter_map(|before| judge.grown(&set, other, before));
        if let Some(best) = grown.max_by_key(|set| (set.fit.whole, set.fit.read)) {
            (set, tree) = (best, None);
        }
    }
    let whole = set.fit.whole;
    let parts = set.parts.into_iter().map(|(mapping, before)| Part { mapping, before }).collect();
    Joined { parts, tree, whole }
}

/// Everything in the nearest mapping around the one that is taken that is the most of a model so: a dict for each module
/// is nothing before all are there. With the depth of that mapping, where keys are told apart by the paths in it.
fn around<'a>(
    judge: &mut Judge<'a>,
    set: &Set<'a>,
    taken: &'a Mapping,
    others: &[&'a Mapping],
) -> Option<(Set<'a>, Option<usize>)> {
    let mut best: Option<(Set<'a>, Option<usize>)> = None;
    let outer = taken.around.iter().copied().chain([taken.value]);
    for (depth, ancestor) in outer.enumerate().collect::<Vec<_>>().into_iter().rev() {
        let group = inside(others, depth, ancestor);
        if group.is_empty() {
            continue;
        }
        for plain in [true, false] {
            let before = |it: &Mapping| if plain { String::new() } else { it.within(depth) };
            let parts = std::iter::once(taken).chain(group.iter().copied());
            let Some(all) = judge.set(parts.map(|it| (it, before(it))).collect()) else { continue };
            let so_far = best.as_ref().map_or(set.fit, |(set, _)| set.fit);
            let more_read = all.fit.read > so_far.read && 2 * all.fit.read >= all.keys.len();
            if all.fit.whole > so_far.whole || (all.fit.whole == so_far.whole && more_read) {
                best = Some((all, (!plain).then_some(depth)));
            }
        }
    }
    best
}

/// Those of some mappings that are in another, which is at that depth, or are it.
pub(super) fn inside<'a>(all: &[&'a Mapping], depth: usize, ancestor: Value) -> Vec<&'a Mapping> {
    let is_in = |it: &&&Mapping| {
        it.around.get(depth) == Some(&ancestor) || (it.value == ancestor && it.around.len() == depth)
    };
    all.iter().filter(is_in).copied().collect()
}

/// Mappings that the user names together: under their own keys where those differ, else with what they are called
/// before them.
pub(super) fn together<'a>(
    heap: &'a Heap,
    mappings: Vec<&'a Mapping>,
    choice: &'a Choice<'a>,
) -> Vec<Part<'a>> {
    let mut judge = Judge { heap, choice, asked: 0 };
    let depth = mappings.iter().skip(1).map(|it| shared(mappings[0], it)).min().unwrap_or(0);
    let named = |plain: bool| {
        let before = |it: &Mapping| if plain { String::new() } else { it.within(depth.saturating_sub(1)) };
        mappings.iter().map(|&it| (it, before(it))).collect::<Vec<_>>()
    };
    let plain = judge.set(named(true));
    let fit = |set: &Option<Set<'_>>| set.as_ref().map(|set| (set.fit.whole, set.fit.read));
    let apart = judge.set(named(false));
    let parts = if plain.is_some() && fit(&plain) >= fit(&apart) { named(true) } else { named(false) };
    parts.into_iter().map(|(mapping, before)| Part { mapping, before }).collect()
}

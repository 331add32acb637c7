//! Where in a file a model's keys are: behind which prefix, and which of several models is taken.
//!
//! Training scripts wrap models in models, and every wrapper adds its name to the keys: before all of
//! them (`module.`, `model.`, `student.`), or somewhere between (`layers.0._orig_mod.norm.weight`). A family's
//! keys are looked for behind any prefix, and without the names that wrappers put between.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use statepress_core::Index;
use statepress_core::second::is_second;

use super::registry::{self, Run};

/// What wrappers put into keys, at any depth: `DataParallel`, `torch.compile`, DeepSpeed's and Fabric's
/// engines, FSDP of PyTorch and of FairScale, and checkpointed activations. No family has such words of its own.
const WRAPPERS: [&str; 6] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_fpw_module",
];

/// A key without the names that wrappers put into it.
pub(super) fn unwrapped(name: &str) -> Cow<'_, str> {
    let wraps = |part: &&str| WRAPPERS.contains(part);
    // What stands last is the tensor's own name.
    let Some((before, last)) = name.rsplit_once('.') else { return Cow::Borrowed(name) };
    if !before.split('.').any(|part| wraps(&part)) {
        return Cow::Borrowed(name);
    }
    let mut kept = String::with_capacity(name.len());
    for part in before.split('.').filter(|part| !wraps(part)) {
        kept += part;
        kept.push('.');
    }
    Cow::Owned(kept + last)
}

/// The names of wrappers that are in a key.
pub(super) fn wrappers(name: &str) -> impl Iterator<Item = &'static str> {
    let within = |wrapper: &&str| name.split('.').rev().skip(1).any(|part| part == *wrapper);
    WRAPPERS.into_iter().filter(move |wrapper| within(wrapper))
}

/// What stands in a real key before the part behind `prefix`, which is without wrappers: with them.
pub(super) fn lead<'a>(real: &'a str, prefix: &str) -> &'a str {
    let mut left = prefix.matches('.').count();
    let mut end = 0;
    for part in real.split_inclusive('.').filter(|part| part.ends_with('.')) {
        if !WRAPPERS.contains(&&part[..part.len() - 1]) {
            let Some(fewer) = left.checked_sub(1) else { break };
            left = fewer;
        }
        end += part.len();
    }
    &real[..end]
}

/// A model that is in a file.
pub(super) struct Place {
    /// What it is.
    pub family: &'static registry::Entry,
    /// What stands before its layers' keys.
    pub before: String,
    /// Its prefix: `before`, less what usual keys of the family begin with.
    pub outer: String,
    /// Numbers in it.
    params: u64,
    /// Where its first key is.
    first: usize,
}

impl Place {
    fn new(family: &'static registry::Entry, before: &str, first: usize) -> Self {
        let whole = |outer: &&str| outer.is_empty() || outer.ends_with('.');
        let outer = before.strip_suffix(family.trunk).filter(whole).unwrap_or(before);
        Self { family, before: before.into(), outer: outer.into(), params: 0, first }
    }

    /// Whether its keys lack what usual ones begin with.
    pub fn lacks_trunk(&self) -> bool {
        self.before == self.outer && !self.family.trunk.is_empty()
    }

    /// Whether a key without wrappers is of one of its layers.
    pub fn has_layer(&self, name: &str) -> bool {
        name.strip_prefix(self.before.as_str()).is_some_and(|rest| rest.starts_with(self.family.layers()))
    }

    fn is_second(&self) -> bool {
        is_second(&self.outer)
    }
}

/// The models of a file, the one that is taken first: none that its prefix calls a copy, a teacher or a
/// critic; of those one that runs; of those the largest, and of equal ones the first.
pub(super) struct Places {
    pub all: Vec<Place>,
    /// By key: whose it is, as a position in `all`.
    pub whose: Vec<Option<usize>>,
}

impl Places {
    /// `bare` are the keys of the index without the names of wrappers.
    pub fn find(index: &Index, bare: &[Cow<str>]) -> Self {
        let mut all = search(bare);
        let by_prefix = by_prefix(&all);
        let whose: Vec<_> = bare.iter().map(|name| owner(&by_prefix, name)).collect();
        for (entry, owner) in index.tensors.iter().zip(&whose) {
            if let Some(place) = owner.and_then(|owner| all.get_mut(owner)) {
                place.params = place.params.saturating_add(entry.params());
            }
        }
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|&at| {
            let place = &all[at];
            let runs = matches!(place.family.run, Run::Program(_));
            (place.is_second(), !runs, std::cmp::Reverse(place.params), place.first)
        });
        let mut rank = vec![0; all.len()];
        order.iter().enumerate().for_each(|(at, &place)| rank[place] = at);
        let mut all: Vec<Option<_>> = all.into_iter().map(Some).collect();
        let all = order.iter().filter_map(|&place| all[place].take()).collect();
        Self { all, whose: whose.into_iter().map(|owner| owner.map(|owner| rank[owner])).collect() }
    }
}

/// Every prefix behind which a family has all its keys; the first family of the registry that does.
fn search(bare: &[Cow<str>]) -> Vec<Place> {
    let mut found: BTreeMap<&str, Place> = BTreeMap::new();
    for family in registry::REGISTRY {
        // By prefix: a bit for each key that is there, whether one is that must not be, and where.
        let mut seen: BTreeMap<&str, (u32, bool, usize)> = BTreeMap::new();
        for (position, name) in bare.iter().enumerate() {
            for (bit, key) in family.keys.iter().enumerate() {
                if let Some(before) = before(name, key) {
                    seen.entry(before).or_insert((0, false, position)).0 |= 1 << bit;
                }
            }
            if let Some(before) = family.without.iter().find_map(|key| before(name, key)) {
                seen.entry(before).or_insert((0, false, position)).1 = true;
            }
        }
        let all = (1u32 << family.keys.len()) - 1;
        for (before, (bits, without, first)) in seen {
            if bits == all && !without {
                found.entry(before).or_insert_with(|| Place::new(family, before, first));
            }
        }
    }
    found.into_values().collect()
}

/// The models by what their keys begin with.
fn by_prefix(places: &[Place]) -> BTreeMap<&str, usize> {
    let mut by_prefix: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, place) in places.iter().enumerate() {
        by_prefix.insert(&place.before, at);
    }
    for (at, place) in places.iter().enumerate() {
        by_prefix.entry(&place.outer).or_insert(at);
    }
    by_prefix
}

/// The model with the longest prefix of a key.
fn owner(by_prefix: &BTreeMap<&str, usize>, name: &str) -> Option<usize> {
    // A shorter bound at each step: whatever begins `name` sorts before it, the longest last.
    let mut bound = name;
    loop {
        let (prefix, owner) =
            by_prefix.range::<str, _>((Bound::Unbounded, Bound::Included(bound))).next_back()?;
        if name.starts_with(prefix) {
            return Some(*owner);
        }
        let same = bound.chars().zip(prefix.chars()).take_while(|(a, b)| a == b);
        bound = &bound[..same.map(|(c, _)| c.len_utf8()).sum()];
    }
}

/// What stands before `key` in `name`, where `*` in the key is a number.
fn before<'a>(name: &'a str, key: &str) -> Option<&'a str> {
    let (head, tail) = key.split_once('*').unwrap_or((key, ""));
    let (before, number) = if key.contains('*') {
        let rest = name.strip_suffix(tail)?;
        let digits = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        (digits, &rest[digits.len()..])
    } else {
        (name, "0")
    };
    let before = before.strip_suffix(head)?;
    let whole = before.is_empty() || before.ends_with('.');
    (whole && !number.is_empty()).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_stars_and_prefixes_are_whole_words() {
        assert_eq!(before("layers.0.ssm.D", "layers.*.ssm.D"), Some(""));
        assert_eq!(before("model.layers.12.ssm.D", "layers.*.ssm.D"), Some("model."));
        assert_eq!(before("mylayers.0.ssm.D", "layers.*.ssm.D"), None);
        assert_eq!(before("layers.x.ssm.D", "layers.*.ssm.D"), None);
        assert_eq!(before("layers..ssm.D", "layers.*.ssm.D"), None);
    }

    #[test]
    fn wrappers_go_from_anywhere_but_the_end() {
        assert_eq!(unwrapped("module.layers.0._orig_mod.module.norm.weight"), "layers.0.norm.weight");
        assert_eq!(unwrapped("_fsdp_wrapped_module.a"), "a");
        assert_eq!(unwrapped("net.module"), "net.module");
        assert_eq!(unwrapped("modules.weight"), "modules.weight");
        assert_eq!(lead("module.net._orig_mod.layers.0.module.norm.weight", "net."), "module.net._orig_mod.");
        assert_eq!(lead("layers.0._orig_mod.D", ""), "");
        assert_eq!(lead("module.D", ""), "module.");
        assert_eq!(lead("D", "net."), "");
    }

    #[test]
    fn a_key_belongs_to_the_longest_prefix() {
        let prefixes = ["", "model.", "model.ema.", "model.z", "student.model."];
        let map: BTreeMap<&str, usize> =
            prefixes.iter().enumerate().map(|(at, prefix)| (*prefix, at)).collect();
        let of = |name: &str| owner(&map, name).map(|at| prefixes[at]);
        assert_eq!(of("model.layers.0.D"), Some("model."));
        assert_eq!(of("model.ema.layers.0.D"), Some("model.ema."));
        assert_eq!(of("model.em"), Some("model."));
        assert_eq!(of("student.lm_head.weight"), Some(""));
        assert_eq!(of("é"), Some(""));
        let map = BTreeMap::from([("a.", 0), ("a.b.c.", 1)]);
        assert_eq!(owner(&map, "a.b.x"), Some(0));
        assert_eq!(owner(&map, "b"), None);
    }
}

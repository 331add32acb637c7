//! Several models in one mapping of tensors, apart by what their keys begin with: `student.` and `teacher.`.

use std::collections::{BTreeMap, HashMap};

use statepress_core::{Entry, Index, WeightsAt};

use crate::FormatError;
use crate::choice::{BARE, Choice};

/// Keys that a model has at the least.
const KEYS: usize = 3;

/// How many wrappers may stand around one another.
const WRAPPERS: usize = 3;

/// Models that are told of.
const MODELS: usize = 16;

/// Of the mapping that was read, what the user names by a prefix; and the models that could be named so.
pub(crate) fn choose(mut index: Index, choice: &Choice<'_>) -> Result<Index, FormatError> {
    let found = models(&index, choice);
    let place = |prefix: &str| match index.wrapper.as_str() {
        BARE => prefix.to_string(),
        outer => format!("{outer}.{prefix}"),
    };
    let at: Vec<WeightsAt> = found.iter().map(|prefix| count(&index, place(prefix), prefix)).collect();
    let known = |index: &Index, at: &WeightsAt| index.weights.iter().any(|known| known.path == at.path);
    for at in at {
        if !known(&index, &at) {
            index.weights.push(at);
        }
    }
    let path = match choice.path {
        None => return Ok(index),
        Some("") => BARE,
        Some(path) => path,
    };
    if path == index.wrapper {
        return Ok(index);
    }
    let outer = format!("{}.", index.wrapper);
    let prefix = path.strip_prefix(&outer).unwrap_or(path).trim_end_matches('.');
    let of = count(&index, path.into(), prefix);
    if of.tensors == 0 {
        let candidates = index.weights.into_iter().map(|at| at.path).collect();
        return Err(FormatError::NoWeightsAt { path: path.into(), candidates });
    }
    index.tensors = without(index.tensors, |name| !begins(name, prefix));
    index.weights.retain(|at| at.path != of.path);
    index.weights.insert(0, of);
    index.wrapper = path.into();
    Ok(index)
}

/// Whether a key is the prefix or begins with it and a dot.
fn begins(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn count(index: &Index, path: String, prefix: &str) -> WeightsAt {
    let mine = || index.tensors.iter().filter(|entry| begins(&entry.name, prefix));
    let params = mine().map(Entry::params).fold(0, u64::saturating_add);
    WeightsAt { path, tensors: mine().count() as u64, params: params.min(1 << 53) }
}

/// The prefixes behind which models are, where there are several; nothing where there is one.
fn models(index: &Index, choice: &Choice<'_>) -> Vec<String> {
    let mut outer = String::new();
    // The names of wrappers stand before all of them.
    for _ in 0..WRAPPERS {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in &index.tensors {
            let inner = entry.name.strip_prefix(&outer).and_then(|rest| rest.split_once('.'));
            if let Some((first, rest)) = inner {
                groups.entry(first).or_default().push(rest);
            }
        }
        groups.retain(|_, keys| keys.len() >= KEYS);
        let mut groups = groups.into_iter();
        match (groups.next(), groups.len()) {
            (Some((only, _)), 0) => outer += &format!("{only}."),
            (Some(first), more) if more < MODELS => {
                let all = std::iter::once(first).chain(groups);
                let models = all.filter(|(_, keys)| (choice.is_model)(keys));
                let models: Vec<String> = models.map(|(first, _)| format!("{outer}{first}")).collect();
                return if models.len() > 1 { models } else { Vec::new() };
            }
            _ => break,
        }
    }
    Vec::new()
}

/// Entries without some of them; what was tied to one of those is tied to its next twin.
pub(crate) fn without(entries: Vec<Entry>, is_out: impl Fn(&str) -> bool) -> Vec<Entry> {
    let mut heirs: HashMap<String, String> = HashMap::new();
    let kept = entries.into_iter().filter(|entry| !is_out(&entry.name));
    kept.map(|mut entry| {
        if let Some(first) = entry.tied_to.take() {
            entry.tied_to = match heirs.get(&first) {
                _ if !is_out(&first) => Some(first),
                Some(heir) => Some(heir.clone()),
                None => {
                    heirs.insert(first, entry.name.clone());
                    None
                }
            };
        }
        entry
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use statepress_core::DType;
    use statepress_core::index::{Extent, Stored, Strided};

    use super::*;

    fn entry(name: &str, tied_to: Option<&str>) -> Entry {
        let storage = Extent { offset: 0, len: 4 };
        let stored = Stored::Strided(Strided {
            dtype: DType::F32,
            storage,
            first: 0,
            strides: vec![1],
            negated: false,
        });
        Entry { name: name.into(), shape: vec![1], stored, tied_to: tied_to.map(Into::into) }
    }

    #[test]
    fn the_twins_of_a_tensor_that_is_left_out_stay_twins() {
        let entries = vec![
            entry("a", None),
            entry("b", Some("a")),
            entry("c", Some("a")),
            entry("d", None),
            entry("e", Some("d")),
        ];
        let kept = without(entries, |name| name == "a");
        let ties: Vec<_> = kept.iter().map(|it| (it.name.as_str(), it.tied_to.as_deref())).collect();
        assert_eq!(ties, [("b", None), ("c", Some("b")), ("d", None), ("e", Some("d"))]);
    }
}

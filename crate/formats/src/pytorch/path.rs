//! From a path that the user gives to the value there: every name of a value leads to it.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::choice::BARE;
use crate::pickle::{Heap, Pickle, Value};

/// A value, and the mappings around it, outermost first.
pub(super) struct At {
    pub(super) value: Value,
    pub(super) around: Vec<Value>,
}

/// A step that may lead to the end of a path: what is left of it there.
struct Way<'a> {
    at: At,
    rest: &'a str,
}

/// The mapping at the end of a path. Keys may have dots themselves, so every way to cut the path is tried; nothing
/// recurses, and no value is looked at twice with the same rest.
pub(super) fn at(pickle: &Pickle, path: &str) -> Option<At> {
    let Pickle { heap, root } = pickle;
    let rest = if path == BARE { "" } else { path };
    let mut ways = vec![Way { at: At { value: *root, around: Vec::new() }, rest }];
    let mut seen = HashSet::new();
    while let Some(Way { at, rest }) = ways.pop() {
        if rest.is_empty() {
            if heap.mapping(at.value).is_some() {
                return Some(at);
            }
            continue;
        }
        let Value::Ref(node) = at.value else { continue };
        if !seen.insert((node, rest.len())) {
            continue;
        }
        let mut next = |value, rest| {
            let mut around = at.around.clone();
            around.push(at.value);
            ways.push(Way { at: At { value, around }, rest });
        };
        let state = heap.record(at.value).map(|record| record.state);
        let fields = state.and_then(|state| heap.mapping(state)).unwrap_or_default();
        for &(key, value) in heap.mapping(at.value).unwrap_or_default().iter().chain(fields) {
            if let Some(rest) = name(heap, key).and_then(|name| behind(rest, &name)) {
                next(value, rest);
            }
        }
        let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
        let item = index.parse().ok().and_then(|index: usize| heap.items(at.value)?.get(index));
        if let Some(&value) = item {
            next(value, rest);
        }
    }
    None
}

/// What a key is called in a path: a string, or the whole number that stands for one. An empty one is `""`, so that the
/// path to it is not that of what it is in.
pub(super) fn name(heap: &Heap, key: Value) -> Option<Cow<'_, str>> {
    match key {
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        key => heap.str(key).map(|name| Cow::Borrowed(if name.is_empty() { "\"\"" } else { name })),
    }
}

/// What is left of a path behind a key.
fn behind<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(key)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

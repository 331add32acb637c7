//! The search for mappings of tensors in a pickle: every nested one, with its path.
//!
//! Each value is visited once, however often it is mentioned, and nothing recurses.

use std::collections::HashSet;

use statepress_core::limits::PICKLE_DEPTH;

use super::path;
use crate::choice::BARE;
use crate::pickle::{Heap, Node, Pickle, Value};

/// Bytes of a key that can be part of a path.
const KEY_BYTES: usize = 256;

/// Items of a list that are searched: lists of state dicts are short.
const LIST_ITEMS: usize = 64;

/// Mappings of tensors that are kept: a file of a trainer has a dozen, a tree one for each module.
const MAPPINGS: usize = 1 << 12;

/// Lists of tensors that are told of.
const LISTS: usize = 256;

/// Bytes that all their paths may take.
const PATHS: usize = 1 << 20;

/// The key, after the name of the module, of torch's quantized weights.
pub(super) const PACKED: &str = "._packed_params._packed_params";

/// A mapping with tensors in it.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    /// The keys to it, with dots between them; [`BARE`] for the whole.
    pub(super) path: String,
    pub(super) value: Value,
    /// The mappings around it, outermost first.
    pub(super) around: Vec<Value>,
    /// Where in `path` the step into each of them ends.
    pub(super) ends: Vec<usize>,
    pub(super) tensors: usize,
    pub(super) params: u64,
    /// Whether something in it could be a weight, rather than counters and seeds.
    pub(super) plausible: bool,
}

/// What a search finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) mappings: Vec<Mapping>,
    /// Lists of tensors: their path and how many tensors.
    pub(super) lists: Vec<(String, usize)>,
    /// The class of a whole module, the first one.
    pub(super) module: Option<String>,
}

/// A value on the way: its parent among the visited, and how it is reached from there.
struct Visit {
    parent: usize,
    step: Step,
    value: Value,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Root,
    Key(Value),
    Item(usize),
}

/// Searches a pickle, breadth first, so that the shortest path to a value is the one that is told.
pub(super) fn search(pickle: &Pickle) -> Found {
    let Pickle { heap, root } = pickle;
    let mut found = Found::default();
    let mut visits = vec![Visit { parent: 0, step: Step::Root, value: *root, depth: 0 }];
    let mut seen = HashSet::new();
    let mut paths = 0;
    let mut at = 0;
    while let Some(&Visit { value, depth, .. }) = visits.get(at) {
        let Value::Ref(node) = value else {
            at += 1;
            continue;
        };
        if depth > PICKLE_DEPTH || !seen.insert(node) {
            at += 1;
            continue;
        }
        let mut next = |step, value| {
            if searchable(heap, value) {
                visits.push(Visit { parent: at, step, value, depth: depth + 1 });
            }
        };
        if heap.is_module(value) {
            found.module.get_or_insert_with(|| {
                let class = heap.record(value).and_then(|record| heap.global(record.callee));
                class.unwrap_or_else(|| "an unknown class".into())
            });
        } else if let Some(pairs) = heap.mapping(value) {
            step_into(heap, pairs, &mut next);
            if let Some(counted) = count(heap, pairs, depth == 0)
                && found.mappings.len() < MAPPINGS
                && paths < PATHS
                && !is_slots(heap, pairs)
            {
                let (path, around, ends) = way(heap, &visits, at);
                paths += path.len() + std::mem::size_of_val(&around[..]) + std::mem::size_of_val(&ends[..]);
                found.mappings.push(Mapping { path, value, around, ends, ..counted });
            }
        } else if let Some(record) = heap.record(value) {
            // The state is part of its record: a file may give one state to many.
            if let Value::Ref(state) = record.state
                && seen.insert(state)
            {
                step_into(heap, heap.mapping(record.state).unwrap_or_default(), &mut next);
            }
        } else if let Some(items) = heap.items(value) {
            for (index, &item) in items.iter().enumerate().take(LIST_ITEMS) {
                next(Step::Item(index), item);
            }
            let tensors = items.iter().filter(|&&item| heap.tensor(item).is_some()).count();
            // Two or three are betas and the like.
            if tensors > 3 && found.lists.len() < LISTS {
                found.lists.push((way(heap, &visits, at).0, tensors));
            }
        }
        at += 1;
    }
    found
}

/// Whether anything can be found in a value.
fn searchable(heap: &Heap, value: Value) -> bool {
    matches!(heap.node(value), Some(Node::Dict(_) | Node::Record(_) | Node::List(_) | Node::Tuple(_)))
}

/// The values under keys that can be written in a path, the usual wrappers first: where one dict is
/// there twice, that is the name it goes by.
fn step_into(heap: &Heap, pairs: &[(Value, Value)], next: &mut impl FnMut(Step, Value)) {
    for usual in [true, false] {
        for &(key, value) in pairs {
            let preferred = match (key, heap.str(key)) {
                (_, Some(name)) if name.len() <= KEY_BYTES => super::weights::preference(name) > 0,
                (Value::Int(_), _) => false,
                _ => continue,
            };
            if preferred == usual {
                next(Step::Key(key), value);
            }
        }
    }
}

/// What optimizers keep of one parameter: PyTorch's, bitsandbytes' and the fused ones.
const SLOTS: [&str; 22] = [
    "step",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_avg_sq_row",
    "exp_avg_sq_col",
    "exp_avg_slow",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
    "prev",
    "step_size",
    "state1",
    "state2",
    "qmap1",
    "qmap2",
    "absmax1",
    "absmax2",
    "master_param",
];

/// Whether a mapping is what an optimizer keeps of one parameter: no candidate, and there are as many as parameters.
fn is_slots(heap: &Heap, pairs: &[(Value, Value)]) -> bool {
    pairs.iter().all(|(key, _)| heap.str(*key).is_some_and(|name| SLOTS.contains(&name)))
}

/// What is known of a mapping by its values, if there is a tensor among them.
fn count(heap: &Heap, pairs: &[(Value, Value)], is_root: bool) -> Option<Mapping> {
    let (mut tensors, mut params, mut others) = (0usize, 0u64, 0usize);
    let (mut matrix, mut vector, mut unread_any) = (false, false, false);
    for &(key, value) in pairs {
        let Some(name) = heap.str(key) else { continue };
        let packed = heap.tuple(value).filter(|_| name.ends_with(PACKED)).and_then(|parts| parts.first());
        let value = packed.copied().unwrap_or(value);
        if let Some(tensor) = heap.tensor(value) {
            let elements = tensor.shape.iter().fold(1u64, |n, &dim| n.saturating_mul(dim as u64));
            // What repeats a storage is no larger than that.
            params = params.saturating_add(elements.min(tensor.storage.elements));
            let weight = (tensor.dtype.is_float() || tensor.quantizer.is_some()) && elements > 0;
            matrix |= weight && tensor.shape.len() > 1;
            vector |= weight && !tensor.shape.is_empty();
        } else if let Some(unread) = heap.unread(value) {
            params = params.saturating_add(unread.elements.unwrap_or(0));
            unread_any = true;
        } else {
            others += usize::from(value != Value::None);
            continue;
        }
        tensors += 1;
    }
    // A file of nothing but tensors was saved to be opened. Beside other values, a scalar is a loss and
    // a vector of bytes the state of a generator.
    let plausible = matrix || (others == 0 && (is_root || vector || unread_any));
    (tensors > 0).then(|| Mapping {
        path: String::new(),
        value: Value::None,
        around: Vec::new(),
        ends: Vec::new(),
        tensors,
        params,
        plausible,
    })
}

/// The path to a visit, the mappings on the way, and where in the path each of them ends.
fn way(heap: &Heap, visits: &[Visit], mut at: usize) -> (String, Vec<Value>, Vec<usize>) {
    let mut steps = Vec::new();
    let mut around = Vec::new();
    while at > 0 {
        let Visit { parent, step, .. } = visits[at];
        match step {
            Step::Root => {}
            Step::Key(key) => steps.push(path::name(heap, key).unwrap_or_default().into_owned()),
            Step::Item(index) => steps.push(index.to_string()),
        }
        at = parent;
        around.push(visits[at].value);
    }
    around.reverse();
    let (mut path, mut ends) = (String::new(), Vec::with_capacity(around.len()));
    for step in steps.iter().rev() {
        ends.push(path.len());
        path += if path.is_empty() { "" } else { "." };
        path += step;
    }
    (if around.is_empty() { BARE.into() } else { path }, around, ends)
}

impl Mapping {
    /// The mapping of a value that was found by its path.
    pub(super) fn at(heap: &Heap, path: &str, value: Value, around: Vec<Value>) -> Option<Self> {
        let counted = count(heap, heap.mapping(value)?, around.is_empty())?;
        let ends = vec![0; around.len()];
        Some(Self { path: path.into(), value, around, ends, ..counted })
    }

    /// What stands before its keys in the mapping at that depth, which is around it: `a.b.`, say.
    pub(super) fn within(&self, depth: usize) -> String {
        match self.ends.get(depth) {
            Some(&end) => format!("{}.", self.path[end..].trim_start_matches('.')),
            None => String::new(),
        }
    }
}

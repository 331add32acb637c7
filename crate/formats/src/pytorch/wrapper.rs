//! Where in the pickle the state dict is.

use crate::FormatError;
use crate::pickle::{Heap, Node, Pickle, Value};

/// The state dict of a pickle and what lies beside it.
pub(super) struct Unwrapped {
    /// `model_state_dict`, `state_dict` or `bare`.
    pub(super) name: &'static str,
    /// The state dict.
    pub(super) state: Value,
    /// The dict around it, if there is one.
    pub(super) outer: Option<Value>,
}

/// The wrappers that are known, in the order they are looked for.
const WRAPPERS: [&str; 2] = ["model_state_dict", "state_dict"];

/// Finds the state dict: under a known key, else the top-level dict itself if it holds tensors.
pub(super) fn unwrap(pickle: &Pickle) -> Result<Unwrapped, FormatError> {
    let Pickle { heap, root } = pickle;
    let Some(pairs) = heap.dict(*root) else {
        let what = match heap.node(*root) {
            Some(Node::Tensor(_)) => "a single tensor",
            Some(Node::Record { .. }) => "an instance of a class",
            _ => "neither a state dict nor a wrapper of one",
        };
        return Err(FormatError::unsupported(
            format!("the file holds {what}"),
            "save a state dict with torch.save(model.state_dict(), \"model.pt\")",
        ));
    };
    for name in WRAPPERS {
        let state = heap.get(*root, name).filter(|&state| heap.dict(state).is_some());
        if let Some(state) = state {
            return Ok(Unwrapped { name, state, outer: Some(*root) });
        }
    }
    if pairs.iter().any(|(_, value)| holds_weights(heap, *value)) {
        return Ok(Unwrapped { name: "bare", state: *root, outer: None });
    }
    let keys: Vec<&str> = pairs.iter().take(8).filter_map(|(key, _)| heap.str(*key)).collect();
    Err(FormatError::unsupported(
        format!("no state dict was found (the first keys are {keys:?})"),
        "save a state dict with torch.save(model.state_dict(), \"model.pt\")",
    ))
}

/// A tensor, or the tuple in which torch keeps the weight of a quantized module.
fn holds_weights(heap: &Heap, value: Value) -> bool {
    let packed = || heap.tuple(value).and_then(|items| items.first().copied());
    heap.tensor(value).is_some() || packed().is_some_and(|weight| heap.tensor(weight).is_some())
}

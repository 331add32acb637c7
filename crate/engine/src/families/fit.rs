//! How much of a model some tensors are, by their keys and shapes: by this the parts of one are put together.

use statepress_formats::{Fit, Key, Whole};

use super::infer::{Hints, infer, program_keys};
use super::keys::{HEAD, headers};

/// How much of a model of a known family some tensors are.
pub fn fit(tensors: &[Key<'_>]) -> Fit {
    let index = headers(tensors.iter().copied());
    let Ok(spec) = infer(&index, &Hints::default()) else { return Fit::default() };
    let Some(family) = spec.names.family() else { return Fit::default() };
    if let Some(program) = spec.program {
        let mut wanted = program_keys(&program);
        wanted.insert(HEAD.into());
        let read = wanted.iter().filter(|key| spec.names.has(key)).count();
        let whole = if spec.names.has(HEAD) { Whole::Yes } else { Whole::IfTied };
        return Fit { whole, read };
    }
    // Without a program nobody knows all of its keys: those of layers, its table and its head are known.
    let layers = family.keys.first().and_then(|key| key.split('*').next()).unwrap_or_default();
    let known = |key: &str| {
        let inner = key.strip_prefix(family.trunk).unwrap_or(key);
        inner.starts_with(layers) || key == family.table || key == HEAD
    };
    Fit { whole: Whole::No, read: spec.names.iter().filter(|key| known(key)).count() }
}

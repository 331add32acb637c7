//! Weights that other tools quantized: the arrays of each, joined into one entry under the name and with the shape that
//! the weight had before.
//!
//! Each tool is recognised by the names and shapes of arrays that belong together. What is recognised but cannot be
//! decoded is marked, so that nobody takes codes for numbers, and told with the reason.

mod bitsandbytes;
mod gptq;
mod opaque;
mod scaled;
mod weight_int8;

use statepress_core::words::{counted, plural};
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};
use statepress_core::coded::{Array, Coded, Rule};
use statepress_core::index::Stored;
use statepress_core::{Encoding, Entry, Finding, Index, Source};

use crate::shape::checked_elements;
use crate::{FormatError, findings};

/// Joins what belongs together whatever file it lies in, and says what the tensors then show. Called once for a whole
/// checkpoint: the codes of a weight may be in one shard and its scales in the next. `config` is a `config.json` that lies
/// beside it, whose `quantization_config` tells what shapes do not.
pub(crate) fn join(
    source: &dyn Source,
    mut index: Index,
    config: Option<&Map<String, Value>>,
) -> Result<Index, FormatError> {
    index.tensors = weight_int8::join(index.tensors, &mut index.findings)?;
    index.findings.extend(findings::adapter(&index.tensors));
    index.findings.extend(findings::precision_lost(&index.tensors));
    join_arrays(source, &mut index, config)?;
    Ok(index)
}

/// Joins the arrays of every weight that another tool quantized.
fn join_arrays(
    source: &dyn Source,
    index: &mut Index,
    config: Option<&Map<String, Value>>,
) -> Result<(), FormatError> {
    let said = |config: &Map<String, Value>| config.get("quantization_config").cloned();
    let config = config.and_then(said).or_else(|| index.config.as_ref().and_then(said)).unwrap_or_default();
    let mut arrays =
        Arrays { source, config, entries: std::mem::take(&mut index.tensors), places: HashMap::new() };
    arrays.places = arrays.entries.iter().enumerate().map(|(at, it)| (it.name.clone(), at)).collect();
    let mut told = Told::default();
    let mut gone = HashSet::new();
    for at in 0..arrays.entries.len() {
        let key = arrays.entries[at].name.clone();
        if !matches!(arrays.entries[at].stored, Stored::Strided(_)) {
            continue;
        }
        let finders =
            [bitsandbytes::four_bits, bitsandbytes::eight_bits, gptq::find, scaled::packed, scaled::plain];
        let mut found = None;
        for find in finders {
            found = find(&arrays, &key, &mut told)?;
            if found.is_some() {
                break;
            }
        }
        match found.or_else(|| opaque::find(&arrays, &key)) {
            None => {}
            Some(Found::Weight(weight)) => {
                checked_elements(&weight.name, &weight.shape)?;
                let Weight { name, scheme, keys, .. } = &*weight;
                if arrays.places.contains_key(name) && !keys.contains(name) {
                    let why = format!("`{name}` is stored as well");
                    arrays.mark(scheme, keys, &why, &mut told);
                } else {
                    gone.extend(arrays.put(weight, &mut told));
                }
            }
            Some(Found::Opaque { scheme, keys, why }) => arrays.mark(&scheme, &keys, &why, &mut told),
        }
    }
    let mut entries = arrays.entries;
    let mut at = 0..;
    entries.retain(|_| !at.next().is_some_and(|at| gone.contains(&at)));
    if !gone.is_empty() {
        let names: HashSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        for entry in &mut entries {
            entry.tied_to = entry.tied_to.take().filter(|name| names.contains(name));
        }
    }
    index.tensors = entries;
    index.findings.extend(told.findings());
    Ok(())
}

/// What was recognised.
enum Found {
    Weight(Box<Weight>),
    /// Arrays that belong to a weight, but which make no numbers here.
    Opaque {
        scheme: String,
        keys: Vec<String>,
        why: String,
    },
}

/// A weight put together.
struct Weight {
    /// Its name.
    name: String,
    shape: Vec<usize>,
    scheme: String,
    encoding: Encoding,
    rule: Rule,
    /// The keys of its arrays, that of its codes first.
    keys: Vec<String>,
    /// What belongs to it and is not needed.
    unused: Unused,
}

/// Keys that are left out, and why.
type Unused = (&'static str, Vec<String>);

/// Nothing is left out.
const ALL_USED: Unused = ("", Vec::new());

/// The arrays of a file by name.
struct Arrays<'a> {
    source: &'a dyn Source,
    /// What `quantization_config` says, or null.
    config: Value,
    entries: Vec<Entry>,
    places: HashMap<String, usize>,
}

impl Arrays<'_> {
    /// An array that belongs to no weight yet.
    fn get(&self, name: &str) -> Option<Array> {
        let entry = &self.entries[*self.places.get(name)?];
        match &entry.stored {
            Stored::Strided(view) if entry.name == name => {
                Some(Array { shape: entry.shape.clone(), view: view.clone() })
            }
            _ => None,
        }
    }

    /// Those of the names that are there.
    fn present(&self, base: &str, suffixes: &[&str]) -> Vec<String> {
        let names = suffixes.iter().map(|suffix| format!("{base}{suffix}"));
        names.filter(|name| self.get(name).is_some()).collect()
    }

    /// Makes one entry of a weight's arrays, at the place of its codes; the places of the others are given back.
    fn put(&mut self, weight: Box<Weight>, told: &mut Told) -> Vec<usize> {
        let Weight { name, shape, scheme, encoding, rule, keys, unused } = *weight;
        let mut places = keys.iter().filter_map(|key| self.places.get(key).copied());
        let Some(codes) = places.next() else { return Vec::new() };
        let mut gone: Vec<usize> = places.collect();
        let bytes = gone.iter().chain([&codes]).map(|&at| self.entries[at].bytes()).sum();
        gone.extend(unused.1.iter().filter_map(|key| self.places.get(key)));
        told.read(&scheme, encoding != Encoding::Fp32, &name, &unused);
        for key in keys.iter().chain(&unused.1) {
            self.places.remove(key);
        }
        let stored = Stored::Coded(Box::new(Coded { scheme, encoding, rule, bytes }));
        self.entries[codes] = Entry { name, shape, stored, tied_to: None };
        gone
    }

    fn mark(&mut self, scheme: &str, keys: &[String], why: &str, told: &mut Told) {
        told.kept(scheme, why, keys);
        for key in keys {
            let Some(&at) = self.places.get(key) else { continue };
            if let Stored::Strided(view) = &self.entries[at].stored {
                let view = view.clone();
                self.entries[at].stored = Stored::Opaque { view, scheme: scheme.into() };
                self.entries[at].tied_to = None;
            }
        }
    }
}

/// What is worth telling, once for each scheme and reason.
#[derive(Default)]
pub(crate) struct Told {
    /// By scheme, and whether they run from their codes: how many, and the first.
    read: BTreeMap<(String, bool), (usize, String)>,
    unused: BTreeMap<&'static str, Vec<String>>,
    kept: BTreeMap<(String, String), Vec<String>>,
    assumed: BTreeMap<(&'static str, String), String>,
}

impl Told {
    fn read(&mut self, scheme: &str, packed: bool, name: &str, unused: &Unused) {
        self.read.entry((scheme.into(), packed)).or_insert_with(|| (0, name.into())).0 += 1;
        if !unused.1.is_empty() {
            self.unused.entry(unused.0).or_default().extend_from_slice(&unused.1);
        }
    }

    /// Arrays of weights in a scheme that are kept as stored, and why.
    pub(crate) fn kept(&mut self, scheme: &str, why: &str, keys: &[String]) {
        self.kept.entry((scheme.into(), why.into())).or_default().extend_from_slice(keys);
    }

    /// Something that the file does not say.
    fn assumed(&mut self, code: &'static str, message: String, name: &str) {
        self.assumed.entry((code, message)).or_insert_with(|| name.into());
    }

    pub(crate) fn findings(self) -> impl Iterator<Item = Finding> {
        let read = self.read.into_iter().map(|((scheme, packed), (count, first))| {
            let how = match packed {
                true => "which runs from the same codes",
                false => "which is decoded to float32 to compute with and to compress",
            };
            let message = format!(
                "{} quantized, {scheme}: the arrays of each are one tensor here, {how}",
                counted(count, "weight is", "weights are")
            );
            Finding::info("quantized", message).about(first)
        });
        let unused = self.unused.into_iter().map(|(why, keys)| {
            Finding::info("quantized-left-out", format!("{why}; left out: {}", crate::findings::list(&keys)))
        });
        let kept = self.kept.into_iter().map(|((scheme, why), keys)| {
            let message = format!(
                "{} of weights in {scheme} cannot be decoded ({why}) and {} kept as stored: {}",
                counted(keys.len(), "array", "arrays"),
                plural(&keys.len(), "is", "are"),
                crate::findings::list(&keys)
            );
            let finding = Finding::warning("quantized-kept", message);
            match keys.into_iter().next() {
                Some(first) => finding.about(first),
                None => finding,
            }
        });
        let assumed = self.assumed.into_iter();
        let assumed = assumed.map(|((code, message), name)| Finding::warning(code, message).about(name));
        read.chain(unused).chain(kept).chain(assumed)
    }
}

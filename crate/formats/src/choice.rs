//! Which of the mappings of tensors in a file are the weights: what the caller knows about that.

use serde_json::{Map, Value};
use statepress_core::{Entry, WeightsAt};

/// What a file does not say itself, and how the weights are chosen where a file holds several mappings of tensors.
///
/// Nothing here knows a model: what keys are worth is the caller's to say.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// A `config.json` that lies beside the file: its `quantization_config` tells what the shapes of arrays do not.
    pub config: Option<&'a Map<String, Value>>,
    /// Where they are, as the user says: `model`, `state_dict.model`, a prefix of keys as `student`, several that are
    /// one model as `trainable+frozen`, or `bare` for the top level of the file.
    pub path: Option<&'a str>,
    /// Whether keys are those of a model that the caller knows. Such a mapping goes before all others.
    pub is_model: &'a dyn Fn(&[&str]) -> bool,
    /// How much of a model that the caller knows some tensors are: by this the parts of a model are put together.
    pub fit: &'a dyn Fn(&[Key<'_>]) -> Fit,
}

/// A tensor as its header shows it: its key and its shape.
pub type Key<'a> = (&'a str, &'a [usize]);

/// How much of a model some tensors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Whether anything lacks.
    pub whole: Whole,
    /// How many of them the model is known to read.
    pub read: usize,
}

/// Whether some tensors are a whole model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whole {
    /// Something lacks, or no model is known that they are of.
    #[default]
    No,
    /// If the matrix that makes the logits, which lacks, is another one that is there.
    IfTied,
    /// Nothing lacks.
    Yes,
}

impl Default for Choice<'_> {
    /// No path, and no model is known: the mapping with the most parameters is taken.
    fn default() -> Self {
        Self { config: None, path: None, is_model: &|_| false, fit: &|_| Fit::default() }
    }
}

/// The path of weights that lie in the file itself, under no key.
pub(crate) const BARE: &str = "bare";

/// All tensors of a file, which has them under no key.
pub(crate) fn bare(tensors: &[Entry]) -> Vec<WeightsAt> {
    let params = tensors.iter().map(Entry::params).fold(0, u64::saturating_add);
    vec![WeightsAt { path: BARE.into(), tensors: tensors.len() as u64, params }]
}

/// Stands in a path between mappings that are one model together.
pub(crate) const AND: char = '+';

/// A path in words.
pub(crate) fn say(path: &str) -> String {
    match path {
        BARE => "the top level of the file (`bare`)".into(),
        path => format!("`{path}`"),
    }
}

//! Which of the mappings of tensors in a file are the weights: what the caller knows about that.

/// How the weights are chosen where a file holds several mappings of tensors.
///
/// Nothing here knows a model: whether keys are those of one is the caller's to say.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// Where they are, as the user says: `model`, `state_dict.model`, or `bare` for the file itself.
    pub path: Option<&'a str>,
    /// Whether keys are those of a model that the caller knows. Such a mapping goes before all others.
    pub is_model: &'a dyn Fn(&[&str]) -> bool,
}

impl Default for Choice<'_> {
    /// No path, and no model is known: the mapping with the most parameters is taken.
    fn default() -> Self {
        Self { path: None, is_model: &|_| false }
    }
}

/// The path of weights that lie in the file itself, under no key.
pub(crate) const BARE: &str = "bare";

//! Spellings of keys: the same model under other names of its tensors.
//!
//! Recipes match the real keys of a file; a program looks its tensors up by usual ones.

use std::collections::{BTreeMap, BTreeSet};

use statepress_core::index::Stored;
use statepress_core::{Entry, Finding, Index};

use super::registry;
use crate::EngineError;

/// Prefixes that wrappers put before every key: `DataParallel` and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

/// Makes logits, in every family.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Whether a tensor is a buffer rather than a weight: counters, ids and masks are not parameters.
pub fn is_buffer(entry: &Entry) -> bool {
    let whole = matches!(&entry.stored, Stored::Strided(view) if view.dtype.is_whole());
    whole || entry.name.ends_with(".router.expert_counts") || is_mask(&entry.name)
}

/// Whether a key is a mask, which every loader makes anew.
pub(crate) fn is_mask(name: &str) -> bool {
    let gpt2 = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    name.ends_with(".attention.causal_mask") || (gpt2 && (name.starts_with("h.") || name.contains(".h.")))
}

/// The key under which a file first names the storage of a tensor.
pub(crate) fn storage_of(entry: &Entry) -> &str {
    entry.tied_to.as_deref().unwrap_or(&entry.name)
}

/// Usual keys of an index.
#[derive(Clone)]
pub struct Names {
    positions: BTreeMap<String, usize>,
    findings: Vec<Finding>,
    family: Option<&'static registry::Entry>,
}

impl Names {
    /// Finds the family of an index by its keys, and how it spells them.
    pub fn new(index: &Index) -> Self {
        let mut findings = Vec::new();
        let mut wrapper = String::new();
        while let Some(next) = WRAPPERS.into_iter().find(|next| {
            !index.tensors.is_empty()
                && index.tensors.iter().all(|entry| entry.name[wrapper.len()..].starts_with(next))
        }) {
            wrapper += next;
            if index.tensors.iter().any(|entry| !entry.name.starts_with(&wrapper)) {
                break;
            }
        }
        let bare: Vec<&str> = index.tensors.iter().map(|entry| &entry.name[wrapper.len()..]).collect();
        let found = registry::REGISTRY.iter().find_map(|family| Some((*family, place(family, &bare)?)));
        let (outer, adds_trunk) = match &found {
            None => ("", false),
            Some((family, before)) => match before.strip_suffix(family.trunk) {
                Some(outer) => (outer, false),
                None => (*before, true),
            },
        };
        if !(wrapper.is_empty() && outer.is_empty()) {
            let message = format!("keys start with {wrapper}{outer}; read without it");
            findings.push(Finding::info("prefix", message));
        }
        let mut positions = BTreeMap::new();
        let mut renamed: BTreeMap<&str, usize> = BTreeMap::new();
        for (position, name) in bare.iter().enumerate() {
            let mut usual = name.strip_prefix(outer).unwrap_or(name).to_string();
            if let Some((family, _)) = &found {
                if adds_trunk && usual != HEAD {
                    usual.insert_str(0, family.trunk);
                }
                for (found, meant) in family.aliases {
                    if usual.contains(found) {
                        usual = usual.replace(found, meant);
                        *renamed.entry(found).or_default() += 1;
                    }
                }
            }
            if let Some(earlier) = positions.insert(usual, position) {
                let message = format!("two keys of one meaning; {} is not read", index.tensors[earlier].name);
                findings
                    .push(Finding::warning("duplicate-key", message).about(&index.tensors[position].name));
            }
        }
        if let Some((family, _)) = &found {
            for (found, meant) in family.aliases {
                if let Some(count) = renamed.get(found) {
                    findings.push(Finding::info("alias", format!("{count} keys spell {meant} as {found}")));
                }
            }
            if adds_trunk && !family.trunk.is_empty() {
                let message = format!("keys lack the usual {}; read as if they had it", family.trunk);
                findings.push(Finding::info("prefix", message));
            }
        }
        Self { positions, findings, family: found.map(|(family, _)| family) }
    }

    /// The family that the keys belong to.
    pub(crate) fn family(&self) -> Option<&'static registry::Entry> {
        self.family
    }

    /// What the spelling brought to light.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Every usual key.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.positions.keys().map(String::as_str)
    }

    /// Every usual key with its position in the index.
    pub(crate) fn positions(&self) -> &BTreeMap<String, usize> {
        &self.positions
    }

    /// Whether there is such a key.
    pub fn has(&self, usual: &str) -> bool {
        self.positions.contains_key(usual)
    }

    /// The tensor of a usual key.
    pub fn get<'a>(&self, index: &'a Index, usual: &str) -> Option<&'a Entry> {
        self.positions.get(usual).map(|&position| &index.tensors[position])
    }

    /// The token table.
    pub(crate) fn table<'a>(&self, index: &'a Index) -> Option<&'a Entry> {
        self.get(index, self.family?.table)
    }

    /// The head, where it shares the storage of the token table.
    pub(crate) fn shared_head<'a>(&self, index: &'a Index) -> Option<&'a Entry> {
        let table = self.table(index)?;
        self.get(index, HEAD).filter(|head| storage_of(head) == storage_of(table))
    }

    /// Whether readers of the family take the token table for a head that is not there.
    pub(crate) fn rebuilds_head(&self) -> bool {
        self.family.is_some_and(|family| matches!(family.run, registry::Run::Program(_)))
    }

    /// Strict loading: every expected key is there and every key is expected.
    pub(crate) fn strict(&self, index: &Index, expected: &BTreeSet<String>) -> Result<(), EngineError> {
        let missing: Vec<_> = expected.iter().filter(|name| !self.has(name)).cloned().collect();
        let unexpected: Vec<_> = self
            .positions
            .iter()
            .filter(|(name, _)| !expected.contains(*name))
            .map(|(_, &position)| &index.tensors[position])
            .filter(|entry| !is_buffer(entry))
            .map(|entry| entry.name.clone())
            .collect();
        if missing.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(EngineError::Keys { missing, unexpected })
    }
}

/// What stands before a family's keys in this file, if it has them all.
fn place<'a>(family: &registry::Entry, names: &[&'a str]) -> Option<&'a str> {
    let (first, others) = family.keys.split_first()?;
    let before = names.iter().find_map(|name| before(name, first))?;
    let there = |key: &str| names.iter().any(|name| self::before(name, key) == Some(before));
    let fits = others.iter().all(|key| there(key)) && !family.without.iter().any(|key| there(key));
    fits.then_some(before)
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
}

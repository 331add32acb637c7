//! Key dialects: the same model under other spellings of its keys.
//!
//! Recipes match the real keys of a file; the model looks its tensors up by canonical ones.

use std::collections::{BTreeMap, BTreeSet};

use statepress_core::{Entry, Finding, Index};

use crate::EngineError;

/// Prefixes that wrappers put before every key: `DataParallel` and `torch.compile`.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// Spellings within a key: `(found, canonical)`. `.moe.moe.` occurs in the seed's document only.
const ALIASES: [(&str, &str); 1] = [(".moe.moe.", ".moe.layer.")];

/// The key under which a file first names the storage of a tensor.
pub(crate) fn storage_of(entry: &Entry) -> &str {
    entry.tied_to.as_deref().unwrap_or(&entry.name)
}

/// Canonical keys of an index.
#[derive(Clone, Debug)]
pub struct Names {
    positions: BTreeMap<String, usize>,
    findings: Vec<Finding>,
}

impl Names {
    /// Finds the dialect of an index.
    pub fn new(index: &Index) -> Self {
        let mut findings = Vec::new();
        let prefix = PREFIXES.into_iter().find(|prefix| {
            !index.tensors.is_empty() && index.tensors.iter().all(|entry| entry.name.starts_with(prefix))
        });
        if let Some(prefix) = prefix {
            findings
                .push(Finding::info("prefix", format!("every key starts with {prefix}; read without it")));
        }
        let mut positions = BTreeMap::new();
        let mut renamed = 0;
        for (position, entry) in index.tensors.iter().enumerate() {
            let bare = entry.name.strip_prefix(prefix.unwrap_or("")).unwrap_or(&entry.name);
            let mut canonical = bare.to_string();
            for (found, meant) in ALIASES {
                canonical = canonical.replace(found, meant);
            }
            renamed += usize::from(canonical != bare);
            if let Some(earlier) = positions.insert(canonical, position) {
                let earlier = &index.tensors[earlier].name;
                let message = format!("another spelling of {earlier}, which is therefore not used");
                findings.push(Finding::warning("duplicate-key", message).about(&entry.name));
            }
        }
        if renamed > 0 {
            let (found, meant) = ALIASES[0];
            findings.push(Finding::info("alias", format!("{renamed} keys spell {meant} as {found}")));
        }
        Self { positions, findings }
    }

    /// What the dialect brought to light.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Every canonical key.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.positions.keys().map(String::as_str)
    }

    /// Whether there is such a key.
    pub fn has(&self, canonical: &str) -> bool {
        self.positions.contains_key(canonical)
    }

    /// The tensor of a canonical key.
    pub fn get<'a>(&self, index: &'a Index, canonical: &str) -> Option<&'a Entry> {
        self.positions.get(canonical).map(|&position| &index.tensors[position])
    }

    /// The head, where it shares the storage of the embedding table.
    pub(crate) fn shared_head<'a>(&self, index: &'a Index) -> Option<&'a Entry> {
        let table = self.get(index, "embedding.weight")?;
        self.get(index, "lm_head.weight").filter(|head| storage_of(head) == storage_of(table))
    }

    /// The shape of a canonical key, which must have `N` dimensions.
    pub(crate) fn shape<const N: usize>(
        &self,
        index: &Index,
        canonical: &str,
    ) -> Result<[usize; N], EngineError> {
        let entry = self
            .get(index, canonical)
            .ok_or_else(|| EngineError::Keys { missing: vec![canonical.into()], unexpected: Vec::new() })?;
        entry.shape.as_slice().try_into().map_err(|_| EngineError::Shape {
            tensor: entry.name.clone(),
            found: entry.shape.clone(),
            expected: format!("{N} dimensions"),
        })
    }

    /// As [`Self::shape`], without a dimension of zero: nothing could be computed with it.
    pub(crate) fn full_shape<const N: usize>(
        &self,
        index: &Index,
        canonical: &str,
    ) -> Result<[usize; N], EngineError> {
        let shape = self.shape(index, canonical)?;
        if shape.contains(&0) {
            return Err(EngineError::Shape {
                tensor: canonical.into(),
                found: shape.to_vec(),
                expected: "no dimension of zero".into(),
            });
        }
        Ok(shape)
    }

    /// Fails unless the shape is as the other tensors say.
    pub(crate) fn expect<const N: usize>(
        &self,
        index: &Index,
        canonical: &str,
        expected: [usize; N],
    ) -> Result<(), EngineError> {
        let found = self.shape::<N>(index, canonical)?;
        if found == expected {
            return Ok(());
        }
        Err(EngineError::Shape {
            tensor: canonical.into(),
            found: found.to_vec(),
            expected: format!("{expected:?}"),
        })
    }

    /// The number of layers `PREFIX.0.`, `PREFIX.1.`, ... without a gap.
    pub(crate) fn count(&self, prefix: &str) -> Result<usize, EngineError> {
        let indexes: BTreeSet<usize> = self
            .iter()
            .filter_map(|name| name.strip_prefix(prefix)?.split('.').next()?.parse().ok())
            .collect();
        match (0..indexes.len()).find(|index| !indexes.contains(index)) {
            None => Ok(indexes.len()),
            Some(gap) => {
                Err(EngineError::Keys { missing: vec![format!("{prefix}{gap}.*")], unexpected: Vec::new() })
            }
        }
    }

    /// Strict loading: every expected key is there and every key is expected.
    pub(crate) fn strict(&self, index: &Index, expected: &BTreeSet<String>) -> Result<(), EngineError> {
        let missing: Vec<_> = expected.iter().filter(|name| !self.has(name)).cloned().collect();
        let unexpected: Vec<_> = self
            .positions
            .iter()
            .filter(|(name, _)| !expected.contains(*name) && !super::is_buffer(name))
            .map(|(_, &position)| index.tensors[position].name.clone())
            .collect();
        if missing.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(EngineError::Keys { missing, unexpected })
    }
}

//! Spellings of keys: the same model under other names of its tensors.
//!
//! A program looks its tensors up by usual names; recipes match the real keys of a file and what they
//! are without the prefix.

use statepress_core::words::{counted, plural};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use statepress_core::index::{Extent, Format, Stored, Strided};
use statepress_core::{DType, Entry, Finding, Index};

use super::places::{Places, lead, unwrapped, wrappers};
use super::registry;
use crate::EngineError;
use crate::error::listed;

/// The usual key of what makes logits, in every family.
pub const HEAD: &str = "lm_head.weight";

/// Whether a tensor is a buffer rather than a weight: counters, ids and masks are not parameters, and neither are the
/// arrays of a weight that cannot be decoded.
pub fn is_buffer(entry: &Entry) -> bool {
    let whole = match &entry.stored {
        Stored::Strided(view) => view.dtype.is_whole(),
        Stored::Opaque { .. } => true,
        Stored::Affine { .. } | Stored::Packed { .. } | Stored::Coded(_) => false,
    };
    whole || unwrapped(&entry.name).ends_with(".router.expert_counts") || is_mask(&entry.name)
}

/// Whether a key is a mask, which every loader makes anew.
pub(crate) fn is_mask(name: &str) -> bool {
    let name = unwrapped(name);
    let gpt2 = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
    name.ends_with(".attention.causal_mask") || (gpt2 && (name.starts_with("h.") || name.contains(".h.")))
}

/// The key under which a file first names the storage of a tensor.
pub(crate) fn storage_of(entry: &Entry) -> &str {
    entry.tied_to.as_deref().unwrap_or(&entry.name)
}

/// Whether keys are those of a family, in any of its spellings: of several mappings of tensors in one file, such a
/// one is the model.
pub fn is_model(keys: &[&str]) -> bool {
    Names::new(&headers(keys.iter().map(|key| (*key, [].as_slice())))).family.is_some()
}

/// An index of nothing but keys and shapes.
pub(super) fn headers<'a>(keys: impl Iterator<Item = (&'a str, &'a [usize])>) -> Index {
    let storage = Extent { offset: 0, len: 0 };
    let entry = |(name, shape): (&str, &[usize])| {
        let view = Strided { dtype: DType::F32, storage, first: 0, strides: Vec::new(), negated: false };
        Entry { name: name.into(), shape: shape.to_vec(), stored: Stored::Strided(view), tied_to: None }
    };
    Index {
        format: Format::Pytorch,
        wrapper: String::new(),
        weights: Vec::new(),
        config: None,
        metadata: BTreeMap::new(),
        tensors: keys.map(entry).collect(),
        findings: Vec::new(),
    }
}

/// Usual keys of an index.
#[derive(Clone)]
pub struct Names {
    positions: BTreeMap<String, usize>,
    /// By position in the index.
    spelled: Vec<Spelled>,
    prefix: Prefix,
    findings: Vec<Finding>,
    family: Option<&'static registry::Entry>,
}

/// How a key is spelled.
#[derive(Clone)]
struct Spelled {
    /// The real key without prefix, wrappers, and what usual keys of the family begin with.
    bare: String,
    /// What a program calls it.
    usual: String,
    whose: Whose,
}

/// Whose a key is, by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The model's.
    Model,
    /// It lacks the model's prefix.
    Beside,
    /// It has the prefix of another model.
    Other,
}

/// What the model's keys begin with.
#[derive(Clone, Default)]
struct Prefix {
    /// In the file, with the names of wrappers.
    real: String,
    /// Without them.
    outer: String,
    /// What stands before every usual key of the family but the head's.
    trunk: &'static str,
    /// Whether the file's keys lack that.
    lacks_trunk: bool,
}

impl Prefix {
    /// What `name`, a key without wrappers, is called behind the trunk.
    fn bare<'a>(&self, name: &'a str) -> &'a str {
        let inner = name.strip_prefix(self.outer.as_str()).unwrap_or(name);
        inner.strip_prefix(self.trunk).unwrap_or(inner)
    }

    /// What `name` is called usually. A head is beside the trunk, also where a script has put it into the trunk.
    fn usual(&self, name: &str) -> String {
        let inner = name.strip_prefix(self.outer.as_str()).unwrap_or(name);
        let bare = self.bare(name);
        let in_trunk = self.lacks_trunk || inner.len() > bare.len();
        let trunk = if in_trunk && bare != HEAD { self.trunk } else { "" };
        format!("{trunk}{bare}")
    }

    /// The key in the file of a usual name, were it there.
    fn real(&self, usual: &str) -> String {
        let inner = if self.lacks_trunk { usual.strip_prefix(self.trunk) } else { None };
        format!("{}{}", self.real, inner.unwrap_or(usual))
    }
}

impl Names {
    /// Finds the family of an index by its keys, and how it spells them.
    pub fn new(index: &Index) -> Self {
        let unwrapped: Vec<Cow<str>> = index.tensors.iter().map(|entry| unwrapped(&entry.name)).collect();
        let places = Places::find(index, &unwrapped);
        let place = places.all.first();
        let family = place.map(|place| place.family);
        let mut findings = Vec::new();
        let mut prefix = Prefix::default();
        if let Some(place) = place {
            prefix.outer.clone_from(&place.outer);
            prefix.trunk = place.family.trunk;
            prefix.lacks_trunk = place.lacks_trunk();
        }
        // Some layers may be wrapped where others are not, and what lies beside them is not: what all layers
        // begin with is the prefix.
        let is_layer = |position: &usize| match place {
            Some(place) => places.whose[*position] == Some(0) && place.has_layer(&unwrapped[*position]),
            None => true,
        };
        let layers = (0..unwrapped.len()).filter(is_layer);
        let leads = layers.map(|position| lead(&index.tensors[position].name, &prefix.outer));
        prefix.real = leads.reduce(common).unwrap_or_default().to_string();

        let mut renamed: BTreeMap<&str, usize> = BTreeMap::new();
        let mut spelled = Vec::with_capacity(unwrapped.len());
        for (position, name) in unwrapped.iter().enumerate() {
            let real = &index.tensors[position].name;
            let whose = match places.whose[position] {
                Some(0) | None if !real.starts_with(&prefix.real) => Whose::Beside,
                Some(0) => Whose::Model,
                None if place.is_none() => Whose::Model,
                None => Whose::Beside,
                Some(_) => Whose::Other,
            };
            let (bare, mut usual) = (prefix.bare(name), prefix.usual(name));
            for (found, meant) in family.iter().flat_map(|family| family.aliases) {
                if usual.contains(found) {
                    usual = usual.replace(found, meant);
                    *renamed.entry(found).or_default() += usize::from(whose != Whose::Other);
                }
            }
            spelled.push(Spelled { bare: bare.to_string(), usual, whose });
        }
        let renamed_head = head(index, &spelled, family);
        if let Some(position) = renamed_head {
            spelled[position].usual = HEAD.into();
        }
        let mut positions: BTreeMap<String, usize> = BTreeMap::new();
        let mut twice = Vec::new();
        for whose in [Whose::Model, Whose::Beside] {
            for (position, key) in spelled.iter().enumerate().filter(|(_, key)| key.whose == whose) {
                let Some(&earlier) = positions.get(&key.usual) else {
                    positions.insert(key.usual.clone(), position);
                    continue;
                };
                // What has the prefix is nearer to the model than what lacks it.
                twice.push((&index.tensors[position].name, &index.tensors[earlier].name));
            }
        }
        if let Some((first, _)) = twice.first() {
            let said = twice.iter().map(|(unread, read)| format!("`{read}`, not `{unread}`"));
            let message = format!(
                "{} what another means, which is read: {}",
                counted(twice.len(), "key means", "keys mean"),
                listed(&said.collect::<Vec<_>>())
            );
            findings.push(Finding::warning("duplicate-key", message).about(*first));
        }
        let mut names = Self { positions, spelled, prefix, findings, family };
        names.tell_prefix(index, &places);
        if let Some(position) = renamed_head {
            let name = &index.tensors[position].name;
            let message = format!(
                "{name} is read as {HEAD}: it has the columns of the token table, and no other head is there"
            );
            names.findings.push(Finding::info("alias", message).about(name));
        }
        for (found, meant) in family.iter().flat_map(|family| family.aliases) {
            if let Some(&count) = renamed.get(found).filter(|count| **count > 0) {
                let message = format!("{} {meant} as {found}", counted(count, "key spells", "keys spell"));
                names.findings.push(Finding::info("alias", message));
            }
        }
        names
    }

    /// Says what keys begin with, what is between their parts, and which of several models is taken.
    fn tell_prefix(&mut self, index: &Index, places: &Places) {
        let Prefix { real, trunk, lacks_trunk, .. } = &self.prefix;
        let own = || index.tensors.iter().zip(&self.spelled).filter(|(_, key)| key.whose != Whose::Other);
        let total = own().count();
        let with = own().filter(|(_, key)| key.whose == Whose::Model).count();
        let mut told = Vec::new();
        if !real.is_empty() {
            let start = plural(&with, "starts", "start");
            let who =
                if with == total { "keys start".into() } else { format!("{with} of {total} keys {start}") };
            told.push(format!("{who} with {real}; read without it"));
        }
        let mut within: BTreeMap<&str, usize> = BTreeMap::new();
        for (entry, _) in own() {
            let rest = entry.name.strip_prefix(real.as_str()).unwrap_or(&entry.name);
            wrappers(rest).for_each(|wrapper| *within.entry(wrapper).or_default() += 1);
        }
        told.extend(within.iter().map(|(wrapper, &count)| {
            let keys_have = counted(count, "key has", "keys have");
            format!("{keys_have} {wrapper}. inside; read without it")
        }));
        if *lacks_trunk {
            told.push(format!("keys lack the usual {trunk}; read as if they had it"));
        }
        self.findings.extend(told.into_iter().map(|message| Finding::info("prefix", message)));
        if let [taken, others @ ..] = places.all.as_slice()
            && !others.is_empty()
        {
            let named =
                |outer: &str| if outer.is_empty() { "no prefix".into() } else { format!("`{outer}`") };
            let others: Vec<_> = others.iter().map(|place| named(&place.before)).collect();
            let message = format!(
                "models under several prefixes: the one under {} is taken, not {}. A prefix that is called a copy, a \
                 teacher or a critic comes last, then what cannot run; the largest is taken, of equal ones the first. Name the one to take with `weights`",
                named(&taken.before),
                listed(&others)
            );
            self.findings.push(Finding::warning("several-models", message));
        }
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

    /// Of which layer of the model the tensor at a position of the index is, and where in its real key the layer's number stands.
    pub(crate) fn layer(&self, index: &Index, position: usize) -> Option<(usize, Range<usize>)> {
        let key = self.spelled.get(position).filter(|key| key.whose != Whose::Other)?;
        let inside = key.bare.strip_prefix(self.family?.layers())?;
        let number = inside.split('.').next()?;
        let name = &index.tensors[position].name;
        let unwrapped = unwrapped(name);
        let begin = lead(name, &unwrapped[..unwrapped.len() - inside.len()]).len();
        Some((number.parse().ok()?, begin..begin + number.len()))
    }

    /// A usual key of a layer with another number; `None` where that layer has none, and as it is where it is of no layer.
    pub(crate) fn renumbered(&self, usual: &str, number: impl Fn(usize) -> Option<usize>) -> Option<String> {
        let layers =
            self.family.map_or_else(String::new, |family| format!("{}{}", family.trunk, family.layers()));
        let of_layer = usual.strip_prefix(layers.as_str()).and_then(|inside| inside.split_once('.'));
        match of_layer.and_then(|(layer, rest)| Some((layer.parse().ok()?, rest))) {
            Some((layer, rest)) => number(layer).map(|layer| format!("{layers}{layer}.{rest}")),
            None => Some(usual.into()),
        }
    }

    /// What recipes call the tensor at a position of the index: its real key, and the same without the
    /// prefix and the wrappers, with and without what usual keys of the family begin with.
    pub(crate) fn spellings<'a>(&'a self, index: &'a Index, position: usize) -> Spellings<'a> {
        let Spelled { bare, usual, .. } = &self.spelled[position];
        let trunk = self.prefix.trunk;
        let inner = (!trunk.is_empty() && bare != HEAD).then(|| format!("{trunk}{bare}"));
        Spellings { real: &index.tensors[position].name, bare, usual, inner }
    }

    /// Every tensor with what a program would call it, also those of other models.
    pub(crate) fn usual(&self) -> impl Iterator<Item = &str> {
        self.spelled.iter().map(|key| key.usual.as_str())
    }

    /// The key in the file of a usual name that is not there.
    pub(crate) fn real(&self, usual: &str) -> String {
        self.prefix.real(usual)
    }

    /// Strict loading: every expected key is there, and whatever else is there is not the model's. Returns a
    /// finding about the latter.
    ///
    /// What has the model's prefix is the model's, and so is what begins like one of its keys: a bias that
    /// the family does not have would change what it computes. Only what training scripts are known to keep
    /// with a model is none of it in either place.
    pub(crate) fn strict(
        &self,
        index: &Index,
        expected: &BTreeSet<String>,
    ) -> Result<Option<Finding>, EngineError> {
        let missing: Vec<_> = expected.iter().filter(|name| !self.has(name)).cloned().collect();
        let Prefix { trunk, lacks_trunk, .. } = self.prefix;
        let first = |name: &str| name.split('.').next().unwrap_or_default().to_string();
        let behind = expected.iter().map(|name| name.strip_prefix(trunk).unwrap_or(name));
        let begins: BTreeSet<String> = behind.chain((!lacks_trunk).then_some(trunk)).map(first).collect();
        let (mut strays, mut unexpected) = (Vec::new(), Vec::new());
        for (position, (entry, key)) in index.tensors.iter().zip(&self.spelled).enumerate() {
            let read = expected.contains(&key.usual) && self.positions.get(&key.usual) == Some(&position);
            let kept = is_training_state(entry, &key.bare);
            if read || key.whose == Whose::Other || (is_buffer(entry) && !kept) {
                continue;
            }
            let inside = key.whose == Whose::Model && (lacks_trunk || key.usual.starts_with(trunk));
            let begins = |name: &str| begins.contains(&first(name));
            // What is there twice has been told, and is read once.
            let twice = expected.contains(&key.usual);
            let own = inside || begins(&key.bare) || (!lacks_trunk && begins(&key.usual));
            match own && !kept {
                _ if twice => {}
                true => unexpected.push(entry.name.clone()),
                false => strays.push((entry, kept)),
            }
        }
        if !(missing.is_empty() && unexpected.is_empty()) {
            return Err(EngineError::Keys { missing, unexpected });
        }
        let names: Vec<_> = strays.iter().map(|(entry, _)| format!("`{}`", entry.name)).collect();
        Ok(strays.first().map(|(first, _)| {
            let message = format!("not part of the model: {}; it runs without", listed(&names));
            let known = strays.iter().all(|(_, kept)| *kept);
            let told = if known { Finding::info } else { Finding::warning };
            told("not-in-model", message).about(&first.name)
        }))
    }
}

/// The names of a tensor that a pattern may match.
pub(crate) struct Spellings<'a> {
    real: &'a str,
    bare: &'a str,
    usual: &'a str,
    inner: Option<String>,
}

impl Spellings<'_> {
    /// Whether any of them fits.
    pub fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        fits(self.real) || fits(self.bare) || fits(self.usual) || self.inner.as_deref().is_some_and(fits)
    }
}

/// The head of a model that scripts call otherwise, where none has the usual name: without it, the table would be taken.
fn head(index: &Index, spelled: &[Spelled], family: Option<&registry::Entry>) -> Option<usize> {
    const HEADS: [&str; 4] = ["head.weight", "output.weight", "output_layer.weight", "embed_out.weight"];
    let family = family.filter(|family| matches!(family.run, registry::Run::Program(_)))?;
    let find =
        |is: &dyn Fn(&Spelled) -> bool| spelled.iter().position(|key| key.whose != Whose::Other && is(key));
    let table = find(&|key| key.usual == family.table)?;
    let head = find(&|key| HEADS.contains(&key.bare.as_str()))?;
    let columns = |position: usize| match index.tensors[position].shape[..] {
        [_, columns] => Some(columns),
        _ => None,
    };
    let fits = columns(head).is_some() && columns(head) == columns(table);
    (fits && find(&|key| key.usual == HEAD).is_none()).then_some(head)
}

/// What two prefixes have in common, in whole words.
fn common<'a>(a: &'a str, b: &str) -> &'a str {
    let parts = a.split_inclusive('.').zip(b.split_inclusive('.'));
    &a[..parts.take_while(|(a, b)| a == b).map(|(part, _)| part.len()).sum()]
}

/// Whether a key is what training scripts keep beside weights: counters, losses, metrics. `name` is
/// without the model's prefix.
fn is_training_state(entry: &Entry, name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "loss",
        "losses",
        "criterion",
        "metric",
        "metrics",
        "acc",
        "accuracy",
        "perplexity",
        "optimizer",
        "scheduler",
        "averaged",
        "initted",
    ];
    let counts = matches!(&entry.stored, Stored::Strided(view) if view.dtype.is_whole());
    let first = name.split('.').next().unwrap_or_default();
    (counts && entry.params() <= 1)
        || first.split('_').any(|word| WORDS.contains(&word.to_ascii_lowercase().as_str()))
}

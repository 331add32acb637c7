//! The indexes of all shards as one.

use statepress_core::words::counted;
use std::collections::{HashMap, HashSet};

use statepress_core::limits::TENSORS;
use statepress_core::{Entry, Finding, Index, WeightsAt};

use super::ShardMap;
use crate::FormatError;
use crate::findings::list;
use crate::prefix::without;

/// Joins the indexes of shards, named and in their order; places are those in all of them.
pub(super) fn join(mut shards: Vec<(&str, Index)>, map: Option<&ShardMap>) -> Result<Index, FormatError> {
    let total: usize = shards.iter().map(|(_, index)| index.tensors.len()).sum();
    if total > TENSORS {
        let (value, limit) = (total as u64, TENSORS as u64);
        return Err(FormatError::TooLarge { what: "tensors in all shards".into(), value, limit });
    }
    let mut findings = vec![];
    findings.extend(map.and_then(|map| size_differs(&shards, map)));
    let homes = homes(&shards);
    findings.extend(keep_one_of_each(&mut shards, &homes, map)?);
    match map {
        Some(map) => findings.extend(map_differs(&homes, map)),
        None => findings.push(Finding::info(
            "shards-without-index",
            format!(
                "{} read as one checkpoint by name: the index that says which tensors must be in which shard is not there",
                counted(shards.len(), "shard is", "shards are")
            ),
        )),
    }
    findings.extend(differences(&shards));

    let mut shards = shards.into_iter();
    let Some((first, mut all)) = shards.next() else {
        return Err(FormatError::unsupported("a checkpoint of no shards", "give its files"));
    };
    all.findings = said_of(first, all.findings);
    for (name, index) in shards {
        all.tensors.extend(index.tensors);
        all.config = all.config.or(index.config);
        all.weights = add(all.weights, index.weights);
        for (key, value) in index.metadata {
            all.metadata.entry(key).or_insert(value);
        }
        all.findings.extend(said_of(name, index.findings));
    }
    all.findings.extend(findings);
    Ok(all)
}

/// The mappings of tensors of all shards: those at one path are one.
fn add(mut all: Vec<WeightsAt>, more: Vec<WeightsAt>) -> Vec<WeightsAt> {
    for weights in more {
        match all.iter_mut().find(|known| known.path == weights.path) {
            Some(known) => {
                known.tensors += weights.tensors;
                known.params = known.params.saturating_add(weights.params);
            }
            None => all.push(weights),
        }
    }
    all
}

/// The shards that every tensor lies in.
fn homes<'a>(shards: &[(&'a str, Index)]) -> HashMap<String, Vec<&'a str>> {
    let mut homes: HashMap<String, Vec<&str>> = HashMap::new();
    for (name, index) in shards {
        for entry in &index.tensors {
            homes.entry(entry.name.clone()).or_default().push(name);
        }
    }
    homes
}

/// Of a tensor that lies in several shards, the one that the index names is kept.
fn keep_one_of_each(
    shards: &mut [(&str, Index)],
    homes: &HashMap<String, Vec<&str>>,
    map: Option<&ShardMap>,
) -> Result<Option<Finding>, FormatError> {
    let mut left_out: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut names: Vec<String> = Vec::new();
    let mut several: Vec<_> = homes.iter().filter(|(_, homes)| homes.len() > 1).collect();
    // A table has no order, and the first is told of.
    several.sort_unstable();
    for (tensor, homes) in several {
        let meant =
            map.and_then(|map| map.shard_of.get(tensor)).filter(|meant| homes.contains(&meant.as_str()));
        let Some(meant) = meant else {
            let files = list(&homes.iter().map(|home| (*home).to_string()).collect::<Vec<_>>());
            let why = format!("it lies in the shards {files}, and no index says which of them counts");
            return Err(FormatError::tensor(tensor, why));
        };
        for home in homes.iter().filter(|home| *home != meant) {
            left_out.entry(home).or_default().insert(tensor);
        }
        names.push(tensor.clone());
    }
    for (name, index) in shards.iter_mut() {
        if let Some(left_out) = left_out.get(name) {
            index.tensors = without(std::mem::take(&mut index.tensors), |key| left_out.contains(key));
        }
    }
    Ok(names.first().map(|first| {
        let message =
            format!("tensors lie in several shards, the one that the index names is read: {}", list(&names));
        Finding::warning("tensor-in-several-shards", message).about(first)
    }))
}

/// What the index says of tensors and the shards do not bear out.
fn map_differs(homes: &HashMap<String, Vec<&str>>, map: &ShardMap) -> Vec<Finding> {
    let mut missing = Vec::new();
    let mut elsewhere = Vec::new();
    for key in &map.keys {
        match (homes.get(key), map.shard_of.get(key)) {
            (None, _) => missing.push(key.clone()),
            (Some(homes), Some(meant)) if !homes.contains(&meant.as_str()) => elsewhere.push(key.clone()),
            _ => {}
        }
    }
    let mut unknown: Vec<String> =
        homes.keys().filter(|key| !map.shard_of.contains_key(*key)).cloned().collect();
    unknown.sort_unstable();
    let said = |names: &[String], code: &str, what: String| {
        let first = names.first()?;
        Some(Finding::warning(code, format!("{what}: {}", list(names))).about(first))
    };
    let name = &map.name;
    let shard_of =
        |names: &[String]| names.first().and_then(|key| map.shard_of.get(key)).cloned().unwrap_or_default();
    [
        said(
            &missing,
            "tensor-not-in-shard",
            format!(
                "{} in no shard but named by {name} (the first should be in `{}`): are the files of one version?",
                counted(missing.len(), "tensor is", "tensors are"),
                shard_of(&missing)
            ),
        ),
        said(&elsewhere, "tensor-in-other-shard", format!("{} than {name} says", counted(elsewhere.len(), "tensor lies in another shard", "tensors lie in other shards"))),
        said(&unknown, "tensor-not-in-index", format!("{} not in {name}, but read", counted(unknown.len(), "tensor of the shards is", "tensors of the shards are"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The size of all tensors, where the index counts otherwise: with what is tied or without it, as some writers do.
fn size_differs(shards: &[(&str, Index)], map: &ShardMap) -> Option<Finding> {
    let told = map.total_size?;
    let entries = || shards.iter().flat_map(|(_, index)| &index.tensors);
    let all: u64 = entries().map(Entry::bytes).sum();
    let once: u64 = entries().filter(|entry| entry.tied_to.is_none()).map(Entry::bytes).sum();
    (told != all && told != once).then(|| {
        let message = format!(
            "{} tells of {} of tensors, the shards hold {once}",
            map.name,
            counted(told, "byte", "bytes")
        );
        Finding::warning("total-size-differs", message)
    })
}

/// What shards of one checkpoint should have in common.
fn differences(shards: &[(&str, Index)]) -> Vec<Finding> {
    let Some((first, one)) = shards.first() else { return Vec::new() };
    let other = |differs: &dyn Fn(&Index) -> bool| {
        shards.iter().find(|(_, index)| differs(index)).map(|(name, _)| name)
    };
    let mut findings = Vec::new();
    if let Some(name) = other(&|index| index.format != one.format) {
        let message = format!("`{first}` and `{name}` are of different formats: are they of one checkpoint?");
        findings.push(Finding::warning("mixed-formats", message));
    }
    if let Some(name) = other(&|index| index.wrapper != one.wrapper) {
        let message = format!(
            "the tensors of `{first}` and `{name}` are not wrapped alike: are they of one checkpoint?"
        );
        findings.push(Finding::warning("mixed-wrappers", message));
    }
    let configured: Vec<_> =
        shards.iter().filter_map(|(name, index)| Some((name, index.config.as_ref()?))).collect();
    if let Some((name, config)) = configured.first()
        && let Some((other, _)) = configured.iter().find(|(_, it)| it != config)
    {
        let message =
            format!("the configurations in `{name}` and `{other}` differ: that of the first is taken");
        findings.push(Finding::warning("mixed-configs", message));
    }
    findings
}

/// Findings of a shard, each with its name.
fn said_of(shard: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let named = |it: Finding| Finding { message: format!("{shard}: {}", it.message), ..it };
    findings.into_iter().map(named).collect()
}

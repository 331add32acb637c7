//! A checkpoint in several files: each is read by itself, and their tensors are put into one index.
//!
//! An index file says which tensors must be there and in which shard. Without it the names of the shards say how many
//! there are, and nothing says whether a tensor lacks. What the two disagree about is a finding, by name; what cannot
//! be read at all, because a shard lacks or a tensor lies in two of them, is an error.

mod join;
mod map;
mod names;

use statepress_core::{Index, Joined};

use crate::choice::Choice;
use crate::findings::list;
use crate::{FormatError, detect, prefix, quantized};

pub use map::ShardMap;
pub use names::ShardName;

/// Reads the headers of all shards, no weight. Places of tensors are those in `shards` as a whole.
pub fn open_shards(
    shards: &Joined,
    map: Option<&ShardMap>,
    choice: &Choice<'_>,
) -> Result<Index, FormatError> {
    let names: Vec<&str> = shards.parts().iter().map(|part| part.name.as_str()).collect();
    match map {
        Some(map) => all_there(&names, map)?,
        None => all_numbers(&names)?,
    }
    let mut indexes = Vec::with_capacity(names.len());
    for part in shards.parts() {
        let read = detect::headers(&*part.source, choice);
        let index =
            read.map_err(|error| FormatError::Shard { shard: part.name.clone(), error: Box::new(error) })?;
        indexes.push((part.name.as_str(), index.at(part.begin)));
    }
    quantized::join(shards, prefix::choose(join::join(indexes, map)?, choice)?, choice.config)
}

/// Checks that every shard of the index is there, and no other.
fn all_there(names: &[&str], map: &ShardMap) -> Result<(), FormatError> {
    let files = map.files();
    let missing: Vec<String> =
        files.iter().filter(|file| !names.contains(file)).map(|file| (*file).to_string()).collect();
    if let Some(stranger) = names.iter().find(|name| !files.contains(name)) {
        let why = format!("{} does not name the shard `{stranger}`", map.name);
        return Err(FormatError::malformed("index of shards", why));
    }
    missing_none(missing, files.len())
}

/// Checks that the names are those of all shards of one checkpoint.
fn all_numbers(names: &[&str]) -> Result<(), FormatError> {
    let mut shards: Vec<ShardName> = Vec::with_capacity(names.len());
    for name in names {
        let shard = ShardName::parse(name);
        match shard.filter(|shard| shards.first().is_none_or(|first| first.belongs_to(shard))) {
            Some(shard) => shards.push(shard),
            None => {
                let what = format!("`{name}` is no shard of the same checkpoint as `{}`", names[0]);
                return Err(FormatError::unsupported(
                    what,
                    "give the index that names its shards, or one file",
                ));
            }
        }
    }
    let count = shards.first().map_or(0, |first| first.count as usize);
    missing_none(ShardName::missing(&shards), count)
}

fn missing_none(missing: Vec<String>, count: usize) -> Result<(), FormatError> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = list(&missing);
    Err(FormatError::MissingShards { missing, names, count })
}

//! Opening paths: a file, the index of a checkpoint in shards, or a folder that holds either.

use std::path::{Path, PathBuf};

use statepress_core::{Finding, Joined, Source};
use statepress_formats::{ShardMap, ShardName};

use crate::{Checkpoint, Error, FileSource, OpenOptions};

/// What transformers looks for in a folder, in its order.
const USUAL: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The endings of weights.
const ENDINGS: [&str; 7] = [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz"];

const INDEX: &str = ".index.json";

impl Checkpoint {
    /// Opens a file, the `*.index.json` of a checkpoint in shards, or a folder with weights as transformers would find
    /// them. A `config.json` beside the weights is taken where the options bring none.
    pub fn open_path(path: impl AsRef<Path>, mut options: OpenOptions) -> Result<Self, Error> {
        let given = path.as_ref();
        let path = if given.is_dir() { weights_in(given)? } else { given.to_path_buf() };
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        if options.config.is_none() {
            options = config_beside(&folder, options);
        }
        if name_of(&path).ends_with(INDEX) {
            let text = read_text(&path)
                .map_err(|reason| Error::File { path: path.display().to_string(), reason })?;
            let map = ShardMap::parse(&name_of(&path), &text)?;
            let files: Vec<PathBuf> = map.files().into_iter().map(|file| folder.join(file)).collect();
            return Self::open_shards(shards(files)?, Some(&map), options);
        }
        let set = if given.is_dir() { shards_like(&folder, &name_of(&path)) } else { Vec::new() };
        if set.is_empty() {
            options.findings.extend(part_of_several(&name_of(&path)));
            return Self::open(FileSource::open(path)?, options);
        }
        Self::open_shards(shards(set)?, None, options)
    }
}

/// The file in a folder that stands for its weights.
fn weights_in(folder: &Path) -> Result<PathBuf, Error> {
    let names = names_in(folder);
    if let Some(usual) = USUAL.iter().find(|usual| names.iter().any(|name| name == *usual)) {
        return Ok(folder.join(usual));
    }
    let mut found: Vec<&String> = names
        .iter()
        .filter(|name| ENDINGS.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending)))
        .collect();
    // The shards of one checkpoint are one.
    let first = found.first().and_then(|name| ShardName::parse(name));
    if let Some(first) = first {
        found.dedup_by(|name, _| ShardName::parse(name).is_some_and(|shard| shard.belongs_to(&first)));
    }
    let reason = match found.as_slice() {
        [only] => return Ok(folder.join(only)),
        [] => format!("no weights in it: a file that ends in {} is needed", ENDINGS.join(", ")),
        several => {
            let names = several.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            format!("several files could be the weights, name one: {names}")
        }
    };
    Err(Error::File { path: folder.display().to_string(), reason })
}

/// Says of a file that is asked for by its name that it is but a part.
fn part_of_several(name: &str) -> Option<Finding> {
    let shard = ShardName::parse(name).filter(|shard| shard.count > 1)?;
    let message = format!(
        "{name} is one of {} shards: what is opened, measured and written is that part of the model and no more; open \
         their folder or index for the whole",
        shard.count
    );
    Some(Finding::warning("one-shard-of-several", message))
}

/// The shards in a folder that belong to the one of that name; none where it is none.
fn shards_like(folder: &Path, name: &str) -> Vec<PathBuf> {
    let Some(one) = ShardName::parse(name) else { return Vec::new() };
    let all = names_in(folder).into_iter();
    all.filter(|name| ShardName::parse(name).is_some_and(|it| it.belongs_to(&one)))
        .map(|it| folder.join(it))
        .collect()
}

/// The files that are there, each by its name; which of them are missing is seen when they are opened together.
fn shards(files: Vec<PathBuf>) -> Result<Joined, Error> {
    let there = files.into_iter().filter(|file| std::fs::symlink_metadata(file).is_ok());
    let opened = there.map(|file| {
        let source = Box::new(FileSource::open(&file)?) as Box<dyn Source>;
        Ok((name_of(&file), source))
    });
    Ok(Joined::new(opened.collect::<Result<Vec<_>, Error>>()?))
}

fn config_beside(folder: &Path, mut options: OpenOptions) -> OpenOptions {
    let path = folder.join("config.json");
    // A link to nothing is there, too: it is said that it was ignored.
    if std::fs::symlink_metadata(&path).is_err() {
        return options;
    }
    match read_text(&path) {
        Ok(text) => options.config_text(&text),
        Err(reason) => {
            let message = format!("config.json is ignored: {reason}");
            options.findings.push(Finding::warning("config-ignored", message));
            options
        }
    }
}

/// The names in a folder, in their order.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A text in UTF-8, or why it cannot be read.
fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("it is no UTF-8 text from byte {at} on: save it as UTF-8")
    })
}

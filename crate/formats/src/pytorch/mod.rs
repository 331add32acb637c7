//! What torch.save writes: zip archives of `<root>/data.pkl` and one member per storage, and the files before
//! them (`legacy`). Source: `torch/serialization.py`; the variants in use are in the tests.

mod dynamic;
mod join;
mod legacy;
mod metadata;
mod numpy;
mod path;
mod search;
mod storages;
mod tensors;
mod weights;

use statepress_core::index::Format;
use statepress_core::limits::HEADER_BYTES;
use statepress_core::{Index, Source};

use storages::{Place, Storages};

use crate::choice::Choice;
use crate::cursor::Cursor;
use crate::pickle::{self, Callees, Pickle};
use crate::zip::Archive;
use crate::{FormatError, foreign};

pub(crate) use legacy::{MAGIC, open as open_legacy};

/// Reads the pickle of a zip archive.
pub(crate) fn open(
    source: &dyn Source,
    archive: &Archive<'_>,
    choice: &Choice<'_>,
) -> Result<Index, FormatError> {
    let root = root(archive)?;
    refuse_torchscript(archive, &root)?;
    // Old files do not say; they are little-endian.
    let order = archive.read_small(&format!("{root}byteorder"), 16)?.unwrap_or(b"little".into());
    if order.trim_ascii() != b"little" {
        return Err(FormatError::unsupported(
            format!("the byte order of this file is `{}`", String::from_utf8_lossy(&order).trim()),
            "save it again on a little-endian machine",
        ));
    }
    let extent = archive.extent(&format!("{root}data.pkl"))?;
    let extent = extent.ok_or_else(|| FormatError::malformed("zip directory", "data.pkl is missing"))?;
    if extent.len > HEADER_BYTES {
        let what = "bytes of the pickle".into();
        return Err(FormatError::TooLarge { what, value: extent.len, limit: HEADER_BYTES });
    }
    let pickle = pickle::load(&mut Cursor::new(source, "pickle", extent.offset, extent.len)?)?;
    let place = Place::Archive { archive, root: &root };
    index(&pickle, Storages::new(place, source.len()), choice)
}

/// The weights of a pickle and what lies beside them.
fn index(pickle: &Pickle, mut storages: Storages<'_>, choice: &Choice<'_>) -> Result<Index, FormatError> {
    let weights = weights::find(pickle, choice)?;
    let mut found = weights.findings.clone();
    let entries = tensors::entries(&pickle.heap, &weights, &mut storages, &mut found)?;
    let beside = metadata::read(&pickle.heap, &weights);
    found.extend(beside.findings);
    found.extend(Callees::of(&pickle.heap).findings());
    found.extend(storages.skipped(&pickle.heap, &beside.skipped));
    Ok(Index {
        format: Format::Pytorch,
        wrapper: weights.path,
        weights: weights.candidates,
        config: beside.config,
        metadata: beside.metadata,
        tensors: entries,
        findings: found,
    })
}

/// The folder of the one `data.pkl`, with its slash. Any folder is fine.
fn root(archive: &Archive<'_>) -> Result<String, FormatError> {
    let mut roots = archive.names().filter_map(|name| {
        let root = name.strip_suffix("data.pkl")?;
        (root.is_empty() || root.ends_with('/')).then_some(root)
    });
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.into()),
        (Some(one), Some(other)) => {
            let why = format!("there is more than one data.pkl: in `{one}` and in `{other}`");
            Err(FormatError::malformed("zip directory", why))
        }
        (None, _) => Err(foreign::archive(&archive.names().collect::<Vec<_>>())),
    }
}

fn refuse_torchscript(archive: &Archive<'_>, root: &str) -> Result<(), FormatError> {
    let script = |name: &str| {
        name.strip_prefix(root).is_some_and(|name| name.starts_with("code/") || name == "constants.pkl")
    };
    if !archive.names().any(script) {
        return Ok(());
    }
    Err(FormatError::unsupported(
        "a TorchScript archive (it holds a program)",
        "save its weights with torch.save(torch.jit.load(\"model.pt\").state_dict(), \"weights.pt\")",
    ))
}

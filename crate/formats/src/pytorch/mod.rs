//! PyTorch zip checkpoints: `<root>/data.pkl` and one member per storage.
//! Source: `torch/serialization.py`; the variants in use are in the tests.

mod dynamic;
mod legacy;
mod metadata;
mod numpy;
mod search;
mod storages;
mod tensors;
mod weights;

use statepress_core::index::Format;
use statepress_core::limits::HEADER_BYTES;
use statepress_core::{Index, Source};

use storages::{Place, Storages};

use crate::FormatError;
use crate::choice::Choice;
use crate::cursor::Cursor;
use crate::pickle::{self, Callees, Pickle};
use crate::zip::Archive;

pub(crate) use legacy::{MAGIC, open as open_legacy};

/// Reads the directory and the pickle of a zip archive.
pub(crate) fn open(source: &dyn Source, choice: &Choice<'_>) -> Result<Index, FormatError> {
    let archive = Archive::open(source)?;
    let root = root(&archive)?;
    refuse_torchscript(&archive, &root)?;
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
    let place = Place::Archive { archive: &archive, root: &root };
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
        (None, _) => Err(other_archive(archive)),
    }
}

/// What a zip archive is that torch.save did not write.
fn other_archive(archive: &Archive<'_>) -> FormatError {
    let names: Vec<&str> = archive.names().collect();
    let any = |fits: &dyn Fn(&str) -> bool| names.iter().any(|name| fits(name));
    let ends = |endings: &'static [&'static str]| {
        names.iter().copied().find(|name| {
            let name = name.to_ascii_lowercase();
            endings.iter().any(|ending| name.ends_with(ending))
        })
    };
    const SAVE: &str = "save a state dict with torch.save(model.state_dict(), \"model.pt\")";
    if any(&|name| name.ends_with("archive_format") || name.ends_with("serialized_exported_program.json")) {
        return FormatError::unsupported(
            "an archive of torch.export (.pt2), which holds a program",
            "save its weights with torch.save(torch.export.load(\"model.pt2\").state_dict, \"weights.pt\")",
        );
    }
    if any(&|name| name.ends_with("\\data.pkl")) {
        return FormatError::unsupported(
            "a zip archive whose names are written with backslashes",
            "unpack it and pack it again with `zip -0 -r model.pt FOLDER`",
        );
    }
    if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        return FormatError::unsupported(
            "a NumPy archive (.npz)",
            "convert it: safetensors.numpy.save_file(dict(numpy.load(\"weights.npz\")), \"model.safetensors\")",
        );
    }
    if any(&|name| name.ends_with(".weights.h5")) {
        return FormatError::unsupported(
            "a Keras model (.keras)",
            "open the PyTorch checkpoint it was made from, or save its weights as safetensors",
        );
    }
    if let Some(inner) = ends(&[".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".gguf"]) {
        return FormatError::unsupported(
            format!("a zip archive with the file `{inner}` in it"),
            "unpack it first and open that file",
        );
    }
    if any(&|name| name == "[Content_Types].xml" || name == "META-INF/MANIFEST.MF") {
        return FormatError::unsupported("a document or program in a zip archive", SAVE);
    }
    let held: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let what = format!("a zip archive without a data.pkl (it holds {})", crate::findings::list(&held));
    FormatError::unsupported(what, SAVE)
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

//! Archives of NumPy's arrays (`.npz`, as `numpy.savez` writes them and MLX saves weights): a zip archive of `.npy` members, each
//! with a header that is a Python dict. Source: `numpy/lib/format.py`, versions 1 to 3.

use statepress_core::index::{Extent, Format, Stored, Strided};
use statepress_core::limits::{DIMENSIONS, TENSORS};
use statepress_core::words::counted;
use statepress_core::{DType, Entry, Finding, Index, Source};

use crate::choice::{BARE, bare};
use crate::cursor::Cursor;
use crate::shape::checked_elements;
use crate::zip::Archive;
use crate::{FormatError, findings, view};

/// What a `.npy` file begins with.
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The ending of members.
const ENDING: &str = ".npy";
/// Bytes of a header: NumPy's own reader takes 10,000.
const MOST_HEADER: u64 = 1 << 16;

/// Whether an archive is one of arrays.
pub(crate) fn is_archive(archive: &Archive<'_>) -> bool {
    archive.names().next().is_some() && archive.names().all(|name| name.ends_with(ENDING))
}

/// Reads the directory and the header of every array. Arrays of Python's objects are left out, and told.
pub(crate) fn open(source: &dyn Source, archive: &Archive<'_>) -> Result<Index, FormatError> {
    let names: Vec<&str> = archive.names().collect();
    if names.len() > TENSORS {
        let (value, limit) = (names.len() as u64, TENSORS as u64);
        return Err(FormatError::TooLarge { what: "arrays in the file".into(), value, limit });
    }
    let (mut tensors, mut left_out) = (Vec::new(), Vec::new());
    for member in names {
        let Some(extent) = archive.extent(member)? else { continue };
        let name = member.strip_suffix(ENDING).unwrap_or(member);
        match entry(source, name, extent)? {
            Some(entry) => tensors.push(entry),
            None => left_out.push(name.to_string()),
        }
    }
    if tensors.is_empty() {
        let what = "a NumPy archive without arrays of numbers";
        return Err(FormatError::unsupported(
            what,
            "save the weights: numpy.savez(\"weights.npz\", **arrays)",
        ));
    }
    let told = left_out.first().map(|first| {
        let message = format!(
            "{} of elements that are no numbers here left out: {}",
            counted(left_out.len(), "array", "arrays"),
            findings::list(&left_out)
        );
        Finding::warning("arrays-left-out", message).about(first)
    });
    Ok(Index {
        format: Format::Numpy,
        wrapper: BARE.into(),
        weights: bare(&tensors),
        config: None,
        metadata: Default::default(),
        tensors,
        findings: told.into_iter().collect(),
    })
}

/// The array that lies there; `None` where its elements are no numbers that are read.
fn entry(source: &dyn Source, name: &str, extent: Extent) -> Result<Option<Entry>, FormatError> {
    let fail = |why: &str| FormatError::tensor(name, format!("{why} (.npy)"));
    let mut cursor = Cursor::new(source, ".npy header", extent.offset, extent.len)?;
    if cursor.array::<6>()? != *MAGIC {
        return Err(fail("it does not begin as arrays of NumPy do"));
    }
    let [version, _] = cursor.array()?;
    let len = match version {
        1 => cursor.u16()?.into(),
        2 | 3 => u64::from(cursor.u32()?),
        _ => return Err(fail("its header is of another version than 1 to 3")),
    };
    if len > MOST_HEADER {
        let what = format!("bytes of the header of array `{name}`");
        return Err(FormatError::TooLarge { what, value: len, limit: MOST_HEADER });
    }
    let header = cursor.take(len)?;
    let header = String::from_utf8_lossy(&header);
    let (Some(descr), Some(fortran), Some(shape)) =
        (field(&header, "descr"), field(&header, "fortran_order"), field(&header, "shape"))
    else {
        return Err(fail("its header lacks `descr`, `fortran_order` or `shape`"));
    };
    let fortran = match fortran {
        text if text.starts_with("True") => true,
        text if text.starts_with("False") => false,
        _ => return Err(fail("its `fortran_order` is neither True nor False")),
    };
    let shape = dims(shape).ok_or_else(|| fail("its `shape` is no tuple of numbers"))?;
    let Some(dtype) = dtype(descr) else {
        if descr.starts_with("'>") {
            return Err(fail(
                "its numbers are big-endian: save it from array.astype(array.dtype.newbyteorder(\"<\"))",
            ));
        }
        return Ok(None);
    };
    let elements = checked_elements(name, &shape)?;
    let storage = Extent { offset: extent.offset + cursor.position(), len: cursor.left() };
    let bytes = elements as u64 * dtype.bytes() as u64;
    if bytes != storage.len {
        let what = counted(bytes, "byte", "bytes");
        return Err(fail(&format!("{} {shape:?} is {what}, and there are {}", dtype.name(), storage.len)));
    }
    let mut strides = view::row_major(&shape);
    if fortran {
        // The first index runs fastest.
        let turned: Vec<usize> = shape.iter().rev().copied().collect();
        strides = view::row_major(&turned);
        strides.reverse();
    }
    let stored = Stored::Strided(Strided { dtype, storage, first: 0, strides, negated: false });
    Ok(Some(Entry { name: name.into(), shape, stored, tied_to: None }))
}

/// What stands behind a key of the dict.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

/// The numbers of a tuple: `(3, 4)`, `(3,)`, `()`. Python 2 wrote `(3L, 4L)`.
fn dims(text: &str) -> Option<Vec<usize>> {
    let (inner, _) = text.strip_prefix('(')?.split_once(')')?;
    let dims = inner.split(',').map(|dim| dim.trim().trim_end_matches('L')).filter(|dim| !dim.is_empty());
    let dims: Vec<usize> = dims.take(DIMENSIONS + 1).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(dims)
}

/// The type of elements, by NumPy's word for it.
fn dtype(descr: &str) -> Option<DType> {
    let (word, _) = descr.strip_prefix('\'')?.split_once('\'')?;
    let (order, word) = word.split_at_checked(1)?;
    if !["<", "|", "="].contains(&order) {
        return None;
    }
    Some(match word {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        "c8" => DType::C64,
        _ => return None,
    })
}

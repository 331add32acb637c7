//! Where the storages of a file lie, and the views of them that tensors are.

use statepress_core::words::counted;
use std::collections::{HashMap, HashSet};

use statepress_core::Finding;
use statepress_core::index::{Extent, Strided};

use crate::FormatError;
use crate::findings::list;
use crate::pickle::{Heap, StorageRef, TensorRef};
use crate::view;
use crate::zip::Archive;

/// Where storages are found by their key.
pub(super) enum Place<'a> {
    /// Members of an archive, in the folder `data` below a root.
    Archive { archive: &'a Archive<'a>, root: &'a str },
    /// Behind the pickles of a legacy file.
    Behind(HashMap<String, Extent>),
}

/// The storages of a file, as far as they were asked for.
pub(super) struct Storages<'a> {
    place: Place<'a>,
    file_bytes: u64,
    found: HashMap<String, Extent>,
    /// Bytes of the storages found. Members of an archive may overlap; these may not be more
    /// than the file.
    found_bytes: u64,
    /// Bytes by which views repeat their storages, all together.
    repeated_bytes: u64,
}

/// Bytes by which all views of a file together may repeat their storages.
const REPEATED_BYTES: u64 = 4 * view::REPEATED_BYTES;

impl<'a> Storages<'a> {
    pub(super) fn new(place: Place<'a>, file_bytes: u64) -> Self {
        Self { place, file_bytes, found: HashMap::new(), found_bytes: 0, repeated_bytes: 0 }
    }

    /// Where a whole storage lies.
    fn locate(&mut self, key: &str) -> Result<Extent, FormatError> {
        if let Some(extent) = self.found.get(key) {
            return Ok(*extent);
        }
        let extent = match &self.place {
            Place::Archive { archive, root } => {
                let member = format!("{root}data/{key}");
                archive.extent(&member)?.ok_or_else(|| {
                    FormatError::malformed("zip directory", format!("the storage `{member}` is missing"))
                })?
            }
            Place::Behind(all) => *all.get(key).ok_or_else(|| {
                FormatError::malformed("legacy file", format!("the storage `{key}` is missing"))
            })?,
        };
        self.found_bytes = self.found_bytes.saturating_add(extent.len);
        if self.found_bytes > self.file_bytes {
            return Err(FormatError::TooLarge {
                what: "bytes of storages, which overlap in the archive".into(),
                value: self.found_bytes,
                limit: self.file_bytes,
            });
        }
        self.found.insert(key.into(), extent);
        Ok(extent)
    }

    /// Where a storage lies. Its size is what the pickle says, or the file is malformed.
    fn extent(&mut self, storage: &StorageRef) -> Result<Extent, FormatError> {
        let whole = self.locate(&storage.key)?;
        let bytes = storage.element.bytes();
        let len = bytes.and_then(|bytes| storage.elements.checked_mul(bytes));
        let skip = bytes.and_then(|bytes| storage.skip.checked_mul(bytes));
        match (len, skip) {
            (Some(len), Some(0)) if len == whole.len => Ok(whole),
            // In legacy files a storage may be a part of another.
            (Some(len), Some(skip))
                if matches!(self.place, Place::Behind(_))
                    && skip.checked_add(len).is_some_and(|end| end <= whole.len) =>
            {
                Ok(Extent { offset: whole.offset + skip, len })
            }
            _ => {
                let why = format!(
                    "the pickle gives it {} of {}, the archive {}",
                    counted(storage.elements, "element", "elements"),
                    storage.element.name(),
                    counted(whole.len, "byte", "bytes")
                );
                Err(FormatError::tensor(format!("storage {}", storage.key), why))
            }
        }
    }

    /// The view of a storage that a tensor is, checked.
    pub(super) fn view(&mut self, name: &str, tensor: &TensorRef) -> Result<Strided, FormatError> {
        let view = Strided {
            dtype: tensor.dtype,
            storage: self.extent(&tensor.storage)?,
            first: tensor.first,
            strides: tensor.strides.clone(),
            negated: tensor.negated,
        };
        let elements = view::check(name, &tensor.shape, &view, self.file_bytes)?;
        let bytes = (elements as u64).saturating_mul(tensor.dtype.bytes() as u64);
        self.repeated_bytes = self.repeated_bytes.saturating_add(bytes.saturating_sub(view.storage.len));
        let limit = REPEATED_BYTES.max(self.file_bytes);
        if self.repeated_bytes > limit {
            return Err(FormatError::TooLarge {
                what: format!("bytes that views repeat, up to tensor `{name}`"),
                value: self.repeated_bytes,
                limit,
            });
        }
        Ok(view)
    }

    /// Says how many bytes the values under `keys` have, which nothing asked for.
    pub(super) fn skipped(&self, heap: &Heap, keys: &[String]) -> Option<Finding> {
        if keys.is_empty() {
            return None;
        }
        let mut seen = HashSet::new();
        let mut bytes = 0u64;
        for storage in heap.storages() {
            if !self.found.contains_key(&storage.key) && seen.insert(&storage.key) {
                let size = storage.element.bytes().unwrap_or(1);
                bytes = bytes.saturating_add(storage.elements.saturating_mul(size));
            }
        }
        let message = format!(
            "{} skipped, which is not part of the model: {} with {} not read",
            list(keys),
            counted(seen.len(), "storage", "storages"),
            counted(bytes, "byte", "bytes")
        );
        Some(Finding::info("state-skipped", message))
    }
}

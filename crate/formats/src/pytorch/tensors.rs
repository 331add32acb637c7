//! From the tensors of a state dict to entries: storages are found in the archive, views are
//! checked against them, and what shares a storage is tied.

use std::collections::{HashMap, HashSet};

use statepress_core::index::{AffineScales, Extent, Stored, Strided};
use statepress_core::limits::TENSORS;
use statepress_core::{DType, Entry, Finding};

use super::dynamic;
use super::wrapper::Unwrapped;
use crate::FormatError;
use crate::findings::list;
use crate::pickle::{Heap, Quantizer, StorageRef, TensorRef, Value};
use crate::view;
use crate::zip::Archive;

/// The storages of an archive, as far as they were asked for.
pub(super) struct Storages<'a> {
    archive: &'a Archive<'a>,
    root: &'a str,
    file_bytes: u64,
    found: HashMap<String, Extent>,
    /// Bytes of the storages found. Members of an archive may overlap; these may not be more
    /// than the file.
    found_bytes: u64,
}

impl<'a> Storages<'a> {
    pub(super) fn new(archive: &'a Archive<'a>, root: &'a str, file_bytes: u64) -> Self {
        Self { archive, root, file_bytes, found: HashMap::new(), found_bytes: 0 }
    }

    /// Where a storage lies. Its size is what the pickle says, or the file is malformed.
    fn extent(&mut self, storage: &StorageRef) -> Result<Extent, FormatError> {
        let extent = match self.found.get(&storage.key) {
            Some(extent) => *extent,
            None => {
                let member = format!("{}data/{}", self.root, storage.key);
                let extent = self.archive.extent(&member)?.ok_or_else(|| {
                    FormatError::malformed("zip directory", format!("the storage `{member}` is missing"))
                })?;
                self.found_bytes = self.found_bytes.saturating_add(extent.len);
                if self.found_bytes > self.file_bytes {
                    return Err(FormatError::TooLarge {
                        what: "bytes of storages, which overlap in the archive".into(),
                        value: self.found_bytes,
                        limit: self.file_bytes,
                    });
                }
                self.found.insert(storage.key.clone(), extent);
                extent
            }
        };
        let expected = storage.elements.checked_mul(storage.dtype.bytes() as u64);
        if expected != Some(extent.len) {
            let why = format!(
                "the pickle gives it {} elements of {}, the archive {} bytes",
                storage.elements,
                storage.dtype.name(),
                extent.len
            );
            return Err(FormatError::tensor(format!("storage {}", storage.key), why));
        }
        Ok(extent)
    }

    /// The view of a storage that a tensor is, checked.
    fn view(&mut self, name: &str, tensor: &TensorRef) -> Result<Strided, FormatError> {
        let view = Strided {
            dtype: tensor.storage.dtype,
            storage: self.extent(&tensor.storage)?,
            first: tensor.first,
            strides: tensor.strides.clone(),
        };
        view::check(name, &tensor.shape, &view, self.file_bytes)?;
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
                bytes = bytes.saturating_add(storage.elements.saturating_mul(storage.dtype.bytes() as u64));
            }
        }
        let message = format!(
            "{} skipped: {} storages with {bytes} bytes are not part of the model and were not read",
            list(keys),
            seen.len()
        );
        Some(Finding::info("state-skipped", message))
    }
}

/// The entries of a state dict, in its order.
pub(super) fn entries(
    heap: &Heap,
    unwrapped: &Unwrapped,
    storages: &mut Storages<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Entry>, FormatError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = HashSet::new();
    let mut others = Vec::new();
    let mut first_of: HashMap<Identity, String> = HashMap::new();
    for (name, value) in dynamic::unpack(heap, named(heap, unwrapped, findings), findings)? {
        let Some(tensor) = heap.tensor(value) else {
            // Beside a bare state dict lies what a wrapper would hold: it is read as metadata.
            if unwrapped.outer.is_some() {
                others.push(name);
            }
            continue;
        };
        if !names.insert(name.clone()) {
            return Err(FormatError::tensor(name, "it occurs twice"));
        }
        if entries.len() == TENSORS {
            let (value, limit) = (TENSORS as u64 + 1, TENSORS as u64);
            return Err(FormatError::TooLarge { what: "tensors in the file".into(), value, limit });
        }
        let stored = stored(&name, tensor, storages)?;
        let tied_to = match Identity::of(&tensor.shape, &stored) {
            Some(identity) => match first_of.get(&identity) {
                Some(first) => Some(first.clone()),
                None => {
                    first_of.insert(identity, name.clone());
                    None
                }
            },
            None => None,
        };
        entries.push(Entry { name, shape: tensor.shape.clone(), stored, tied_to });
    }
    if !others.is_empty() {
        let message =
            format!("values of the state dict that are not tensors were left out: {}", list(&others));
        findings.push(Finding::info("not-a-tensor", message));
    }
    Ok(entries)
}

/// The pairs of the state dict whose keys are strings.
fn named(heap: &Heap, unwrapped: &Unwrapped, findings: &mut Vec<Finding>) -> Vec<(String, Value)> {
    let pairs = heap.dict(unwrapped.state).unwrap_or_default();
    let named: Vec<_> =
        pairs.iter().filter_map(|(key, value)| Some((heap.str(*key)?.to_string(), *value))).collect();
    if named.len() < pairs.len() {
        let message =
            format!("{} keys of the state dict are not strings: left out", pairs.len() - named.len());
        findings.push(Finding::warning("key-not-a-string", message));
    }
    named
}

/// Where and how the numbers of a tensor are stored.
fn stored(name: &str, tensor: &TensorRef, storages: &mut Storages<'_>) -> Result<Stored, FormatError> {
    let codes = storages.view(name, tensor)?;
    let scales = match &tensor.quantizer {
        None => return Ok(Stored::Strided(codes)),
        Some(Quantizer::PerTensor { scale, zero_point }) => {
            AffineScales::PerTensor { scale: *scale, zero_point: *zero_point }
        }
        Some(Quantizer::PerChannel { scales, zero_points, axis }) => {
            let rows = tensor.shape.first().copied().unwrap_or(0);
            if *axis != 0 {
                return Err(FormatError::unsupported(
                    format!("tensor `{name}` is quantized along dimension {axis}"),
                    "only dimension 0 is supported: save it dequantized",
                ));
            }
            if scales.shape != [rows] || zero_points.shape != [rows] {
                let why = format!(
                    "{rows} rows have scales {:?} and zero points {:?}",
                    scales.shape, zero_points.shape
                );
                return Err(FormatError::tensor(name, why));
            }
            let scales = storages.view(name, scales)?;
            let zero_points = storages.view(name, zero_points)?;
            AffineScales::PerRow { scales, zero_points }
        }
    };
    match codes.dtype {
        DType::I8 | DType::U8 | DType::I32 => Ok(Stored::Affine { codes, scales }),
        other => Err(FormatError::tensor(name, format!("its codes are {}", other.name()))),
    }
}

/// What two tensors have in common when they are one.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    storage: Extent,
    first: u64,
    shape: Vec<usize>,
    strides: Vec<u64>,
    quantized: bool,
}

impl Identity {
    /// Empty tensors are nobody's twins.
    fn of(shape: &[usize], stored: &Stored) -> Option<Self> {
        let (view, quantized) = match stored {
            Stored::Strided(view) => (view, false),
            Stored::Affine { codes, .. } => (codes, true),
            Stored::Packed { .. } | Stored::Coded(_) | Stored::Opaque { .. } => return None,
        };
        let Strided { storage, first, strides, .. } = view.clone();
        (!shape.contains(&0)).then(|| Self { storage, first, shape: shape.to_vec(), strides, quantized })
    }
}

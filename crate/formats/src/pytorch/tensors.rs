//! From the tensors of a state dict to entries: views are checked against their storages, what shares
//! one is tied, and what is not read is named.

use statepress_core::words::counted;
use std::collections::{HashMap, HashSet};

use statepress_core::index::{AffineScales, Extent, Stored, Strided};
use statepress_core::limits::TENSORS;
use statepress_core::{DType, Entry, Finding};

use super::storages::Storages;
use super::weights::Weights;
use super::{dynamic, numpy};
use crate::FormatError;
use crate::findings::{LeftOut, left_out, list};
use crate::pickle::{Heap, Quantizer, TensorRef, Value};

/// The entries of a state dict, in its order.
pub(super) fn entries(
    heap: &Heap,
    weights: &Weights,
    storages: &mut Storages<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Entry>, FormatError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = HashSet::new();
    let mut others = Vec::new();
    let mut left: Vec<LeftOut> = Vec::new();
    let mut subclasses: Vec<(String, String)> = Vec::new();
    let mut first_of: HashMap<Identity, String> = HashMap::new();
    for (name, value) in dynamic::unpack(heap, named(heap, weights, findings), findings)? {
        if let Some(unread) = heap.unread(value) {
            let (what, help) = (unread.what.clone(), unread.help.clone());
            left.push(LeftOut { name, what, help, elements: unread.elements.unwrap_or(u64::MAX) });
            continue;
        }
        // Beside a bare state dict it may be a history of losses: a weight has the name of a module before its own.
        let weight = !weights.around.is_empty() || name.contains('.');
        if let Some(elements) = numpy::array(heap, value).filter(|_| weight) {
            let what = "an array of NumPy".into();
            let help = "make it a tensor before saving: torch.from_numpy(array)".into();
            left.push(LeftOut { name, what, help, elements: elements.unwrap_or(u64::MAX) });
            continue;
        }
        let Some(tensor) = heap.tensor(value) else {
            // Beside a bare state dict lies what a wrapper would hold: it is read as metadata.
            if !weights.around.is_empty() && value != Value::None {
                others.push(name);
            }
            continue;
        };
        if let Some(Quantizer::PerChannel { axis, .. }) = tensor.quantizer
            && axis != 0
        {
            let elements = tensor.shape.iter().fold(1u64, |n, &dim| n.saturating_mul(dim as u64));
            let what = format!("quantized along dimension {axis}, where only 0 is read");
            left.push(LeftOut {
                name,
                what,
                help: "save it dequantized: tensor.dequantize()".into(),
                elements,
            });
            continue;
        }
        if let Some(class) = tensor.class.and_then(|class| heap.global(class)) {
            subclasses.push((name.clone(), class));
        }
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
    findings.extend(left_out(&entries, &left)?);
    if let Some((first, class)) = subclasses.first() {
        let message = format!(
            "{} of a subclass (`{class}`): the plain numbers are read, and nothing of what the class makes of them",
            counted(subclasses.len(), "tensor is", "tensors are")
        );
        findings.push(Finding::info("tensor-subclass", message).about(first));
    }
    if !others.is_empty() {
        let message =
            format!("values of the state dict that are not tensors were left out: {}", list(&others));
        findings.push(Finding::info("not-a-tensor", message));
    }
    Ok(entries)
}

/// The pairs of the state dict whose keys are strings.
fn named(heap: &Heap, weights: &Weights, findings: &mut Vec<Finding>) -> Vec<(String, Value)> {
    let pairs = weights.parts.iter().flat_map(|(part, before)| {
        heap.mapping(*part).unwrap_or_default().iter().map(move |pair| (before, pair))
    });
    let (mut named, mut others) = (Vec::new(), 0usize);
    for (before, &(key, value)) in pairs {
        match heap.str(key) {
            Some(key) => named.push((format!("{before}{key}"), value)),
            // Under numbers may be mappings, which are told of as such.
            None => others += usize::from(heap.mapping(value).is_none()),
        }
    }
    // What is read too is told of by itself.
    named.retain(|(_, value)| !value.node().is_some_and(|node| weights.inner.contains(&node)));
    if others > 0 {
        let message = format!(
            "{} left out",
            counted(
                others,
                "key of the state dict is not a string:",
                "keys of the state dict are not strings:"
            )
        );
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
        Some(Quantizer::PerChannel { scales, zero_points, .. }) => {
            let rows = tensor.shape.first().copied().unwrap_or(0);
            if scales.shape != [rows] || zero_points.shape != [rows] {
                let why = format!(
                    "{} scales {:?} and zero points {:?}",
                    counted(rows, "row has", "rows have"),
                    scales.shape,
                    zero_points.shape
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
    dtype: DType,
    negated: bool,
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
        let Strided { dtype, storage, first, strides, negated } = view.clone();
        let shape = shape.to_vec();
        (!shape.contains(&0)).then_some(Self { storage, first, shape, strides, dtype, negated, quantized })
    }
}

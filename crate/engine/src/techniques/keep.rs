//! What stays as it is: whatever no recipe touches, and how the recipe that changes nothing keeps the rest.

use statepress_core::encoding::Granularity;
use statepress_core::index::{AffineScales, Stored};
use statepress_core::{DType, Encoding, Entry, Finding, Form};

use super::plan::Known;
use crate::families::is_buffer;

/// What a tensor is kept as whatever the recipe, and what it holds: recipes act on the floats of weights.
pub(super) fn untouched(entry: &Entry) -> Option<(Form, &'static str)> {
    let dtype = match &entry.stored {
        Stored::Strided(view) => view.dtype,
        Stored::Opaque { view, .. } => return Some((Form::Kept(view.dtype), "(quantized, not decoded)")),
        _ => return None,
    };
    let what = match dtype {
        DType::Bool => "(booleans)",
        DType::F8E4m3 | DType::F8E5m2 | DType::F8E8m0 => "(8-bit floats)",
        DType::C64 => "(complex numbers)",
        _ if dtype.is_whole() => "(whole numbers)",
        _ if is_buffer(entry) => "(buffers)",
        _ => return None,
    };
    Some((Form::Kept(dtype), what))
}

/// Says what is kept, once for each kind.
pub(super) fn tell_kept(kept: &[(&Entry, &'static str)]) -> Vec<Finding> {
    let mut kinds: Vec<&str> = Vec::new();
    for (_, what) in kept.iter().filter(|(entry, _)| entry.params() > 0) {
        if !kinds.contains(what) {
            kinds.push(what);
        }
    }
    let tell = |what: &str| {
        let mut of = kept.iter().filter(|(_, other)| *other == what);
        let (first, count) = (of.next()?.0, 1 + of.count());
        let message = match count {
            1 => format!("1 tensor {what} is kept as it is: recipes act on the floats of weights"),
            _ => format!("{count} tensors {what} are kept as they are: recipes act on the floats of weights"),
        };
        Some(Finding::info("kept", message).about(&first.name))
    };
    kinds.into_iter().filter_map(tell).collect()
}

/// The form that keeps a tensor as it is stored; a finding where there is none.
pub(super) fn keep(entry: &Entry, known: &Known, findings: &mut Vec<Finding>) -> Form {
    let (codes, scales) = match &entry.stored {
        Stored::Strided(strided) => {
            return match strided.dtype {
                DType::F16 => Form::Coded(Encoding::Fp16),
                DType::Bf16 => Form::Coded(Encoding::Bf16),
                DType::F32 => Form::Coded(Encoding::Fp32),
                other => Form::Kept(other),
            };
        }
        Stored::Packed { encoding, .. } => return Form::Coded(*encoding),
        Stored::Coded(coded) => {
            if coded.encoding == Encoding::Fp32 && !coded.is_plain() {
                let message =
                    format!("{} has no twin among the precisions: decoded, stored as fp32", coded.scheme);
                tell_once(findings, Finding::warning("dequantized", message).about(&entry.name));
            }
            return Form::Coded(coded.encoding);
        }
        // Never decided about.
        Stored::Opaque { view, .. } => return Form::Kept(view.dtype),
        Stored::Affine { codes, scales } => (codes, scales),
    };
    // Whatever reading dequantizes could only be rounded a second time.
    let (granularity, symmetric) = match scales {
        AffineScales::PerTensor { zero_point, .. } => (Granularity::Tensor, *zero_point == 0),
        AffineScales::PerRow { .. } => (Granularity::Row, !known.shifted.contains(&entry.name)),
    };
    let encoding = Encoding::int8(granularity.of(&entry.shape));
    let reason = if codes.dtype != DType::I8 {
        format!("its codes are {}", codes.dtype.name())
    } else if !symmetric {
        "its zero points are not 0".into()
    } else if let Some(reason) = encoding.refusal(&entry.shape) {
        reason
    } else {
        return Form::Coded(encoding);
    };
    let message = format!("torch's quantization cannot be kept: {reason}; stored as fp32");
    findings.push(Finding::warning("dequantized", message).about(&entry.name));
    Form::Coded(Encoding::Fp32)
}

/// Says what holds for several tensors once, about the first of them.
pub(super) fn tell_once(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.iter().any(|told| told.code == finding.code && told.message == finding.message) {
        findings.push(finding);
    }
}

/// Says that codes are made of numbers that codes were decoded to.
pub(super) fn recoded(entry: &Entry, encoding: Encoding, known: &Known) -> Option<Finding> {
    if entry.is_plain() {
        return None;
    }
    let was = match &entry.stored {
        Stored::Strided(_) | Stored::Opaque { .. } => return None,
        Stored::Affine { .. } => "by torch".into(),
        Stored::Packed { encoding, .. } => encoding.name(),
        Stored::Coded(coded) => coded.scheme.clone(),
    };
    if !encoding.is_described() || keep(entry, known, &mut Vec::new()) == Form::Coded(encoding) {
        return None;
    }
    let message = format!(
        "quantized before ({was}), coded a second time as {}: the errors of both add up; start from the original \
         weights for a better result",
        encoding.name()
    );
    Some(Finding::warning("recoded", message).about(&entry.name))
}

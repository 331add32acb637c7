//! How tensors are written in the types of ggml.

use half::{bf16, f16};
use statepress_core::GgmlType;

use super::{iq4_nl, k_quants, quants};

/// Appends a block of numbers; `None` where the type cannot hold them.
pub(super) fn encode(kind: GgmlType, numbers: &[f32], out: &mut Vec<u8>) -> Option<()> {
    if kind == GgmlType::F32 {
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        return Some(());
    }
    if kind == GgmlType::Bf16 {
        out.extend(numbers.iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes()));
        return Some(());
    }
    if !numbers.iter().all(|number| number.is_finite()) {
        return None;
    }
    match kind {
        GgmlType::F32 | GgmlType::Bf16 => Some(()),
        GgmlType::F16 => numbers.iter().try_for_each(|&number| binary16(number, out)),
        GgmlType::Q8_0 => quants::q8_0(numbers, out),
        GgmlType::Q4_0 => quants::q4_0(numbers, out),
        GgmlType::Q4_1 => quants::q4_1(numbers, out),
        GgmlType::Q5_0 => quants::q5_0(numbers, out),
        GgmlType::Q5_1 => quants::q5_1(numbers, out),
        GgmlType::Iq4Nl => iq4_nl::iq4_nl(numbers, out),
        GgmlType::Q4K => k_quants::q4_k(numbers, out),
        GgmlType::Q5K => k_quants::q5_k(numbers, out),
        GgmlType::Q6K => k_quants::q6_k(numbers, out),
        GgmlType::Q2K | GgmlType::Q3K | GgmlType::Iq4Xs => None,
    }
}

/// Appends a binary16; `None` where the number is out of its reach.
pub(super) fn binary16(number: f32, out: &mut Vec<u8>) -> Option<()> {
    let half = f16::from_f32(number);
    out.extend(half.to_le_bytes());
    half.is_finite().then_some(())
}

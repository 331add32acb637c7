//! Codecs: numbers to the packed bytes of a precision, and back.
//!
//! Deterministic: the same bytes on every machine and in every build. Every operation in here is
//! correctly rounded by IEEE 754 and in a fixed order; there is no transcendental function.

pub mod half16;
pub mod int4;
pub mod int8;
pub mod nf4;
pub mod nibbles;
mod part;

use statepress_core::{Encoding, Packed, Tensor, shape};

use crate::KernelError;
use crate::lanes::F32x4;
pub use part::part;

/// How the clipping point of INT8 is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The largest magnitude.
    Absmax,
    /// A percentile of the magnitudes, 0 to 100.
    Percentile(f64),
}

/// A coded tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The tensor.
    pub tensor: Tensor,
    /// Values that did not fit: beyond the clipping point, the range of a 16-bit float, or what
    /// the codes can reach with a scale or absmax in binary16.
    pub clipped: u64,
}

/// Codes `values` of a tensor of `shape`. `clip` concerns INT8 only.
pub fn encode(
    values: &[f32],
    shape: &[usize],
    encoding: Encoding,
    clip: Clip,
) -> Result<Encoded, KernelError> {
    check_length("values", values.len(), shape::elements(shape).unwrap_or(usize::MAX))?;
    if let Some(reason) = encoding.refusal(shape) {
        return Err(KernelError::Shape(reason));
    }
    if encoding.precision().is_quantized()
        && !all_finite(values)
        && let Some(index) = values.iter().position(|value| !value.is_finite())
    {
        return Err(KernelError::NotFinite { index, value: values[index] });
    }
    if let Clip::Percentile(percentile) = clip
        && !(0.0..=100.0).contains(&percentile)
    {
        return Err(KernelError::Percentile(percentile));
    }
    let (rows, cols) = shape::matrix(shape);
    let (data, clipped) = match encoding {
        Encoding::Fp32 => (Packed::F32(values.to_vec()), 0),
        Encoding::Fp16 => half16::encode_f16(values),
        Encoding::Bf16 => half16::encode_bf16(values),
        Encoding::Int8 { granularity } => int8::encode(values, rows, cols, granularity, clip),
        Encoding::Int4 { group, scale } => int4::encode(values, group, scale),
        Encoding::Nf4 { block, absmax } => nf4::encode(values, block, absmax),
    };
    Ok(Encoded { tensor: Tensor { shape: shape.to_vec(), data }, clipped })
}

/// Whether no number is NaN or infinite: those times zero are NaN, and so is every sum with them.
pub fn all_finite(values: &[f32]) -> bool {
    let zero = F32x4::splat(0.0);
    let mut sums = [zero; 4];
    let (sixteens, rest) = values.as_chunks::<16>();
    for sixteen in sixteens {
        for (sum, four) in sums.iter_mut().zip(sixteen.as_chunks::<4>().0) {
            *sum = *sum + F32x4::load(four) * zero;
        }
    }
    sums.iter().all(|sum| sum.to_array().iter().all(|sum| !sum.is_nan()))
        && rest.iter().all(|value| value.is_finite())
}

/// Fails unless codes and scales have the lengths that the shape needs.
pub fn check(tensor: &Tensor) -> Result<(), KernelError> {
    use statepress_core::tensor::{Absmax, Floats};
    let n = shape::elements(&tensor.shape).unwrap_or(usize::MAX);
    let floats = |floats: &Floats| match floats {
        Floats::F32(values) => values.len(),
        Floats::F16(values) => values.len(),
    };
    let (rows, _) = tensor.matrix();
    match &tensor.data {
        Packed::F32(values) => check_length("values", values.len(), n),
        Packed::F16(values) | Packed::Bf16(values) => check_length("values", values.len(), n),
        Packed::Int8 { codes, scales } => {
            check_length("codes", codes.len(), n)?;
            check_length("scales", scales.len(), if scales.len() == 1 { 1 } else { rows })
        }
        Packed::Int4 { codes, scales, group } => {
            if let Some(reason) = tensor.encoding().refusal(&tensor.shape) {
                return Err(KernelError::Shape(reason));
            }
            check_length("codes", codes.len(), n / 2)?;
            check_length("scales", floats(scales), n / group)
        }
        Packed::Nf4 { codes, absmax, block } => {
            if *block == 0 {
                return Err(KernelError::Shape("a block of 0 values holds nothing".into()));
            }
            check_length("codes", codes.len(), n.div_ceil(2))?;
            let blocks = n.div_ceil(*block);
            match absmax {
                Absmax::Plain(values) => check_length("absmax", floats(values), blocks),
                Absmax::Double { codes, nested, .. } => {
                    check_length("absmax", codes.len(), blocks)?;
                    check_length(
                        "nested absmax",
                        nested.len(),
                        blocks.div_ceil(statepress_core::encoding::NESTED_BLOCK),
                    )
                }
            }
        }
    }
}

fn check_length(part: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    if found == expected { Ok(()) } else { Err(KernelError::Length { part, found, expected }) }
}

/// All numbers of a tensor whose lengths have been [`check`]ed.
pub fn decode(tensor: &Tensor) -> Vec<f32> {
    let n = shape::elements(&tensor.shape).unwrap_or(0);
    let mut out = vec![0.0; n];
    decode_range(tensor, 0, &mut out);
    out
}

/// The numbers from `first` of the flattened tensor on, as many as `out` takes.
pub fn decode_range(tensor: &Tensor, first: usize, out: &mut [f32]) {
    let range = first..first + out.len();
    match &tensor.data {
        Packed::F32(values) => out.copy_from_slice(&values[range]),
        Packed::F16(bits) => half16::decode_f16(&bits[range], out),
        Packed::Bf16(bits) => half16::decode_bf16(&bits[range], out),
        Packed::Int8 { codes, scales } => {
            let per_scale = codes.len() / scales.len().max(1);
            int8::decode(&codes[range], scales, per_scale, first, out);
        }
        Packed::Int4 { codes, scales, group } => int4::decode(codes, scales, *group, first, out),
        Packed::Nf4 { codes, absmax, block } => nf4::decode(codes, absmax, *block, first, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_not_finite_is_found_wherever_it_is() {
        for n in [0, 1, 3, 15, 16, 17, 64, 71] {
            let mut values: Vec<f32> =
                (0..n).map(|i| if i % 2 == 0 { f32::MAX } else { -f32::from_bits(1) }).collect();
            assert!(all_finite(&values), "{n}");
            for at in 0..n {
                for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
                    let before = std::mem::replace(&mut values[at], odd);
                    assert!(!all_finite(&values), "{odd} at {at} of {n}");
                    values[at] = before;
                }
            }
        }
    }
}

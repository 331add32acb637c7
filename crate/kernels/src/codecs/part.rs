//! A part of a packed tensor along its first dimension, such as one expert of many.

use statepress_core::tensor::{Absmax, Floats};
use statepress_core::{Packed, Tensor};

use super::{nf4, nibbles};
use crate::KernelError;

/// The `index`th of `count` equal parts along the first dimension, still packed.
///
/// # Errors
/// Where a group or block of codes lies across two parts: its scale would belong to both.
pub fn part(tensor: &Tensor, index: usize, count: usize) -> Result<Tensor, KernelError> {
    let shape = tensor.shape[1..].to_vec();
    let (rows, cols) = tensor.matrix();
    let (rows, n) = (rows / count, rows / count * cols);
    let numbers = index * n..(index + 1) * n;
    let whole = |block: usize, what: &str| {
        if n.is_multiple_of(block) || block >= n * count {
            return Ok(());
        }
        Err(KernelError::Shape(format!("{what} of {block} numbers lie across experts of {n}")))
    };
    // Codes of two to a byte; an odd number of them does not begin with a byte.
    let halves = |codes: &[u8]| match n.is_multiple_of(2) {
        true => codes[numbers.start / 2..numbers.end / 2].to_vec(),
        false => nibbles::pack(numbers.clone().map(|i| nibbles::get(codes, i)), 0),
    };
    let data = match &tensor.data {
        Packed::F32(values) => Packed::F32(values[numbers].to_vec()),
        Packed::F16(bits) => Packed::F16(bits[numbers].to_vec()),
        Packed::Bf16(bits) => Packed::Bf16(bits[numbers].to_vec()),
        Packed::Int8 { codes, scales } => Packed::Int8 {
            codes: codes[numbers].to_vec(),
            scales: match scales.len() {
                1 => scales.clone(),
                _ => scales[index * rows..(index + 1) * rows].to_vec(),
            },
        },
        Packed::Int4 { codes, scales, group } => {
            whole(*group, "groups")?;
            let of = |i: usize| i / group;
            let range = of(numbers.start)..of(numbers.end);
            let scales = match scales {
                Floats::F32(values) => Floats::F32(values[range].to_vec()),
                Floats::F16(bits) => Floats::F16(bits[range].to_vec()),
            };
            Packed::Int4 { codes: halves(codes), scales, group: *group }
        }
        Packed::Nf4 { codes, absmax, block } => {
            whole(*block, "blocks")?;
            let range = numbers.start / block..numbers.end.div_ceil(*block);
            // What is coded twice is decoded once: the numbers stay the same.
            let absmax = range.map(|i| nf4::block_absmax(absmax, i)).collect();
            Packed::Nf4 { codes: halves(codes), absmax: Absmax::Plain(Floats::F32(absmax)), block: *block }
        }
    };
    Ok(Tensor { shape, data })
}

#[cfg(test)]
mod tests {
    use statepress_core::Encoding;
    use statepress_core::encoding::{AbsmaxType, Granularity, ScaleType};

    use super::super::{Clip, decode, encode};
    use super::*;

    #[test]
    fn parts_decode_to_the_numbers_of_the_whole() {
        let values: Vec<f32> = (0..3 * 4 * 8).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        for encoding in [
            Encoding::Fp32,
            Encoding::Fp16,
            Encoding::Bf16,
            Encoding::Int8 { granularity: Granularity::Row },
            Encoding::Int8 { granularity: Granularity::Tensor },
            Encoding::Int4 { group: 8, scale: ScaleType::Fp16 },
            Encoding::Nf4 { block: 16, absmax: AbsmaxType::Double },
        ] {
            let tensor = encode(&values, &[3, 4, 8], encoding, Clip::Absmax).unwrap().tensor;
            let whole = decode(&tensor);
            for index in 0..3 {
                let part = part(&tensor, index, 3).unwrap();
                assert_eq!(part.shape, [4, 8]);
                assert_eq!(decode(&part), whole[index * 32..(index + 1) * 32], "{encoding:?}");
            }
        }
        let block = Encoding::Nf4 { block: 64, absmax: AbsmaxType::Fp32 };
        let tensor = encode(&values, &[3, 4, 8], block, Clip::Absmax).unwrap().tensor;
        let error = part(&tensor, 1, 3).unwrap_err().to_string();
        assert!(error.contains("blocks of 64") && error.contains("experts of 32"), "{error}");
    }
}

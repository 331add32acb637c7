//! A part of a packed tensor along its first dimension, such as one expert of many.

use statepress_core::{Codes, Packed, Scales, Tensor};

use super::{scales, stream};
use crate::KernelError;

/// The `index`th of `count` equal parts along the first dimension, still packed.
///
/// # Errors
/// Where a group of codes lies across two parts: its scale would belong to both. And where rows are of classes, which only
/// matrices have.
pub fn part(tensor: &Tensor, index: usize, count: usize) -> Result<Tensor, KernelError> {
    let shape = tensor.shape[1..].to_vec();
    let (rows, cols) = tensor.matrix();
    let n = rows / count * cols;
    let numbers = index * n..(index + 1) * n;
    let data = match &tensor.data {
        Packed::F32(values) => Packed::F32(values[numbers].to_vec()),
        Packed::F16(bits) => Packed::F16(bits[numbers].to_vec()),
        Packed::Bf16(bits) => Packed::Bf16(bits[numbers].to_vec()),
        Packed::Codes(Codes { grid, group, codes, scales }) => {
            let size = group.size(&tensor.shape);
            if !n.is_multiple_of(size) && size < n * count {
                let reason = format!("groups of {size} numbers lie across experts of {n}");
                return Err(KernelError::Shape(reason));
            }
            let groups = numbers.start / size..numbers.end.div_ceil(size);
            let bits = grid.bits();
            // The first code of a part may not begin with a byte.
            let codes = match (numbers.start * bits).is_multiple_of(8) {
                true => codes[numbers.start * bits / 8..(numbers.end * bits).div_ceil(8)].to_vec(),
                false => stream::pack(numbers.map(|i| stream::get(codes, bits, i)), bits, 0),
            };
            let scales = match scales {
                Scales::F32(values) => Scales::F32(values[groups].to_vec()),
                Scales::F16(bits) => Scales::F16(bits[groups].to_vec()),
                Scales::Affine { scales, minimums } => Scales::Affine {
                    scales: scales[groups.clone()].to_vec(),
                    minimums: minimums[groups].to_vec(),
                },
                Scales::Log8 { codes, unit } => Scales::Log8 { codes: codes[groups].to_vec(), unit: *unit },
                // What is coded twice is decoded once: the numbers stay the same.
                Scales::Double { .. } => {
                    Scales::F32(groups.map(|group| scales::get(scales, group)).collect())
                }
            };
            Packed::Codes(Codes { grid: *grid, group: *group, codes, scales })
        }
        Packed::Rows(_) => {
            return Err(KernelError::Shape(
                "rows in classes are of one matrix, not of several experts".into(),
            ));
        }
    };
    Ok(Tensor { shape, data })
}

#[cfg(test)]
mod tests {
    use statepress_core::encoding::{Granularity, ScaleType};
    use statepress_core::{Encoding, Grid};

    use super::super::{Clip, decode, encode};
    use super::*;

    #[test]
    fn parts_decode_to_the_numbers_of_the_whole() {
        let values: Vec<f32> = (0..3 * 4 * 8).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        for encoding in [
            Encoding::Fp32,
            Encoding::Fp16,
            Encoding::Bf16,
            Encoding::int8(Granularity::Row),
            Encoding::int8(Granularity::Tensor),
            Encoding::int4(8, ScaleType::Fp16),
            Encoding::nf4(16, ScaleType::Double),
            Encoding::grouped(Grid::Int3, 8, ScaleType::Log8),
            Encoding::grouped(Grid::Int5, 32, ScaleType::Fp16),
            Encoding::grouped(Grid::Int8, 32, ScaleType::Fp16),
            Encoding::grouped(Grid::Int5, 8, ScaleType::Affine),
        ] {
            let tensor = encode(&values, &[3, 4, 8], encoding, Clip::Absmax).unwrap().tensor;
            let whole = decode(&tensor);
            for index in 0..3 {
                let part = part(&tensor, index, 3).unwrap();
                assert_eq!(part.shape, [4, 8]);
                assert_eq!(decode(&part), whole[index * 32..(index + 1) * 32], "{encoding:?}");
            }
        }
        let block = Encoding::nf4(64, ScaleType::Fp32);
        let tensor = encode(&values, &[3, 4, 8], block, Clip::Absmax).unwrap().tensor;
        let error = part(&tensor, 1, 3).unwrap_err().to_string();
        assert!(error.contains("groups of 64") && error.contains("experts of 32"), "{error}");
    }
}

//! Numbers coded as a tensor already is: its scales stay, and each number gets the code nearest to it.
//!
//! What a tensor decodes to is coded as the tensor itself, so this can be done again and again while numbers move.

use statepress_core::{Codes, Packed, Scales, Tensor, shape};

use super::{Clip, Scaled, all_finite, check, check_length, encode, packed, rows, scales};
use crate::KernelError;

/// Codes `values` in the encoding of `like` and with its scales; where rows are of classes, each row stays in its own.
///
/// # Errors
/// For more or fewer numbers than `like` has, numbers that are not finite where there are codes, and a tensor that does not
/// pass [`check`].
pub fn encode_like(values: &[f32], like: &Tensor) -> Result<Tensor, KernelError> {
    check(like)?;
    check_length("values", values.len(), shape::elements(&like.shape).unwrap_or(usize::MAX))?;
    match &like.data {
        Packed::F32(_) | Packed::F16(_) | Packed::Bf16(_) => {
            Ok(encode(values, &like.shape, like.encoding(), Clip::Absmax)?.tensor)
        }
        Packed::Codes(of) => {
            if !all_finite(values)
                && let Some(index) = values.iter().position(|value| !value.is_finite())
            {
                return Err(KernelError::NotFinite { index, value: values[index] });
            }
            let mut codes = Vec::with_capacity(values.len());
            for (group, values) in values.chunks(of.group.size(&like.shape)).enumerate() {
                let scaled = Scaled::new(of.grid, scales::get(&of.scales, group));
                if let Scales::Affine { .. } = of.scales {
                    let center = scales::center(&of.scales, of.grid, group);
                    let values: Vec<f32> = values.iter().map(|value| value - center).collect();
                    scaled.round(&values, &mut codes);
                } else {
                    scaled.round(values, &mut codes);
                }
            }
            let data = Packed::Codes(Codes { codes: packed(codes, of.grid), ..of.clone() });
            Ok(Tensor { shape: like.shape.clone(), data })
        }
        Packed::Rows(classed) => {
            let of_rows = classed.of_rows();
            let parts = classed.parts().iter().enumerate();
            let parts =
                parts.map(|(class, part)| encode_like(&rows::of_class(values, &of_rows, class), part));
            rows::join(&like.shape, parts.collect::<Result<_, _>>()?, &of_rows)
        }
    }
}

/// How many numbers of a tensor do not move whatever their codes, as their scale is zero.
pub fn still(tensor: &Tensor) -> usize {
    match &tensor.data {
        Packed::F32(_) | Packed::F16(_) | Packed::Bf16(_) => 0,
        Packed::Codes(codes) => {
            let (n, size) = (shape::elements(&tensor.shape).unwrap_or(0), codes.group.size(&tensor.shape));
            let zero = (0..codes.scales.len()).filter(|&group| scales::get(&codes.scales, group) == 0.0);
            zero.map(|group| size.min(n.saturating_sub(group * size))).sum()
        }
        Packed::Rows(classed) => classed.parts().iter().map(still).sum(),
    }
}

/// Brings numbers within what the codes of `like` reach with its scales: no code is nearer to what lies beyond. There have to
/// be as many as `like` has.
pub fn clamp_like(values: &mut [f32], like: &Tensor) {
    match &like.data {
        Packed::F32(_) | Packed::F16(_) | Packed::Bf16(_) => {}
        Packed::Codes(of) => {
            for (group, values) in values.chunks_mut(of.group.size(&like.shape)).enumerate() {
                let scale = scales::get(&of.scales, group);
                let center = scales::center(&of.scales, of.grid, group);
                let (one, other) = (of.grid.least() * scale + center, of.grid.most() * scale + center);
                let (low, high) = (one.min(other), one.max(other));
                for value in values {
                    // What is no number stays so: that is for others to find.
                    if *value < low || *value > high {
                        *value = if *value < low { low } else { high };
                    }
                }
            }
        }
        Packed::Rows(classed) => {
            let of_rows = classed.of_rows();
            let cols = like.matrix().1.max(1);
            for (class, part) in classed.parts().iter().enumerate() {
                let mut of_class = rows::of_class(values, &of_rows, class);
                clamp_like(&mut of_class, part);
                let places =
                    values.chunks_exact_mut(cols).zip(&of_rows).filter(|(_, of)| usize::from(**of) == class);
                places.zip(of_class.chunks_exact(cols)).for_each(|((to, _), from)| to.copy_from_slice(from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use statepress_core::encoding::{Granularity, RowClass, RowClasses, ScaleType};
    use statepress_core::{Encoding, Grid};

    use super::super::decode;
    use super::*;

    fn encodings() -> Vec<Encoding> {
        let two = [Encoding::grouped(Grid::Lm3, 8, ScaleType::Log8), Encoding::stepped()];
        let classes = two.map(|encoding| RowClass { rows: 6, plain: encoding.plain().unwrap() });
        let mut all = vec![
            Encoding::Fp32,
            Encoding::Fp16,
            Encoding::Bf16,
            Encoding::int8(Granularity::Row),
            Encoding::int8(Granularity::Tensor),
            Encoding::stepped(),
            Encoding::int4(8, ScaleType::Fp16),
            Encoding::nf4(16, ScaleType::Double),
            Encoding::grouped(Grid::Int8, 32, ScaleType::Fp16),
            Encoding::grouped(Grid::Int4, 32, ScaleType::Affine),
            Encoding::grouped(Grid::Int2, 16, ScaleType::Affine),
            Encoding::Rows(RowClasses::new(&classes).unwrap()),
        ];
        let grids = [Grid::Int6, Grid::Int5, Grid::Nf4, Grid::Int3, Grid::Lm3, Grid::Int2, Grid::Lm2];
        all.extend(grids.map(|grid| Encoding::grouped(grid, 32, ScaleType::Fp16)));
        all
    }

    #[test]
    fn what_a_tensor_decodes_to_is_coded_as_it_is_and_other_numbers_are_with_its_scales() {
        let values: Vec<f32> = (0..12 * 16).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        for encoding in encodings() {
            let like = encode(&values, &[12, 16], encoding, Clip::Absmax).unwrap().tensor;
            let decoded = decode(&like);
            assert_eq!(encode_like(&decoded, &like).unwrap(), like, "{encoding:?}");
            // Numbers farther out than any code are clipped, and none is nearer than the code that is taken.
            let mut moved: Vec<f32> = decoded.iter().map(|x| 3.0 * x + 0.01).collect();
            let far = decode(&encode_like(&moved, &like).unwrap());
            clamp_like(&mut moved, &like);
            assert_eq!(decode(&encode_like(&moved, &like).unwrap()), far, "{encoding:?}");
            let within = |x: &f32| x.abs() < 16.0;
            assert!(!encoding.is_described() || moved.iter().all(within), "{encoding:?}");
            assert_eq!(still(&like), 0, "{encoding:?}");
        }
    }

    #[test]
    fn numbers_of_a_scale_of_zero_are_counted_and_stay() {
        let values: Vec<f32> = (0..48).map(|i| if (16..40).contains(&i) { 0.0 } else { i as f32 }).collect();
        for (scale, group, count) in
            [(ScaleType::Log8, 16, 16), (ScaleType::Fp16, 48, 0), (ScaleType::Log8, 20, 20)]
        {
            let encoding = Encoding::grouped(Grid::Lm3, group, scale);
            let like = encode(&values, &[3, 16], encoding, Clip::Absmax).unwrap().tensor;
            assert_eq!(still(&like), count, "{group}");
            let moved = decode(&encode_like(&[1.0; 48], &like).unwrap());
            assert!(count == 0 || moved[20..32].iter().all(|&x| x == 0.0), "{group}: {moved:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let like =
            encode(&[0.5; 32], &[2, 16], Encoding::int4(8, ScaleType::Fp16), Clip::Absmax).unwrap().tensor;
        assert!(encode_like(&[0.5; 31], &like).is_err());
        let mut values = [0.5; 32];
        values[7] = f32::NAN;
        let error = encode_like(&values, &like).unwrap_err();
        assert!(matches!(error, KernelError::NotFinite { index: 7, .. }), "{error}");
        let mut damaged = like.clone();
        let Packed::Codes(codes) = &mut damaged.data else { unreachable!() };
        codes.codes.pop();
        assert!(encode_like(&[0.5; 32], &damaged).is_err());
    }
}

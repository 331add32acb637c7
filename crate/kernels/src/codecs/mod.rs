//! Codecs: numbers to the packed bytes of a precision, and back.
//!
//! A grid is fitted to every group ([`fit`]), its scale is rounded to how it is stored ([`scales`]), numbers are rounded
//! to the grid ([`grid`]), and codes are packed ([`stream`]): four things that do not know each other. Loops over many numbers, a
//! search for a scale among them, have levels of their own ([`levels`]).
//!
//! Deterministic: the same bytes on every machine and in every build. Every operation in here is
//! correctly rounded by IEEE 754 and in a fixed order; there is no transcendental function.

pub mod fit;
pub mod grid;
pub mod half16;
pub mod levels;
mod like;
mod part;
pub mod rows;
pub mod scales;
pub mod stream;

use half::f16;
use statepress_core::encoding::{Coding, ScaleType};
use statepress_core::{Codes, Encoding, Grid, Levels, Packed, Scales, Tensor, shape};

use crate::KernelError;
use crate::lanes::F32x4;
pub use fit::Clip;
pub use grid::Scaled;
pub use like::{clamp_like, encode_like, still};
pub use part::part;

/// A coded tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The tensor.
    pub tensor: Tensor,
    /// Values that did not fit: beyond the clipping point, the range of a 16-bit float, or what
    /// the codes can reach with the scale as it is stored.
    pub clipped: u64,
}

/// Codes `values` of a tensor of `shape`. `clip` concerns codes, not floats. Where rows are of classes, they are dealt to
/// them in turn: [`rows::join`] takes them in any order.
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
    if encoding.coding().is_some() {
        check_finite(values)?;
    }
    clip.check()?;
    let (data, clipped) = match encoding {
        Encoding::Fp32 => (Packed::F32(values.to_vec()), 0),
        Encoding::Fp16 => half16::encode_f16(values),
        Encoding::Bf16 => half16::encode_bf16(values),
        Encoding::Codes(coding) if coding.scale == ScaleType::Affine => {
            (Packed::Codes(from_minimums(values, shape, coding)), 0)
        }
        Encoding::Codes(coding) => {
            let (codes, clipped) = round(values, shape, coding, clip);
            (Packed::Codes(codes), clipped)
        }
        Encoding::Rows(classes) => return rows::dealt(values, shape, &classes, clip),
    };
    Ok(Encoded { tensor: Tensor { shape: shape.to_vec(), data }, clipped })
}

/// The same for numbers of which somebody has chosen the scale of each group, and with it where that clips.
///
/// # Errors
/// For numbers that are not finite, and if there are not as many of both as the shape needs.
pub fn encode_scaled(
    values: &[f32],
    shape: &[usize],
    coding: Coding,
    scales: Vec<f32>,
) -> Result<Encoded, KernelError> {
    check_length("values", values.len(), shape::elements(shape).unwrap_or(usize::MAX))?;
    check_length("scales", scales.len(), values.len().div_ceil(coding.group.size(shape)))?;
    check_finite(values)?;
    let (codes, clipped) = round_scaled(values, shape, coding, scales);
    Ok(Encoded { tensor: Tensor { shape: shape.to_vec(), data: Packed::Codes(codes) }, clipped })
}

/// Rounds each group to steps between its least and its largest number. No recipe does: it is for whoever needs codes such as other
/// tools make.
fn from_minimums(values: &[f32], shape: &[usize], coding: Coding) -> Codes {
    let Coding { grid, group, .. } = coding;
    let (mut codes, mut scales, mut minimums) = (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
    for values in values.chunks(group.size(shape)) {
        let range = |(least, most): (f32, f32), &value: &f32| (least.min(value), most.max(value));
        let (minimum, most) = values.iter().fold((f32::MAX, f32::MIN), range);
        // Halves, as the difference of two numbers may be none.
        let scale = (most / 2.0 - minimum / 2.0) / (grid.most() - grid.least()) * 2.0;
        let steps: Vec<f32> = values.iter().map(|value| value - minimum + grid.least() * scale).collect();
        Scaled::new(grid, scale).round(&steps, &mut codes);
        scales.push(scale);
        minimums.push(minimum);
    }
    Codes { grid, group, codes: packed(codes, grid), scales: Scales::Affine { scales, minimums } }
}

/// Plain rounding: every group gets its scale, every number the code nearest to it. Also counts what was clipped.
fn round(values: &[f32], shape: &[usize], coding: Coding, clip: Clip) -> (Codes, u64) {
    let size = coding.group.size(shape);
    let Fitted { scales, clipped } = fit(values, size, coding, clip);
    let (codes, beyond) = round_to(values, size, coding, scales);
    (codes, clipped.unwrap_or(beyond))
}

fn round_scaled(values: &[f32], shape: &[usize], coding: Coding, scales: Vec<f32>) -> (Codes, u64) {
    let size = coding.group.size(shape);
    let clipped = beyond_all(values, size, coding.grid, &scales);
    (round_to(values, size, coding, scales).0, clipped)
}

/// Rounds to scales that are wanted. Also counts what they do not reach as they are stored.
fn round_to(values: &[f32], size: usize, coding: Coding, wanted: Vec<f32>) -> (Codes, u64) {
    let (scales, used) = store(coding, wanted);
    let (codes, beyond) = round_by(values, size, coding, &used);
    (Codes { grid: coding.grid, group: coding.group, codes, scales }, beyond)
}

/// The scales that are wanted of groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fitted {
    /// One for each group.
    pub scales: Vec<f32>,
    /// Numbers that they clip; where they are not to clip any, what they do not reach is seen when they are rounded.
    pub clipped: Option<u64>,
}

/// Fits the grid to finite numbers of whole groups of `size` numbers: the first step of plain rounding, before [`store`] and [`round_by`].
/// By these steps a tensor is rounded in parts, to the same codes as by [`encode`].
pub fn fit(values: &[f32], size: usize, coding: Coding, clip: Clip) -> Fitted {
    let groups = || values.chunks(size);
    let within = |limits: &[f32]| limits.iter().map(|limit| limit / coding.grid.most()).collect();
    match clip {
        Clip::Absmax => {
            let limits: Vec<f32> = groups().map(fit::absmax).collect();
            Fitted { scales: within(&limits), clipped: None }
        }
        Clip::Percentile(percentile) => {
            let mut sorted = Vec::new();
            let limit = |values| fit::quantile(values, percentile, &mut sorted);
            let limits: Vec<f32> = groups().map(limit).collect();
            let clipped = groups().zip(&limits).map(|(values, &limit)| count(values, limit)).sum();
            Fitted { scales: within(&limits), clipped: Some(clipped) }
        }
        Clip::Mse | Clip::Weighted => {
            let scales = fit::searched(values, coding, size);
            let clipped = beyond_all(values, size, coding.grid, &scales);
            Fitted { scales, clipped: Some(clipped) }
        }
    }
}

/// The wanted scales of a whole tensor as they are stored, and those that codes are made with.
pub fn store(coding: Coding, wanted: Vec<f32>) -> (Scales, Vec<f32>) {
    // Whole numbers are divided by their scale, which therefore is not zero: such a group has codes 0.
    let instead = if coding.grid.levels() == Levels::Integers { 1.0 } else { 0.0 };
    scales::store(wanted, coding.scale, instead)
}

/// The codes of numbers, as they are stored, by the scales of their groups of `size` numbers. Also counts what those do not reach.
pub fn round_by(values: &[f32], size: usize, coding: Coding, used: &[f32]) -> (Vec<u8>, u64) {
    let Coding { grid, scale, .. } = coding;
    let mut codes = Vec::with_capacity(values.len());
    let mut clipped = 0;
    for (values, &used) in values.chunks(size).zip(used) {
        let beyond = Scaled::new(grid, used).round(values, &mut codes);
        clipped += match scale {
            ScaleType::Fp16 if grid.levels() == Levels::Integers => beyond,
            ScaleType::Fp16 => count(values, f16::MAX.to_f32()),
            // A scale that is stored exactly, or rounded up, reaches every number of its group.
            ScaleType::Fp32 | ScaleType::Log8 | ScaleType::Double | ScaleType::Affine => 0,
        };
    }
    (packed(codes, grid), clipped)
}

/// A tensor of codes, a byte each, and scales that somebody has chosen, one for each group.
///
/// # Errors
/// If there are not as many of both as the shape needs.
pub fn assemble(
    shape: &[usize],
    coding: Coding,
    codes: Vec<u8>,
    scales: Vec<f32>,
) -> Result<Tensor, KernelError> {
    let Coding { grid, group, scale } = coding;
    check_length("codes", codes.len(), shape::elements(shape).unwrap_or(usize::MAX))?;
    let (scales, _) = scales::store(scales, scale, 0.0);
    let data = Packed::Codes(Codes { grid, group, codes: packed(codes, grid), scales });
    let tensor = Tensor { shape: shape.to_vec(), data };
    check(&tensor)?;
    Ok(tensor)
}

/// Codes as they are stored.
fn packed(codes: Vec<u8>, grid: Grid) -> Vec<u8> {
    match grid.bits() {
        8 => codes,
        bits => stream::pack(codes.into_iter(), bits, grid.padding()),
    }
}

fn count(values: &[f32], limit: f32) -> u64 {
    values.iter().filter(|value| value.abs() > limit).count() as u64
}

/// How many numbers the levels of a group do not reach: those farther from the last one than half the step before it, which
/// no number between two levels is.
pub fn beyond(values: &[f32], grid: Grid, scale: f32) -> u64 {
    let half = match grid.levels() {
        Levels::Integers => 0.5,
        Levels::Table(table) => (grid.most() - table[table.len().saturating_sub(2)]) / 2.0,
    };
    let (a, b) = ((grid.least() - half) * scale, (grid.most() + half) * scale);
    values.iter().filter(|value| **value < a.min(b) || **value > a.max(b)).count() as u64
}

fn beyond_all(values: &[f32], size: usize, grid: Grid, scales: &[f32]) -> u64 {
    values.chunks(size).zip(scales).map(|(values, &scale)| beyond(values, grid, scale)).sum()
}

fn check_finite(values: &[f32]) -> Result<(), KernelError> {
    if !all_finite(values)
        && let Some(index) = values.iter().position(|value| !value.is_finite())
    {
        return Err(KernelError::NotFinite { index, value: values[index] });
    }
    Ok(())
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
    let n = shape::elements(&tensor.shape).unwrap_or(usize::MAX);
    match &tensor.data {
        Packed::F32(values) => check_length("values", values.len(), n),
        Packed::F16(values) | Packed::Bf16(values) => check_length("values", values.len(), n),
        Packed::Codes(codes) => {
            if let Some(reason) = tensor.encoding().refusal(&tensor.shape) {
                return Err(KernelError::Shape(reason));
            }
            check_length("codes", codes.codes.len(), codes.grid.packed_bytes(n))?;
            let groups = codes.coding().scales(&tensor.shape);
            check_length("scales", codes.scales.len(), groups)?;
            match &codes.scales {
                Scales::Affine { minimums, .. } => check_length("minimums", minimums.len(), groups),
                Scales::Double { nested, .. } => {
                    let blocks = groups.div_ceil(statepress_core::encoding::NESTED_BLOCK);
                    check_length("nested scales", nested.len(), blocks)
                }
                _ => Ok(()),
            }
        }
        Packed::Rows(rows) => {
            if let Some(reason) = tensor.encoding().refusal(&tensor.shape) {
                return Err(KernelError::Shape(reason));
            }
            for part in rows.parts() {
                check_length("columns of a class of rows", part.matrix().1, tensor.matrix().1)?;
                check(part)?;
            }
            Ok(())
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

/// The same, without a copy of what is float32.
pub fn into_numbers(tensor: Tensor) -> Vec<f32> {
    match tensor.data {
        Packed::F32(values) => values,
        _ => decode(&tensor),
    }
}

/// The numbers from `first` of the flattened tensor on, as many as `out` takes.
pub fn decode_range(tensor: &Tensor, first: usize, out: &mut [f32]) {
    let range = first..first + out.len();
    match &tensor.data {
        Packed::F32(values) => out.copy_from_slice(&values[range]),
        Packed::F16(bits) => half16::decode_f16(&bits[range], out),
        Packed::Bf16(bits) => half16::decode_bf16(&bits[range], out),
        Packed::Codes(codes) => {
            let size = codes.group.size(&tensor.shape);
            let mut at = 0;
            while at < out.len() {
                let group = (first + at) / size;
                let end = out.len().min((group + 1) * size - first);
                let (scale, out) = (scales::get(&codes.scales, group), &mut out[at..end]);
                match &codes.scales {
                    // Counted from the least code, as what other tools compute is rounded once.
                    Scales::Affine { minimums, .. } => {
                        unpack(codes.grid, &codes.codes, first + at, 1.0, out);
                        let (least, minimum) = (codes.grid.least(), minimums[group]);
                        out.iter_mut().for_each(|it| *it = (*it - least) * scale + minimum);
                    }
                    _ => unpack(codes.grid, &codes.codes, first + at, scale, out),
                }
                at = end;
            }
        }
        Packed::Rows(rows) => rows::decode(rows, tensor.matrix().1, range, out),
    }
}

/// The numbers of codes from `first` on that share a scale.
fn unpack(grid: Grid, codes: &[u8], first: usize, scale: f32, out: &mut [f32]) {
    if grid.bits() == 8 {
        for (out, &code) in out.iter_mut().zip(&codes[first..]) {
            *out = f32::from(code as i8) * scale;
        }
        return;
    }
    let levels = &LEVELS[grid as usize];
    for (i, out) in out.iter_mut().enumerate() {
        *out = levels[usize::from(stream::get(codes, grid.bits(), first + i)) % levels.len()] * scale;
    }
}

/// What the codes of every grid of at most 6 bits stand for.
const LEVELS: [[f32; 64]; Grid::ALL.len()] = {
    let mut all = [[0.0; 64]; Grid::ALL.len()];
    let mut grid = 0;
    while grid < all.len() {
        let mut code = 0;
        while code < 64 {
            all[grid][code] = Grid::ALL[grid].level(code as u8);
            code += 1;
        }
        grid += 1;
    }
    all
};

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

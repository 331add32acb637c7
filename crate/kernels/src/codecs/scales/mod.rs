//! Scales as they are stored: wanted ones are rounded first, so that codes are made with what a reader will have.

mod double;
mod log8;

use half::f16;
use statepress_core::encoding::ScaleType;
use statepress_core::{Grid, Scales};

/// Stores scales that are wanted; also gives those that codes are made with. A float that would be stored as zero is
/// stored as `instead`.
///
/// With double quantization codes are made with the wanted ones, as bitsandbytes does.
pub fn store(wanted: Vec<f32>, kind: ScaleType, instead: f32) -> (Scales, Vec<f32>) {
    let some = |scale: f32| if scale == 0.0 { instead } else { scale };
    let scales = match kind {
        // Codes that are made here are around zero, and need no minimums.
        ScaleType::Fp32 | ScaleType::Affine => Scales::F32(wanted.into_iter().map(some).collect()),
        ScaleType::Fp16 => {
            let half = |scale: f32| f16::from_f32(some(f16::from_f32(scale.min(f16::MAX.to_f32())).to_f32()));
            Scales::F16(wanted.into_iter().map(|scale| half(scale).to_bits()).collect())
        }
        ScaleType::Log8 => log8::store(&wanted),
        ScaleType::Double => return (double::store(&wanted), wanted),
    };
    let used = all(&scales);
    (scales, used)
}

/// What a scale is once it is stored, as far as that does not depend on others: with double quantization it does.
pub fn stored(scale: f32, kind: ScaleType) -> f32 {
    match kind {
        ScaleType::Fp32 | ScaleType::Double | ScaleType::Affine => scale,
        ScaleType::Fp16 => f16::from_f32(scale.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32())).to_f32(),
        ScaleType::Log8 => log8::nearest(scale),
    }
}

/// The scale of a group.
#[inline]
pub fn get(scales: &Scales, group: usize) -> f32 {
    match scales {
        Scales::F32(values) | Scales::Affine { scales: values, .. } => values[group],
        Scales::F16(bits) => f16::from_bits(bits[group]).to_f32(),
        Scales::Log8 { codes, unit } => log8::scale(codes[group], *unit),
        Scales::Double { codes, nested, offset } => double::scale(codes, nested, *offset, group),
    }
}

/// What code 0 of a group stands for: zero, but where the group has a minimum.
#[inline]
pub fn center(scales: &Scales, grid: Grid, group: usize) -> f32 {
    match scales {
        Scales::Affine { scales, minimums } => minimums[group] - grid.least() * scales[group],
        _ => 0.0,
    }
}

/// All of them.
pub fn all(scales: &Scales) -> Vec<f32> {
    (0..scales.len()).map(|group| get(scales, group)).collect()
}

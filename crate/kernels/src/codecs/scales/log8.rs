//! Scales of a byte: `unit * 2^(-code / 8)`, 32 octaves in steps of 9 %; code 255 is zero.
//!
//! The unit is the least power of two that no scale exceeds. A scale is rounded up, so that no number of its group is
//! clipped; whoever chooses the scale may choose a lower one on purpose.

use statepress_core::Scales;
use statepress_core::tables::EIGHTHS;

/// The code of zero.
const ZERO: u8 = 255;

/// Stores scales that are finite and not below zero.
pub(super) fn store(scales: &[f32]) -> Scales {
    let unit = power_above(super::super::fit::absmax(scales));
    Scales::Log8 { codes: scales.iter().map(|&scale| code(scale, unit)).collect(), unit }
}

/// The number that a code stands for. Below float32's least it is zero.
#[inline]
pub(super) fn scale(code: u8, unit: f32) -> f32 {
    if code == ZERO { 0.0 } else { unit * ratio(code) }
}

/// The code of the least scale that is not below this one.
fn code(scale: f32, unit: f32) -> u8 {
    if scale == 0.0 {
        return ZERO;
    }
    let (mut low, mut high) = (0, ZERO);
    // The largest code that is not below: ratios fall.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if self::scale(middle, unit) >= scale { low = middle } else { high = middle }
    }
    low
}

/// The nearest of all scales there can be, whatever the unit: units differ by octaves. Zero for what is not above zero.
pub(super) fn nearest(scale: f32) -> f32 {
    if scale <= 0.0 || scale.is_nan() {
        return 0.0;
    }
    // A unit an octave up, so that there is one below what is rounded up.
    let unit = power_above(scale);
    let above = code(scale, unit);
    let (above, below) = (self::scale(above, unit), self::scale(above + 1, unit));
    if above - scale <= scale - below { above } else { below }
}

/// `2^(-code / 8)`.
fn ratio(code: u8) -> f32 {
    let octaves = u32::from(code / 8);
    EIGHTHS[usize::from(code % 8)] * f32::from_bits((127 - octaves) << 23)
}

/// The least power of two that is not below a number, among those of full precision.
fn power_above(number: f32) -> f32 {
    let least = f32::MIN_POSITIVE;
    if number <= least {
        return least;
    }
    let bits = number.to_bits();
    let below = f32::from_bits(bits & 0xff80_0000);
    match below < number {
        // The highest power float32 has stays; what is above it is clipped.
        true if bits >> 23 < 254 => below * 2.0,
        _ => below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_rounded_up_by_at_most_a_step() {
        let scales: Vec<f32> = (0..4000).map(|i| (i as f32 * 0.731 + 0.001) * 1e-3).collect();
        let Scales::Log8 { codes, unit } = store(&scales) else { unreachable!() };
        assert_eq!(unit, 4.0);
        for (&wanted, &code) in scales.iter().zip(&codes) {
            let found = scale(code, unit);
            assert!(found >= wanted && found < wanted * 1.0906, "{wanted} became {found}");
        }
    }

    #[test]
    fn what_is_nearest_is_stored_as_it_is() {
        let wanted: Vec<f32> = (1..3000).map(|i| i as f32 * 3.7e-4).collect();
        let stored: Vec<f32> = wanted.iter().map(|&scale| nearest(scale)).collect();
        for (wanted, stored) in wanted.iter().zip(&stored) {
            assert!((wanted / stored).ln().abs() < 0.0443, "{wanted} became {stored}");
        }
        let Scales::Log8 { codes, unit } = store(&stored) else { unreachable!() };
        let back: Vec<f32> = codes.iter().map(|&code| scale(code, unit)).collect();
        assert_eq!(back, stored);
        assert_eq!((nearest(0.0), nearest(-1.0), nearest(0.25)), (0.0, 0.0, 0.25));
    }

    #[test]
    fn powers_of_two_and_zero_are_exact() {
        let scales = [0.0, 0.5, 2.0, 0.125, 2.0f32.powi(-30)];
        let Scales::Log8 { codes, unit } = store(&scales) else { unreachable!() };
        assert_eq!(unit, 2.0);
        let back: Vec<f32> = codes.iter().map(|&code| scale(code, unit)).collect();
        assert_eq!(back, scales);
        let Scales::Log8 { codes, .. } = store(&[0.0, 0.0]) else { unreachable!() };
        assert_eq!(codes, [ZERO, ZERO]);
        assert!(power_above(f32::MAX).is_finite());
        assert_eq!((power_above(1.0), power_above(1.5)), (1.0, 2.0));
    }
}

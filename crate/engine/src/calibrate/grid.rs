//! The seam to what codes can say: levels, at scale 1, and how a scale is stored.

use half::f16;
use statepress_core::encoding::ScaleType;
use statepress_core::tables;

/// Levels that codes stand for, times a scale for each group of weights.
pub trait Grid {
    /// The level nearest to `x`. Free of branches, so that loops over it become vector code.
    fn nearest(&self, x: f32) -> f32;

    /// The code of a level.
    fn code(&self, level: f32) -> u8;

    /// The level of a code.
    fn level(&self, code: u8) -> f32;

    /// The level on which a group's largest magnitude falls if nothing is clipped.
    fn largest(&self) -> f32;

    /// Whether scales below zero are of use: levels differ from their negatives.
    fn is_signed(&self) -> bool {
        false
    }

    /// A scale as it is stored; 0 where it is too small.
    fn store(&self, scale: f32) -> f32;
}

/// Two's complement integers of some bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int {
    bits: u32,
    scale: ScaleType,
    signed: bool,
}

impl Int {
    /// Of 2 to 8 bits.
    pub fn new(bits: u32, scale: ScaleType) -> Self {
        debug_assert!((2..=8).contains(&bits), "{bits} bits");
        Self { bits, scale, signed: false }
    }

    /// The same with scales of either sign: the one level more on one side goes where it is needed.
    pub fn signed(self) -> Self {
        Self { signed: true, ..self }
    }

    fn ends(self) -> (f32, f32) {
        let half = (1i32 << (self.bits - 1)) as f32;
        (-half, half - 1.0)
    }
}

/// Adding it leaves no bits below the unit: the hardware's own rounding to even does the work.
const MAGIC: f32 = 12_582_912.0;

impl Grid for Int {
    #[inline(always)]
    fn nearest(&self, x: f32) -> f32 {
        let (least, most) = self.ends();
        let x = if x < least { least } else { x };
        let x = if x > most { most } else { x };
        (x + MAGIC) - MAGIC
    }

    fn code(&self, level: f32) -> u8 {
        level as i8 as u8
    }

    fn level(&self, code: u8) -> f32 {
        f32::from(code as i8)
    }

    fn largest(&self) -> f32 {
        self.ends().1
    }

    fn is_signed(&self) -> bool {
        self.signed
    }

    fn store(&self, scale: f32) -> f32 {
        stored(scale, self.scale)
    }
}

/// 4-bit NormalFloat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nf4 {
    absmax: ScaleType,
    /// Between every two levels.
    middles: [f32; 15],
}

impl Nf4 {
    /// With absmax values of that type.
    pub fn new(absmax: ScaleType) -> Self {
        let middle = |i: usize| (tables::NF4[i] + tables::NF4[i + 1]) / 2.0;
        Self { absmax, middles: std::array::from_fn(middle) }
    }
}

impl Grid for Nf4 {
    #[inline(always)]
    fn nearest(&self, x: f32) -> f32 {
        let mut level = tables::NF4[0];
        for (middle, above) in self.middles.iter().zip(&tables::NF4[1..]) {
            level = if x > *middle { *above } else { level };
        }
        level
    }

    fn code(&self, level: f32) -> u8 {
        tables::NF4.iter().take_while(|entry| **entry < level).count().min(15) as u8
    }

    fn level(&self, code: u8) -> f32 {
        tables::NF4[usize::from(code & 15)]
    }

    fn largest(&self) -> f32 {
        1.0
    }

    fn store(&self, scale: f32) -> f32 {
        stored(scale, self.absmax)
    }
}

fn stored(scale: f32, r#type: ScaleType) -> f32 {
    match r#type {
        // What the last two store depends on the scales of the whole tensor.
        ScaleType::Fp32 | ScaleType::Log8 | ScaleType::Double => scale,
        ScaleType::Fp16 => {
            let most = f16::MAX.to_f32();
            f16::from_f32(scale.clamp(-most, most)).to_f32()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_nearest_and_codes_go_there_and_back() {
        fn check(grid: &impl Grid, codes: impl Iterator<Item = u8> + Clone) {
            for code in codes.clone() {
                assert_eq!(grid.code(grid.level(code)), code);
                assert_eq!(grid.nearest(grid.level(code)), grid.level(code));
            }
            let most = 1.3 * grid.largest();
            for i in -5000..=5000 {
                let x = most * (i as f32 / 5000.0);
                let far = |level: f32| (x - level).abs();
                let best = codes.clone().map(|code| far(grid.level(code))).fold(f32::MAX, f32::min);
                assert!(far(grid.nearest(x)) <= best + 1e-6 * most, "{x}");
            }
        }
        for bits in 2..=8u32 {
            let half = 1i32 << (bits - 1);
            let codes = (-half..half).map(|code| code as i8 as u8);
            check(&Int::new(bits, ScaleType::Fp16), codes);
        }
        check(&Nf4::new(ScaleType::Fp32), 0..16);
        assert_eq!(Nf4::new(ScaleType::Fp32).largest(), tables::NF4[15]);
    }

    #[test]
    fn a_scale_is_what_can_be_stored() {
        let half = Int::new(4, ScaleType::Fp16);
        assert_eq!(half.store(0.1), f16::from_f32(0.1).to_f32());
        assert_eq!(half.store(1e9), 65504.0);
        assert_eq!(half.store(1e-9), 0.0);
        assert_eq!(Nf4::new(ScaleType::Fp32).store(0.1), 0.1);
    }
}

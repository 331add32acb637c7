//! Levels as loops over many weights want them: the nearest level without a branch, and how a scale is stored. What plain
//! rounding needs instead, agreement with other libraries in every tie, is in [`super::grid`].

use statepress_core::encoding::ScaleType;
use statepress_core::{Grid, Levels};

use super::scales;

/// Levels that codes stand for, times a scale for each group of weights.
pub trait Quantizer {
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

    /// The scale of a group of zeros, and of one whose scale cannot be stored.
    fn nothing(&self) -> f32 {
        1.0
    }
}

/// The scale of a group of zeros where no level is zero or all scales share a unit, until it is stored, as zero.
pub(crate) const NOTHING: f32 = 1e-30;

/// Two's complement integers of some bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Integers {
    least: f32,
    most: f32,
    scale: ScaleType,
    signed: bool,
}

impl Integers {
    /// Those of a grid of integers.
    pub fn new(grid: Grid, scale: ScaleType) -> Self {
        debug_assert_eq!(grid.levels(), Levels::Integers);
        Self { least: grid.least(), most: grid.most(), scale, signed: false }
    }

    /// The same with scales of either sign: the one level more on one side goes where it is needed.
    pub fn signed(self) -> Self {
        Self { signed: true, ..self }
    }
}

/// Adding it leaves no bits below the unit: the hardware's own rounding to even does the work.
const MAGIC: f32 = 12_582_912.0;

impl Quantizer for Integers {
    #[inline(always)]
    fn nearest(&self, x: f32) -> f32 {
        let x = if x < self.least { self.least } else { x };
        let x = if x > self.most { self.most } else { x };
        (x + MAGIC) - MAGIC
    }

    fn code(&self, level: f32) -> u8 {
        level as i8 as u8
    }

    fn level(&self, code: u8) -> f32 {
        f32::from(code as i8)
    }

    fn largest(&self) -> f32 {
        self.most
    }

    fn is_signed(&self) -> bool {
        self.signed
    }

    fn store(&self, scale: f32) -> f32 {
        scales::stored(scale, self.scale)
    }
}

/// A table of at most sixteen levels. One size for all: whatever rounds is compiled once for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Table {
    levels: [f32; 16],
    /// Between every level and the one before: below everything for the first, above everything behind the last.
    middles: [f32; 16],
    len: usize,
    scale: ScaleType,
}

impl Table {
    /// Levels in ascending order.
    pub fn new(table: &[f32], scale: ScaleType) -> Self {
        debug_assert!(table.len() <= 16);
        let level = |i: usize| table.get(i).copied().unwrap_or(f32::INFINITY);
        let middle = |i: usize| if i == 0 { f32::NEG_INFINITY } else { (level(i - 1) + level(i)) / 2.0 };
        Self {
            levels: std::array::from_fn(level),
            middles: std::array::from_fn(middle),
            len: table.len().min(16),
            scale,
        }
    }
}

impl Quantizer for Table {
    #[inline(always)]
    fn nearest(&self, x: f32) -> f32 {
        let mut level = self.levels[0];
        for (middle, above) in self.middles.iter().zip(&self.levels) {
            level = if x > *middle { *above } else { level };
        }
        level
    }

    fn code(&self, level: f32) -> u8 {
        self.levels.iter().take_while(|entry| **entry < level).count().min(self.len - 1) as u8
    }

    fn level(&self, code: u8) -> f32 {
        self.levels[usize::from(code).min(self.len - 1)]
    }

    fn largest(&self) -> f32 {
        1.0
    }

    fn nothing(&self) -> f32 {
        if self.levels.contains(&0.0) { 1.0 } else { NOTHING }
    }

    fn store(&self, scale: f32) -> f32 {
        scales::stored(scale, self.scale)
    }
}

#[cfg(test)]
mod tests {
    use statepress_core::tables;

    use super::*;

    #[test]
    fn nearest_is_nearest_and_codes_go_there_and_back() {
        fn check(grid: &impl Quantizer, codes: impl Iterator<Item = u8> + Clone) {
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
        for &grid in Grid::ALL.iter().filter(|grid| grid.levels() == Levels::Integers) {
            let codes = (grid.least() as i32..=grid.most() as i32).map(|code| code as i8 as u8);
            check(&Integers::new(grid, ScaleType::Fp16), codes);
        }
        check(&Table::new(&tables::NF4, ScaleType::Fp32), 0..16);
        check(&Table::new(&tables::LM3, ScaleType::Fp32), 0..8);
        check(&Table::new(&tables::LM2, ScaleType::Fp32), 0..4);
    }

    #[test]
    fn a_scale_is_what_can_be_stored() {
        let half = Integers::new(Grid::Int4, ScaleType::Fp16);
        assert_eq!(half.store(0.1), half::f16::from_f32(0.1).to_f32());
        assert_eq!(half.store(1e9), 65504.0);
        assert_eq!(half.store(1e-9), 0.0);
        assert_eq!(Integers::new(Grid::Int4, ScaleType::Fp32).store(0.1), 0.1);
    }
}

//! Rounding to a grid: the code nearest to a number, for one group's scale.
//!
//! Plain rounding, whoever chose the scale: by division, as the libraries do that it has to agree with bit for bit. Error
//! compensation and searches for scales round many numbers at a time, by multiplication and without branches ([`super::levels`]).

use statepress_core::{Grid, Levels};

use crate::lanes::F32x4;

/// A grid times the scale of a group.
///
/// Whole numbers: `round_half_even(value / scale)`, kept within the grid. A table: the entry nearest to
/// `value * (1 / scale)`, the lower one of two equally near (bitsandbytes' rule); with a scale so small that
/// `1 / scale` is infinite, the entry nearest to zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    grid: Grid,
    scale: f32,
    inverse: f32,
}

impl Scaled {
    /// A grid times a scale.
    pub fn new(grid: Grid, scale: f32) -> Self {
        Self { grid, scale, inverse: 1.0 / scale }
    }

    /// The code nearest to a finite number.
    #[inline]
    pub fn nearest(self, value: f32) -> u8 {
        match self.grid.levels() {
            // A logarithmic scale can be zero.
            Levels::Integers if self.scale == 0.0 => 0,
            Levels::Integers => {
                let (least, most) = (self.grid.least(), self.grid.most());
                (value / self.scale).round_ties_even().clamp(least, most) as i8 as u8
            }
            Levels::Table(table) if self.inverse.is_finite() => nearest(table, value * self.inverse),
            Levels::Table(table) => nearest(table, 0.0),
        }
    }

    /// Appends the codes of a group, as bytes; gives how many numbers lie beyond the last code.
    pub fn round(self, values: &[f32], codes: &mut Vec<u8>) -> u64 {
        if self.grid.levels() != Levels::Integers || self.scale == 0.0 {
            codes.extend(values.iter().map(|&value| self.nearest(value)));
            return 0;
        }
        let (least, most) = (self.grid.least(), self.grid.most());
        let (fours, rest) = values.as_chunks::<4>();
        let scales = F32x4::splat(self.scale);
        let ends = (F32x4::splat(least), F32x4::splat(most));
        let mut largest = F32x4::ZERO;
        for four in fours {
            // Both limits are whole: keeping within them first gives the same, and is what rounding takes.
            let units = F32x4::load(four) / scales;
            largest = largest.max(units.abs());
            codes.extend(units.max(ends.0).min(ends.1).round().to_array().map(|code| code as i8 as u8));
        }
        codes.extend(rest.iter().map(|&value| self.nearest(value)));
        let largest =
            rest.iter().fold(largest.largest(), |largest, value| largest.max((value / self.scale).abs()));
        if largest <= most {
            return 0;
        }
        let beyond = |value: &&f32| !(least..=most).contains(&(*value / self.scale).round_ties_even());
        values.iter().filter(beyond).count() as u64
    }
}

/// The nearest entry of a table: the entries below `x` bracket it, and one comparison of the two distances
/// decides, so the result is [`nearest_reference`]'s to the last bit. Beyond the table both distances
/// may round to the same number, so `x` is brought to the table's end first.
#[inline]
fn nearest(table: &[f32], x: f32) -> u8 {
    let x = x.clamp(-1.0, 1.0);
    let above =
        table.iter().map(|&entry| u8::from(entry < x)).sum::<u8>().min(table.len() as u8 - 1) as usize;
    let below = above.saturating_sub(1);
    // The lower entry wins a tie.
    if (x - table[above]).abs() < (x - table[below]).abs() { above as u8 } else { below as u8 }
}

/// The nearest entry of a table, plainly.
pub fn nearest_reference(table: &[f32], x: f32) -> u8 {
    let mut best = 0;
    for (code, entry) in table.iter().enumerate() {
        if (x - entry).abs() < (x - table[best]).abs() {
            best = code;
        }
    }
    best as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bracketing_finds_what_the_plain_search_finds() {
        for grid in Grid::ALL {
            let Levels::Table(table) = grid.levels() else { continue };
            let check = |x: f32| assert_eq!(nearest(table, x), nearest_reference(table, x), "{grid:?} {x:e}");
            // Every entry, every midpoint, and their neighbours in f32.
            for pair in table.windows(2) {
                for x in [pair[0], pair[1], (pair[0] + pair[1]) / 2.0] {
                    let mut x = (0..8).fold(x, |x, _| x.next_down());
                    for _ in 0..16 {
                        check(x);
                        x = x.next_up();
                    }
                }
            }
            for i in -110_000..110_000 {
                check(i as f32 * 1e-5);
            }
        }
    }

    #[test]
    fn a_group_is_rounded_as_its_numbers_are() {
        let values: Vec<f32> = (0..103).map(|i| (i as f32 - 51.0) * 0.37).collect();
        for &grid in Grid::ALL {
            for scale in [0.1, 1.0, 3.3, 40.0] {
                let scaled = Scaled::new(grid, scale);
                let mut codes = Vec::new();
                let beyond = scaled.round(&values, &mut codes);
                let each: Vec<u8> = values.iter().map(|&value| scaled.nearest(value)).collect();
                assert_eq!(codes, each, "{grid:?} {scale}");
                let reaches = 18.87 <= (grid.most() + 0.5) * scale;
                assert_eq!(beyond == 0, reaches || grid.levels() != Levels::Integers, "{grid:?} {scale}");
            }
        }
    }
}

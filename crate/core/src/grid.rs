//! Grids: the levels that the codes of a quantized tensor stand for, before their scale.
//!
//! This is the one list of them. A grid of whole numbers stands for every integer of its bits in two's complement; the
//! others have a table, whose largest magnitude is 1. How codes are rounded, unpacked and multiplied is in
//! `kernels/codecs`; what lies where in a file is in [`crate::Encoding`].

use serde::{Deserialize, Serialize};

use crate::tables;

macro_rules! grids {
    ($($(#[$doc:meta])+ $grid:ident: $name:literal, $bits:literal, $levels:expr, $words:literal;)+) => {
        /// Levels, and so many bits for a code of one of them. Finer grids come first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "types", derive(ts_rs::TS))]
        #[serde(rename_all = "lowercase")]
        pub enum Grid { $($(#[$doc])+ $grid),+ }

        impl Grid {
            /// Every grid there is.
            pub const ALL: &[Self] = &[$(Self::$grid),+];

            /// The name used in recipes, files and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$grid => $name),+ }
            }

            /// Bits of a code.
            pub const fn bits(self) -> usize {
                match self { $(Self::$grid => $bits),+ }
            }

            /// What its levels are, in a line for people.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$grid => $words),+ }
            }

            /// What codes stand for.
            pub const fn levels(self) -> Levels {
                match self { $(Self::$grid => $levels),+ }
            }
        }
    };
}

grids! {
    /// 8-bit integers.
    Int8: "int8", 8, Levels::Integers,
        "255 levels at equal distance, from minus to plus the largest number that shares the scale. One outlier makes all steps coarse.";
    /// 6-bit integers.
    Int6: "int6", 6, Levels::Integers,
        "63 levels at equal distance, and one more below zero.";
    /// 5-bit integers.
    Int5: "int5", 5, Levels::Integers,
        "31 levels at equal distance, and one more below zero.";
    /// 4-bit integers.
    Int4: "int4", 4, Levels::Integers,
        "15 levels at equal distance. Small groups of numbers share a scale, so that an outlier spoils only its own group.";
    /// 4-bit NormalFloat (QLoRA, Dettmers et al. 2023).
    Nf4: "nf4", 4, Levels::Table(&tables::NF4),
        "16 levels placed where a bell curve has its numbers: dense around zero, sparse in the tails.";
    /// 3-bit integers.
    Int3: "int3", 3, Levels::Integers,
        "7 levels at equal distance, and one more below zero.";
    /// Eight Lloyd-Max levels of a normal variable (Lloyd 1982; Max 1960), the largest scaled to 1.
    Lm3: "lm3", 3, Levels::Table(&tables::LM3),
        "8 levels where they cost a bell curve the least: the Lloyd-Max levels.";
    /// 2-bit integers.
    Int2: "int2", 2, Levels::Integers,
        "3 levels at equal distance, and one more below zero.";
    /// Four Lloyd-Max levels of a normal variable, the largest scaled to 1.
    Lm2: "lm2", 2, Levels::Table(&tables::LM2),
        "4 levels where they cost a bell curve the least. Too coarse for most tensors without error compensation.";
}

/// What the codes of a grid stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Levels {
    /// `-2^(bits - 1) ..= 2^(bits - 1) - 1`, in two's complement.
    Integers,
    /// The entry of that number, ascending.
    Table(&'static [f32]),
}

impl Grid {
    /// Whether codes stand for integers.
    pub const fn is_whole(self) -> bool {
        matches!(self.levels(), Levels::Integers)
    }

    /// The largest level. A group's scale is its largest magnitude over this.
    pub const fn most(self) -> f32 {
        match self.levels() {
            Levels::Integers => ((1 << (self.bits() - 1)) - 1) as f32,
            Levels::Table(_) => 1.0,
        }
    }

    /// The least level.
    pub const fn least(self) -> f32 {
        match self.levels() {
            Levels::Integers => -self.most() - 1.0,
            Levels::Table(_) => -1.0,
        }
    }

    /// Bytes of so many codes as a stream of bits, whose count may be beyond what an index holds.
    pub const fn packed_bytes(self, codes: usize) -> usize {
        codes / 8 * self.bits() + (codes % 8 * self.bits()).div_ceil(8)
    }

    /// What the last byte of packed codes is filled with: NF4 as in bitsandbytes with its code of zero, others with bits
    /// that are not set.
    pub const fn padding(self) -> u8 {
        match self {
            Self::Nf4 => 7,
            _ => 0,
        }
    }

    /// What a code stands for; bits above its own are ignored.
    pub const fn level(self, code: u8) -> f32 {
        let unused = 8 - self.bits() as u32;
        match self.levels() {
            Levels::Integers => (((code << unused) as i8) >> unused) as f32,
            Levels::Table(table) => table[((code << unused) >> unused) as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_ascending_and_reach_one() {
        for grid in Grid::ALL {
            let Levels::Table(table) = grid.levels() else { continue };
            assert_eq!(table.len(), 1 << grid.bits(), "{grid:?}");
            assert!(table.windows(2).all(|pair| pair[0] < pair[1]), "{grid:?}");
            assert_eq!((table[0], table[table.len() - 1]), (-1.0, 1.0), "{grid:?}");
        }
    }

    #[test]
    fn integers_are_in_twos_complement() {
        assert_eq!([0, 1, 3, 4, 7].map(|code| Grid::Int3.level(code)), [0.0, 1.0, 3.0, -4.0, -1.0]);
        assert_eq!(Grid::Int8.level(0x80), -128.0);
        assert_eq!((Grid::Int2.most(), Grid::Int8.most(), Grid::Nf4.most()), (1.0, 127.0, 1.0));
    }

    #[test]
    fn padding_stands_for_zero_where_a_code_does() {
        let zero = |grid: &&Grid| (0..1 << grid.bits()).any(|code| grid.level(code as u8) == 0.0);
        for grid in Grid::ALL.iter().filter(zero) {
            assert_eq!(grid.level(grid.padding()), 0.0, "{grid:?}");
        }
    }

    #[test]
    fn names_are_those_of_the_files() {
        for grid in Grid::ALL {
            assert_eq!(serde_json::to_value(grid).unwrap(), grid.name());
        }
    }
}

//! Codes in a tile, as planes of 4, 2 and 1 bits of every code: those of all grids but INT4 and INT8.
//!
//! | bits | lowest plane | above it |
//! | --- | --- | --- |
//! | 2 | 2 bits | |
//! | 3 | 2 bits | 1 bit |
//! | 4 (NF4) | 4 bits | |
//! | 5 | 4 bits | 1 bit |
//! | 6 | 4 bits | 2 bits |
//!
//! Taken apart, a pair of columns is sixteen codes, byte `2 r + p` that of row `r` and column `p` of the pair: what a
//! lookup, or a widening, turns into the order in which a dot product of pairs takes them. A plane of 4 bits has
//! the two pairs of columns 0 to 3 in the low and high halves of its first sixteen bytes, those of 4 to 7 in the next.
//! One of 2 bits has pair `i` at bit `2 i` of its sixteen bytes. One of 1 bit has eight bytes: bit `2 i` of byte `j` is
//! byte `j` of pair `i`, bit `2 i + 1` byte `8 + j`.
//!
//! Codes of up to 4 bits are looked up in a table of 16-bit integers, whatever their grid. With tables activations have 13
//! bits in blocks of 32 columns, so that sums stay below 2^31, and more in shorter ones. Integers of 5 and 6 bits are
//! kept with half their range added, which is subtracted when they are widened.

use statepress_core::Grid;

use super::super::activations::Block;
use super::grouped::{Code, MAX_TILES};
use super::{Aligned, TILE};
use crate::lanes::{I16x8, I32x4, U8x16};

/// A tile that is no multiple of sixteen bytes.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(in crate::linear) struct Aligned8<T>(T);

/// Sixteen codes for every pair of columns.
type Pairs = [U8x16; TILE / 2];

/// Byte and shift of a code in a plane of 4 bits.
const fn place4(row: usize, col: usize) -> (usize, usize) {
    (col / 4 * 16 + row * 2 + col % 2, col % 4 / 2 * 4)
}

/// The same of 2 bits.
const fn place2(row: usize, col: usize) -> (usize, usize) {
    (row * 2 + col % 2, col / 2 * 2)
}

/// The same of 1 bit.
const fn place1(row: usize, col: usize) -> (usize, usize) {
    let byte = row * 2 + col % 2;
    (byte % 8, col / 2 * 2 + byte / 8)
}

#[inline(always)]
fn plane4(bytes: &[u8; 32]) -> Pairs {
    let (halves, _) = bytes.as_chunks::<16>();
    let [first, second] = [U8x16::load(&halves[0]), U8x16::load(&halves[1])];
    [first.low_nibbles(), first.high_nibbles(), second.low_nibbles(), second.high_nibbles()]
}

#[inline(always)]
fn plane2(bytes: &[u8; 16]) -> Pairs {
    let (bytes, two) = (U8x16::load(bytes), U8x16::splat(3));
    [bytes.and(two), bytes.shr::<2>().and(two), bytes.shr::<4>().and(two), bytes.shr::<6>().and(two)]
}

/// `value` where the bit is set, else zero.
#[inline(always)]
fn plane1(bytes: &[u8; 8], value: u8) -> Pairs {
    let (bytes, value) = (U8x16::load_twice(bytes), U8x16::splat(value));
    [0, 1, 2, 3].map(|i| {
        let mut bit = [1 << (2 * i); 16];
        bit[8..].fill(2 << (2 * i));
        let bit = U8x16::load(&bit);
        bytes.and(bit).eq(bit).and(value)
    })
}

#[inline(always)]
fn or(a: Pairs, b: Pairs) -> Pairs {
    [a[0].or(b[0]), a[1].or(b[1]), a[2].or(b[2]), a[3].or(b[3])]
}

/// Puts some bits of a code into a plane.
fn put(byte: &mut u8, shift: usize, bits: u8, mask: u8) {
    *byte = *byte & !(mask << shift) | (bits & mask) << shift;
}

/// The largest integer activation with which products of `most` cannot overflow.
fn level(most: f32, columns: usize) -> f32 {
    let bound = i32::MAX as usize / (most as usize * columns);
    bound.min(i16::MAX as usize) as f32
}

/// What 1 is worth in integers, for grids that are looked up: of all factors up to 8191 the one that rounds the table best.
const fn units(grid: Grid) -> f32 {
    match grid {
        Grid::Nf4 => 7854.0,
        Grid::Lm3 => 7156.0,
        Grid::Lm2 => 7876.0,
        Grid::Int8 | Grid::Int6 | Grid::Int5 | Grid::Int4 | Grid::Int3 | Grid::Int2 => 1.0,
    }
}

/// Low and high bytes of the levels of a grid that is looked up, in units.
const fn level_bytes(grid: Grid) -> [[u8; 16]; 2] {
    let mut bytes = [[0; 16]; 2];
    let mut code = 0;
    while code < 1 << grid.bits() {
        let exact = grid.level(code as u8) * units(grid);
        let rounded = (if exact < 0.0 { exact - 0.5 } else { exact + 0.5 }) as i16;
        [bytes[0][code], bytes[1][code]] = rounded.to_le_bytes();
        code += 1;
    }
    bytes
}

/// A grid whose codes are looked up.
macro_rules! looked_up {
    ($name:ident: $tile:ty, $zero:expr, $get:expr, $put:expr, $pairs:expr) => {
        pub(in crate::linear) struct $name;

        impl $name {
            const BYTES: [[u8; 16]; 2] = level_bytes(Grid::$name);
        }

        impl Code for $name {
            type Tile = $tile;

            const UNIT: f32 = 1.0 / units(Grid::$name);
            const ZERO: Self::Tile = $zero;

            fn level(columns: usize) -> f32 {
                // Integers reach one further below zero.
                level(-Grid::$name.least() / Self::UNIT, columns)
            }

            fn put(tile: &mut Self::Tile, row: usize, col: usize, code: u8) {
                $put(tile, row, col, code);
            }

            fn get(tile: &Self::Tile, row: usize, col: usize) -> u8 {
                $get(tile, row, col)
            }

            fn value(code: u8) -> f32 {
                Grid::$name.level(code)
            }

            #[inline(always)]
            fn dot(tiles: &[Self::Tile], x: &[[[i16; 2]; TILE / 2]], _: &Block) -> [I32x4; 2] {
                let (low, high) = (U8x16::load(&Self::BYTES[0]), U8x16::load(&Self::BYTES[1]));
                let mut sums = [I32x4::ZERO; 2];
                for (tile, x) in tiles.iter().zip(x) {
                    let pairs: Pairs = $pairs(tile);
                    for i in 0..TILE / 2 {
                        let ([a, b], x) = (pairs[i].lookup(low, high), I16x8::splat_pair(x[i]));
                        sums = [sums[0] + a.dot(x), sums[1] + b.dot(x)];
                    }
                }
                sums
            }
        }
    };
}

fn get2(Aligned(tile): &Aligned<[u8; 16]>, row: usize, col: usize) -> u8 {
    let (byte, shift) = place2(row, col);
    tile[byte] >> shift & 3
}

fn put2(Aligned(tile): &mut Aligned<[u8; 16]>, row: usize, col: usize, code: u8) {
    let (byte, shift) = place2(row, col);
    put(&mut tile[byte], shift, code, 3);
}

#[inline(always)]
fn pairs2(Aligned(tile): &Aligned<[u8; 16]>) -> Pairs {
    plane2(tile)
}

/// The lower two bits, and the third.
#[derive(Clone, Copy)]
pub(in crate::linear) struct Three([u8; 16], [u8; 8]);

fn get3(Aligned8(tile): &Aligned8<Three>, row: usize, col: usize) -> u8 {
    let ((low, shift), (high, top)) = (place2(row, col), place1(row, col));
    tile.0[low] >> shift & 3 | (tile.1[high] >> top & 1) << 2
}

fn put3(Aligned8(tile): &mut Aligned8<Three>, row: usize, col: usize, code: u8) {
    let ((low, shift), (high, top)) = (place2(row, col), place1(row, col));
    put(&mut tile.0[low], shift, code, 3);
    put(&mut tile.1[high], top, code >> 2, 1);
}

#[inline(always)]
fn pairs3(Aligned8(tile): &Aligned8<Three>) -> Pairs {
    or(plane2(&tile.0), plane1(&tile.1, 4))
}

fn get4(Aligned(tile): &Aligned<[u8; 32]>, row: usize, col: usize) -> u8 {
    let (byte, shift) = place4(row, col);
    tile[byte] >> shift & 15
}

fn put4(Aligned(tile): &mut Aligned<[u8; 32]>, row: usize, col: usize, code: u8) {
    let (byte, shift) = place4(row, col);
    put(&mut tile[byte], shift, code, 15);
}

#[inline(always)]
fn pairs4(Aligned(tile): &Aligned<[u8; 32]>) -> Pairs {
    plane4(tile)
}

// A tile of tables has no zero: their scale is zero where a row is missing, and activations where a column is.
looked_up!(Int2: Aligned<[u8; 16]>, Aligned([0; 16]), get2, put2, pairs2);
looked_up!(Lm2: Aligned<[u8; 16]>, Aligned([0; 16]), get2, put2, pairs2);
looked_up!(Int3: Aligned8<Three>, Aligned8(Three([0; 16], [0; 8])), get3, put3, pairs3);
looked_up!(Nf4: Aligned<[u8; 32]>, Aligned([0; 32]), get4, put4, pairs4);
looked_up!(Lm3: Aligned8<Three>, Aligned8(Three([0; 16], [0; 8])), get3, put3, pairs3);

/// Integers that are widened.
macro_rules! widened {
    ($name:ident: $tile:ty, $zero:expr, $get:expr, $put:expr, $pairs:expr) => {
        pub(in crate::linear) struct $name;

        impl $name {
            /// What is added to codes to make them positive.
            const HALF: u8 = 1 << (Grid::$name.bits() - 1);
        }

        impl Code for $name {
            type Tile = $tile;

            const UNIT: f32 = 1.0;
            const ZERO: Self::Tile = $zero;

            fn level(columns: usize) -> f32 {
                level(-Grid::$name.least(), columns)
            }

            fn put(tile: &mut Self::Tile, row: usize, col: usize, code: u8) {
                $put(tile, row, col, code ^ Self::HALF);
            }

            fn get(tile: &Self::Tile, row: usize, col: usize) -> u8 {
                $get(tile, row, col) ^ Self::HALF
            }

            fn value(code: u8) -> f32 {
                Grid::$name.level(code)
            }

            #[inline(always)]
            fn dot(tiles: &[Self::Tile], x: &[[[i16; 2]; TILE / 2]], _: &Block) -> [I32x4; 2] {
                let mut sums = [I32x4::ZERO; 2];
                for (tile, x) in tiles.iter().zip(x) {
                    let pairs: Pairs = $pairs(tile);
                    for i in 0..TILE / 2 {
                        let ([a, b], x) = (pairs[i].widen_less(Self::HALF), I16x8::splat_pair(x[i]));
                        sums = [sums[0] + a.dot(x), sums[1] + b.dot(x)];
                    }
                }
                sums
            }
        }
    };
}

/// The lower four bits, and the fifth.
#[derive(Clone, Copy)]
pub(in crate::linear) struct Five([u8; 32], [u8; 8]);

fn get5(Aligned8(tile): &Aligned8<Five>, row: usize, col: usize) -> u8 {
    let ((low, shift), (high, top)) = (place4(row, col), place1(row, col));
    tile.0[low] >> shift & 15 | (tile.1[high] >> top & 1) << 4
}

fn put5(Aligned8(tile): &mut Aligned8<Five>, row: usize, col: usize, code: u8) {
    let ((low, shift), (high, top)) = (place4(row, col), place1(row, col));
    put(&mut tile.0[low], shift, code, 15);
    put(&mut tile.1[high], top, code >> 4, 1);
}

#[inline(always)]
fn pairs5(Aligned8(tile): &Aligned8<Five>) -> Pairs {
    or(plane4(&tile.0), plane1(&tile.1, 16))
}

/// The lower four bits, and the two above.
#[derive(Clone, Copy)]
pub(in crate::linear) struct Six([u8; 32], [u8; 16]);

fn get6(Aligned(tile): &Aligned<Six>, row: usize, col: usize) -> u8 {
    let ((low, shift), (high, top)) = (place4(row, col), place2(row, col));
    tile.0[low] >> shift & 15 | (tile.1[high] >> top & 3) << 4
}

fn put6(Aligned(tile): &mut Aligned<Six>, row: usize, col: usize, code: u8) {
    let ((low, shift), (high, top)) = (place4(row, col), place2(row, col));
    put(&mut tile.0[low], shift, code, 15);
    put(&mut tile.1[high], top, code >> 4, 3);
}

#[inline(always)]
fn pairs6(Aligned(tile): &Aligned<Six>) -> Pairs {
    let high = plane2(&tile.1);
    let high = [high[0].shl::<4>(), high[1].shl::<4>(), high[2].shl::<4>(), high[3].shl::<4>()];
    or(plane4(&tile.0), high)
}

// Half of the range is the highest bit.
widened!(Int5: Aligned8<Five>, Aligned8(Five([0; 32], [0xff; 8])), get5, put5, pairs5);
widened!(Int6: Aligned<Six>, Aligned(Six([0; 32], [0xaa; 16])), get6, put6, pairs6);

// One block of activations is what a dot product must be able to add up.
const _: () = assert!(MAX_TILES * TILE * 32 * i16::MAX as usize <= i32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn every_code_has_its_place<C: Code>(bits: usize) {
        let mask = ((1u16 << bits) - 1) as u8;
        let code = |row: usize, col: usize| (row * 37 + col * 5 + 3) as u8 & mask;
        let mut tile = C::ZERO;
        for (row, col) in (0..8).flat_map(|row| (0..8).map(move |col| (row, col))) {
            C::put(&mut tile, row, col, !code(row, col));
            C::put(&mut tile, row, col, code(row, col));
        }
        let block = Block { scale: 1.0, sum: 0 };
        for (row, col) in (0..8).flat_map(|row| (0..8).map(move |col| (row, col))) {
            assert_eq!(
                C::get(&tile, row, col) & mask,
                code(row, col),
                "{bits} bits: row {row}, column {col}"
            );
            let mut x = [[0; 2]; TILE / 2];
            x[col / 2][col % 2] = 100;
            let sums = C::dot(&[tile], &[x], &block).map(I32x4::to_array).concat();
            let value = f64::from(sums[row]) / 100.0 * f64::from(C::UNIT);
            assert!((value - f64::from(C::value(code(row, col)))).abs() < 1e-4, "{bits} bits: {value}");
        }
    }

    /// The sum of squares of what rounding a table to whole numbers of `1 / units` costs.
    fn cost(table: &[f32], units: f64) -> f64 {
        let rounded = |level: &f32| (f64::from(*level) * units).round() / units;
        table.iter().map(|level| (f64::from(*level) - rounded(level)).powi(2)).sum()
    }

    #[test]
    fn tables_are_in_the_units_that_round_them_best() {
        for &grid in Grid::ALL {
            let statepress_core::Levels::Table(table) = grid.levels() else { continue };
            let best =
                (1..=8191).min_by(|a, b| cost(table, f64::from(*a)).total_cmp(&cost(table, f64::from(*b))));
            assert_eq!(best.map(|best| best as f32), Some(units(grid)), "{grid:?}");
        }
    }

    #[test]
    fn codes_are_put_got_and_multiplied_alike() {
        every_code_has_its_place::<Int2>(2);
        every_code_has_its_place::<Lm2>(2);
        every_code_has_its_place::<Int3>(3);
        every_code_has_its_place::<Lm3>(3);
        every_code_has_its_place::<Nf4>(4);
        every_code_has_its_place::<Int5>(5);
        every_code_has_its_place::<Int6>(6);
        every_code_has_its_place::<super::super::int8::InGroups>(8);
    }
}

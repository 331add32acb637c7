//! The codes of a quantized tensor as an entropy-coded stream, instead of packed: written, and read back packed, a few rows
//! at a time.
//!
//! The coder's numbers are a code's level where the grid is of integers. Of a table they are the code less half of how many
//! there are, so that those near the middle, which are frequent and small, are small numbers too.

use statepress_core::grid::Levels;
use statepress_core::index::Extent;
use statepress_core::limits::{CHUNK_BYTES, CODES_PER_BYTE};
use statepress_core::{Codes, DType, Entry, Grid, Packed, Part, Source, Tensor, shape};

use crate::FormatError;
use crate::cursor::{read as read_bytes, reserve};
use crate::entropy::{Decoder, encode};

/// Bytes of the header that say so: `,\"coded\":true`.
const SAYING: usize = 15;

/// The stream of a tensor's codes; `None` where packed ones take no more of the file, or where the stream is so small for what it stands
/// for that readers would refuse it.
pub(crate) fn stream(name: &str, shape: &[usize], codes: &Codes) -> Result<Option<Vec<u8>>, FormatError> {
    let (rows, cols) = shape::matrix(shape);
    let mut numbers = reserve(name, rows * cols)?;
    numbers.extend(Numbers { codes, at: 0, n: rows * cols });
    let stream = encode(&numbers, rows, cols)?;
    let worth = stream.len() + SAYING < codes.codes.len() && refusal(shape, stream.len() as u64).is_none();
    Ok(worth.then_some(stream))
}

/// Bytes that a tensor takes in a file whose codes are entropy-coded.
pub fn coded_bytes(name: &str, tensor: &Tensor) -> Result<u64, FormatError> {
    let Packed::Codes(codes) = &tensor.data else { return Ok(tensor.bytes()) };
    let saved = stream(name, &tensor.shape, codes)?.map_or(0, |stream| codes.codes.len() - stream.len());
    Ok(tensor.bytes() - saved as u64)
}

/// The array that a stream of so many bytes is.
pub(crate) fn part(bytes: u64) -> Part {
    Part::new("", DType::U8, vec![usize::try_from(bytes).unwrap_or(usize::MAX)])
}

/// Why a stream of so many bytes is not taken for the codes of a tensor of that shape, if it is not: what is allocated for
/// them has to be in proportion.
pub(crate) fn refusal(shape: &[usize], bytes: u64) -> Option<String> {
    let n = shape::elements(shape).unwrap_or(usize::MAX) as u64;
    (n / CODES_PER_BYTE > bytes).then(|| {
        format!(
            "{n} codes are said to be in {bytes} bytes, fewer than 1 for {CODES_PER_BYTE}: the file was cut or changed, \
             fetch it again"
        )
    })
}

/// Reads a stream into packed codes.
pub(crate) fn read(
    source: &dyn Source,
    entry: &Entry,
    at: Extent,
    grid: Grid,
) -> Result<Vec<u8>, FormatError> {
    let name = &entry.name;
    if let Some(why) = refusal(&entry.shape, at.len) {
        return Err(FormatError::tensor(name, why));
    }
    let damaged = |error: FormatError| FormatError::tensor(name, error.to_string());
    let (rows, cols) = shape::matrix(&entry.shape);
    let stream = read_bytes(source, name, at.offset, at.len)?;
    let mut decoder = Decoder::new(&stream, rows, cols).map_err(damaged)?;
    let mut packer = Packer::new(name, grid, rows * cols)?;
    let together = (CHUNK_BYTES / size_of::<i16>() / cols.max(1)).clamp(1, rows.max(1));
    let mut numbers = reserve(name, together * cols)?;
    for first in (0..rows).step_by(together) {
        numbers.resize(together.min(rows - first) * cols, 0);
        decoder.read(&mut numbers).map_err(damaged)?;
        for (row, numbers) in numbers.chunks_exact(cols.max(1)).enumerate() {
            packer.row(numbers).map_err(|number| {
                let (row, grid) = (first + row, grid.name());
                FormatError::tensor(
                    name,
                    format!("row {row} of its codes has {number}, which {grid} has no code for"),
                )
            })?;
        }
    }
    Ok(packer.finish())
}

/// The numbers of packed codes: levels of integers, and those of tables counted from their middle.
pub(crate) fn numbers(codes: &Codes, n: usize) -> impl Iterator<Item = i16> {
    Numbers { codes, at: 0, n }
}

/// Packs codes by their numbers.
pub(crate) fn pack(name: &str, grid: Grid, numbers: &[i16]) -> Result<Vec<u8>, FormatError> {
    let mut packer = Packer::new(name, grid, numbers.len())?;
    let refused = |number| FormatError::tensor(name, format!("{} has no code for {number}", grid.name()));
    packer.row(numbers).map_err(refused)?;
    Ok(packer.finish())
}

/// What a code of a table and its number differ in, seen as bits: the highest.
const fn flipped(grid: Grid) -> u8 {
    match grid.levels() {
        Levels::Integers => 0,
        Levels::Table(_) => 1 << (grid.bits() - 1),
    }
}

/// The numbers of packed codes.
struct Numbers<'a> {
    codes: &'a Codes,
    /// Codes that were taken.
    at: usize,
    n: usize,
}

impl Iterator for Numbers<'_> {
    type Item = i16;

    fn next(&mut self) -> Option<i16> {
        if self.at == self.n {
            return None;
        }
        let grid = self.codes.grid;
        let bits = grid.bits();
        let (byte, within) = (self.at * bits / 8, self.at * bits % 8);
        self.at += 1;
        // A code lies in at most two bytes.
        let byte_at = |at: usize| self.codes.codes.get(at).copied().unwrap_or(0);
        let two = u16::from(byte_at(byte)) << 8 | u16::from(byte_at(byte + 1));
        // Its bits, the highest ones of a byte.
        let code = (two << within >> 8) as u8 ^ flipped(grid) << (8 - bits);
        Some(i16::from(code.cast_signed() >> (8 - bits)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.n - self.at, Some(self.n - self.at))
    }
}

/// Packs codes by their numbers.
struct Packer {
    grid: Grid,
    packed: Vec<u8>,
    /// Bytes that there will be.
    bytes: usize,
    /// Bits that are in no byte yet: the lowest `held`.
    pending: u32,
    held: usize,
}

impl Packer {
    fn new(name: &str, grid: Grid, n: usize) -> Result<Self, FormatError> {
        let bytes = grid.packed_bytes(n);
        Ok(Self { grid, packed: reserve(name, bytes)?, bytes, pending: 0, held: 0 })
    }

    /// Packs numbers; an error is one that the grid has no code for.
    fn row(&mut self, numbers: &[i16]) -> Result<(), i16> {
        let (bits, flipped) = (self.grid.bits(), flipped(self.grid));
        let half = 1i16 << (bits - 1);
        if let Some(&number) = numbers.iter().find(|number| !(-half..half).contains(*number)) {
            return Err(number);
        }
        let code = |number: i16| (number as u8 ^ flipped) & (0xff >> (8 - bits));
        // Eight codes fill `bits` bytes.
        let (eights, rest) = if self.held == 0 { numbers.as_chunks() } else { (&[][..], numbers) };
        for eight in eights {
            let eight: &[i16; 8] = eight;
            let all = eight.iter().fold(0, |all, &number| all << bits | u64::from(code(number)));
            self.packed.extend_from_slice(&all.to_be_bytes()[8 - bits..]);
        }
        rest.iter().for_each(|&number| self.put(code(number), bits));
        Ok(())
    }

    #[inline(always)]
    fn put(&mut self, code: u8, bits: usize) {
        self.pending = self.pending << bits | u32::from(code);
        self.held += bits;
        if self.held >= 8 {
            self.held -= 8;
            self.packed.push((self.pending >> self.held) as u8);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        while self.packed.len() < self.bytes {
            self.put(self.grid.padding(), self.grid.bits());
        }
        self.packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statepress_core::{Group, Scales};

    fn numbers(grid: Grid, packed: Vec<u8>, n: usize) -> Vec<i16> {
        let codes = Codes { grid, group: Group::Tensor, codes: packed, scales: Scales::F32(vec![1.0]) };
        Numbers { codes: &codes, at: 0, n }.collect()
    }

    #[test]
    fn numbers_are_levels_of_integers_and_counted_from_the_middle_of_tables() {
        assert_eq!(numbers(Grid::Int8, vec![0, 127, 128, 255], 4), [0, 127, -128, -1]);
        assert_eq!(numbers(Grid::Int4, vec![0x07, 0x8f], 4), [0, 7, -8, -1]);
        assert_eq!(numbers(Grid::Nf4, vec![0x07, 0x8f], 4), [-8, -1, 0, 7]);
        assert_eq!(numbers(Grid::Int3, vec![0b0110_0100, 0b1000_0000], 3), [3, 1, 1]);
        assert_eq!(numbers(Grid::Lm2, vec![0b0001_1011], 4), [-2, -1, 0, 1]);
    }

    #[test]
    fn every_code_comes_back_packed_as_it_was() {
        for &grid in Grid::ALL {
            for n in 0..30usize {
                let all: Vec<i16> =
                    (0..n as i16).map(|at| at * 37 % (1 << grid.bits()) - (1 << (grid.bits() - 1))).collect();
                let mut packer = Packer::new("w", grid, n).unwrap();
                // A second row begins within a byte.
                all.chunks((n / 2).max(1)).for_each(|row| packer.row(row).unwrap());
                let packed = packer.finish();
                assert_eq!(packed.len(), (n * grid.bits()).div_ceil(8), "{n} of {grid:?}");
                assert_eq!(numbers(grid, packed, n), all, "{n} of {grid:?}");
            }
            let half = 1 << (grid.bits() - 1);
            let mut packer = Packer::new("w", grid, 2).unwrap();
            assert_eq!((packer.row(&[half]), packer.row(&[-half - 1])), (Err(half), Err(-half - 1)));
        }
    }

    #[test]
    fn a_byte_stands_for_so_many_codes_and_no_more() {
        assert!(refusal(&[1 << 10, 60], 60).is_none());
        assert!(refusal(&[1 << 10, 61], 60).unwrap().starts_with("62464 codes are said to be in 60 bytes"));
    }
}

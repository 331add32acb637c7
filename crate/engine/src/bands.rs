//! The numbers of a tensor, a band of its rows at a time, so that what goes over them takes little memory however large it is: the
//! table of a large vocabulary has gigabytes as float32.

use std::ops::Range;

use statepress_core::limits::BAND_NUMBERS;
use statepress_core::{Entry, Packed, Source, Tensor};
use statepress_kernels::codecs;

use crate::EngineError;

/// A tensor in bands of rows, the indexes of its first dimension.
pub(crate) struct Bands<'a> {
    source: &'a dyn Source,
    entry: &'a Entry,
    of: Of,
    /// Of a band.
    rows: usize,
    /// Numbers of a row.
    inner: usize,
}

/// What bands are made of.
enum Of {
    /// The file, which has each by itself.
    File,
    /// All of the tensor as it is stored, where its rows do not lie by themselves.
    Memory(Tensor),
}

/// Some rows of a tensor.
pub(crate) struct Band<'a> {
    /// Which of all its numbers is the first.
    pub first: usize,
    /// They, as they are stored, or float32.
    pub tensor: Tensor,
    /// The entry that was read.
    pub entry: &'a Entry,
}

impl<'a> Bands<'a> {
    /// A tensor in bands of about [`BAND_NUMBERS`], each but the last of a multiple of `unit` numbers; as one band, where it has no more.
    pub fn new(source: &'a dyn Source, entry: &'a Entry, unit: usize) -> Result<Self, EngineError> {
        Self::about(BAND_NUMBERS, source, entry, unit)
    }

    /// The same in bands of about `most` numbers.
    pub fn about(
        most: usize,
        source: &'a dyn Source,
        entry: &'a Entry,
        unit: usize,
    ) -> Result<Self, EngineError> {
        let count = entry.shape.first().copied().unwrap_or(1);
        let inner = entry.params() as usize / count.max(1);
        let rows = if entry.params() <= most as u64 {
            count
        } else {
            // So many rows are the fewest of whole units.
            let whole = unit / gcd(unit, inner.max(1));
            (most / inner.max(1) / whole * whole).max(whole)
        };
        let mut it = Self { source, entry, of: Of::File, rows, inner };
        if it.is_several() && entry.rows(0..rows).is_none() {
            it.of = Of::Memory(statepress_formats::read_tensor(source, entry)?);
        }
        Ok(it)
    }

    /// Whether there is more than one.
    pub fn is_several(&self) -> bool {
        self.entry.shape.first().is_some_and(|&count| count > self.rows)
    }

    /// Bytes that are held beside the bands.
    pub fn held(&self) -> u64 {
        match &self.of {
            Of::File => 0,
            Of::Memory(tensor) => tensor.bytes(),
        }
    }

    /// Hands on each, in order.
    pub fn each(&self, take: &mut dyn FnMut(Band<'_>) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let Self { source, entry, of, rows, inner } = self;
        let read = |entry: &Entry| statepress_formats::read_tensor(*source, entry);
        if !self.is_several() {
            return take(Band { first: 0, tensor: read(entry)?, entry });
        }
        let count = entry.shape.first().copied().unwrap_or(1);
        for from in (0..count).step_by(*rows) {
            let (here, first) = (from..count.min(from + rows), from * inner);
            match of {
                Of::Memory(tensor) => {
                    let tensor = some_rows(tensor, here, *inner);
                    take(Band { first, tensor, entry })?;
                }
                Of::File => {
                    if let Some(entry) = entry.rows(here) {
                        take(Band { first, tensor: read(&entry)?, entry: &entry })?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Some rows of a tensor in memory; of codes, the numbers that they stand for.
fn some_rows(tensor: &Tensor, rows: Range<usize>, inner: usize) -> Tensor {
    let shape: Vec<usize> = std::iter::once(rows.len()).chain(tensor.shape.iter().skip(1).copied()).collect();
    let numbers = rows.start * inner..rows.end * inner;
    let data = match &tensor.data {
        Packed::F16(bits) => Packed::F16(bits[numbers].to_vec()),
        Packed::Bf16(bits) => Packed::Bf16(bits[numbers].to_vec()),
        Packed::F32(_) | Packed::Codes(_) | Packed::Rows(_) => {
            let mut values = vec![0.0; numbers.len()];
            codecs::decode_range(tensor, numbers.start, &mut values);
            Packed::F32(values)
        }
    };
    Tensor { shape, data }
}

/// The greatest number that divides both; neither is 0.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use statepress_core::coded::{Blocks, Coded, Rule, Undo};
    use statepress_core::index::{AffineScales, Extent, Stored, Strided};
    use statepress_core::{DType, Encoding, GgmlType};

    use super::*;

    /// In rows of 64 numbers.
    const ROWS: usize = 12;
    const N: usize = 64 * ROWS;

    /// Bytes that are finite numbers in any type: no exponent is all ones.
    fn bytes() -> Vec<u8> {
        (0..8 * N + 16).map(|i| (i * 37 % 113) as u8).collect()
    }

    fn view(dtype: DType, strides: [u64; 2], negated: bool) -> Strided {
        let storage = Extent { offset: 16, len: (N * dtype.bytes()) as u64 };
        Strided { dtype, storage, first: 0, strides: strides.to_vec(), negated }
    }

    fn per_row(dtype: DType, offset: u64) -> Strided {
        let storage = Extent { offset, len: (ROWS * dtype.bytes()) as u64 };
        Strided { dtype, storage, first: 0, strides: vec![1], negated: false }
    }

    fn blocks(parts: &[(GgmlType, usize)], undo: Option<Undo>, encoding: Encoding) -> Stored {
        let mut offset = 0;
        let parts: Vec<_> = parts
            .iter()
            .map(|&(kind, rows)| {
                let len = (rows * kind.row_bytes(64).unwrap()) as u64;
                offset += len;
                (kind, Extent { offset: offset - len, len })
            })
            .collect();
        let rule = Rule::Blocks(Blocks { parts, undo });
        Stored::Coded(Box::new(Coded { scheme: "test".into(), encoding, rule, bytes: offset }))
    }

    fn check(what: &str, stored: Stored, lies_by_rows: bool) {
        let entry = Entry { name: what.into(), shape: vec![ROWS, 64], stored, tied_to: None };
        assert_eq!(entry.rows(0..1).is_some(), lies_by_rows, "{what}");
        check_entry(&bytes(), &entry);
    }

    fn check_entry(source: &dyn Source, entry: &Entry) {
        let numbers = |tensor: &Tensor| -> Vec<u32> {
            codecs::decode(tensor).iter().map(|number| number.to_bits()).collect()
        };
        let whole = statepress_formats::read_tensor(source, entry).unwrap();
        for most in [64, 200, 5 * 64] {
            let (mut joined, mut count) = (Vec::new(), 0);
            let bands = Bands::about(most, source, entry, 1).unwrap();
            let each = bands.each(&mut |band: Band<'_>| {
                assert_eq!(band.first, joined.len());
                assert_eq!(band.tensor.shape[1..], entry.shape[1..]);
                joined.extend(numbers(&band.tensor));
                count += 1;
                Ok(())
            });
            each.unwrap();
            assert_eq!(count, ROWS.div_ceil(most / 64), "{}", entry.name);
            assert!(joined == numbers(&whole), "{} in bands of {most}", entry.name);
        }
    }

    #[test]
    fn bands_are_the_rows_of_the_whole_however_it_is_stored() {
        for dtype in [DType::F32, DType::F16, DType::Bf16, DType::F64, DType::I8] {
            check("in order", Stored::Strided(view(dtype, [64, 1], false)), true);
            check("turned", Stored::Strided(view(dtype, [1, ROWS as u64], false)), true);
            check("repeated", Stored::Strided(view(dtype, [0, 1], false)), true);
        }
        check("negated", Stored::Strided(view(DType::F32, [64, 1], true)), true);
        let codes = view(DType::I8, [64, 1], false);
        let scales = AffineScales::PerTensor { scale: 0.5, zero_point: 3 };
        check("a scale for all", Stored::Affine { codes: codes.clone(), scales }, true);
        let (scales, zero_points) = (per_row(DType::F32, 1024), per_row(DType::I32, 2048));
        let scales = AffineScales::PerRow { scales, zero_points };
        check("a scale for each row", Stored::Affine { codes, scales }, true);
        let parts = vec![Extent { offset: 8, len: 2 * N as u64 }];
        check("packed", Stored::Packed { encoding: Encoding::Bf16, coded: false, parts }, true);
        for kind in [GgmlType::F32, GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q5_1] {
            check(kind.name(), blocks(&[(kind, ROWS)], None, Encoding::Fp32), true);
        }
        check("F16 of ggml", blocks(&[(GgmlType::F16, ROWS)], None, Encoding::Fp16), true);
        check("two parts", blocks(&[(GgmlType::Q8_0, 5), (GgmlType::F32, 7)], None, Encoding::Fp32), false);
        let pairs = Some(Undo::Pairs { head: 4, rotary: 4 });
        check("heads", blocks(&[(GgmlType::F16, ROWS)], pairs, Encoding::Fp16), false);
    }

    #[test]
    fn a_block_is_not_cut() {
        let len = GgmlType::Q8_0.row_bytes(64).unwrap() as u64;
        let rule =
            Rule::Blocks(Blocks { parts: vec![(GgmlType::Q8_0, Extent { offset: 0, len })], undo: None });
        let coded = Coded { scheme: "Q8_0".into(), encoding: Encoding::Fp32, rule, bytes: len };
        let stored = Stored::Coded(Box::new(coded));
        let vector = Entry { name: "v".into(), shape: vec![64], stored, tied_to: None };
        assert!(vector.rows(0..32).is_none());
        let source = bytes();
        let whole = codecs::decode(&statepress_formats::read_tensor(&source, &vector).unwrap());
        let mut joined = Vec::new();
        let bands = Bands::about(20, &source, &vector, 1).unwrap();
        let each = bands.each(&mut |band: Band<'_>| {
            joined.extend(codecs::decode(&band.tensor));
            Ok(())
        });
        each.unwrap();
        assert_eq!(joined, whole);
    }
}

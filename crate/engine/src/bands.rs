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
    /// All of it as it is stored, where its rows do not lie by themselves.
    held: Option<Tensor>,
    /// Of a band.
    rows: usize,
    /// Numbers of a row.
    inner: usize,
}

/// Some rows of a tensor.
pub(crate) struct Band<'a> {
    /// Which of all its numbers is the first.
    pub first: usize,
    /// They: where there are several bands of codes, decoded.
    pub tensor: Tensor,
    /// What to look for them by in the file.
    pub entry: &'a Entry,
}

impl<'a> Bands<'a> {
    /// A tensor in bands of about [`BAND_NUMBERS`], each but the last of a multiple of `unit` numbers; as one band, where it has no more.
    pub fn new(source: &'a dyn Source, entry: &'a Entry, unit: usize) -> Result<Self, EngineError> {
        Self::of(source, entry, unit, BAND_NUMBERS)
    }

    /// The same in bands of about `most` numbers.
    pub fn of(
        source: &'a dyn Source,
        entry: &'a Entry,
        unit: usize,
        most: usize,
    ) -> Result<Self, EngineError> {
        let count = entry.shape.first().copied().unwrap_or(1);
        let inner = entry.params() as usize / count.max(1);
        // So many rows are the fewest of whole units.
        let whole = unit / gcd(unit, inner.max(1));
        let rows = (most / inner.max(1) / whole * whole).max(whole).max(1);
        let mut it = Self { source, entry, held: None, rows, inner };
        if it.is_several() && entry.rows(0..rows).is_none() {
            it.held = Some(statepress_formats::read_tensor(source, entry)?);
        }
        Ok(it)
    }

    /// Whether there is more than one.
    pub fn is_several(&self) -> bool {
        self.entry.shape.first().is_some_and(|&count| count > self.rows)
    }

    /// Bytes that are held beside the bands.
    pub fn held(&self) -> u64 {
        self.held.as_ref().map_or(0, Tensor::bytes)
    }

    /// Hands on each, in order.
    pub fn each(&self, mut take: impl FnMut(Band<'_>) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let Self { source, entry, held, rows, inner } = self;
        if !self.is_several() {
            let tensor = statepress_formats::read_tensor(*source, entry)?;
            return take(Band { first: 0, tensor, entry });
        }
        let count = entry.shape.first().copied().unwrap_or(1);
        for from in (0..count).step_by(*rows) {
            let (here, first) = (from..count.min(from + rows), from * inner);
            let by_itself = entry.rows(here.clone());
            let (tensor, entry) = match (held, &by_itself) {
                (Some(held), _) => (some_rows(held, here, *inner), *entry),
                (None, Some(rows)) => (statepress_formats::read_tensor(*source, rows)?, rows),
                (None, None) => {
                    let all = statepress_formats::read_tensor(*source, entry)?;
                    (some_rows(&all, here, *inner), *entry)
                }
            };
            take(Band { first, tensor, entry })?;
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

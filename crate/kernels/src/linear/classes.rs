//! Products with a matrix whose rows are of a few classes: each class is multiplied by itself, and its rows go where they belong.

use statepress_core::ClassedRows;

use super::{Scratch, Weights, linear};
use crate::KernelError;

/// The rows of each class, as a matrix of their own.
pub(super) struct Classes {
    parts: Vec<Weights>,
    /// Where each row is, with the rows of all classes one class after the other.
    places: Vec<u32>,
    /// The row at each place.
    rows: Vec<u32>,
}

impl Classes {
    /// As the tensor has them; `make` lays out the rows of a class.
    pub fn new(
        rows: ClassedRows,
        make: impl Fn(statepress_core::Tensor) -> Result<Weights, KernelError>,
    ) -> Result<Self, KernelError> {
        let (parts, places) = rows.into_parts();
        let mut rows = vec![0; places.len()];
        for (row, &place) in places.iter().enumerate() {
            rows[place as usize] = row as u32;
        }
        let parts = parts.into_iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { parts, places, rows })
    }

    /// The numbers of one row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let mut place = self.places[row] as usize;
        for part in &self.parts {
            if place < part.rows() {
                return part.row(place, out);
            }
            place -= part.rows();
        }
    }

    /// `out[t] = W x[t]` for every token, of the first rows where `out` has fewer.
    pub fn product(&self, cols: usize, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let tokens = x.len() / cols;
        let wanted = out.len() / tokens.max(1);
        let mut sums = std::mem::take(&mut scratch.class);
        let mut rest = self.rows.as_slice();
        for part in &self.parts {
            let (rows, next) = rest.split_at(part.rows());
            sums.resize(tokens * rows.len(), 0.0);
            linear(part, x, &mut sums, scratch);
            for (out, sums) in out.chunks_exact_mut(wanted.max(1)).zip(sums.chunks_exact(rows.len())) {
                for (&row, sum) in rows.iter().zip(sums) {
                    if let Some(out) = out.get_mut(row as usize) {
                        *out = *sum;
                    }
                }
            }
            rest = next;
        }
        scratch.class = sums;
    }

    /// The same of rows that are inputs, `cols` of them in all: what each class puts out is added up.
    pub fn transposed(&self, cols: usize, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let (mut sums, mut inputs) = (std::mem::take(&mut scratch.class), Vec::new());
        let mut rest = self.rows.as_slice();
        out.fill(0.0);
        for part in &self.parts {
            let (rows, next) = rest.split_at(part.cols());
            inputs.clear();
            inputs.extend(x.chunks_exact(cols).flat_map(|x| rows.iter().map(|&row| x[row as usize])));
            sums.resize(out.len(), 0.0);
            linear(part, &inputs, &mut sums, scratch);
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
            rest = next;
        }
        scratch.class = sums;
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(Weights::bytes).sum();
        parts + size_of_val(&*self.places) + size_of_val(&*self.rows)
    }
}

//! A tensor of the target: what it is made of, and what is done to the numbers on the way.

use statepress_core::coded::{Blocks, Rule, Undo};
use statepress_core::index::{Extent, Stored};
use statepress_core::{Entry, GgmlType};

/// A tensor of the target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    /// Its name there.
    pub name: String,
    /// What it is made of.
    pub made: Made,
    /// In this order.
    pub changes: Vec<Change>,
    /// Its shape there, outermost dimension first.
    pub shape: Vec<usize>,
    /// Whether a product goes over it, or rows of it are looked up: its numbers may be rounded as the user asks.
    pub is_matrix: bool,
}

/// What a tensor is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
    /// The tensor at that position of the index.
    Of(usize),
    /// The configuration, or the target, says the numbers.
    Numbers(Vec<f32>),
}

/// What is done to numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// `-exp(x)`.
    NegExp,
    /// `[columns, rows]` becomes `[rows, columns]`.
    Transpose {
        /// Columns afterwards.
        columns: usize,
    },
    /// Only these rows stay.
    Rows {
        /// The first.
        first: usize,
        /// How many.
        count: usize,
        /// Numbers of a row.
        columns: usize,
    },
    /// Of the first `rotary` rows of every head, which turn in halves (i with i + rotary / 2), neighbours are made of those
    /// that turn together.
    Pairs {
        /// Rows of a head.
        head: usize,
        /// How many of them turn.
        rotary: usize,
        /// Numbers of a row.
        columns: usize,
    },
    /// Times a number.
    Scale(f32),
    /// Every row times its own number.
    ScaleRows {
        /// One for each row.
        by: Vec<f32>,
        /// Numbers of a row.
        columns: usize,
    },
}

impl Piece {
    /// Whether each number becomes what it becomes by itself, so that some rows can be changed without the others.
    pub fn is_by_number(&self) -> bool {
        self.changes.iter().all(|change| matches!(change, Change::NegExp | Change::Scale(_)))
    }

    /// The blocks of an opened GGUF file that it is made of, where they are to the last bit what is written of the same type: nothing
    /// is done to their numbers but what was undone as they were read.
    pub fn blocks(&self, entry: &Entry) -> Option<(GgmlType, Extent)> {
        let coded = match (&entry.stored, entry.shape.as_slice()) {
            (Stored::Coded(coded), _) => coded,
            (Stored::Strided(view), &[_, columns])
                if self.is_matrix
                    && self.changes.is_empty()
                    && (view.first, view.strides.as_slice()) == (0, &[columns as u64, 1]) =>
            {
                let kinds = [GgmlType::F32, GgmlType::F16, GgmlType::Bf16];
                let kind = kinds.into_iter().find(|kind| kind.name() == view.dtype.name())?;
                return Some((kind, view.storage));
            }
            _ => return None,
        };
        let Rule::Blocks(Blocks { parts, undo }) = &coded.rule else { return None };
        let &[(kind, extent)] = parts.as_slice() else { return None };
        let same = match (undo, self.changes.as_slice()) {
            (None, []) => true,
            (Some(Undo::NegExp), [Change::NegExp]) => true,
            (Some(Undo::Transpose), [Change::Transpose { .. }]) => true,
            (Some(undone), [Change::Pairs { head, rotary, .. }]) => {
                *undone == Undo::Pairs { head: *head, rotary: *rotary }
            }
            _ => false,
        };
        (same && (self.is_matrix || kind == GgmlType::F32)).then_some((kind, extent))
    }

    /// What becomes of the numbers it is made of.
    pub fn changed(&self, values: Vec<f32>) -> Vec<f32> {
        self.changes.iter().fold(values, |values, change| change.of(values))
    }
}

impl Change {
    fn of(&self, mut values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::NegExp => values.iter_mut().for_each(|x| *x = -x.exp()),
            Self::Scale(by) => values.iter_mut().for_each(|x| *x *= by),
            Self::ScaleRows { by, columns } => {
                for (row, by) in values.chunks_mut((*columns).max(1)).zip(by) {
                    row.iter_mut().for_each(|x| *x *= by);
                }
            }
            Self::Rows { first, count, columns } => {
                values.truncate((first + count) * columns);
                values.drain(..first * columns);
            }
            Self::Transpose { columns } => {
                let rows = values.len() / (*columns).max(1);
                return (0..values.len()).map(|at| values[at % columns * rows + at / columns]).collect();
            }
            Self::Pairs { head, rotary, columns } => {
                let half = rotary / 2;
                let from = |row: usize| match row % head {
                    within if within < 2 * half => row - within + within % 2 * half + within / 2,
                    _ => row,
                };
                let rows = values.len() / (*columns).max(1);
                return (0..rows)
                    .flat_map(|row| &values[from(row) * columns..][..*columns])
                    .copied()
                    .collect();
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs_and_the_rest_of_a_head_stays() {
        let rows: Vec<f32> = (0..12).map(|row| row as f32).collect();
        let pairs = Change::Pairs { head: 6, rotary: 4, columns: 1 };
        assert_eq!(pairs.of(rows), [0., 2., 1., 3., 4., 5., 6., 8., 7., 9., 10., 11.]);
    }

    #[test]
    fn rows_are_cut_and_matrices_turned() {
        let values: Vec<f32> = (0..6).map(|x| x as f32).collect();
        assert_eq!(Change::Rows { first: 1, count: 1, columns: 2 }.of(values.clone()), [2., 3.]);
        // [2, 3] of numbers in order becomes [3, 2].
        assert_eq!(Change::Transpose { columns: 2 }.of(values), [0., 3., 1., 4., 2., 5.]);
    }
}

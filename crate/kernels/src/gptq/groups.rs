//! Which weights of a matrix share a scale.

/// A matrix `[rows, cols]` (outputs, inputs) in a tensor whose flattened numbers share scales in runs of
/// `group`, as every packed encoding has them: a run may go on in the next row, the last may be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Numbers to a scale.
    pub group: usize,
    /// The tensor is `[cols, rows]`.
    pub transposed: bool,
}

/// A part of a row that has one scale: `(scale, first column, end)`.
pub(super) type Part = (usize, usize, usize);

impl Groups {
    /// Scales in all.
    pub fn count(&self) -> usize {
        (self.rows * self.cols).div_ceil(self.group.max(1))
    }

    /// Where a weight lies in its tensor.
    #[inline(always)]
    pub fn place(&self, row: usize, col: usize) -> usize {
        if self.transposed { col * self.rows + row } else { row * self.cols + col }
    }

    /// The column of what lies there.
    pub fn col(&self, place: usize) -> usize {
        if self.transposed { place / self.rows } else { place % self.cols }
    }

    /// The scale of a weight.
    #[inline(always)]
    pub fn of(&self, row: usize, col: usize) -> usize {
        self.place(row, col) / self.group
    }

    /// The scales of a column, row after row, without a division for each.
    pub fn of_column(&self, row: usize, col: usize) -> impl Iterator<Item = usize> + use<> {
        let (group, stride) = (self.group, self.place(1, 0));
        let (scales, rest) = (stride / group, stride % group);
        let (mut scale, mut within) = (self.of(row, col), self.place(row, col) % group);
        std::iter::repeat_with(move || {
            let here = scale;
            scale += scales;
            within += rest;
            if within >= group {
                within -= group;
                scale += 1;
            }
            here
        })
    }

    /// Whether every scale belongs to one column of inputs.
    pub(super) fn is_by_column(&self) -> bool {
        self.transposed && self.rows.is_multiple_of(self.group)
    }

    /// So many neighbouring rows share no scale with others; 0 where a scale may be of any two.
    pub(super) fn bundle(&self) -> usize {
        match self.transposed {
            false => self.group / common_divisor(self.group, self.cols),
            true if self.is_by_column() => self.group,
            true => 0,
        }
    }

    /// The parts of the `phase`th row of a bundle that begins with scale 0.
    pub(super) fn parts(&self, phase: usize) -> Vec<Part> {
        let (first, end) = (phase * self.cols, (phase + 1) * self.cols);
        let scales = first / self.group..=(end - 1) / self.group;
        let column = |place: usize| place.clamp(first, end) - first;
        scales.map(|n| (n, column(n * self.group), column((n + 1) * self.group))).collect()
    }

    /// Scales of a bundle.
    pub(super) fn scales_of_bundle(&self) -> usize {
        (self.bundle() * self.cols).div_ceil(self.group)
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_rows_are_what_places_say() {
        for (rows, cols, group) in [(12, 8, 4), (12, 8, 32), (12, 6, 8), (12, 6, 64), (3, 7, 5), (4, 9, 9)] {
            let groups = Groups { rows, cols, group, transposed: false };
            for row in 0..rows {
                let (bundle, phase) = (row / groups.bundle(), row % groups.bundle());
                let mut seen = 0;
                for (scale, from, to) in groups.parts(phase) {
                    for col in from..to {
                        assert_eq!(groups.of(row, col), bundle * groups.scales_of_bundle() + scale);
                        assert_eq!(groups.col(groups.place(row, col)), col);
                        seen += 1;
                    }
                }
                assert_eq!(seen, cols);
            }
            for groups in [groups, Groups { transposed: true, ..groups }] {
                for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                    let exact = (row..rows).map(|row| groups.of(row, col));
                    assert!(groups.of_column(row, col).take(rows - row).eq(exact), "{groups:?} {row} {col}");
                }
            }
        }
        let turned = Groups { rows: 12, cols: 5, group: 4, transposed: true };
        assert!(turned.is_by_column() && turned.bundle() == 4 && turned.count() == 15);
        assert_eq!((turned.of(4, 0), turned.of(3, 1), turned.col(13)), (1, 3, 1));
    }
}

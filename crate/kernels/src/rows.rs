//! Some columns of every row of a matrix: how an op reads a part of what another wrote.

/// `width` columns from `first` on, of rows that are `stride` numbers apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f32],
    rows: usize,
    first: usize,
    width: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Columns `first..first + width` of rows of `stride` numbers.
    ///
    /// # Panics
    /// Where the columns do not lie within a row, or the rows are not whole.
    pub fn new(values: &'a [f32], first: usize, width: usize, stride: usize) -> Self {
        Self::of(values, values.len() / stride.max(1), first, width, stride)
    }

    /// The same for whoever knows how many rows there are: nothing is divided.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[inline(always)]
    pub fn of(values: &'a [f32], rows: usize, first: usize, width: usize, stride: usize) -> Self {
        assert!(first + width <= stride, "columns {first}..{} of rows of {stride}", first + width);
        assert!(values.len() == rows * stride, "{} numbers in {rows} rows of {stride}", values.len());
        Self { values, rows, first, width, stride }
    }

    /// Rows of `width` numbers, whole.
    pub fn whole(values: &'a [f32], width: usize) -> Self {
        Self::new(values, 0, width, width)
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `t`.
    #[inline(always)]
    pub fn row(&self, t: usize) -> &'a [f32] {
        &self.values[t * self.stride + self.first..][..self.width]
    }

    /// The rows in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [f32]> {
        (0..self.len()).map(move |t| self.row(t))
    }

    /// All numbers, where the rows stand one after the other without a gap.
    pub fn contiguous(&self) -> Option<&'a [f32]> {
        if self.width == self.stride || self.len() == 1 {
            return Some(&self.values[self.first..][..self.len() * self.width]);
        }
        None
    }

    /// The numbers row by row, into `out`.
    pub fn gather(self, out: &mut Vec<f32>) {
        out.clear();
        self.iter().for_each(|row| out.extend_from_slice(row));
    }
}

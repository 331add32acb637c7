//! Sums of outer products: `out[k][i] ± sum_j a[j][k] b[j][i]`, by which statistics are added up,
//! matrices factored and errors passed on.
//!
//! Every number is added up in the order of `j`, wherever it lies in a tile, and nothing is fused: the
//! result is the same to the last bit on every machine.

use std::ops::Neg;

use super::product;
use crate::lanes::{load8, store8};

/// Rows of `out` in a tile.
const DEEP: usize = 4;

/// How many `j`, or columns to be transposed, are taken at a time: what is read of them stays in the nearest cache.
const CHUNK: usize = 256;

/// `f32` or `f64`.
pub trait Number: Copy + Default + Neg<Output = Self> {
    /// What [`add`] and [`subtract`] do. Not generic: what is generic is compiled with the crate that calls it, and the engine is
    /// built to be small.
    #[doc(hidden)]
    fn outer(sign: Sign, out: (&mut [Self], usize), of: Factors<Self>);
}

/// Whether products are added or subtracted.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Plus,
    Minus,
}

/// What is multiplied, and how much of it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a, T> {
    a: Strided<'a, T>,
    b: Strided<'a, T>,
    count: usize,
    shape: [usize; 2],
    area: Area,
}

macro_rules! number {
    ($number:ty, $tile:expr) => {
        impl Number for $number {
            fn outer(sign: Sign, out: (&mut [Self], usize), of: Factors<Self>) {
                tiles(sign, out, of, $tile);
            }
        }
    };
}

// A tile's sums are eight vector registers of 128 bits, in either precision.
number!(f32, |sums: &mut [[f32; 8]; DEEP], left, right| {
    *sums = product::add_tile(right, left, sums.each_ref().map(load8)).map(store8);
});
number!(f64, |sums: &mut [[f64; 4]; DEEP], left, right| {
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in sums.iter_mut().zip(left) {
            sums.iter_mut().zip(right).for_each(|(sum, right)| *sum += left * right);
        }
    }
});

/// Rows of numbers in memory, `stride` apart; how many columns count, the call says.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The first row begins with the first of them.
    pub values: &'a [T],
    /// From one row to the next.
    pub stride: usize,
}

/// What is computed of `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// All of it.
    Whole,
    /// What lies on the diagonal and right of it; of what lies left of it, some.
    Upper,
}

/// `out[k][i] += sum_j a[j][k] b[j][i]` for `j` below `count`, `k` below `shape[0]`, `i` below `shape[1]`.
pub fn add<T: Number>(
    out: (&mut [T], usize),
    a: Strided<T>,
    b: Strided<T>,
    count: usize,
    shape: [usize; 2],
    area: Area,
) {
    T::outer(Sign::Plus, out, Factors { a, b, count, shape, area });
}

/// `out[k][i] -= sum_j a[j][k] b[j][i]`, likewise.
pub fn subtract<T: Number>(
    out: (&mut [T], usize),
    a: Strided<T>,
    b: Strided<T>,
    count: usize,
    shape: [usize; 2],
    area: Area,
) {
    T::outer(Sign::Minus, out, Factors { a, b, count, shape, area });
}

/// Both, tile by tile: `tile` adds `left[j][n] right[j][i]` to sums `[n][i]`.
fn tiles<T: Number, const WIDE: usize>(
    sign: Sign,
    (out, stride): (&mut [T], usize),
    Factors { a, b, count, shape: [rows, cols], area }: Factors<T>,
    tile: impl Fn(&mut [[T; WIDE]; DEEP], &[[T; DEEP]], &[[T; WIDE]]),
) {
    // Both are laid out as tiles read them; what is missing in the last ones is zeros.
    let chunk = CHUNK.min(count);
    let mut left = vec![[T::default(); DEEP]; rows.div_ceil(DEEP) * chunk];
    let mut right = vec![[T::default(); WIDE]; chunk];
    for from in (0..count).step_by(CHUNK) {
        let here = CHUNK.min(count - from);
        for (at, left) in left.chunks_exact_mut(chunk).enumerate() {
            for (j, left) in left[..here].iter_mut().enumerate() {
                *left = columns(&a.values[(from + j) * a.stride..], at * DEEP, rows);
                if sign == Sign::Minus {
                    // To the last bit what subtracting is.
                    *left = left.map(Neg::neg);
                }
            }
        }
        for i in (0..cols).step_by(WIDE) {
            for (j, right) in right[..here].iter_mut().enumerate() {
                *right = columns(&b.values[(from + j) * b.stride..], i, cols);
            }
            for (at, left) in left.chunks_exact(chunk).enumerate() {
                let k = at * DEEP;
                if area == Area::Upper && i + WIDE <= k {
                    break;
                }
                let depth = DEEP.min(rows - k);
                let mut sums = [[T::default(); WIDE]; DEEP];
                for (n, sums) in sums[..depth].iter_mut().enumerate() {
                    *sums = columns(&out[(k + n) * stride..], i, cols);
                }
                tile(&mut sums, &left[..here], &right[..here]);
                let width = WIDE.min(cols - i);
                for (n, sums) in sums[..depth].iter().enumerate() {
                    let out = &mut out[(k + n) * stride + i..][..width];
                    // A length that is known when compiling takes no call of a function that copies.
                    match out.first_chunk_mut() {
                        Some(out) => *out = *sums,
                        None => out.copy_from_slice(&sums[..width]),
                    }
                }
            }
        }
    }
}

/// N numbers of a row from a column on; zeros where it has `cols` and no more.
fn columns<T: Number, const N: usize>(row: &[T], from: usize, cols: usize) -> [T; N] {
    let row = &row[from..cols];
    row.first_chunk().copied().unwrap_or_else(|| {
        let mut some = [T::default(); N];
        some[..row.len()].copy_from_slice(row);
        some
    })
}

/// Adds `X^T X` of rows `[n, d]` to sums `[d, d]`.
pub fn add_gram(sums: &mut [f32], rows: &[f32], d: usize) {
    let x = Strided { values: rows, stride: d };
    add((sums, d), x, x, rows.len() / d.max(1), [d, d], Area::Upper);
    mirror(sums, d);
}

/// `A^T B` of A `[count, m]` and B `[count, n]`.
pub fn product<T: Number>(a: &[T], b: &[T], [m, n]: [usize; 2]) -> Vec<T> {
    let mut out = vec![T::default(); m * n];
    let (a, b) = (Strided { values: a, stride: m }, Strided { values: b, stride: n });
    add((&mut out, n), a, b, a.values.len() / m.max(1), [m, n], Area::Whole);
    out
}

/// `A^T S A` of a symmetric S `[n, n]` and A `[n, m]`: what S says of directions, said of the columns of A.
pub fn congruent<T: Number>(square: &[T], a: &[T], [n, m]: [usize; 2]) -> Vec<T> {
    product(a, &product(square, a, [n, m]), [m, m])
}

/// The transpose of `[rows, cols]`.
pub fn transposed<T: Number>(a: &[T], cols: usize) -> Vec<T> {
    let rows = a.len() / cols.max(1);
    let mut out = vec![T::default(); rows * cols];
    // What some columns become stays in the cache while all rows are gone over.
    for (n, out) in out.chunks_mut((CHUNK * rows).max(1)).enumerate() {
        for row in 0..rows {
            let some = &a[row * cols + n * CHUNK..(row + 1) * cols];
            some.iter().zip(out[row..].iter_mut().step_by(rows)).for_each(|(x, out)| *out = *x);
        }
    }
    out
}

/// Copies what lies right of the diagonal of `[d, d]` to its left.
pub fn mirror(square: &mut [f32], d: usize) {
    for i in 1..d {
        for j in 0..i {
            square[i * d + j] = square[j * d + i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_and_their_edges_are_what_three_loops_give_to_the_last_bit() {
        let mut random = 1u32;
        let mut numbers = |n: usize| -> Vec<f32> {
            let next = |random: &mut u32| {
                *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (*random >> 8) as f32 / 8_388_608.0 - 1.0
            };
            (0..n).map(|_| next(&mut random)).collect()
        };
        for (count, rows, cols) in
            [(0, 3, 3), (1, 1, 1), (5, 4, 8), (7, 9, 21), (33, 17, 16), (2, 3, 40), (2 * CHUNK + 3, 5, 9)]
        {
            // The last rows end where their columns do.
            let (mut a, mut b) = (numbers(count * (rows + 2)), numbers(count * (cols + 1)));
            a.truncate(a.len().saturating_sub(2));
            b.truncate(b.len().saturating_sub(1));
            let before = numbers(rows * (cols + 3));
            let (left, right) =
                (Strided { values: &a, stride: rows + 2 }, Strided { values: &b, stride: cols + 1 });
            for sign in [1.0, -1.0] {
                let mut exact = before.clone();
                for k in 0..rows {
                    for i in 0..cols {
                        for j in 0..count {
                            exact[k * (cols + 3) + i] +=
                                sign * (a[j * (rows + 2) + k] * b[j * (cols + 1) + i]);
                        }
                    }
                }
                for area in [Area::Whole, Area::Upper] {
                    let mut found = before.clone();
                    let call = if sign > 0.0 { add::<f32> } else { subtract::<f32> };
                    call((&mut found, cols + 3), left, right, count, [rows, cols], area);
                    for k in 0..rows {
                        let from = if area == Area::Upper { k.min(cols) } else { 0 };
                        let row = k * (cols + 3)..(k + 1) * (cols + 3);
                        assert_eq!(
                            found[row.clone()][from..],
                            exact[row][from..],
                            "{count} {rows} {cols} {k}"
                        );
                    }
                }
                let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
                let (a, b, mut found) = (wide(&a), wide(&b), wide(&before));
                let left = Strided { values: &a, stride: rows + 2 };
                let right = Strided { values: &b, stride: cols + 1 };
                let call = if sign > 0.0 { add::<f64> } else { subtract::<f64> };
                call((&mut found, cols + 3), left, right, count, [rows, cols], Area::Whole);
                assert!(found.iter().zip(&exact).all(|(x, y)| (x - f64::from(*y)).abs() < 1e-4));
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        for (rows, cols) in [(0, 3), (3, 0), (1, 1), (2, 3), (3, CHUNK), (2, 2 * CHUNK + 5)] {
            let a: Vec<f32> = (0..rows * cols).map(|at| at as f32).collect();
            let exact: Vec<f32> = (0..rows * cols).map(|at| a[at % rows * cols + at / rows]).collect();
            assert_eq!(transposed(&a, cols), exact, "{rows} {cols}");
        }
    }

    #[test]
    fn a_gram_is_symmetric_and_adds_to_what_is_there() {
        let rows = [1.0, 2.0, 3.0, -1.0, 0.5, 4.0];
        let mut sums = vec![1.0; 9];
        add_gram(&mut sums, &rows, 3);
        assert_eq!(sums, [3.0, 2.5, 0.0, 2.5, 5.25, 9.0, 0.0, 9.0, 26.0]);
    }
}

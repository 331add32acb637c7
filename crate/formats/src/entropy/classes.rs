//! The classes of rows and columns: logarithms of mean squares, by integers alone.

/// The least class: a row with a code of 1 in 64 is not told from one without.
pub(super) const LEAST: i32 = -6;

/// The greatest class; codes of 8 bits end at 14.
pub(super) const GREATEST: i32 = 30;

/// Bits that an offset of a column may have.
pub(super) const OFFSET_BITS: u32 = 5;

/// Squares of columns are divided by `2^class` of their row; this keeps the quotients whole.
const FINE: i32 = GREATEST;

/// Of each row, the rounded logarithm to base 2 of the mean square of its codes.
pub(super) fn of_rows(codes: &[i16], cols: usize) -> Vec<i32> {
    let square = |code: &i16| u128::from(code.unsigned_abs()).pow(2);
    codes.chunks(cols).map(|row| rounded_log2(row.iter().map(square).sum(), cols as u128)).collect()
}

/// Of each column, the same of its codes divided by the roots of `2^class` of their rows.
pub(super) fn of_columns(codes: &[i16], cols: usize, rows: &[i32]) -> Vec<i32> {
    let mut sums = vec![0u128; cols];
    for (row, class) in codes.chunks(cols).zip(rows) {
        for (sum, code) in sums.iter_mut().zip(row) {
            *sum += (u128::from(code.unsigned_abs()).pow(2)) << (FINE - class);
        }
    }
    let classes: Vec<i32> = sums.iter().map(|&sum| rounded_log2(sum, (rows.len() as u128) << FINE)).collect();
    // What the bits of an offset do not hold is far from everything anyway.
    let greatest = classes.iter().max().copied().unwrap_or(0);
    classes.into_iter().map(|class| class.max(greatest - (1 << OFFSET_BITS) + 1)).collect()
}

/// `log2(sum / n)`, rounded, and within [`LEAST`] and [`GREATEST`].
fn rounded_log2(sum: u128, n: u128) -> i32 {
    // Half a power of two, to 16 bits: nobody else has to find the same class.
    const ROOT: u128 = 46341;
    let at_least = |class: i32| {
        // sum / n >= 2^(class - 1/2) = 2^class * sqrt(2) / 2
        let (left, right) = (sum << 16, n * ROOT);
        if class < 0 { left << -class >= right } else { left >> class >= right }
    };
    (LEAST + 1..=GREATEST).rev().find(|&class| at_least(class)).unwrap_or(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_rounded_logarithms() {
        for (sum, n, class) in [(0, 5, -6), (1, 1, 0), (181, 128, 0), (182, 128, 1), (1 << 30, 1, 30)] {
            assert_eq!(rounded_log2(sum, n), class, "{sum} / {n}");
        }
        for (sum, n) in [(1, 20), (3, 7), (1000, 3), (12345, 678), (1, 63)] {
            assert_eq!(rounded_log2(sum, n), (sum as f64 / n as f64).log2().round() as i32, "{sum} / {n}");
        }
    }

    #[test]
    fn a_column_is_told_from_its_rows() {
        let codes = [8, 1, 16, 2, 32, 4];
        let rows = of_rows(&codes, 2);
        assert_eq!(rows, [5, 7, 9]);
        assert_eq!(of_columns(&codes, 2, &rows), [1, -5]);
    }
}

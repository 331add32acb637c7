//! Matrices of integer codes for the entropy coder, and how few bits they could have.

use std::collections::BTreeMap;

use fastrand::Rng;

/// Codes of that deviation, as a sum of twelve uniform numbers has it; `spread`: rows and columns differ, by a factor of
/// eleven in all.
pub fn normal(rows: usize, cols: usize, deviation: f64, spread: bool) -> Vec<i16> {
    let mut rng = Rng::with_seed(rows as u64 ^ (cols as u64) << 32);
    let mut code = |at: usize| {
        let normal: f64 = (0..12).map(|_| rng.f64() - 0.5).sum();
        let octaves = if spread { (at / cols % 5 + at % cols % 5) as f64 / 2.0 - 2.0 } else { 0.0 };
        (normal * deviation * octaves.exp2()).round() as i16
    };
    (0..rows * cols).map(&mut code).collect()
}

/// A matrix rounded to codes up to `greatest`, in groups with a scale each; 0: a group is a row.
pub fn rounded(values: &[f32], cols: usize, group: usize, greatest: f32) -> Vec<i16> {
    let code = |group: &[f32]| {
        let scale = group.iter().fold(0f32, |most, value| most.max(value.abs())) / greatest;
        let scale = if scale > 0.0 { scale } else { 1.0 };
        group.iter().map(|value| (value / scale).round_ties_even() as i16).collect::<Vec<i16>>()
    };
    values.chunks(if group == 0 { cols } else { group }).flat_map(code).collect()
}

/// Bits of all codes by a coder that knows how often each comes, and nothing else.
pub fn entropy(codes: impl IntoIterator<Item = i16>) -> f64 {
    let mut counts = BTreeMap::<i16, f64>::new();
    codes.into_iter().for_each(|code| *counts.entry(code).or_default() += 1.0);
    let all: f64 = counts.values().sum();
    counts.values().map(|count| count * (all / count).log2()).sum()
}

/// Bits of all codes by a coder that also knows the class of each: `2 log2` of the root mean square of its row and, in
/// units of that, of its column, added up.
pub fn conditional_entropy(codes: &[i16], cols: usize) -> f64 {
    let class = |squares: f64, n: usize| (squares / n as f64).max(1.0 / 64.0).log2().round();
    let square = |code: &i16| f64::from(*code).powi(2);
    let rows: Vec<f64> =
        codes.chunks(cols).map(|row| class(row.iter().map(square).sum(), row.len())).collect();
    let column = |column: usize| {
        let squares = codes.chunks(cols).zip(&rows).map(|(row, class)| square(&row[column]) / class.exp2());
        class(squares.sum(), rows.len())
    };
    let columns: Vec<f64> = (0..cols).map(column).collect();
    let mut by_class = BTreeMap::<i32, Vec<i16>>::new();
    for (row, of_row) in codes.chunks(cols).zip(&rows) {
        for (code, of_column) in row.iter().zip(&columns) {
            by_class.entry((of_row + of_column).clamp(-6.0, 13.0) as i32).or_default().push(*code);
        }
    }
    by_class.into_values().map(entropy).sum()
}

//! How much single rows matter: of a head by how often what they make is predicted, of a table by how often they are likely to be
//! looked up. Steps that are chosen for an entropy coder are as large as a row can bear, and classes of rows are cut in that order.

use statepress_kernels::gptq::{Prepared, Steps, descending};
use statepress_kernels::linear::outer;
use statepress_kernels::program::{Layout, MatrixId, Program};

use super::head::HeadStatistics;

/// A row that is looked up matters at least this much, where 1 is the mean, so that its step is at most four times as large:
/// what is looked up may never be predicted, and a text hardly tells how often that is.
const LEAST: f32 = 1.0 / 16.0;

/// What the head tells of rows.
pub struct RowUse {
    /// Of the head's rows, and of the table's: 1 in the mean.
    head: Vec<f32>,
    table: Vec<f32>,
    /// `mean x x^T` of what enters the head.
    entering: Vec<f32>,
    /// Rows by how much they matter to the head, the most first.
    order: Vec<u32>,
}

impl RowUse {
    /// By how the head is used, and `H = mean x x^T` of what enters it.
    pub fn new(head: &HeadStatistics, h: &[f32]) -> Self {
        let table = weights(&head.mean).into_iter().map(|weight| weight.max(LEAST)).collect();
        let order = descending(&head.alpha).into_iter().map(|row| row as u32).collect();
        Self { head: weights(&head.alpha), table, entering: h.to_vec(), order }
    }

    /// `rows` rows of the head or the table, the most used first: those beyond the vocabulary, which nobody uses, last.
    pub fn order(&self, rows: usize) -> Vec<u32> {
        let known = self.order.iter().copied().filter(|&row| (row as usize) < rows);
        known.chain(self.order.len() as u32..rows as u32).collect()
    }

    /// Steps for the rows of a matrix that is rounded as it was prepared, which are taken to matter alike where nothing is known.
    pub fn steps<'a>(
        known: Option<&'a Self>,
        program: &Program,
        id: MatrixId,
        prepared: Option<&Prepared>,
        step: f64,
    ) -> Steps<'a> {
        let alike = Steps { step, weights: None, most: f64::INFINITY };
        // Scales of what is transposed are of its columns.
        let Some(known) = known.filter(|_| program.matrix(id).layout != Layout::Transposed) else {
            return alike;
        };
        match id {
            id if id == program.head.matrix => {
                let most = prepared.map_or(f64::INFINITY, |it| it.most_for_logits(&known.entering));
                Steps { weights: Some(&known.head), most, ..alike }
            }
            id if id == program.table => Steps { weights: Some(&known.table), ..alike },
            _ => alike,
        }
    }
}

/// How much rows matter that are used so often: a little less than in proportion, as what is seldom used is badly known. Of the
/// powers that were tried on validation text, 3/4 lost least.
fn weights(uses: &[f32]) -> Vec<f32> {
    let power = |&use_: &f32| {
        let root = f64::from(use_).max(0.0).sqrt();
        root * root.sqrt()
    };
    let powers: Vec<f64> = uses.iter().map(power).collect();
    let mean = powers.iter().sum::<f64>() / powers.len().max(1) as f64;
    powers.into_iter().map(|power| (power / mean.max(f64::MIN_POSITIVE)) as f32).collect()
}

/// `sum_r use_r^0.75 e_r e_r^T` of rows e `[V, d]`: what is seldom used is badly known, and counts a little more.
pub fn used_rows(rows: &[f32], uses: &[f32], d: usize) -> Vec<f64> {
    let mut sums = vec![0.0f64; d * d];
    let mut block = Vec::new();
    for (rows, uses) in rows.chunks(d * 256).zip(uses.chunks(256)) {
        block.clear();
        for (row, &used) in rows.chunks_exact(d).zip(uses) {
            let fourth = f64::from(used).max(0.0).sqrt().sqrt();
            let root = fourth * fourth.sqrt();
            block.extend(row.iter().map(|x| f64::from(*x) * root));
        }
        let x = outer::Strided { values: block.as_slice(), stride: d };
        outer::add((&mut sums, d), x, x, block.len() / d, [d, d], outer::Area::Upper);
    }
    mirrored(sums, d)
}

/// Copies what lies right of the diagonal to its left.
pub fn mirrored(mut square: Vec<f64>, d: usize) -> Vec<f64> {
    for i in 1..d {
        for j in 0..i {
            square[i * d + j] = square[j * d + i];
        }
    }
    square
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_powers_with_a_mean_of_1_and_what_is_looked_up_keeps_some() {
        let found = weights(&[16.0, 1.0, 0.0]);
        assert!((found[0] / found[1] - 8.0).abs() < 1e-6 && found[2] == 0.0, "{found:?}");
        assert!((found.iter().sum::<f32>() - 3.0).abs() < 1e-6);
        assert_eq!(weights(&[0.0; 2]), [0.0; 2]);
        let head = HeadStatistics {
            alpha: vec![1.0, 1e-9],
            mean: vec![1.0, 1e-9],
            h: vec![1.0, 0.0, 0.0, 1.0],
            covariance: None,
        };
        let rows = RowUse::new(&head, &head.h);
        assert_eq!(rows.order(3), [0, 1, 2], "padding is last");
        assert!(rows.head[1] < 1e-5 && rows.table[1] == LEAST);
    }
}

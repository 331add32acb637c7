//! Statistics that take gradients, as whoever takes them gives them, for the matrices of a program.

use std::collections::BTreeMap;

use statepress_core::Finding;
use statepress_core::report::Fisher;
use statepress_core::words::counted;
use statepress_kernels::program::{Layout, MatrixId, Program};

use super::entered;
use crate::error::listed;

/// An output that the loss hardly feels counts as so large a share of the mean at least: how little it feels is badly known.
const LEAST: f32 = 0.02;

/// What the loss of a model feels of changes, where that was measured.
#[derive(Default)]
pub struct Felt {
    /// `F_in`, `[d, d]`.
    pub looked_up: Option<Vec<f32>>,
    /// How much each output of a matrix matters, 1 in the mean.
    outputs: BTreeMap<MatrixId, Vec<f32>>,
    /// Tokens that it was measured over.
    tokens: u64,
    /// Matrices of which it was measured in another shape: something was pruned since.
    unfit: Vec<String>,
}

impl Felt {
    /// What of a measurement is about the matrices of this program.
    pub fn new(fisher: &Fisher, program: &Program) -> Self {
        let table = program.matrix(program.table);
        let fits = fisher.looked_up.len() == table.cols * table.cols;
        let looked_up = fits.then(|| fisher.looked_up.clone());
        let mut felt = Self { looked_up, tokens: fisher.tokens, ..Self::default() };
        if !fits {
            felt.unfit.push(table.key.clone());
        }
        let of = |id: MatrixId| {
            let matrix = program.matrix(id);
            let part = part(&matrix.layout);
            let found = fisher.outputs.iter().find(|it| it.key == matrix.key && it.part == part)?;
            Some((found.rows.as_slice(), matrix))
        };
        for id in entered(program).into_iter().filter(|&id| id != program.head.matrix) {
            let Some((rows, matrix)) = of(id) else { continue };
            match rows.len() == matrix.rows {
                true => drop(felt.outputs.insert(id, weights(rows))),
                false => felt.unfit.push(matrix.key.clone()),
            }
        }
        felt
    }

    /// How much each row of a matrix matters; `None` where it is not known, and where scales are not those of rows.
    pub fn rows(&self, program: &Program, id: MatrixId) -> Option<&[f32]> {
        let rows = self.outputs.get(&id)?;
        (program.matrix(id).layout != Layout::Transposed).then_some(rows)
    }

    /// What is to be said of it.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.looked_up.is_some() || !self.outputs.is_empty() {
            let message = format!(
                "what the loss feels of rows that are looked up, and of {}, was measured by gradients over {}",
                counted(self.outputs.len() as u64, "matrix's outputs", "matrices' outputs"),
                counted(self.tokens, "token", "tokens")
            );
            findings.push(Finding::info("gradients", message));
        }
        if let Some(first) = self.unfit.first() {
            let message = format!(
                "gradients were measured in another shape than {} now: what they say of it is left out, as without gradients: {}",
                counted(self.unfit.len() as u64, "tensor has", "tensors have"),
                listed(&self.unfit)
            );
            findings.push(Finding::warning("gradients-unfit", message).about(first));
        }
        findings
    }
}

/// Which of several matrices in one tensor it is.
pub fn part(layout: &Layout) -> u32 {
    match layout {
        Layout::Part { index, .. } => *index as u32,
        Layout::Plain | Layout::Transposed => 0,
    }
}

/// Means of squares, with none too small, as weights of mean 1; all alike where there is no number above 0.
fn weights(squares: &[f32]) -> Vec<f32> {
    let mean = squares.iter().map(|&x| f64::from(x)).sum::<f64>() / squares.len().max(1) as f64;
    if mean <= 0.0 || !mean.is_finite() {
        return vec![1.0; squares.len()];
    }
    squares.iter().map(|&x| ((f64::from(x) / mean) as f32 + LEAST) / (1.0 + LEAST)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_a_mean_of_1_and_none_is_0() {
        let found = weights(&[0.0, 4.0, 2.0]);
        assert!((found.iter().sum::<f32>() - 3.0).abs() < 1e-6 && found[0] > 0.01, "{found:?}");
        assert!(found[1] > 1.9 * found[2]);
        assert_eq!(weights(&[0.0; 2]), [1.0; 2]);
        assert_eq!(weights(&[f32::NAN, 1.0]), [1.0; 2]);
    }
}

//! Statistics that take gradients, as whoever takes them gives them, for the matrices of a program.

use std::collections::{BTreeMap, BTreeSet};

use statepress_core::report::{Fisher, OutputFisher};
use statepress_core::words::counted;
use statepress_core::{Finding, Role};
use statepress_kernels::program::{Layout, MatrixId, Op, Program};

use super::entered;
use crate::EngineError;
use crate::error::listed;

/// An output that the loss hardly feels counts as so large a share of the mean at least: how little it feels is badly known.
const LEAST: f32 = 0.02;

/// How much rows of a model's matrices matter, by gradients, where those were taken.
#[derive(Default)]
pub struct Graded {
    /// `F_in` of the residual stream, `[d, d]`, until somebody takes it.
    pub looked_up: Option<Vec<f32>>,
    /// How much each output of a matrix matters: 1 in the mean over all matrices of its tensor.
    outputs: BTreeMap<MatrixId, Vec<f32>>,
    /// What is to be said of it.
    pub findings: Vec<Finding>,
}

impl Graded {
    /// What of a measurement is about the matrices of this program.
    ///
    /// # Errors
    /// For what is no measurement of gradients: numbers that are none or are below 0, and none of this model's keys.
    pub fn new(fisher: &Fisher, program: &Program) -> Result<Self, EngineError> {
        check(fisher)?;
        let table = program.matrix(program.table);
        let known = |id: MatrixId| {
            let matrix = program.matrix(id);
            let part = part(&matrix.layout);
            fisher.outputs.iter().find(|it| it.key == matrix.key && it.part == part)
        };
        if !entered(program).into_iter().any(|id| known(id).is_some()) {
            return Err(refused("of another model: none of its keys are this one's".into()));
        }
        let fits = |id: MatrixId| known(id).is_some_and(|it| it.rows.len() == program.matrix(id).rows);
        let mut unfit = BTreeSet::new();
        let d = program.hidden_size();
        if fisher.looked_up.len() != d * d {
            unfit.insert(table.key.clone());
        }
        // Of experts of which some were removed nobody knows which are left.
        let renumbered: BTreeSet<MatrixId> = program
            .nodes
            .iter()
            .filter_map(|node| match &node.op {
                Op::Experts(op) if !fits(op.router) => Some(op),
                _ => None,
            })
            .flat_map(|op| op.experts.iter().flat_map(|expert| [expert.up, expert.down]))
            .collect();
        let mut outputs = BTreeMap::new();
        for id in entered(program).into_iter().filter(|&id| id != program.head.matrix) {
            let matrix = program.matrix(id);
            // A basis came after them, and its rows are not told apart.
            if matrix.role == Role::Basis {
                continue;
            }
            match known(id).filter(|_| fits(id) && !renumbered.contains(&id)) {
                Some(it) => drop(outputs.insert(id, weights(&it.rows, mean(fisher, &it.key)))),
                None => drop(unfit.insert(matrix.key.clone())),
            }
        }
        let looked_up = (!unfit.contains(&table.key)).then(|| fisher.looked_up.clone());
        let findings = findings(fisher, looked_up.is_some(), outputs.len(), &unfit);
        Ok(Self { looked_up, outputs, findings })
    }

    /// How much each row of a matrix matters; `None` where it is not known, and where scales are not those of rows.
    pub fn rows(&self, program: &Program, id: MatrixId) -> Option<&[f32]> {
        let rows = self.outputs.get(&id)?;
        (program.matrix(id).layout != Layout::Transposed).then_some(rows)
    }
}

/// Which of several matrices in one tensor it is.
pub fn part(layout: &Layout) -> u32 {
    match layout {
        Layout::Part { index, .. } => *index as u32,
        Layout::Plain | Layout::Transposed => 0,
    }
}

fn check(fisher: &Fisher) -> Result<(), EngineError> {
    let is_square = |x: &f32| x.is_finite() && *x >= 0.0;
    let odd = fisher.outputs.iter().find(|it| !it.rows.iter().all(is_square));
    if let Some(OutputFisher { key, .. }) = odd {
        return Err(refused(format!("with something else than a number from 0 at the outputs of {key}")));
    }
    let d = fisher.looked_up.len().isqrt();
    let is_moment = fisher.looked_up.iter().all(|x| x.is_finite())
        && fisher.looked_up.iter().step_by(d + 1).all(is_square)
        && d * d == fisher.looked_up.len();
    match is_moment {
        true => Ok(()),
        false => Err(refused("without a matrix of second moments at what is looked up".into())),
    }
}

fn refused(value: String) -> EngineError {
    EngineError::option("gradients", value, "what was taken of this very checkpoint")
}

fn findings(fisher: &Fisher, looks_up: bool, outputs: usize, unfit: &BTreeSet<String>) -> Vec<Finding> {
    let outputs = counted(outputs as u64, "matrix", "matrices");
    let rows = if looks_up { "of rows that are looked up, and " } else { "" };
    let tokens = counted(fisher.tokens, "token", "tokens");
    let message = format!(
        "what the loss feels {rows}of the outputs of {outputs} was measured by gradients over {tokens}; outputs are told apart where codes \
         are entropy-coded"
    );
    let mut findings = vec![Finding::info("gradients", message)];
    if let Some(first) = unfit.first() {
        let names: Vec<String> = unfit.iter().cloned().collect();
        let message = format!(
            "gradients say nothing that fits {}, which were pruned since or are not in them: rounded as without: {}",
            counted(unfit.len() as u64, "tensor", "tensors"),
            listed(&names)
        );
        findings.push(Finding::warning("gradients-unfit", message).about(first));
    }
    findings
}

/// The mean over the outputs of all matrices of a tensor.
fn mean(fisher: &Fisher, key: &str) -> f64 {
    let rows = || fisher.outputs.iter().filter(|it| it.key == key).flat_map(|it| &it.rows);
    rows().map(|&x| f64::from(x)).sum::<f64>() / rows().count().max(1) as f64
}

/// Means of squares, with none too small, as weights; all alike where the loss feels none.
fn weights(squares: &[f32], mean: f64) -> Vec<f32> {
    if mean <= 0.0 {
        return vec![1.0; squares.len()];
    }
    squares.iter().map(|&x| ((f64::from(x) / mean) as f32 + LEAST) / (1.0 + LEAST)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_a_mean_of_1_over_a_tensor_and_none_is_0() {
        let of = |part, rows: [f32; 2]| OutputFisher { key: "w".into(), part, rows: rows.to_vec() };
        let fisher = Fisher { outputs: vec![of(0, [0.0, 4.0]), of(1, [2.0, 2.0])], ..Fisher::default() };
        let mean = mean(&fisher, "w");
        let found: Vec<f32> = fisher.outputs.iter().flat_map(|it| weights(&it.rows, mean)).collect();
        assert!((found.iter().sum::<f32>() - 4.0).abs() < 1e-6 && found[0] > 0.01, "{found:?}");
        assert!(found[1] > 1.9 * found[2]);
        assert_eq!(weights(&[0.0; 2], 0.0), [1.0; 2]);
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        let with = |looked_up: &[f32], rows: &[f32]| {
            let outputs = vec![OutputFisher { key: "w".into(), part: 0, rows: rows.to_vec() }];
            check(&Fisher { tokens: 1, looked_up: looked_up.to_vec(), outputs })
        };
        assert!(with(&[1.0, -0.5, -0.5, 2.0], &[0.0, 1.0]).is_ok());
        for (looked_up, rows) in [
            (&[1.0, 0.0, 0.0, 1.0][..], &[-1.0, 2.0][..]),
            (&[1.0, 0.0, 0.0, 1.0], &[f32::INFINITY]),
            (&[1.0, 0.0, 0.0, -1.0], &[1.0]),
            (&[1.0, 0.0, f32::NAN, 1.0], &[1.0]),
            (&[1.0, 0.0], &[1.0]),
        ] {
            assert_eq!(with(looked_up, rows).unwrap_err().code(), "bad-option", "{looked_up:?} {rows:?}");
        }
    }
}

//! Centering: the mean row of the token table goes to where it is added once.
//!
//! Rows of a table have much in common: in trained models half of their energy is one vector, which every code of every row
//! would have to carry. Without it the rows are smaller, and so are their rounding errors. What is looked up is
//! `s E[id] = s (E[id] - mu) + s mu`, of which the last goes to a bias of the table. As a head, `(E - 1 mu^T) h` is less by the same number for every token, which softmax does not see: predictions are
//! what they were, to rounding. A head of its own loses its own mean.

use std::rc::Rc;

use statepress_core::{Finding, Index};
use statepress_formats::read_tensor;
use statepress_kernels::codecs;
use statepress_kernels::program::{Matrix, Op, Program};

use super::change::Change;
use super::derived::{Changes, Checkpoint, Derived, Draft, Fitted, decoded, program, real};
use crate::EngineError;
use crate::families::{ModelSpec, beside};

/// The mean row of a matrix, and what share of the energy of all rows it is.
struct Mean {
    row: Vec<f32>,
    share: f64,
}

/// The checkpoint with its table centered, and what is to be said of it.
pub(super) fn center(of: &Checkpoint) -> Result<(Checkpoint, Vec<Finding>), EngineError> {
    let Checkpoint { source, index, spec } = of;
    let mut said = Vec::new();
    let mut mean = |matrix: &Matrix, vocab_size: usize| {
        let missing = || EngineError::Keys { missing: vec![matrix.key.clone()], unexpected: Vec::new() };
        let entry = spec.names.get(index, &matrix.key).ok_or_else(missing)?;
        let values = codecs::decode(&read_tensor(&**source, entry)?);
        let mean = Mean::of(&values, matrix.cols, vocab_size);
        if !mean.row.iter().all(|x| x.is_finite()) {
            let message = format!("{} has numbers that are not finite: it has no mean row", entry.name);
            return Err(EngineError::Evaluation(message));
        }
        said.push((entry.name.clone(), mean.share));
        Ok(mean.row)
    };
    let (derived, changes, to) = derive(index, spec, source.len(), &mut mean)?;
    let mut findings: Vec<Finding> = decoded(index, spec, &changes).into_iter().collect();
    for (n, (name, share)) in said.into_iter().enumerate() {
        let gone = if n == 0 { format!("was moved to {to}") } else { "was left out".into() };
        let message = format!(
            "its mean row, {:.0} % of its energy, {gone}: predictions stay what they were, and logits of a token change \
             by one number",
            100.0 * share
        );
        findings.push(Finding::info("centered", message).about(&name));
    }
    Ok((derived.over(source.clone()), findings))
}

/// What centering leaves, by arithmetic alone.
pub(super) fn planned(index: &Index, spec: &ModelSpec) -> Result<(Index, ModelSpec), EngineError> {
    let (derived, ..) = derive(index, spec, 0, |matrix, _| Ok(vec![0.0; matrix.cols]))?;
    Ok((derived.index, derived.spec))
}

/// The centered checkpoint, what changed in it, and the name of the bias that the mean was added to.
fn derive(
    index: &Index,
    spec: &ModelSpec,
    len: u64,
    mut mean: impl FnMut(&Matrix, usize) -> Result<Vec<f32>, EngineError>,
) -> Result<(Derived, Changes, String), EngineError> {
    let program: Rc<Program> = program(spec)?;
    let embed = program.nodes.iter().find_map(|node| match node.op {
        Op::Embed { bias, scale, .. } => Some((bias, scale)),
        _ => None,
    });
    let Some((bias, scale)) = embed else {
        return Err(EngineError::UnknownModel {
            reason: "no table is looked up, so none can be centered".into(),
        });
    };
    if program.end().1.is_some() {
        let allowed = "tables without a basis of their own: center goes before basis";
        return Err(EngineError::option("center", "asked for", allowed));
    }
    let mut changes = Changes::default();
    let mut add = |key: &str, row: Vec<f32>| {
        let change = Change { added: Some(Rc::new(row)), ..Change::none(key) };
        changes.insert(key.into(), Some(change));
    };
    let table = program.matrix(program.table);
    let row = mean(table, program.vocab_size)?;
    add(&table.key, row.iter().map(|x| -x).collect());
    if program.head.matrix != program.table {
        let head = program.matrix(program.head.matrix);
        add(&head.key, mean(head, program.vocab_size)?.iter().map(|x| -x).collect());
    }
    let moved: Vec<f32> = row.iter().map(|x| scale * x).collect();
    let (draft, to) = match bias.and_then(|id| program.vector(id).key()) {
        Some(bias) => {
            add(bias, moved);
            (Draft::new(index, spec, len, &changes, &mut Fitted::default()), real(spec, index, bias))
        }
        None => {
            let table = real(spec, index, &table.key);
            let bias = beside(&table, "bias");
            let draft = Draft::new(index, spec, len, &changes, &mut Fitted::default());
            (draft.with_tensor(&bias, vec![moved.len()], Rc::new(moved)), bias)
        }
    };
    let derived = draft.understood()?;
    match &derived.spec.refusal {
        None => Ok((derived, changes, to)),
        Some(reason) => Err(EngineError::option(
            "center",
            "asked for",
            format!("what leaves a model that runs: {reason}"),
        )),
    }
}

impl Mean {
    /// Of the first `count` rows; what lies beyond a vocabulary is never looked up.
    fn of(values: &[f32], cols: usize, count: usize) -> Self {
        let cols = cols.max(1);
        let (mut sums, mut energy) = (vec![0.0f64; cols], 0.0);
        let rows = values.chunks_exact(cols).take(count);
        let count = rows.len() as f64;
        for row in rows {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += f64::from(*x);
                energy += f64::from(*x) * f64::from(*x);
            }
        }
        let row: Vec<f64> = sums.iter().map(|sum| sum / count.max(1.0)).collect();
        let own: f64 = row.iter().map(|x| x * x).sum();
        let share = if energy > 0.0 { count * own / energy } else { 0.0 };
        Self { row: row.into_iter().map(|x| x as f32).collect(), share }
    }
}

//! Classes of rows: which rows of a matrix take another precision than the rest, as a rule of the recipe says.

use std::rc::Rc;

use statepress_core::encoding::{RowClass, RowClasses};
use statepress_core::recipe::{Codecs, RowRule, Rule};
use statepress_core::report::RowsPlan;
use statepress_core::words::counted;
use statepress_core::{Encoding, Entry, Finding, Index, Role};
use statepress_formats::Survey;
use statepress_kernels::codecs;
use statepress_kernels::program::Layout;

use super::coding;
use super::compensate::{Compensate, Compensated};
use super::keep::tell_once;
use super::shares::Plainly;
use crate::EngineError;
use crate::families::ModelSpec;

/// How rows are told apart.
#[derive(Clone, Debug)]
pub(crate) enum By {
    /// By the part of the matrix they are in: the class of each row.
    Label(Rc<[u8]>),
    /// By how much they are used: the most used are of the first class, and so on.
    Use,
}

/// A matrix whose rows are to be told apart.
pub(super) struct Matrix<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub role: Option<Role>,
    /// How rows are coded that no class takes.
    pub rest: Encoding,
}

/// The encoding of a matrix under a rule, and how its rows are told apart; `encode` says how so many of them are coded under
/// the precision of one of the rule's `rows`. What decides nothing is a finding.
pub(super) fn decide(
    matrix: &Matrix,
    rule: &Rule,
    (spec, index): (&ModelSpec, &Index),
    mut encode: impl FnMut(&RowRule, [usize; 2]) -> Encoding,
    findings: &mut Vec<Finding>,
) -> (Encoding, Option<By>) {
    let mut idle = |why: String| {
        let message = format!("rows of {} decide nothing: {why}", rule.pattern);
        tell_once(findings, Finding::warning("unused-rows", message).about(matrix.name));
    };
    let &[rows, cols] = matrix.shape else {
        idle("only a matrix has rows to tell apart".into());
        return (matrix.rest, None);
    };
    if !told_apart(matrix.name, spec, index) {
        idle("the model multiplies by no matrix whose rows are outputs here".into());
        return (matrix.rest, None);
    }
    let by_use = rule.rows.iter().any(|it| it.count.is_some());
    if by_use && !matches!(matrix.role, Some(Role::Table | Role::Head)) {
        idle("only rows of the token table and the head are used more or less often".into());
        return (matrix.rest, None);
    }
    // The class of each row, by label; with counts it is known once the text is read.
    let mut of_rows = vec![u8::MAX; if by_use { 0 } else { rows }];
    let segments = spec.weights.get(matrix.name).map_or(&[][..], |weight| &weight.segments);
    let (mut classes, mut left) = (Vec::new(), rows);
    for it in &rule.rows {
        let mut taken = it.count.unwrap_or(0).min(left);
        let mut first = 0;
        for segment in segments {
            let part = first..(first + segment.rows).min(rows);
            first = part.end;
            if it.label.as_deref() == Some(segment.label.as_str()) {
                taken += part.len();
                of_rows[part].fill(classes.len() as u8);
            }
        }
        if taken == 0 {
            idle(match &it.label {
                Some(label) => {
                    let known: Vec<_> = segments.iter().map(|part| part.label.as_str()).collect();
                    let known = if known.is_empty() { "no part has a name".into() } else { known.join(", ") };
                    format!("no part of it is called {label} ({known})")
                }
                None => format!("its {} are taken by the counts before", counted(rows, "row", "rows")),
            });
            continue;
        }
        left -= taken;
        classes.push((taken, encode(it, [taken, cols])));
    }
    if left > 0 {
        of_rows.iter_mut().filter(|class| **class == u8::MAX).for_each(|class| *class = classes.len() as u8);
        classes.push((left, matrix.rest));
    }
    let class = |&(rows, encoding): &(usize, Encoding)| Some(RowClass { rows, plain: encoding.plain()? });
    let found: Option<Vec<RowClass>> = classes.iter().map(class).collect();
    match (found.map(|found| RowClasses::new(&found)), classes.first()) {
        (Some(Ok(found)), _) => {
            (Encoding::Rows(found), Some(if by_use { By::Use } else { By::Label(of_rows.into()) }))
        }
        // One class is all there is.
        (_, Some(&(_, encoding))) => (encoding, None),
        (_, None) => (matrix.rest, None),
    }
}

/// Whether a tensor is one matrix of the model, or the table and the head, with outputs as rows: the rows of others are not
/// told apart.
pub(crate) fn told_apart(name: &str, spec: &ModelSpec, index: &Index) -> bool {
    let Some(program) = &spec.program else { return false };
    let is_it = |key: &str| spec.names.get(index, key).is_some_and(|entry| entry.name == name);
    let mut layouts =
        program.used_matrices().map(|id| program.matrix(id)).filter(|it| is_it(&it.key)).peekable();
    layouts.peek().is_some() && layouts.all(|it| it.layout == Layout::Plain)
}

/// The class of each row, by rows in the order of their use.
pub(crate) fn by_use(order: &[u32], classes: &RowClasses) -> Vec<u8> {
    let mut of_rows = vec![0; order.len()];
    for (place, &row) in order.iter().enumerate() {
        of_rows[row as usize] = classes.find(place).0 as u8;
    }
    of_rows
}

/// A matrix whose rows are to be coded in classes.
pub(super) struct Work<'a> {
    pub entry: &'a Entry,
    pub values: &'a [f32],
    /// What in them is not finite.
    pub found: &'a Survey,
    /// How precisions are done.
    pub how: &'a Codecs,
}

impl Work<'_> {
    /// Codes the rows of each class, and makes up for errors where that can be done.
    pub fn code(
        &self,
        classes: &RowClasses,
        by: Option<&By>,
        compensate: Option<&mut Compensate>,
    ) -> Result<Compensated, EngineError> {
        let Self { entry, values, found, how } = *self;
        let of_rows: Rc<[u8]> = match (by, &compensate) {
            (Some(By::Label(of_rows)), _) => of_rows.clone(),
            (Some(By::Use), Some(compensate)) => {
                by_use(&compensate.order(&entry.name, classes.rows())?, classes).into()
            }
            _ => {
                let why = format!(
                    "rows of {} have no class: no calibration text tells how much they are used",
                    entry.name
                );
                return Err(EngineError::Evaluation(why));
            }
        };
        let numbers = |at| codecs::rows::of_class(values, &of_rows, at);
        let rows: Vec<Vec<f32>> = (0..classes.all().len()).map(numbers).collect();
        let pieces = || rows.iter().zip(classes.all()).map(|(values, class)| (values, class.encoding()));
        let codings = || pieces().filter_map(|(_, encoding)| encoding.coding());
        let (mut clipped, mut findings) = (0, Vec::new());
        let mut rounded = Vec::new();
        match (compensate, codings().next()) {
            (Some(compensate), Some(coding)) => {
                if codings().all(|coding| compensate.reason(&entry.name, coding.group).is_none()) {
                    let pieces = pieces().filter_map(|(values, encoding)| {
                        Some((values.as_slice(), encoding.coding()?, coding::clip_of(how, encoding)))
                    });
                    rounded = compensate.rounded_rows(entry, pieces)?;
                }
                let clip = coding::clip_of(how, Encoding::Rows(*classes));
                compensate.done_with(&entry.name, coding.group, Plainly::of(None, clip));
            }
            (Some(compensate), None) => compensate.forget(&entry.name),
            (None, _) => {}
        }
        let mut rounded = rounded.into_iter();
        let mut parts = Vec::new();
        for (values, encoding) in pieces() {
            let of_class = match encoding.coding().and_then(|_| rounded.next()) {
                Some(of_class) => of_class,
                None => coding::rounded(
                    entry,
                    values,
                    &[values.len() / cols(entry), cols(entry)],
                    encoding,
                    coding::without_text(coding::clip_of(how, encoding)),
                    found,
                )?,
            };
            // What float classes lose is counted where they are measured.
            clipped += if encoding.coding().is_some() { of_class.clipped } else { 0 };
            of_class.findings.into_iter().for_each(|finding| tell_once(&mut findings, finding));
            parts.push(of_class.tensor);
        }
        let tensor = codecs::rows::join(&entry.shape, parts, &of_rows)
            .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
        Ok(Compensated { tensor, clipped, findings })
    }
}

/// Numbers of a row.
fn cols(entry: &Entry) -> usize {
    entry.shape.last().copied().unwrap_or(1).max(1)
}

/// What reports say of the classes of an encoding.
pub(super) fn reported(encoding: Option<Encoding>, shape: &[usize]) -> Vec<RowsPlan> {
    let Some(Encoding::Rows(classes)) = encoding else { return Vec::new() };
    let cols = shape.last().copied().unwrap_or(0);
    let class = |class: &RowClass| {
        let (rows, encoding) = (class.rows, class.encoding());
        RowsPlan { precision: encoding.precision(), rows: rows as u64, bytes: encoding.bytes(&[rows, cols]) }
    };
    classes.all().iter().map(class).collect()
}

//! Fewer rows of the table and of the head: those of ids that a text has most often stay.
//!
//! Ids stay what they are, and so does the tokenizer: beside the table the file says which ids its rows are of, and whoever runs the
//! model reads every other id as the unknown token ([`Vocabulary`](crate::models::Vocabulary)). Logits of ids that stay are the same to
//! the last bit. (`<UNK>` keeps its own row; the research code that this is after wrote the rows of the dropped ids over it.)
//!
//! How likely ids without a row are, all together, is taken from the text: ids that it never has are as likely as those that it has exactly
//! once are many (Good 1953, after Turing), and ids that it has as it has them. With `lost` tokens of ids that went, `once` ids that occur
//! once, and `gone / all` the part of the unseen ids that went:
//!
//! ```text
//! unseen = (once + 1) / (tokens + 2)
//! m      = unseen gone / all + (1 - unseen) lost / tokens      at least 1 / (tokens + 2)
//! ```

use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::recipe::Prune;
use statepress_core::report::Pruned;
use statepress_core::words::counted;
use statepress_core::{Finding, Index};
use statepress_kernels::program::Program;

use super::cut::cuts;
use super::left::{idle, report, running, told};
use super::places::{Kept, Place, places};
use super::weights::Weights;
use super::{PrunedCheckpoint, Renamed, WINDOW, no_text};
use crate::EngineError;
use crate::calibrate::Marks;
use crate::families::{ModelSpec, ORIGINAL_VOCABULARY, UNKNOWN, UNKNOWN_SHARE, beside};
use crate::techniques::derived::{Checkpoint, Derived, Draft, Fitted, decoded, program, real};

/// Ids from 0 on that stay whatever a text has: tokenizers have padding, unknown, begin and end there.
const SPECIAL: usize = 4;

/// Families whose tokenizers are the research code's, where 1 is `<UNK>`; elsewhere 0 is `<unk>` or the end of a text.
const WORDS: [&str; 2] = ["itera-lite", "transformer"];

/// The table's rows, of which a step leaves some; `None` where it leaves all.
fn place(program: &Program, step: &Prune) -> Result<Option<Place>, EngineError> {
    Ok(places(program, step)?.into_iter().next())
}

/// Takes rows out.
///
/// # Errors
/// Without a text, and for ids that the model does not have.
pub(crate) fn fewer_rows(
    of: &Checkpoint,
    step: &Prune,
    ids: Option<&[u32]>,
) -> Result<PrunedCheckpoint, EngineError> {
    let Checkpoint { source, index, spec } = of;
    let program = program(spec)?;
    let text = ids.ok_or_else(no_text)?;
    let Some(place) = place(&program, step)? else {
        let report = report(step, index, index, Vec::new());
        let findings = idle(&report).into_iter().collect();
        return Ok(PrunedCheckpoint { left: of.clone(), report, findings, renamed: Renamed::new() });
    };
    let known = ids_of_rows(of, &program)?;
    let counts = counts(&program, text, &known)?;
    let unknown = unknown(spec, &program);
    let score = |row: usize| match known.get(row) {
        None => -1.0,
        Some(&id) if id == unknown => f64::INFINITY,
        Some(&id) if id < SPECIAL => f64::MAX,
        Some(_) => counts[row] as f64,
    };
    let mut stays = place.best(&(0..place.size).map(score).collect::<Vec<_>>());
    stays.retain(|&row| row < known.len());
    let gone: Vec<usize> = (0..place.size).filter(|row| stays.binary_search(row).is_err()).collect();
    let mut share = Share::of(&counts, &gone);
    if let Some(earlier) = &program.reduced {
        // What went before went from all.
        share.m = earlier.share + (1.0 - earlier.share) * share.m;
    }
    let (mut left, kept) =
        with_rows((index, spec), &program, (step, &place), source.len(), (&known, &stays, share.m))?;
    // All of it was counted.
    let windows: Vec<Vec<u32>> = text.chunks_exact(WINDOW.min(text.len())).map(<[u32]>::to_vec).collect();
    let marks = Marks::of(&windows, text);
    marks.iter().for_each(|marks| marks.write(&mut left.index.metadata));
    let mut findings: Vec<Finding> = decoded(index, spec, &cuts(&program, &kept)).into_iter().collect();
    let is_known = spec.fields.contains_key(UNKNOWN);
    findings.push(share.told(stays.len(), text.len(), (unknown, is_known)));
    let report = report(step, index, &left.index, vec![told(&program, spec, index, &place, gone, None)]);
    Ok(PrunedCheckpoint { left: left.over(source.clone()), report, findings, renamed: Renamed::new() })
}

/// The ids of the rows that there are.
fn ids_of_rows(of: &Checkpoint, program: &Program) -> Result<Vec<usize>, EngineError> {
    let Some(reduced) = &program.reduced else { return Ok((0..program.vocab_size).collect()) };
    let key = program.vector(reduced.ids).key().unwrap_or_default();
    let (_, ids) = Weights::new(&*of.source, &of.index, &of.spec).tensor(key)?;
    Ok(ids.iter().map(|&id| id as usize).collect())
}

/// How often a text has the id of each row.
fn counts(program: &Program, text: &[u32], known: &[usize]) -> Result<Vec<u64>, EngineError> {
    if text.is_empty() {
        return Err(EngineError::Ids("no token ids were given: which of them matter, a text says".into()));
    }
    let size = program.reduced.map_or(program.vocab_size, |it| it.size);
    let mut of_ids = vec![0; size];
    for (at, &id) in text.iter().enumerate() {
        let outside = || format!("token {id} at position {at} is outside the vocabulary of {size}");
        *of_ids.get_mut(id as usize).ok_or_else(|| EngineError::Ids(outside()))? += 1;
    }
    Ok(known.iter().map(|&id| of_ids.get(id).copied().unwrap_or(0)).collect())
}

/// How much ids without a row are of what is predicted.
struct Share {
    m: f64,
    /// Tokens of the text of ids that went.
    lost: u64,
}

impl Share {
    /// Of how often the text has the id of each row, and of the rows that go.
    fn of(counts: &[u64], gone: &[usize]) -> Self {
        let of_gone = || gone.iter().filter_map(|&row| counts.get(row));
        let lost: u64 = of_gone().sum();
        let unseen = |count: &&u64| **count == 0;
        let (gone, all) =
            (of_gone().filter(unseen).count() as f64, counts.iter().filter(unseen).count() as f64);
        let once = counts.iter().filter(|count| **count == 1).count() as f64;
        let tokens = counts.iter().sum::<u64>() as f64;
        let unseen = (once + 1.0) / (tokens + 2.0);
        let m = unseen * gone / all.max(1.0) + (1.0 - unseen) * lost as f64 / tokens.max(1.0);
        // Nothing is left of a text of nothing but what went.
        Self { m: m.clamp(1.0 / (tokens + 2.0), 1.0 - 1.0 / (tokens + 2.0)), lost }
    }

    /// What it costs, as far as a text of so many tokens says.
    fn told(&self, rows: usize, tokens: usize, (unknown, is_known): (usize, bool)) -> Finding {
        let assumed =
            if is_known { "" } else { ", which is assumed to be the unknown one (--set unknown_token_id)" };
        let cost = match self.lost {
            0 => format!(
                "the text has none of them, and logits of such a text stay the same, each token {:.4} nats less likely",
                -(1.0 - self.m).ln()
            ),
            lost => {
                let lost = counted(lost, "token", "tokens");
                format!("{lost} of the {tokens} of the text are of them: an approximation for what has them")
            }
        };
        let message = format!(
            "{rows} ids have a row; the others are read as token {unknown}{assumed}, and are {:.3} % of what is predicted; {cost}",
            100.0 * self.m
        );
        Finding::info("fewer-ids", message)
    }
}

/// The id that those without a row are read as.
fn unknown(spec: &ModelSpec, program: &Program) -> usize {
    let usual = usize::from(WORDS.contains(&spec.family.name()));
    let said = spec.fields.get(UNKNOWN).and_then(|field| field.value.as_u64()).map(|id| id as usize);
    program.reduced.map(|it| it.unknown).or(said).unwrap_or(usual)
}

/// The checkpoint with these rows of the known ones.
fn with_rows(
    (index, spec): (&Index, &ModelSpec),
    program: &Program,
    (step, place): (&Prune, &Place),
    len: u64,
    (known, stays, share): (&[usize], &[usize], f64),
) -> Result<(Derived, Kept), EngineError> {
    // A head of its own has the rows of the table.
    let mut kept = Kept::default();
    place.keep(stays, &mut kept);
    let mut draft = Draft::new(index, spec, len, &cuts(program, &kept), &mut Fitted::default());
    let mut fields = Map::new();
    if program.reduced.is_none() {
        let ids: Vec<f32> = stays.iter().map(|&row| known[row] as f32).collect();
        let table = real(spec, index, &program.matrix(program.table).key);
        draft = draft.with_ids(&beside(&table, "ids"), Rc::new(ids));
        fields.insert(ORIGINAL_VOCABULARY.into(), program.vocab_size.into());
        fields.insert(UNKNOWN.into(), unknown(spec, program).into());
        if !spec.fields.contains_key(UNKNOWN) {
            draft = draft.assuming(UNKNOWN);
        }
    }
    fields.insert(UNKNOWN_SHARE.into(), share.into());
    // A configuration may have said how many rows are no padding, of which none are left.
    fields.insert("vocab_size".into(), Value::from(stays.len()));
    Ok((running(draft.with_config(fields).understood()?, step)?, kept))
}

/// What a step leaves, by arithmetic alone: the first rows stay.
pub(super) fn planned(
    index: &Index,
    spec: &ModelSpec,
    program: &Program,
    step: &Prune,
) -> Result<(Index, ModelSpec, Pruned), EngineError> {
    let Some(place) = place(program, step)? else {
        return Ok((index.clone(), spec.clone(), report(step, index, index, Vec::new())));
    };
    let known: Vec<usize> = (0..program.vocab_size).collect();
    let stays: Vec<usize> = (0..place.after.min(known.len())).collect();
    let (left, _) = with_rows((index, spec), program, (step, &place), 0, (&known, &stays, 0.5))?;
    let place = told(program, spec, index, &place, Vec::new(), None);
    let report = report(step, index, &left.index, vec![place]);
    Ok((left.index, left.spec, report))
}

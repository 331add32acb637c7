//! What a recipe will do to a checkpoint, by arithmetic on the index alone.

use statepress_core::words::{counted, plural};
use std::collections::HashSet;

use statepress_core::encoding::RowClass;
use statepress_core::recipe::{self, Codecs, Quantize, RowRule, Step};
use statepress_core::report::{Bytes, Matched, Nominal, Plan, PrecisionShare, TensorPlan};
use statepress_core::{Encoding, Entry, Finding, Form, Grid, Group, Index, Precision, Recipe, StoredAs};

use super::follow::{Outline, measured_against, outline};
use super::keep::{keep, recoded, tell_kept, tell_once, untouched};
use super::rows::{self, By};
use super::stored::{grows, to_be_coded};
use super::tying::may_be_copy;
use crate::EngineError;
use crate::families::{ModelSpec, is_buffer, is_mask, storage_of};

/// Above this share of unmatched parameters the recipe is probably for another model.
const UNMATCHED_ALARM: f64 = 30.0;

/// What happens to one tensor.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Position in the index.
    pub position: usize,
    /// What it will be.
    pub form: Form,
    /// Whether its codes will be entropy-coded, should that be smaller.
    pub coded: bool,
    /// How far apart the levels of its rows are, where the recipe says so.
    pub step: Option<f64>,
    /// How its rows are told apart, where they are of several classes and not stored so already.
    pub(crate) rows: Option<By>,
}

/// A plan for users and the decisions behind it, in file order.
pub struct Planned {
    /// The report.
    pub plan: Plan,
    /// One decision for every tensor of the plan.
    pub decisions: Vec<Decision>,
}

/// What only the numbers of a checkpoint tell, by name.
#[derive(Default)]
pub(super) struct Known<'a> {
    /// Tensors whose numbers are another's.
    pub tied: &'a [String],
    /// Tensors of torch's INT8 whose rows have zero points other than 0.
    pub shifted: &'a [String],
}

/// Decides every tensor. `tied` names tensors whose numbers are known to be another's: they are
/// neither counted nor written, and neither is a head that shares the table's storage, where
/// readers rebuild it. Whatever else shares a storage is written in full: no reader would know
/// whose numbers to take.
pub fn plan(
    index: &Index,
    spec: &ModelSpec,
    recipe: &Recipe,
    tied: &[String],
) -> Result<Planned, EngineError> {
    recipe.check()?;
    let mut first = recipe.first_steps().peekable();
    if first.peek().is_some() {
        let before = plan_knowing(index, spec, recipe, &Known { tied, ..Known::default() })?.plan;
        let Outline { index, spec, pruned, findings } = outline(index, spec, recipe)?;
        let mut planned = plan_decided(&index, &spec, recipe, tied)?;
        planned.plan.findings.extend(findings);
        planned.plan.pruned = pruned;
        measured_against(&mut planned.plan, &before);
        if first.any(Step::needs_calibration) {
            let message = "a step of the recipe depends on what the model computes: compressing needs a calibration text, and its sizes \
                           are these";
            planned.plan.findings.push(Finding::info("needs-calibration", message));
        }
        return Ok(planned);
    }
    plan_decided(index, spec, recipe, tied)
}

/// As [`plan`], of a checkpoint whose structure stays.
fn plan_decided(
    index: &Index,
    spec: &ModelSpec,
    recipe: &Recipe,
    tied: &[String],
) -> Result<Planned, EngineError> {
    let mut planned = plan_knowing(index, spec, recipe, &Known { tied, ..Known::default() })?;
    if quantize_step(recipe)?.is_some_and(|quantize| quantize.needs_calibration()) {
        let message = "codes depend on what the model computes: compressing needs a calibration text, and its sizes are these";
        planned.plan.findings.push(Finding::info("needs-calibration", message));
    }
    planned.plan.findings.extend(to_be_coded(&planned.decisions));
    if let Some((head, _)) = may_be_copy(index, &spec.names)
        && spec.names.rebuilds_head()
        && !tied.contains(&head.name)
    {
        let table = spec.names.table(index).map_or("the table", |table| &table.name);
        let message = format!(
            "shaped like {table}: should its numbers be the same, compressing leaves it out and the result is \
             smaller than planned"
        );
        planned.plan.findings.push(Finding::info("may-be-tied", message).about(&head.name));
    }
    Ok(planned)
}

/// As [`plan`], for somebody who has read some of the numbers.
pub(super) fn plan_knowing(
    index: &Index,
    spec: &ModelSpec,
    recipe: &Recipe,
    known: &Known,
) -> Result<Planned, EngineError> {
    recipe.check()?;
    let quantize = quantize_step(recipe)?;
    let mut findings = Vec::new();
    if recipe.trains() {
        let message = "the last step trains what the others have made: compressing needs a text to train on, and sizes are \
                       those before";
        findings.push(Finding::info("needs-training-text", message));
    }
    let mut tensors = Vec::new();
    let mut decisions = Vec::new();
    let (mut matched, mut unmatched) = (Matched::default(), Matched::default());
    // By tensor that a recipe decides: where it is, and the rule.
    let mut ruled: Vec<(usize, Option<usize>)> = Vec::new();
    let mut nominal = 0;
    let shared_head = spec.names.shared_head(index).filter(|_| spec.names.rebuilds_head());
    let mut storages = HashSet::new();
    let mut untied = Vec::new();
    let mut left_out = 0;
    let mut shares: Vec<PrecisionShare> = Vec::new();
    // Sums over weights; buffers are carried along and not counted.
    let (mut fp32, mut before, mut after) = (0, 0, 0);
    let mut kept = Vec::new();

    for (position, entry) in index.tensors.iter().enumerate() {
        if shared_head.is_some_and(|head| head.name == entry.name) {
            continue;
        }
        if known.tied.contains(&entry.name) {
            // Not written, but it was opened: leaving it out is part of what is saved.
            left_out += if storages.insert(storage_of(entry)) { entry.bytes() } else { 0 };
            continue;
        }
        if is_mask(&entry.name) {
            findings.push(mask_left_out(entry));
            continue;
        }
        let role = spec.weights.get(&entry.name).map(|weight| weight.role);
        let (form, rule, step, by) = match (untouched(entry), quantize) {
            (Some((form, why)), _) => {
                kept.push((entry, why));
                (form, why, None, None)
            }
            (None, None) => (keep(entry, known, &mut findings), "(no quantize step)", None, None),
            (None, Some(quantize)) => {
                let names = spec.names.spellings(index, position);
                let decides =
                    |rule: &recipe::Rule| names.any(|name| recipe::decides(&rule.pattern, name, role));
                let rule = quantize.rules.iter().position(decides);
                ruled.push((position, rule));
                let rule = rule.map(|rule| &quantize.rules[rule]);
                let (count, precision, pattern, step) = match rule {
                    Some(rule) => (&mut matched, rule.precision, rule.pattern.as_str(), rule.step),
                    None => (&mut unmatched, quantize.otherwise, "otherwise", None),
                };
                count.tensors += 1;
                count.params += entry.params();
                let codecs = quantize.codecs();
                let shape = entry.shape.as_slice();
                let mut encoding = decide(&entry.name, shape, &codecs, precision, &mut findings);
                let mut by = None;
                if let Some(rule) = rule.filter(|rule| !rule.rows.is_empty()) {
                    let matrix = rows::Matrix { name: &entry.name, shape, role, rest: encoding };
                    let mut refused = Vec::new();
                    let encode = |it: &RowRule, shape: [usize; 2]| {
                        decide(&entry.name, &shape, &codecs, it.precision, &mut refused)
                    };
                    (encoding, by) = rows::decide(&matrix, rule, (spec, index), encode, &mut findings);
                    refused.into_iter().for_each(|finding| tell_once(&mut findings, finding));
                }
                // A shape that takes no codes has no steps.
                let step = step.filter(|_| encoding.precision() == precision);
                if step.is_some() {
                    encoding = Encoding::stepped();
                }
                if let Some(finding) = recoded(entry, encoding, known) {
                    tell_once(&mut findings, finding);
                }
                (Form::Coded(encoding), pattern, step, by)
            }
        };
        let counts_storage = storages.insert(storage_of(entry));
        if !counts_storage {
            untied.push(entry);
        }
        let bytes_before = if counts_storage { entry.bytes() } else { 0 };
        let bytes_after = form.bytes(&entry.shape);
        if !is_buffer(entry) {
            fp32 += if untouched(entry).is_some() { bytes_after } else { 4 * entry.params() };
            nominal += element_bytes(form, entry.params());
            before += bytes_before;
            after += bytes_after;
            shared(&mut shares, form, entry, bytes_after);
        }
        tensors.push(TensorPlan {
            name: entry.name.clone(),
            precision: form.stored_as(),
            step,
            rows: rows::reported(form.encoding(), &entry.shape),
            rule: rule.into(),
            role,
            why: role.map(|role| role.words().into()),
            params: entry.params(),
            bytes_before,
            bytes_after,
            error: None,
        });
        // What changes nothing leaves codes as they are stored.
        let coded = quantize.map_or(entry.coded_bytes() > 0, |quantize| quantize.coded);
        let coded = coded && matches!(form, Form::Coded(Encoding::Codes(_)));
        decisions.push(Decision { position, form, coded, step, rows: by });
    }

    if let Some(first) = untied.first() {
        let message = format!(
            "{} written in full: readers rebuild the head only",
            counted(
                untied.len(),
                "tensor shares a storage with an earlier one and is",
                "tensors share a storage with an earlier one and are"
            )
        );
        findings.push(Finding::info("untied", message).about(&first.name));
    }
    let decided = matched.params + unmatched.params;
    let percent = |part: u64| if decided == 0 { 0.0 } else { 100.0 * part as f64 / decided as f64 };
    matched.percent = percent(matched.params);
    unmatched.percent = percent(unmatched.params);
    if let Some(quantize) = quantize {
        findings.extend(idle_rules(index, spec, quantize, &ruled));
        findings.extend(unmatched_told(quantize, &unmatched));
    }
    if quantize.is_some() {
        findings.extend(tell_kept(&kept));
    }
    before += left_out;
    shares.sort_by_key(|share| (share.precision == StoredAs::Kept, share.precision));
    let bytes = Bytes { fp32, before, after, memory: after, ratio: ratio(before, after) };
    // Of what is coded it is known later.
    if !decisions.iter().any(|decision| decision.coded) {
        findings.extend(grows(&bytes));
    }
    let plan = Plan {
        recipe: recipe.clone(),
        matched,
        unmatched,
        bytes,
        nominal: Nominal { bytes: nominal, ratio: ratio(fp32, nominal) },
        precisions: shares,
        pruned: Vec::new(),
        tensors,
        findings,
    };
    Ok(Planned { plan, decisions })
}

pub(super) fn ratio(before: u64, after: u64) -> f64 {
    if after == 0 { 1.0 } else { before as f64 / after as f64 }
}

/// The quantize step of a recipe; `None` when it changes nothing.
pub(crate) fn quantize_step(recipe: &Recipe) -> Result<Option<&Quantize>, EngineError> {
    let mut found = None;
    for step in &recipe.steps {
        match step {
            Step::Prune(_) | Step::Center(_) | Step::Basis(_) | Step::Recover(_) => {}
            Step::Quantize(_) if found.is_some() => {
                let hint = "a recipe has one quantize step; merge the rules".to_string();
                return Err(EngineError::UnsupportedStep { step: "second quantize".into(), hint });
            }
            Step::Quantize(quantize) => found = Some(quantize),
        }
    }
    Ok(found)
}

/// How a tensor that is looked at alone is stored under a precision: as a recipe of that one rule would.
pub(crate) fn decide_alone(
    entry: &Entry,
    codecs: &Codecs,
    precision: Precision,
    findings: &mut Vec<Finding>,
) -> Form {
    let untouched = untouched(entry);
    if is_mask(&entry.name) {
        findings.push(mask_left_out(entry));
    } else if let Some((_, what)) = untouched {
        findings.extend(tell_kept(&[(entry, what)]));
    }
    match untouched {
        Some((form, _)) => form,
        None => Form::Coded(decide(&entry.name, &entry.shape, codecs, precision, findings)),
    }
}

fn mask_left_out(entry: &Entry) -> Finding {
    Finding::info("mask-left-out", "a mask that every loader makes anew is not written").about(&entry.name)
}

/// The encoding of a tensor under a precision, or what a refusing shape takes instead.
fn decide(
    name: &str,
    shape: &[usize],
    codecs: &Codecs,
    precision: Precision,
    findings: &mut Vec<Finding>,
) -> Encoding {
    if shape.contains(&0) {
        if precision != Precision::Fp32 {
            let message = format!("{} refused: no numbers are in it; stored as fp32", precision.name());
            findings.push(Finding::info("refused", message).about(name));
        }
        return Encoding::Fp32;
    }
    let asked = codecs.encoding(precision);
    // 4-bit groups that do not fit a row fall back to 8 bits, vectors to full precision.
    for encoding in [asked, codecs.encoding(Precision::Codes(Grid::Int8)), Encoding::Fp32] {
        let Some(_) = refusal(encoding, shape) else {
            if encoding != asked
                && let Some(reason) = refusal(asked, shape)
            {
                let instead = encoding.precision().name();
                let message = format!("{} refused: {reason}; stored as {instead}", precision.name());
                findings.push(Finding::warning("refused", message).about(name));
            }
            return encoding;
        };
    }
    Encoding::Fp32
}

/// Why a shape cannot take an encoding. Experts in one tensor are to run each by itself, so that
/// nothing may share a scale with its neighbour.
fn refusal(encoding: Encoding, shape: &[usize]) -> Option<String> {
    encoding.refusal(shape).or_else(|| {
        let Group::Values(group) = encoding.coding()?.group else { return None };
        let [_, part @ ..] = shape else { return None };
        let numbers: usize = part.iter().product();
        let across = part.len() > 1 && part[0] > 1 && !numbers.is_multiple_of(group);
        across.then(|| format!("groups of {group} would lie across parts of {numbers} numbers"))
    })
}

/// Bytes of so many elements by their widths alone.
fn element_bytes(form: Form, params: u64) -> u64 {
    let bits = match form {
        Form::Kept(dtype) => 8 * dtype.bytes() as u64,
        Form::Coded(Encoding::Rows(classes)) => {
            let of_row = params / classes.rows().max(1) as u64;
            let bits = |class: &RowClass| class.rows as u64 * of_row * class.encoding().precision().bits();
            return classes.all().iter().map(bits).sum::<u64>() / 8;
        }
        Form::Coded(encoding) => encoding.precision().bits(),
    };
    params * bits / 8
}

/// The rules that decide nothing, and why: no tensor is called so, or an earlier rule takes all that are.
fn idle_rules(
    index: &Index,
    spec: &ModelSpec,
    quantize: &Quantize,
    decided: &[(usize, Option<usize>)],
) -> Vec<Finding> {
    let mut used = vec![false; quantize.rules.len()];
    decided.iter().filter_map(|(_, rule)| *rule).for_each(|rule| used[rule] = true);
    let takes_all = quantize.rules.iter().position(|rule| rule.pattern.bytes().all(|c| c == b'*'));
    let mut findings = Vec::new();
    for (at, rule) in quantize.rules.iter().enumerate().filter(|(at, _)| !used[*at]) {
        let pattern = &rule.pattern;
        if let Some(first) = takes_all.filter(|first| *first < at) {
            let message = format!(
                "pattern {pattern} can decide nothing: rule {}, {}, takes every tensor first; put it before that rule",
                first + 1,
                quantize.rules[first].pattern
            );
            findings.push(Finding::warning("shadowed-pattern", message));
            continue;
        }
        // A role that a model has no weight of is no mistake in the recipe.
        if pattern.starts_with(recipe::ROLE) {
            continue;
        }
        let matches = |position: usize| {
            spec.names.spellings(index, position).any(|name| recipe::matches(pattern, name))
        };
        let taken = decided.iter().find(|(position, _)| matches(*position)).and_then(|(_, rule)| *rule);
        findings.push(match taken {
            Some(first) => {
                let (number, earlier) = (first + 1, &quantize.rules[first].pattern);
                let message = format!(
                    "pattern {pattern} decides nothing: earlier rules have taken what it matches (rule {number}, {earlier})"
                );
                Finding::info("shadowed-pattern", message)
            }
            None => Finding::info("unused-pattern", format!("pattern {pattern} decides no tensor")),
        });
    }
    findings
}

/// Says how much took what is left over.
fn unmatched_told(quantize: &Quantize, unmatched: &Matched) -> Option<Finding> {
    let mut message = format!(
        "{} with {} ({:.1} %) {} {}",
        counted(unmatched.tensors, "tensor", "tensors"),
        counted(unmatched.params, "parameter", "parameters"),
        unmatched.percent,
        plural(&unmatched.tensors, "matches no pattern and takes", "match no pattern and take"),
        quantize.otherwise.name()
    );
    if unmatched.percent > UNMATCHED_ALARM {
        message += &format!(": over {UNMATCHED_ALARM} %, is the recipe for another model?");
    }
    (unmatched.tensors > 0).then(|| Finding::warning("unmatched", message))
}

/// Adds a tensor to what each precision holds; which class its rows are of belongs to that of most.
fn shared(shares: &mut Vec<PrecisionShare>, form: Form, entry: &Entry, mut bytes: u64) {
    let classes = rows::reported(form.encoding(), &entry.shape);
    let (params, rows) = (entry.params(), classes.iter().map(|class| class.rows).sum::<u64>());
    for class in &classes {
        bytes -= class.bytes;
        share(shares, StoredAs::Coded(class.precision), params / rows * class.rows, class.bytes);
    }
    share(shares, form.stored_as(), if classes.is_empty() { params } else { 0 }, bytes);
}

fn share(shares: &mut Vec<PrecisionShare>, precision: StoredAs, params: u64, bytes: u64) {
    match shares.iter_mut().find(|share| share.precision == precision) {
        Some(share) => {
            share.params += params;
            share.bytes += bytes;
        }
        None => shares.push(PrecisionShare { precision, params, bytes }),
    }
}

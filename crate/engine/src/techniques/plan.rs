//! What a recipe will do to a checkpoint, by arithmetic on the index alone.

use std::collections::HashSet;

use statepress_core::encoding::Granularity;
use statepress_core::index::{AffineScales, Stored};
use statepress_core::recipe::{self, Codecs, Quantize, Step};
use statepress_core::report::{Bytes, Matched, Nominal, Plan, PrecisionShare, TensorPlan};
use statepress_core::{DType, Encoding, Entry, Finding, Index, Precision, Recipe, shape};

use super::tying::may_be_copy;
use crate::EngineError;
use crate::spec::{Names, is_buffer, is_mask, rebuilds_head, storage_of};

/// Above this share of unmatched parameters the recipe is probably for another model.
const UNMATCHED_ALARM: f64 = 30.0;

/// What happens to one tensor.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Position in the index.
    pub position: usize,
    /// How it will be stored.
    pub encoding: Encoding,
    /// Whether it is a weight; buffers are carried along but not counted.
    pub counted: bool,
}

/// A plan for users and the decisions behind it, in file order.
pub struct Planned {
    /// The report.
    pub plan: Plan,
    /// One decision for every tensor that is written.
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
pub fn plan(index: &Index, recipe: &Recipe, tied: &[String]) -> Result<Planned, EngineError> {
    let mut planned = plan_knowing(index, recipe, &Known { tied, ..Known::default() })?;
    let names = Names::new(index);
    if let Some((head, _)) = may_be_copy(index, &names)
        && rebuilds_head(&names)
        && !tied.contains(&head.name)
    {
        let message = "shaped like embedding.weight: should its numbers be the same, compressing leaves it out and \
                       the result is smaller than planned";
        planned.plan.findings.push(Finding::info("may-be-tied", message).about(&head.name));
    }
    Ok(planned)
}

/// As [`plan`], for somebody who has read some of the numbers.
pub(super) fn plan_knowing(index: &Index, recipe: &Recipe, known: &Known) -> Result<Planned, EngineError> {
    recipe.check()?;
    let quantize = quantize_step(recipe)?;
    let mut findings = Vec::new();
    let mut tensors = Vec::new();
    let mut decisions = Vec::new();
    let (mut matched, mut unmatched) = (Matched::default(), Matched::default());
    let mut used = vec![false; quantize.map_or(0, |quantize| quantize.rules.len())];
    let mut nominal = 0;
    let names = Names::new(index);
    let shared_head = names.shared_head(index).filter(|_| rebuilds_head(&names));
    let mut storages = HashSet::new();
    let mut untied = Vec::new();
    let mut left_out = 0;

    for (position, entry) in index.tensors.iter().enumerate() {
        if shared_head.is_some_and(|head| head.name == entry.name) {
            continue;
        }
        if known.tied.contains(&entry.name) {
            // Not written, but it was opened: leaving it out is part of what is saved.
            left_out += if storages.insert(storage_of(entry)) { entry.bytes() } else { 0 };
            continue;
        }
        if is_buffer(&entry.name) {
            if is_mask(&entry.name) {
                findings.push(mask_left_out(entry));
            } else {
                decisions.push(Decision { position, encoding: Encoding::Fp32, counted: false });
            }
            continue;
        }
        let (encoding, rule) = match quantize {
            None => (keep(entry, known, &mut findings), "(no quantize step)"),
            Some(quantize) => {
                let rule = quantize.rules.iter().position(|rule| recipe::matches(&rule.pattern, &entry.name));
                let (count, precision, pattern) = match rule {
                    Some(rule) => {
                        used[rule] = true;
                        let rule = &quantize.rules[rule];
                        (&mut matched, rule.precision, rule.pattern.as_str())
                    }
                    None => (&mut unmatched, quantize.otherwise, "otherwise"),
                };
                count.tensors += 1;
                count.params += entry.params();
                (decide(entry, &quantize.codecs(), precision, &mut findings), pattern)
            }
        };
        nominal += entry.params() * element_bits(encoding) / 8;
        let counts_storage = storages.insert(storage_of(entry));
        if !counts_storage {
            untied.push(entry);
        }
        tensors.push(TensorPlan {
            name: entry.name.clone(),
            precision: encoding.precision(),
            rule: rule.into(),
            role: None,
            why: None,
            params: entry.params(),
            bytes_before: if counts_storage { entry.bytes() } else { 0 },
            bytes_after: encoding.bytes(&entry.shape),
            error: None,
        });
        decisions.push(Decision { position, encoding, counted: true });
    }

    if let Some(first) = untied.first() {
        let message = format!(
            "{} tensors share a storage with an earlier one and are written in full: readers rebuild the head only",
            untied.len()
        );
        findings.push(Finding::info("untied", message).about(&first.name));
    }
    let params: u64 = tensors.iter().map(|tensor| tensor.params).sum();
    let percent = |part: u64| if params == 0 { 0.0 } else { 100.0 * part as f64 / params as f64 };
    matched.percent = percent(matched.params);
    unmatched.percent = percent(unmatched.params);
    if let Some(quantize) = quantize {
        report_coverage(quantize, &used, &unmatched, &mut findings);
    }
    let before = left_out + tensors.iter().map(|tensor| tensor.bytes_before).sum::<u64>();
    let after = tensors.iter().map(|tensor| tensor.bytes_after).sum();
    if after > before {
        let message = format!("the result is larger than what was opened: {after} bytes against {before}");
        findings.push(Finding::warning("grows", message));
    }
    let plan = Plan {
        recipe: recipe.clone(),
        matched,
        unmatched,
        bytes: Bytes { fp32: 4 * params, before, after, ratio: ratio(before, after) },
        nominal: Nominal { bytes: nominal, ratio: ratio(4 * params, nominal) },
        precisions: shares(&tensors),
        tensors,
        findings,
    };
    Ok(Planned { plan, decisions })
}

fn ratio(before: u64, after: u64) -> f64 {
    if after == 0 { 1.0 } else { before as f64 / after as f64 }
}

/// The quantize step of a recipe; `None` when it changes nothing.
pub(crate) fn quantize_step(recipe: &Recipe) -> Result<Option<&Quantize>, EngineError> {
    let mut found = None;
    for step in &recipe.steps {
        match step {
            Step::Prune(_) => {
                let hint = "quantize steps are".to_string();
                return Err(EngineError::UnsupportedStep { step: "prune".into(), hint });
            }
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
) -> Encoding {
    if is_mask(&entry.name) {
        findings.push(mask_left_out(entry));
        return Encoding::Fp32;
    }
    if is_buffer(&entry.name) {
        let message = "no weight but a buffer: carried along in fp32, whatever the recipe";
        findings.push(Finding::info("buffer", message).about(&entry.name));
        return Encoding::Fp32;
    }
    decide(entry, codecs, precision, findings)
}

fn mask_left_out(entry: &Entry) -> Finding {
    Finding::info("mask-left-out", "a mask that every loader makes anew is not written").about(&entry.name)
}

/// The encoding of a tensor under a precision, or what a refusing shape takes instead.
fn decide(entry: &Entry, codecs: &Codecs, precision: Precision, findings: &mut Vec<Finding>) -> Encoding {
    if entry.params() == 0 {
        if precision != Precision::Fp32 {
            let message = format!("{} refused: no numbers are in it; stored as fp32", precision.name());
            findings.push(Finding::info("refused", message).about(&entry.name));
        }
        return Encoding::Fp32;
    }
    let asked = codecs.encoding(precision);
    // 4-bit groups that do not fit a row fall back to 8 bits, vectors to full precision.
    for encoding in [asked, codecs.encoding(Precision::Int8), Encoding::Fp32] {
        let Some(_) = encoding.refusal(&entry.shape) else {
            if encoding != asked
                && let Some(reason) = asked.refusal(&entry.shape)
            {
                let instead = encoding.precision().name();
                let message = format!("{} refused: {reason}; stored as {instead}", precision.name());
                findings.push(Finding::warning("refused", message).about(&entry.name));
            }
            return encoding;
        };
    }
    Encoding::Fp32
}

/// The encoding that keeps a tensor as it is stored; a finding where there is none.
fn keep(entry: &Entry, known: &Known, findings: &mut Vec<Finding>) -> Encoding {
    let (codes, scales) = match &entry.stored {
        Stored::Strided(strided) => {
            return match strided.dtype {
                DType::F16 => Encoding::Fp16,
                DType::Bf16 => Encoding::Bf16,
                _ => Encoding::Fp32,
            };
        }
        Stored::Packed { encoding: Encoding::Int8 { granularity }, .. } => {
            return int8(*granularity, &entry.shape);
        }
        Stored::Packed { encoding, .. } => return *encoding,
        Stored::Affine { codes, scales } => (codes, scales),
    };
    // Whatever reading dequantizes could only be rounded a second time.
    let (granularity, symmetric) = match scales {
        AffineScales::PerTensor { zero_point, .. } => (Granularity::Tensor, *zero_point == 0),
        AffineScales::PerRow { .. } => (Granularity::Row, !known.shifted.contains(&entry.name)),
    };
    let encoding = int8(granularity, &entry.shape);
    let reason = if codes.dtype != DType::I8 {
        format!("its codes are {}", codes.dtype.name())
    } else if !symmetric {
        "its zero points are not 0".into()
    } else if let Some(reason) = encoding.refusal(&entry.shape) {
        reason
    } else {
        return encoding;
    };
    let message = format!("torch's quantization cannot be kept: {reason}; stored as fp32");
    findings.push(Finding::warning("dequantized", message).about(&entry.name));
    Encoding::Fp32
}

/// INT8 of a tensor as it is read: a single row has one scale either way.
fn int8(granularity: Granularity, shape: &[usize]) -> Encoding {
    let single_row = shape::matrix(shape).0 == 1;
    Encoding::Int8 { granularity: if single_row { Granularity::Row } else { granularity } }
}

const fn element_bits(encoding: Encoding) -> u64 {
    match encoding.precision() {
        Precision::Fp32 => 32,
        Precision::Fp16 | Precision::Bf16 => 16,
        Precision::Int8 => 8,
        Precision::Int4 | Precision::Nf4 => 4,
    }
}

fn report_coverage(quantize: &Quantize, used: &[bool], unmatched: &Matched, findings: &mut Vec<Finding>) {
    for (rule, _) in quantize.rules.iter().zip(used).filter(|(_, used)| !**used) {
        let message = format!("pattern {} decides no tensor", rule.pattern);
        findings.push(Finding::info("unused-pattern", message));
    }
    if unmatched.tensors > 0 {
        let mut message = format!(
            "{} tensors with {} parameters ({:.1} %) match no pattern and take {}",
            unmatched.tensors,
            unmatched.params,
            unmatched.percent,
            quantize.otherwise.name()
        );
        if unmatched.percent > UNMATCHED_ALARM {
            message += &format!(": over {UNMATCHED_ALARM} %, is the recipe for another model?");
        }
        findings.push(Finding::warning("unmatched", message));
    }
}

fn shares(tensors: &[TensorPlan]) -> Vec<PrecisionShare> {
    let mut shares: Vec<PrecisionShare> = Vec::new();
    for tensor in tensors {
        match shares.iter_mut().find(|share| share.precision == tensor.precision) {
            Some(share) => {
                share.params += tensor.params;
                share.bytes += tensor.bytes_after;
            }
            None => shares.push(PrecisionShare {
                precision: tensor.precision,
                params: tensor.params,
                bytes: tensor.bytes_after,
            }),
        }
    }
    shares.sort_by_key(|share| share.precision);
    shares
}

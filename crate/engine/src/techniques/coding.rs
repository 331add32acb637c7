//! One tensor into one encoding.

use statepress_core::recipe::{ClipBy, Codecs};
use statepress_core::report::RoundingError;
use statepress_core::words::{counted, plural};
use statepress_core::{Coding, Encoding, Entry, Finding, Tensor, shape};
use statepress_formats::Survey;
use statepress_kernels::KernelError;
use statepress_kernels::codecs::{self, Clip};
use statepress_kernels::gptq;

use super::compensate::Compensated;
use super::measure;
use crate::EngineError;
use crate::error::listed;

/// A tensor in another encoding.
pub(crate) struct Coded {
    pub tensor: Tensor,
    pub error: RoundingError,
    /// What was lost beyond rounding; not what was clipped.
    pub findings: Vec<Finding>,
}

/// Codes the numbers of a tensor, in which `found` is what is not finite.
///
/// # Errors
/// NaN and infinities, unless the encoding is one of floats.
pub(crate) fn code(
    entry: &Entry,
    values: &[f32],
    encoding: Encoding,
    clip: Clip,
    found: &Survey,
) -> Result<Coded, EngineError> {
    let coded = rounded(entry, values, &entry.shape, encoding, clip, found)?;
    Ok(measured(entry, values, coded, found))
}

/// Rounds numbers of a tensor, or of some of its rows, plainly.
///
/// # Errors
/// As [`code`].
pub(crate) fn rounded(
    entry: &Entry,
    values: &[f32],
    shape: &[usize],
    encoding: Encoding,
    clip: Clip,
    found: &Survey,
) -> Result<Compensated, EngineError> {
    let coded = codecs::encode(values, shape, encoding, clip);
    let codecs::Encoded { tensor, clipped } = coded.map_err(|error| match error {
        KernelError::NotFinite { .. } => not_finite(entry, encoding, found),
        error => EngineError::Codec { tensor: entry.name.clone(), error },
    })?;
    Ok(Compensated { tensor, clipped, findings: Vec::new() })
}

/// Rounds the rows of a tensor of finite numbers to 8-bit codes whose levels are a step apart, plainly.
///
/// # Errors
/// For a tensor that takes no codes.
pub(crate) fn in_steps(entry: &Entry, values: &[f32], step: f64) -> Result<Compensated, EngineError> {
    let (_, cols) = shape::matrix(&entry.shape);
    let (codes, scales) = gptq::round_rows_in_steps(values, cols, step);
    let tensor = codecs::assemble(&entry.shape, Coding::STEPPED, codes, scales)
        .map_err(|error| EngineError::Codec { tensor: entry.name.clone(), error })?;
    Ok(Compensated { tensor, clipped: 0, findings: Vec::new() })
}

/// A tensor whose errors were made up for, compared with its numbers.
pub(super) fn measured(entry: &Entry, values: &[f32], coded: Compensated, found: &Survey) -> Coded {
    let Compensated { tensor, clipped, mut findings } = coded;
    let (error, lost) = measure::measure(entry, values, &tensor, found, clipped);
    findings.extend(lost);
    Coded { tensor, error, findings }
}

/// Refuses to quantize a tensor with NaN or infinities in it, which is what `found` says.
pub(crate) fn check_finite(entry: &Entry, encoding: Encoding, found: &Survey) -> Result<(), EngineError> {
    let none = found.nan + found.infinite + found.beyond == 0;
    if none { Ok(()) } else { Err(not_finite(entry, encoding, found)) }
}

/// Why a tensor cannot be quantized, by the number that is in the file.
fn not_finite(entry: &Entry, encoding: Encoding, found: &Survey) -> EngineError {
    let beyond = found.first_beyond.filter(|(at, _)| found.first.is_none_or(|(first, _)| *at < first));
    let (index, number) = match (beyond, found.first) {
        (Some((index, value)), _) => (index, format!("{value:e}, more than float32 holds")),
        (None, Some((index, value))) => (index, value.to_string()),
        (None, None) => (0, "not finite".into()),
    };
    let precision = encoding.precision().name();
    let keeps = match beyond {
        Some(_) => "recipe none keeps it in float64",
        None => "a rule that gives this tensor fp32 keeps it, as recipe none does",
    };
    EngineError::NotFinite { tensor: entry.name.clone(), index, number, precision, keeps }
}

/// How the scales of an encoding clip under a recipe; of classes of rows as those do that clip, if any does: by activations, if
/// any clips so.
pub(crate) fn clip_of(codecs: &Codecs, encoding: Encoding) -> Clip {
    let of = |encoding: Encoding| match encoding.coding().map(|coding| codecs.clip(coding.grid)) {
        None | Some(ClipBy::Minmax) => Clip::Absmax,
        Some(ClipBy::Percentile) => Clip::Percentile(codecs.int8.percentile),
        Some(ClipBy::Mse) => Clip::Mse,
        Some(ClipBy::Activation) => Clip::Weighted,
    };
    let Encoding::Rows(classes) = encoding else { return of(encoding) };
    let clips = || classes.all().iter().map(|class| of(class.encoding()));
    let by_text = clips().find(|clip| *clip == Clip::Weighted);
    by_text.or_else(|| clips().find(|clip| *clip != Clip::Absmax)).unwrap_or(Clip::Absmax)
}

/// The same where nothing is known of what enters a tensor.
pub(crate) fn without_text(clip: Clip) -> Clip {
    if clip == Clip::Weighted { Clip::Mse } else { clip }
}

/// Values of a tensor that were clipped because the recipe asks for it.
pub(crate) struct Clipped {
    pub tensor: String,
    pub count: u64,
    pub clip: Clip,
}

/// Says that values were clipped, in one sentence for each way to clip that the recipe asks for.
pub(crate) fn clipped_on_purpose(clipped: &[Clipped]) -> Vec<Finding> {
    let mut ways: Vec<(Clip, Vec<&Clipped>)> = Vec::new();
    for it in clipped {
        match ways.iter_mut().find(|(clip, _)| *clip == it.clip) {
            Some((_, alike)) => alike.push(it),
            None => ways.push((it.clip, vec![it])),
        }
    }
    let told = |(clip, clipped): (Clip, Vec<&Clipped>)| {
        let total: u64 = clipped.iter().map(|it| it.count).sum();
        let each: Vec<_> = clipped.iter().map(|it| format!("{} ({})", it.tensor, it.count)).collect();
        let limit = match clip {
            Clip::Percentile(percentile) => format!("the {percentile}th percentile"),
            Clip::Weighted => "the limit of the least error of activations".into(),
            Clip::Absmax | Clip::Mse => "the limit of the least squared error".into(),
        };
        let message = format!(
            "{} of {} beyond {limit} {} clipped to it, as the recipe asks: {}",
            counted(total, "value", "values"),
            counted(clipped.len(), "tensor", "tensors"),
            plural(&total, "was", "were"),
            listed(&each)
        );
        Finding::info("clipped", message).about(&clipped[0].tensor)
    };
    ways.into_iter().map(told).collect()
}

/// Says that values were clipped where nobody asked for it.
pub(crate) fn clipped(entry: &Entry, encoding: Encoding, error: &RoundingError) -> Option<Finding> {
    let message = format!(
        "{} of the {} of {} beyond the last code of {} with a scale in 16 bits {} clipped to it",
        error.clipped,
        counted(entry.params(), "number", "numbers"),
        entry.name,
        encoding.name(),
        plural(&error.clipped, "was", "were")
    );
    (error.clipped > 0).then(|| Finding::warning("clipped", message).about(&entry.name))
}

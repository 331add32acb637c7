//! Looking closely at one tensor: its numbers, and what the codecs make of them.
//!
//! What is shown is what compressing would do: `techniques` decides and codes here as well.

mod block;
mod histogram;
pub(crate) mod near;
mod statistics;

use statepress_core::words::{counted, plural};
use std::borrow::Cow;

use statepress_core::index::Stored;
use statepress_core::recipe::{Codecs, RecipeError};
use statepress_core::report::{CodedView, TensorView};
use statepress_core::{DType, Entry, Finding, Form, Index, Packed, Precision, Source, Tensor};
use statepress_formats::Survey;
use statepress_kernels::codecs::{self, Clip};

use crate::EngineError;
use crate::techniques::coding::{self, Clipped};
use crate::techniques::{measure, plan};
use histogram::Bins;

/// What is asked about a tensor.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    /// Bins of the histograms, 1 to 1024.
    pub bins: usize,
    /// Precisions to look at it in.
    pub precisions: Vec<Precision>,
    /// How they are done.
    pub codecs: Codecs,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self { bins: 64, precisions: Vec::new(), codecs: Codecs::default() }
    }
}

/// Reads one tensor and says what is in it, and what each precision makes of it.
///
/// In memory are the tensor as it is stored, its numbers as float32 where it is not float32, and one
/// coded twin at a time.
///
/// # Errors
/// A name that no tensor has, options outside what is allowed, a file that cannot be read; NaN and
/// infinities where a precision other than a float was asked for, as when compressing.
pub fn view(
    source: &dyn Source,
    index: &Index,
    name: &str,
    options: &ViewOptions,
) -> Result<TensorView, EngineError> {
    options.check()?;
    let entry = index.get(name).ok_or_else(|| EngineError::UnknownTensor {
        name: name.into(),
        near: near::nearest(name, index.tensors.iter().map(|entry| entry.name.as_str())),
    })?;
    let tensor = statepress_formats::read_tensor(source, entry)?;
    let values = match &tensor.data {
        Packed::F32(values) => Cow::Borrowed(values.as_slice()),
        _ => Cow::Owned(codecs::decode(&tensor)),
    };
    let statistics = statistics::of(&values);
    let bins = Bins { from: statistics.min, to: statistics.max, count: options.bins };
    let found = measure::survey(source, entry, &tensor)?;
    let read = Read { entry, tensor: &tensor, values: &values, found };
    let coded = options.precisions.iter().map(|&precision| read.coded(precision, &options.codecs, bins));
    Ok(TensorView {
        name: entry.name.clone(),
        shape: entry.shape.clone(),
        dtype: entry.dtype_name(),
        params: entry.params(),
        coded: coded.collect::<Result<_, _>>()?,
        findings: read.findings(statistics.non_finite),
        histogram: bins.of(&values),
        statistics,
    })
}

impl ViewOptions {
    fn check(&self) -> Result<(), EngineError> {
        if !(1..=1024).contains(&self.bins) {
            return Err(EngineError::option("bins", self.bins, "1 to 1024"));
        }
        self.codecs.check().map_err(|error| match error {
            // There is no recipe here that could be bad.
            RecipeError::Option { option, value, allowed } => {
                EngineError::option(&format!("quantize.{option}"), value, allowed)
            }
            other => other.into(),
        })
    }
}

/// A tensor that was read.
struct Read<'a> {
    entry: &'a Entry,
    tensor: &'a Tensor,
    values: &'a [f32],
    /// What in it is not finite.
    found: Survey,
}

impl Read<'_> {
    fn coded(&self, precision: Precision, codecs: &Codecs, bins: Bins) -> Result<CodedView, EngineError> {
        let Self { entry, tensor, values, .. } = *self;
        let mut findings = Vec::new();
        let form = plan::decide_alone(entry, codecs, precision, &mut findings);
        let (coded, error) = match form {
            Form::Coded(encoding) if tensor.encoding() != encoding => {
                let asked = coding::clip_of(codecs, encoding);
                let clip = coding::without_text(asked);
                if clip != asked {
                    let message = "no text is read here: scales are those of the least squared error, not of activations";
                    findings.push(Finding::info("text-not-read", message).about(&entry.name));
                }
                let coded = coding::code(entry, values, encoding, clip, &self.found)?;
                findings.extend(coded.findings);
                let (tensor, count) = (entry.name.clone(), coded.error.clipped);
                match clip {
                    Clip::Absmax => findings.extend(coding::clipped(entry, encoding, &coded.error)),
                    _ if count > 0 => {
                        findings.extend(coding::clipped_on_purpose(&[Clipped { tensor, count, clip }]))
                    }
                    _ => {}
                }
                (Cow::Owned(coded.tensor), coded.error)
            }
            _ => (Cow::Borrowed(tensor), measure::kept(&self.found)),
        };
        let bytes = form.bytes(&entry.shape);
        Ok(CodedView {
            precision,
            stored: form.stored_as(),
            bytes,
            bits_per_weight: if values.is_empty() { 0.0 } else { 8.0 * bytes as f64 / values.len() as f64 },
            error,
            histogram: bins.of_decoded(values, &coded),
            block: block::view(values, &coded),
            findings,
        })
    }

    fn findings(&self, non_finite: u64) -> Vec<Finding> {
        let Self { entry, tensor, values, .. } = *self;
        let mut findings = Vec::new();
        if let Some(first) = &entry.tied_to {
            findings.push(Finding::info("tied", format!("the same storage as {first}")));
        }
        findings.extend(integers_narrowed(entry, tensor));
        findings.extend(measure::told(entry, &self.found));
        if non_finite == values.len() as u64 {
            let message = "no finite number is in it: statistics and the ends of the histogram are 0";
            findings.push(Finding::warning("no-numbers", message));
        }
        findings.into_iter().map(|finding| finding.about(&entry.name)).collect()
    }
}

/// Up to here float32 has every whole number.
const WHOLE: f32 = 16_777_216.0;

/// Says that whole numbers lost digits when they were read.
fn integers_narrowed(entry: &Entry, read: &Tensor) -> Option<Finding> {
    let Stored::Strided(strided) = &entry.stored else { return None };
    let (DType::I64 | DType::I32, Packed::F32(values)) = (strided.dtype, &read.data) else { return None };
    let count = values.iter().filter(|value| value.abs() >= WHOLE).count();
    let dtype = strided.dtype.name();
    let message = format!(
        "{} ({dtype}) beyond {WHOLE} {} read as float32, which loses the last digits",
        counted(count, "whole number", "whole numbers"),
        plural(&count, "is", "are")
    );
    (count > 0).then(|| Finding::warning("integers-narrowed", message).about(&entry.name))
}

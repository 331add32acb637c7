//! What a checkpoint is: key dialects, the family, and every configuration field with its origin.
//!
//! Sizes are counted from shapes, never assumed. What shapes do not tell (top-k, attention
//! heads, the prediction offset, eps) is taken from `--set`, else from a stored configuration,
//! else assumed, and the report says which.

mod dialects;
mod fields;
pub(crate) use fields::ASSUMED;
mod itera_lite;
mod known;
mod transformer;

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use statepress_core::spec::{Family, Fields};
use statepress_core::{Finding, Index};

use crate::EngineError;
pub use dialects::Names;
pub(crate) use dialects::storage_of;
use fields::Collector;
pub(crate) use itera_lite::NORM_EPS;
pub use itera_lite::{IteraLiteLayer, IteraLiteSpec, Sublayer};
pub use transformer::TransformerSpec;

/// What the user and files beside the checkpoint say about it.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// A `config.json` that lies beside the weights.
    pub config: Option<Map<String, Value>>,
    /// `--set field=value`.
    pub set: Map<String, Value>,
    /// Bytes of the file; known upstream files are recognised by it.
    pub file_bytes: u64,
}

/// A checkpoint understood.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The family.
    pub family: Family,
    /// The typed specification, when this version can run the family and the shapes fit.
    pub model: Option<TypedSpec>,
    /// Why it cannot be run, when it cannot.
    pub refusal: Option<String>,
    /// Every field with its origin.
    pub fields: Fields,
    /// Canonical keys.
    pub names: Names,
    /// What was assumed or found odd.
    pub findings: Vec<Finding>,
}

/// The specification of a family that can be run.
#[derive(Clone, Debug)]
pub enum TypedSpec {
    /// Itera-Lite.
    IteraLite(IteraLiteSpec),
    /// The Transformer baseline.
    Transformer(TransformerSpec),
}

impl TypedSpec {
    /// The keys that a checkpoint of this specification must have, in canonical spelling.
    pub fn expected_keys(&self) -> BTreeSet<String> {
        match self {
            Self::IteraLite(spec) => spec.expected_keys(),
            Self::Transformer(spec) => spec.expected_keys(),
        }
    }

    /// Position `t` predicts token `t + offset`.
    pub fn offset(&self) -> usize {
        match self {
            Self::IteraLite(spec) => spec.offset,
            Self::Transformer(spec) => spec.offset,
        }
    }
}

/// Whether a key is a buffer rather than a weight: counters and masks are not parameters.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".router.expert_counts") || is_mask(name)
}

/// Whether a key is a mask, which every loader makes anew.
pub(crate) fn is_mask(name: &str) -> bool {
    name.ends_with(".attention.causal_mask")
}

/// Understands a checkpoint from its index alone.
///
/// # Errors
/// Only for `--set` fields that do not exist, cannot be set, or have a value that is not allowed. A
/// checkpoint that is no model we know, or whose own configuration cannot be, is understood as far as
/// it goes: [`ModelSpec::refusal`] says why it cannot run.
pub fn infer(index: &Index, hints: &Hints) -> Result<ModelSpec, EngineError> {
    let names = Names::new(index);
    let mut findings = names.findings().to_vec();
    let mut collector = Collector::new(index, hints, &mut findings);
    let family = family(&names);
    let typed = if family == Family::ITERA_LITE {
        itera_lite::infer(index, &names, &mut collector, hints.file_bytes).map(TypedSpec::IteraLite)
    } else if family == Family::TRANSFORMER {
        transformer::infer(index, &names, &mut collector).map(TypedSpec::Transformer)
    } else if is_mamba(&family) {
        Err(EngineError::UnknownModel { reason: "Mamba models can be compressed but not run yet".into() })
    } else {
        Err(unknown(index))
    };
    if let Err(error @ EngineError::Option { .. }) = typed {
        return Err(error);
    }
    let fields = collector.finish(typed.is_err())?;
    let (model, refusal) = match typed {
        Ok(model) => match names.strict(index, &model.expected_keys()) {
            Ok(()) => (Some(model), None),
            Err(error) => (None, Some(error.to_string())),
        },
        Err(error) => (None, Some(error.to_string())),
    };
    if let Some(reason) = &refusal {
        findings.push(Finding::warning("cannot-run", format!("the model cannot be run: {reason}")));
    }
    Ok(ModelSpec { family, model, refusal, fields, names, findings })
}

/// Whether readers of the family take the embedding table for a head that is not there.
pub(crate) fn rebuilds_head(names: &Names) -> bool {
    [Family::ITERA_LITE, Family::TRANSFORMER].contains(&family(names))
}

/// Whether it is one of the Mambas.
pub(crate) fn is_mamba(family: &Family) -> bool {
    [Family::MAMBA, Family::MAMBA2].contains(family)
}

fn family(names: &Names) -> Family {
    let any = |prefix: &str, suffix: &str| {
        names.iter().any(|name| name.starts_with(prefix) && name.ends_with(suffix))
    };
    if any("layers.", ".ssm.in_proj.weight") {
        Family::ITERA_LITE
    } else if any("blocks.", ".attention.qkv.weight") {
        Family::TRANSFORMER
    } else if any("backbone.layers.", ".mixer.x_proj.weight") {
        Family::MAMBA
    } else if any("backbone.layers.", ".mixer.A_log") {
        Family::MAMBA2
    } else {
        Family::UNKNOWN
    }
}

fn unknown(index: &Index) -> EngineError {
    let first: Vec<_> = index.tensors.iter().take(5).map(|entry| entry.name.as_str()).collect();
    let reason = format!(
        "no model of a known family: no layers.*.ssm.in_proj.weight (Itera-Lite), no \
         blocks.*.attention.qkv.weight (Transformer); the first keys are [{}]",
        first.join(", ")
    );
    EngineError::UnknownModel { reason }
}

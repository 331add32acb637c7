//! From headers to a model: its family, its configuration, its program.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value};
use statepress_core::report::Segment;
use statepress_core::spec::{Family, Fields};
use statepress_core::{Finding, Index, Role};
use statepress_kernels::program::{Dim, Layout, Program, Vector};

use super::builder::Builder;
use super::fields::Collector;
use super::keys::{Names, is_buffer};
use super::registry::{self, Run};
use super::{pruned, rewritten, roles};
use crate::EngineError;
use crate::view::near::nearest;

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
#[derive(Clone)]
pub struct ModelSpec {
    /// The family.
    pub family: Family,
    /// The program, when this version can run the family and the shapes fit.
    pub program: Option<Rc<Program>>,
    /// Position `t` predicts token `t + offset`.
    pub offset: usize,
    /// Why it cannot be run, when it cannot.
    pub refusal: Option<String>,
    /// Every field with its origin.
    pub fields: Fields,
    /// Usual keys.
    pub names: Names,
    /// What each weight does, by its real key.
    pub weights: BTreeMap<String, WeightSpec>,
    /// What was assumed or found odd.
    pub findings: Vec<Finding>,
}

impl ModelSpec {
    /// The program of a model that can be run.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn runs(&self) -> Result<&Rc<Program>, EngineError> {
        self.program.as_ref().ok_or_else(|| {
            let reason = self.refusal.clone().unwrap_or_else(|| "the model is not known".into());
            EngineError::UnknownModel { reason }
        })
    }

    /// Whether a state space or another recurrence is in it, also where it cannot be run.
    pub fn is_recurrent(&self) -> bool {
        self.weights.values().any(|weight| weight.role == Role::Dynamics)
    }
}

/// What a weight does.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightSpec {
    /// Its role.
    pub role: Role,
    /// The parts of its rows, where there are several.
    pub segments: Vec<Segment>,
}

/// More than any dimension of a model, little enough for sums of some not to overflow.
pub(super) const MOST: usize = 1 << 26;

/// Understands a checkpoint from its index alone.
///
/// # Errors
/// Only for `--set` fields that do not exist, cannot be set, or have a value that is not allowed. A
/// checkpoint that is no model we know, or whose own configuration cannot be, is understood as far as
/// it goes: [`ModelSpec::refusal`] says why it cannot run.
pub fn infer(index: &Index, hints: &Hints) -> Result<ModelSpec, EngineError> {
    let names = Names::new(index);
    let mut findings = names.findings().to_vec();
    let entry = names.family();
    let mut fields = Collector::new(index, hints, entry.map_or(&[], |entry| entry.fields));
    let taken_out = pruned::read(&mut fields);
    let there = names.positions().iter();
    let there = there.map(|(name, &position)| (name.clone(), index.tensors[position].shape.clone()));
    // What is there is believed before what is said to have been there.
    let shapes: BTreeMap<String, Vec<usize>> =
        taken_out.iter().flatten().map(|(key, shape)| (key.clone(), shape.clone())).chain(there).collect();
    let name = entry.map_or("unknown", |entry| entry.name);
    let mut builder = Builder::new(fields, &shapes, name);
    builder.file_bytes = hints.file_bytes;
    builder.shares_head = names.shared_head(index).is_some();
    let vast = shapes.iter().find(|(_, shape)| shape.iter().any(|&dim| dim > MOST));
    let vast = vast.map(|(tensor, shape)| EngineError::Shape {
        tensor: tensor.clone(),
        found: shape.clone(),
        expected: format!("no dimension above {MOST}"),
    });
    let declared = match entry.map(|entry| &entry.run) {
        Some(Run::Program(declare)) => vast.map_or_else(|| declare(&mut builder), Err),
        Some(Run::Lacks(what)) => {
            let title = entry.map_or("", |entry| entry.title);
            let reason =
                format!("{title} can be inspected and compressed, but not run: this version lacks {what}");
            Err(EngineError::UnknownModel { reason })
        }
        None => Err(registry::unknown(index)),
    };
    let (fields, family, offset, built) = builder.finish();
    let program =
        taken_out.and_then(|taken_out| pruned::taken_out(declared.and(built)?, &taken_out, &mut findings));
    if let Err(error @ EngineError::Option { .. }) = program {
        return Err(error);
    }
    let program = program.and_then(|program| {
        findings.extend(names.strict(index, &program_keys(&program))?);
        Ok(program)
    });
    // Programs speak of tensors by their usual keys, the user knows those of the file.
    let program = program.map_err(|error| match error {
        EngineError::Shape { tensor, found, expected } => {
            let tensor = names.get(index, &tensor).map_or(tensor, |entry| entry.name.clone());
            EngineError::Shape { tensor, found, expected }
        }
        EngineError::Keys { missing, unexpected } => {
            EngineError::Keys { missing: missing.iter().map(|usual| names.real(usual)).collect(), unexpected }
        }
        other => other,
    });
    let (fields, more) = fields.finish(program.is_err())?;
    findings.extend(more);
    let (program, refusal) = match program {
        Ok(program) => (Some(Rc::new(program)), None),
        Err(error) => (None, Some(explained(&error, index))),
    };
    if let Some(reason) = &refusal {
        findings.push(Finding::warning("cannot-run", format!("the model cannot be run: {reason}")));
    }
    let weights = weights(index, &names, program.as_deref());
    let family = Family(family.into());
    Ok(ModelSpec { family, program, offset, refusal, fields, names, weights, findings })
}

/// Why a model cannot be run, and what may be behind it.
fn explained(error: &EngineError, index: &Index) -> String {
    let why = match error {
        EngineError::Keys { missing, .. } => {
            rewritten::explain(index).or_else(|| misspelled(missing.first()?, index))
        }
        EngineError::UnknownModel { .. } => rewritten::explain(index),
        _ => None,
    };
    why.map_or_else(|| error.to_string(), |why| format!("{error}. {why}"))
}

/// What looks like a missing key, and is not the same of another layer.
fn misspelled(missing: &str, index: &Index) -> Option<String> {
    let layers = |name: &str| name.replace(|c: char| c.is_ascii_digit(), "");
    let others = index.tensors.iter().map(|entry| entry.name.as_str());
    let near = nearest(missing, others.filter(|name| layers(name) != layers(missing)));
    (!near.is_empty()).then(|| format!("Near to it: {}", near.join(", ")))
}

/// The keys that a checkpoint of this program must have, in usual spelling.
pub(super) fn program_keys(program: &Program) -> BTreeSet<String> {
    let matrices = program.matrices.iter().map(|matrix| matrix.key.as_str());
    matrices.chain(program.vectors.iter().filter_map(Vector::key)).map(str::to_string).collect()
}

/// Roles by real key: as the program declares them, else as the key sounds.
fn weights(index: &Index, names: &Names, program: Option<&Program>) -> BTreeMap<String, WeightSpec> {
    let mut declared: BTreeMap<&str, WeightSpec> = BTreeMap::new();
    if let Some(program) = program {
        for matrix in &program.matrices {
            let rows = &matrix.dims[usize::from(matrix.layout == Layout::Transposed)];
            declared.insert(&matrix.key, WeightSpec { role: matrix.role, segments: segments(rows) });
        }
        for vector in &program.vectors {
            if let Some(key) = vector.key() {
                let segments = vector.dims.first().map(segments).unwrap_or_default();
                declared.insert(key, WeightSpec { role: vector.role, segments });
            }
        }
    }
    let spec = |usual: &str, shape: &[usize]| {
        declared
            .get(usual)
            .cloned()
            .or_else(|| Some(WeightSpec { role: roles::by_key(usual, shape)?, segments: Vec::new() }))
    };
    names
        .usual()
        .zip(&index.tensors)
        .filter(|(_, entry)| !is_buffer(entry))
        .filter_map(|(usual, entry)| Some((entry.name.clone(), spec(usual, &entry.shape)?)))
        .collect()
}

/// The parts of a dimension, where there are several.
fn segments(dim: &Dim) -> Vec<Segment> {
    if dim.0.len() < 2 {
        return Vec::new();
    }
    dim.0.iter().map(|part| Segment { label: part.label.into(), rows: part.len() }).collect()
}

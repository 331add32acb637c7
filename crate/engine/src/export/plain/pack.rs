//! Which weights keep their codes in a folder for `transformers`: those of its linear modules, as far as a tool that it loads them with
//! stores the same codes.
//!
//! `transformers` puts a module of the tool in the place of every linear one that the configuration does not name. What it reads
//! without its module has to keep floats, and so has every linear module for whose codes the tool has no place.

use std::collections::BTreeMap;

use serde_json::Value;
use statepress_core::{Entry, Finding, Index, Role};
use statepress_formats::export::Packing;
use statepress_kernels::program::{Layout, Matrix, Op, Program};

use super::super::is_coded;
use super::Planned;
use crate::EngineError;
use crate::families::ModelSpec;

/// What `transformers` never packs: a list of one's own takes the place of the one with this in it.
pub(super) const HEAD_MODULE: &str = "lm_head";

/// A tool whose modules `transformers` puts in the place of linear ones.
pub(in super::super) trait Tool {
    /// The name of the format, which is its own.
    fn name(&self) -> &'static str;

    /// Which codes it stores, and what makes such.
    fn stores(&self) -> &'static str;

    /// How it stores the codes of a weight, or why it does not.
    fn packing(&self, entry: &Entry) -> Result<Packing, String>;

    /// Why linear modules of a role keep floats in models of a type, beside those that do with every tool.
    fn keeps(&self, _role: Role, _model_type: &str) -> Option<&'static str> {
        None
    }

    /// Makes floats of what it cannot hold beside the others.
    fn settle(&self, tensors: &mut [Planned], findings: &mut Vec<Finding>);

    /// The `quantization_config` of what is packed then.
    fn config(&self, tensors: &[Planned], findings: &mut Vec<Finding>) -> Value;
}

/// Chooses what is packed, and gives the `quantization_config`.
///
/// # Errors
/// Where nothing of the model can be.
pub(super) fn pack(
    tool: &dyn Tool,
    tensors: &mut [Planned],
    (spec, index, model_type): (&ModelSpec, &Index, &str),
    findings: &mut Vec<Finding>,
) -> Result<Value, EngineError> {
    let name = tool.name();
    let linear = linear_modules(spec.runs()?).filter_map(|matrix| {
        let key = spec.names.get(index, &matrix.key)?.name.as_str();
        Some((key, keeps(matrix).or_else(|| tool.keeps(matrix.role, model_type))))
    });
    // By the tensor: why its module keeps floats, if it does.
    let linear: BTreeMap<&str, Option<&str>> = linear.collect();
    for it in &mut *tensors {
        let packing = match linear.get(it.key.as_str()) {
            None => Err(format!("{name} packs linear layers alone")),
            Some(Some(keeps)) => Err((*keeps).to_string()),
            Some(None) => tool.packing(&it.entry),
        };
        if linear.contains_key(it.key.as_str()) {
            it.module = it.entry.name.strip_suffix(".weight").map(Into::into);
        }
        match packing {
            Ok(packing) => it.packing = Some(packing),
            Err(why) => it.refused = Some(why),
        }
    }
    let mut layers = linear_modules(spec.runs()?).filter(|matrix| matrix.role != Role::Head);
    if layers.all(|matrix| matrix.layout != Layout::Plain) {
        let reason = format!(
            "its layers are stored the other way round (`[in, out]`), and {name} has codes of rows: no folder for {name} is written \
             of it; plain is one of floats"
        );
        return Err(EngineError::UnknownModel { reason });
    }
    tool.settle(tensors, findings);
    if tensors.iter().all(|it| it.packing.is_none()) {
        // The one refusal that another recipe would change.
        let could = |it: &&Planned| is_coded(&it.entry) && linear.get(it.key.as_str()) == Some(&None);
        let why = tensors
            .iter()
            .find(could)
            .and_then(|it| Some(format!(" ({}: {})", it.key, it.refused.as_ref()?)));
        let allowed = format!(
            "plain, as no linear layer of the model is one that {name} stores{}, {}",
            why.unwrap_or_default(),
            tool.stores()
        );
        return Err(EngineError::option("format", name, allowed));
    }
    Ok(tool.config(tensors, findings))
}

/// What `transformers` has as linear modules, and as those of GPT-2 that lie the other way round.
fn linear_modules(program: &Program) -> impl Iterator<Item = &Matrix> {
    let multiplied = program.nodes.iter().filter_map(|node| match &node.op {
        Op::Linear(linear) => Some(linear.w),
        Op::Experts(experts) => Some(experts.router),
        _ => None,
    });
    let all = multiplied.chain([program.head.matrix]).filter(|&id| id != program.table);
    all.map(|id| program.matrix(id))
}

/// Why a linear module keeps floats whatever the tool, if it does.
fn keeps(matrix: &Matrix) -> Option<&'static str> {
    match matrix.role {
        _ if matrix.layout != Layout::Plain => {
            Some("their layers are stored the other way round (`[in, out]`)")
        }
        Role::DtProj => Some("transformers reads them without their module"),
        Role::Router => Some("transformers has them as parameters of another module"),
        Role::Head => Some("transformers keeps the head as it is"),
        _ => None,
    }
}

/// The names of linear modules, those that keep codes and those that keep floats.
pub(super) fn modules(tensors: &[Planned]) -> [Vec<&str>; 2] {
    [true, false].map(|packed| {
        let those = tensors.iter().filter(|it| it.packing.is_some() == packed);
        those.filter_map(|it| it.module.as_deref()).collect()
    })
}

/// Names of modules for a list that is matched with their ends: the last part alone, where none of the others ends so; it holds
/// whatever stands before the layers.
pub(super) fn briefly<'a>(these: &[&'a str], others: &[&str]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in these {
        let last = name.rsplit('.').next().unwrap_or(name);
        let brief = if others.iter().any(|other| other.ends_with(last)) { name } else { last };
        if !names.contains(&brief) {
            names.push(brief);
        }
    }
    names
}

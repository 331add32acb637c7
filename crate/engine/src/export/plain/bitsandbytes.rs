//! Which weights bitsandbytes holds as the codes that they are, and what `config.json` says for `transformers` to load them so.
//!
//! `transformers` puts a module of bitsandbytes in the place of every linear one that the configuration does not name: a name for each
//! that keeps floats, and none for the others. One configuration is for modules of four bits or of eight.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use statepress_core::words::counted;
use statepress_core::{Finding, Index, Role};
use statepress_formats::export::bitsandbytes::Packing;
use statepress_kernels::program::{Layout, MatrixId, Op, Program};

use super::Planned;
use crate::EngineError;
use crate::error::listed;
use crate::families::ModelSpec;

/// What `transformers` never packs: a list of one's own takes the place of the one with this in it.
const HEAD_MODULE: &str = "lm_head";

/// Chooses what is packed, and gives the `quantization_config`.
///
/// # Errors
/// Where nothing of the model can be.
pub(super) fn pack(
    tensors: &mut [Planned],
    (spec, index): (&ModelSpec, &Index),
    findings: &mut Vec<Finding>,
) -> Result<Value, EngineError> {
    let program = spec.runs()?;
    let modules = linear_modules(program).filter_map(|(id, packs)| {
        Some((spec.names.get(index, &program.matrix(id).key)?.name.as_str(), packs))
    });
    // By the tensor: whether its module may be packed.
    let modules: BTreeMap<&str, bool> = modules.collect();
    for it in &mut *tensors {
        let packs = modules.get(it.key.as_str()).is_some_and(|packs| *packs);
        it.packing = it.entry.encoding().filter(|_| packs).and_then(|of| Packing::of(of, &it.entry.shape));
    }
    if !modules.values().any(|packs| *packs) {
        let reason = "its layers are stored the other way round (`[in, out]`), and bitsandbytes has codes of rows: no folder for \
                      bitsandbytes is written of it; plain is one of floats";
        return Err(EngineError::UnknownModel { reason: reason.into() });
    }
    let params = |four: bool| -> u64 {
        let has = |it: &&Planned| it.packing.is_some_and(|packing| is_four(packing) == four);
        tensors.iter().filter(has).map(|it| it.entry.params()).sum()
    };
    let (of_four, of_eight) = (params(true), params(false));
    if of_four + of_eight == 0 {
        // The one refusal that another recipe would change.
        let allowed = "plain, as no linear layer of the model is one that bitsandbytes stores, NF4 in blocks of 64 to 4096 or INT8: \
                       compress it by a recipe that makes such, as nf4 and int8 do";
        return Err(EngineError::option("format", "bitsandbytes", allowed));
    }
    let four = of_four >= of_eight;
    let (mut other, mut skipped, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    for it in &mut *tensors {
        if it.packing.is_some_and(|packing| is_four(packing) != four) {
            other.push(it.key.clone());
            it.packing = None;
        }
        if let (true, Some(module)) =
            (modules.contains_key(it.key.as_str()), it.entry.name.strip_suffix(".weight"))
        {
            let kind = if it.packing.is_none() { &mut skipped } else { &mut packed };
            kind.push(module.to_string());
        }
    }
    if let Some(first) = other.first() {
        let (bits, others) = if four { ("four", "eight") } else { ("eight", "four") };
        let message = format!(
            "{} of {others} bits written as floats, as a model is loaded with weights of one width, and most are of {bits}: {}",
            counted(other.len(), "matrix is", "matrices are"),
            listed(&other)
        );
        findings.push(Finding::warning("one-width", message).about(first));
    }
    let skipped = briefly(&skipped, &packed);
    let double = tensors.iter().any(|it| matches!(it.packing, Some(Packing::Nf4 { double: true, .. })));
    Ok(match four {
        true => json!({
            "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false,
            "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": double, "bnb_4bit_compute_dtype": "float32",
            "bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": skipped,
        }),
        false => json!({
            "quant_method": "bitsandbytes", "load_in_4bit": false, "load_in_8bit": true,
            "llm_int8_threshold": 6.0, "llm_int8_skip_modules": skipped,
        }),
    })
}

fn is_four(packing: Packing) -> bool {
    matches!(packing, Packing::Nf4 { .. })
}

/// What `transformers` has as linear modules, and as those of GPT-2 that lie the other way round; and whether bitsandbytes packs them:
/// not what is read without its module (`dt_proj` of Mamba), nor what is a parameter of another module (routers).
fn linear_modules(program: &Program) -> impl Iterator<Item = (MatrixId, bool)> {
    let multiplied = program.nodes.iter().filter_map(|node| match &node.op {
        Op::Linear(linear) => Some(linear.w),
        Op::Experts(experts) => Some(experts.router),
        _ => None,
    });
    multiplied.chain([program.head.matrix]).filter(|&id| id != program.table).map(|id| {
        let matrix = program.matrix(id);
        let stays = matches!(matrix.role, Role::DtProj | Role::Router | Role::Head);
        (id, matrix.layout == Layout::Plain && !stays)
    })
}

/// The names of modules that keep floats, for a list that `transformers` matches with whole names and with their ends: the last part
/// alone, where no module that is packed ends so; it holds whatever stands before the layers.
fn briefly(skipped: &[String], packed: &[String]) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
    let brief = |name: &String| {
        let last = last(name);
        if packed.iter().any(|it| it.ends_with(&last)) { name.clone() } else { last }
    };
    let mut names: Vec<String> = Vec::new();
    for name in skipped.iter().map(brief).chain([HEAD_MODULE.to_string()]) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

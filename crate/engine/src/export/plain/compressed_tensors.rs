//! What of a model compressed-tensors holds as the codes that they are, and what `config.json` says for `transformers` to load them so: a
//! group of `config_groups` for all modules of one width and size of groups, and a list of those that keep floats.
//!
//! Source: compressed-tensors 0.20.0, `quantization/quant_config.py`, and `utils/match.py` for how names of modules are matched.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use statepress_core::words::counted;
use statepress_core::{Entry, Finding, Role};
use statepress_formats::export::Packing;
use statepress_formats::export::compressed_tensors::{self, FORMAT, Scheme};

use super::Planned;
use super::pack::{HEAD_MODULE, Tool, briefly, modules};
use crate::error::listed;

/// Models whose `out_proj` transformers 5.23 initializes while it loads (`_init_weights`), and fails as there is no such weight.
const INITIALIZED: [&str; 3] = ["mamba", "mamba2", "falcon_mamba"];

/// `pack-quantized`.
pub(in super::super) struct CompressedTensors;

impl Tool for CompressedTensors {
    fn name(&self) -> &'static str {
        "compressed-tensors"
    }

    fn stores(&self) -> &'static str {
        "whole numbers of 2 to 8 bits with a scale for each row or for groups within a row: compress floats by a recipe that makes such, \
         as int4 and int8 do"
    }

    fn packing(&self, entry: &Entry) -> Result<Packing, String> {
        compressed_tensors::Packing::of(entry).map(Packing::CompressedTensors)
    }

    fn keeps(&self, role: Role, model_type: &str) -> Option<&'static str> {
        let initialized = role == Role::OutProj && INITIALIZED.contains(&model_type);
        initialized.then_some("transformers initializes them as it loads, and finds no packed ones")
    }

    /// Layers with zero points become floats where others are packed otherwise: transformers 5.23 loads zero points with
    /// `dequantize=True` alone, which then reads all layers as the first.
    fn settle(&self, tensors: &mut [Planned], _: &mut Vec<Finding>) {
        let mut schemes = tensors.iter().filter_map(scheme);
        let first = schemes.next();
        if schemes.all(|it| Some(it) == first) {
            return;
        }
        for it in tensors.iter_mut().filter(|it| scheme(it).is_some_and(|scheme| !scheme.symmetric)) {
            it.packing = None;
            it.refused =
                Some("transformers loads layers with zero points only where all are packed alike".into());
        }
    }

    fn config(&self, tensors: &[Planned], findings: &mut Vec<Finding>) -> Value {
        let [packed, floats] = modules(tensors);
        let mut schemes: BTreeMap<Scheme, Vec<&str>> = BTreeMap::new();
        for it in tensors {
            if let (Some(scheme), Some(module)) = (scheme(it), &it.module) {
                schemes.entry(scheme).or_default().push(module);
            }
        }
        findings.extend(told(tensors, schemes.len()));
        let only = schemes.len() == 1;
        let groups: Map<String, Value> = schemes
            .iter()
            .enumerate()
            .map(|(at, (scheme, these))| {
                let others = packed.iter().filter(|it| !these.contains(it)).chain(&floats);
                let targets = match only {
                    true => vec!["Linear".into()],
                    false => patterns(&briefly(these, &others.copied().collect::<Vec<_>>())),
                };
                let group = json!({
                    "targets": targets, "weights": scheme.weights(), "input_activations": null, "output_activations": null,
                });
                (format!("group_{at}"), group)
            })
            .collect();
        let mut ignore = briefly(&floats, &packed);
        ignore.retain(|name| *name != HEAD_MODULE);
        let ignore: Vec<String> = [HEAD_MODULE.into()].into_iter().chain(patterns(&ignore)).collect();
        json!({
            "quant_method": "compressed-tensors", "format": FORMAT, "quantization_status": "compressed",
            "config_groups": groups, "ignore": ignore,
        })
    }
}

/// What it is packed with, where it is.
fn scheme(it: &Planned) -> Option<Scheme> {
    match it.packing? {
        Packing::CompressedTensors(packing) => Some(packing.scheme),
        Packing::Bitsandbytes(_) => None,
    }
}

/// What transformers 5.23 reads right only if it is told how, or not told otherwise.
fn told(tensors: &[Planned], schemes: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_shifted = |it: &&Planned| scheme(it).is_some_and(|scheme| !scheme.symmetric);
    let shifted: Vec<String> = tensors.iter().filter(is_shifted).map(|it| it.key.clone()).collect();
    if let Some(first) = shifted.first() {
        let message = format!(
            "{} zero points, which transformers 5.23 reads with `CompressedTensorsConfig(dequantize=True)` alone: {}",
            counted(shifted.len(), "matrix has", "matrices have"),
            listed(&shifted)
        );
        findings.push(Finding::warning("zero-points", message).about(first));
    }
    if schemes > 1 {
        let message = format!(
            "layers are packed in {schemes} ways: `dequantize=True` of transformers 5.23 would read all of them as the first, without it each \
             is read as it is"
        );
        findings.push(Finding::info("several-schemes", message));
    }
    findings
}

/// Names as they are matched: whole ones as they are, last parts at the end of any name.
fn patterns(names: &[&str]) -> Vec<String> {
    let pattern = |name: &str| if name.contains('.') { name.into() } else { format!("re:.*\\.{name}$") };
    names.iter().map(|name| pattern(name)).collect()
}

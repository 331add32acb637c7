//! torch's dynamically quantized modules: four keys for one weight.
//!
//! `X._packed_params._packed_params` is a tuple of the quantized weight and the bias or None.
//! `X._packed_params.dtype` repeats the type of the codes; `X.scale` and `X.zero_point` belong to
//! the output of the module and are unused. Source: `torch/ao/nn/quantized/modules/linear.py`.

use std::collections::HashSet;

use statepress_core::Finding;

use super::search::PACKED;
use crate::FormatError;
use crate::pickle::{Heap, Value};

/// The keys beside it that say nothing about the weight.
const UNUSED: [&str; 3] = ["._packed_params.dtype", ".scale", ".zero_point"];

/// A state dict in which every quantized module is a `weight` and perhaps a `bias`.
pub(super) fn unpack(
    heap: &Heap,
    state: Vec<(String, Value)>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<(String, Value)>, FormatError> {
    let modules: HashSet<String> =
        state.iter().filter_map(|(key, _)| key.strip_suffix(PACKED).map(String::from)).collect();
    if modules.is_empty() {
        return Ok(state);
    }
    let unused = |key: &str| {
        UNUSED.iter().any(|suffix| key.strip_suffix(suffix).is_some_and(|module| modules.contains(module)))
    };
    let mut unpacked = Vec::new();
    for (key, value) in state {
        let Some(module) = key.strip_suffix(PACKED) else {
            if !unused(&key) {
                unpacked.push((key, value));
            }
            continue;
        };
        match heap.tuple(value) {
            Some(&[weight, bias]) if heap.tensor(weight).is_some() => {
                unpacked.push((format!("{module}.weight"), weight));
                if bias != Value::None {
                    unpacked.push((format!("{module}.bias"), bias));
                }
            }
            _ => {
                let why = "torch's packed parameters are not a weight and a bias";
                return Err(FormatError::tensor(key, why));
            }
        }
    }
    findings.push(Finding::info(
        "torch-dynamic-int8",
        format!(
            "{} modules are quantized by torch (dynamic INT8): their codes and scales are read as `weight` and \
             `bias`; the scale and zero point of their outputs are unused and left out",
            modules.len()
        ),
    ));
    Ok(unpacked)
}

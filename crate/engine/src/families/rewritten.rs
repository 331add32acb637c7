//! Keys that tools leave behind where they keep a weight in parts or in another shape: no family has them,
//! and each has a way back to plain weights.

use statepress_core::Index;
use statepress_core::index::Stored;

/// A part of such keys, what it means, and what gives plain weights.
const REWRITTEN: [(&[&str], &str, &str); 5] = [
    (
        &["_flat_param", "flat_param"],
        "FSDP has flattened the weights of whole modules",
        "save it with StateDictType.FULL_STATE_DICT",
    ),
    (
        &["lora_A", "lora_B", "base_layer"],
        "LoRA adapters lie beside the weights",
        "save what PEFT's merge_and_unload() gives",
    ),
    (
        &["parametrizations"],
        "weights are kept in the parts of a parametrization",
        "call torch.nn.utils.parametrize.remove_parametrizations before saving",
    ),
    (
        &["weight_g", "weight_v"],
        "weights are kept as direction and norm",
        "call torch.nn.utils.remove_weight_norm before saving",
    ),
    (
        &["weight_orig", "weight_mask"],
        "weights are kept as they were before pruning or a spectral norm",
        "call torch.nn.utils.prune.remove or remove_spectral_norm before saving",
    ),
];

/// Why a model's keys are not there, where a tool has made others of them, and what helps.
pub(super) fn explain(index: &Index) -> Option<String> {
    let opaque = index.tensors.iter().find_map(|entry| match &entry.stored {
        Stored::Opaque { scheme, .. } => Some((&entry.name, scheme)),
        _ => None,
    });
    if let Some((name, scheme)) = opaque {
        return Some(format!(
            "weights are quantized as {scheme} (`{name}`), which is kept but not decoded here: open the weights it was made \
             from"
        ));
    }
    let (found, what, help) = REWRITTEN.into_iter().find_map(|(parts, what, help)| {
        let rewritten = |name: &&str| name.split('.').any(|part| parts.contains(&part));
        let found = index.tensors.iter().map(|entry| entry.name.as_str()).find(rewritten)?;
        Some((found, what, help))
    })?;
    Some(format!("{what} (`{found}`): {help}"))
}

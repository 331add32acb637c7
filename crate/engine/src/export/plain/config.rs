//! The `config.json` of an exported model: what the original said, with what is known of the tensors written over it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use statepress_core::Finding;
use statepress_kernels::program::{NormKind, Op, Program};

use super::{Planned, dtype, form};
use crate::families::{HEAD, ModelSpec, PRUNED, PRUNED_FIELDS};

/// Families that `transformers` knows: ours, its `model_type`, and the class that has the head.
const KNOWN: [(&str, &str, &str); 12] = [
    ("mamba", "mamba", "MambaForCausalLM"),
    ("falcon-mamba", "falcon_mamba", "FalconMambaForCausalLM"),
    ("mamba2", "mamba2", "Mamba2ForCausalLM"),
    ("llama", "llama", "LlamaForCausalLM"),
    ("llama", "mistral", "MistralForCausalLM"),
    ("qwen2", "qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "qwen3", "Qwen3ForCausalLM"),
    ("gpt2", "gpt2", "GPT2LMHeadModel"),
    ("granite-hybrid", "granitemoehybrid", "GraniteMoeHybridForCausalLM"),
    ("falcon-h1", "falcon_h1", "FalconH1ForCausalLM"),
    ("bamba", "bamba", "BambaForCausalLM"),
    ("jamba", "jamba", "JambaForCausalLM"),
];

/// What rotary positions need, as our fields call it and as `rope_scaling` does.
const ROPE: [(&str, &str); 5] = [
    ("rope_type", "rope_type"),
    ("rope_factor", "factor"),
    ("rope_low_freq_factor", "low_freq_factor"),
    ("rope_high_freq_factor", "high_freq_factor"),
    ("rope_original_positions", "original_max_position_embeddings"),
];

/// Fields that are lists of the layers' kinds, whatever the layers' sizes are.
const LISTS: [&str; 5] =
    ["layer_types", "attn_layer_indices", "time_step_limit", "ssm_multipliers", "mlp_multipliers"];

/// Fields that `transformers` knows under one name alone, which is not ours: `model_type`, ours, theirs.
const THEIRS: [(&str, &str, &str); 1] = [("gpt2", "intermediate_size", "n_inner")];

/// What ends the names of fields that are floats, also where they have no fraction: `transformers` refuses `1` for `1.0`.
const FLOATS: [&str; 8] =
    ["multiplier", "multipliers", "scaling", "limit", "theta", "eps", "epsilon", "factor"];

/// The `model_type` and the class of a model that `transformers` knows; what keeps it from that, where it does not.
pub(super) fn model_type(spec: &ModelSpec) -> (Option<(&'static str, &'static str)>, Option<Finding>) {
    let read = spec.fields.get("model_type").and_then(|field| field.value.as_str());
    let mut known = KNOWN.iter().filter(|(family, ..)| *family == spec.family.name());
    let first = known.clone().next();
    let what = match first {
        None => Some(format!("the family {} is none of transformers'", spec.family)),
        Some(_) => spec.program.as_deref().and_then(|program| beyond(spec, program)).or_else(|| uneven(spec)),
    };
    if let Some(what) = what {
        let message = format!(
            "{what}: keys and configuration stay as they are, and any reader of safetensors reads the weights"
        );
        return (None, Some(Finding::warning("not-in-transformers", message)));
    }
    let taken = known.find(|(_, model_type, _)| Some(*model_type) == read).or(first);
    (taken.map(|(_, model_type, class)| (*model_type, *class)), None)
}

/// The text of the file; `quantization` says what of the weights is not floats.
pub(super) fn config(
    spec: &ModelSpec,
    (known, quantization): (Option<(&str, &str)>, Option<Value>),
    base: Option<&Map<String, Value>>,
    tensors: &[Planned],
    findings: &mut Vec<Finding>,
) -> String {
    let mut config = base.cloned().unwrap_or_default();
    // What the original says is of how its own weights are stored.
    config.remove("quantization_config");
    match known {
        Some(known) => known_config(spec, known, base, tensors, &mut config, findings),
        None if base.is_none() => {
            config.extend(spec.fields.iter().map(|(name, field)| (name.clone(), field.value.clone())));
        }
        None => {}
    }
    // Without these a file that lacks parts of layers would lack tensors, and rows would be of other ids.
    let said = PRUNED_FIELDS
        .iter()
        .filter_map(|&name| Some((name.to_string(), spec.fields.get(name)?.value.clone())));
    config.extend(said);
    config.extend(quantization.map(|it| ("quantization_config".to_string(), it)));
    let text = serde_json::to_string_pretty(&Value::Object(config)).unwrap_or_default();
    format!("{text}\n")
}

/// What `transformers` reads, over what the original said.
fn known_config(
    spec: &ModelSpec,
    (model_type, class): (&str, &str),
    base: Option<&Map<String, Value>>,
    tensors: &[Planned],
    config: &mut Map<String, Value>,
    findings: &mut Vec<Finding>,
) {
    config.remove("torch_dtype");
    let aliases = spec.names.family().map_or(&[][..], |family| family.fields);
    for (name, field) in &spec.fields {
        // What the original calls otherwise would say the same, or contradict it.
        for other in aliases.iter().filter(|(ours, _)| ours == name).flat_map(|(_, others)| *others) {
            config.remove(other.split('.').next().unwrap_or(other));
        }
        if name.starts_with("rope_") || name == "model_type" {
            continue;
        }
        let value = spelt(name, &field.value, base.and_then(|base| base.get(name)));
        let theirs = THEIRS.iter().find(|(of, ours, _)| *of == model_type && ours == name);
        config.insert(theirs.map_or(name.as_str(), |(.., theirs)| theirs).into(), value);
    }
    // What the original says of each of its layers is not said of these, where there are fewer.
    let listed = config.get("layer_types").and_then(Value::as_array).map(Vec::len);
    if listed.is_some() && listed != spec.program.as_deref().map(Program::n_layers) {
        config.remove("layer_types");
    }
    if let Some((offset, period)) =
        spec.program.as_deref().filter(|_| model_type == "jamba").and_then(attending)
    {
        config.insert("attn_layer_offset".into(), offset.into());
        config.insert("attn_layer_period".into(), period.into());
    }
    rope(spec, base, config);
    if let Some(table) = spec
        .names
        .family()
        .and_then(|family| tensors.iter().map(|it| &it.entry).find(|entry| entry.name == family.table))
    {
        // Rows that pad it are there.
        config.insert("vocab_size".into(), json!(table.shape.first()));
        let head = tensors.iter().any(|it| it.entry.name == HEAD);
        if !head {
            config.insert("tie_word_embeddings".into(), true.into());
        }
    }
    if let Some((inner, d)) = spec.program.as_deref().and_then(state_space) {
        let expand = |config: &mut Map<String, Value>, name: &str| {
            if inner.is_multiple_of(d) {
                config.insert(name.into(), (inner / d).into());
            }
        };
        match model_type {
            "mamba2" => expand(config, "expand"),
            "granitemoehybrid" | "bamba" => expand(config, "mamba_expand"),
            "falcon_h1" => {
                config.insert("mamba_d_ssm".into(), inner.into());
                expand(config, "mamba_expand");
            }
            _ => {}
        }
    }
    dtypes(tensors, config, findings);
    config.insert("model_type".into(), model_type.into());
    config.insert("architectures".into(), json!([class]));
}

/// A value as the original spells it, where it is the same; else a float with its point, where the field is one.
fn spelt(name: &str, value: &Value, said: Option<&Value>) -> Value {
    if let Some(said) = said.filter(|said| same(said, value)) {
        return said.clone();
    }
    match FLOATS.iter().any(|end| name.ends_with(end)) {
        true => floats(value),
        false => value.clone(),
    }
}

/// Equal as numbers, also within lists.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b),
    }
}

fn floats(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(floats).collect(),
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        _ => value.clone(),
    }
}

/// Rotary positions as `transformers` of both major versions reads them, unless the original has said it so.
fn rope(spec: &ModelSpec, base: Option<&Map<String, Value>>, config: &mut Map<String, Value>) {
    let said = ["rope_parameters", "rope_scaling", "rope_theta"];
    for name in said {
        if let Some(value) = base.and_then(|base| base.get(name)) {
            config.insert(name.into(), value.clone());
        }
    }
    if said.iter().any(|name| config.contains_key(*name)) {
        return;
    }
    let value = |name: &str| spec.fields.get(name).map(|field| field.value.clone());
    let Some(theta) = value("rope_theta") else { return };
    config.insert("rope_theta".into(), floats(&theta));
    let scaling: Map<String, Value> = ROPE
        .iter()
        .filter_map(|(ours, theirs)| Some(((*theirs).to_string(), spelt(ours, &value(ours)?, None))))
        .collect();
    if scaling.get("rope_type").is_some_and(|kind| kind != "default") {
        config.insert("rope_scaling".into(), Value::Object(scaling));
    }
}

/// The type that most numbers have is what `transformers` loads all of them as, unless it would round the scales of codes.
fn dtypes(tensors: &[Planned], config: &mut Map<String, Value>, findings: &mut Vec<Finding>) {
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for Planned { entry, .. } in tensors.iter().filter(|it| it.packing.is_none()) {
        *numbers.entry(dtype(form(entry))).or_default() += entry.params();
    }
    let torch = |name: &str| match name {
        "F16" => Some("float16"),
        "BF16" => Some("bfloat16"),
        "F32" => Some("float32"),
        "F64" => Some("float64"),
        _ => None,
    };
    let mut floats: Vec<(&str, u64)> =
        numbers.iter().filter_map(|(name, count)| Some((torch(name)?, *count))).collect();
    floats.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let Some(&(mut most, _)) = floats.first() else { return };
    let mut scales = tensors.iter().filter_map(|it| it.packing?.scale_type());
    if scales.any(|scale| torch(scale.name()) != Some(most)) && !["float32", "float64"].contains(&most) {
        most = "float32";
        let message =
            "transformers loads all weights as float32: another dtype would round the scales of codes";
        findings.push(Finding::info("scales-as-they-are", message));
    }
    config.insert("dtype".into(), most.into());
    if floats.len() > 1 {
        let all: Vec<_> = floats.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "the weights are {}: transformers loads all of them as {most}, unless it is told another dtype",
            all.join(" and ")
        );
        findings.push(Finding::info("several-dtypes", message));
    }
}

/// The width of a model's state spaces, and of its residual stream.
fn state_space(program: &Program) -> Option<(usize, usize)> {
    let inner = program.nodes.iter().find_map(|node| match &node.op {
        Op::SelectiveScan { u, .. } => Some(u.width),
        Op::Ssd(ssd) => Some(ssd.heads * ssd.head),
        _ => None,
    })?;
    Some((inner, program.hidden_size()))
}

/// The first layer that attends, and the distance from each to the next; `None` where distances differ.
fn attending(program: &Program) -> Option<(usize, usize)> {
    let mut attends = vec![false; program.n_layers()];
    for node in program.nodes.iter().filter(|node| matches!(node.op, Op::Attention(_))) {
        node.layer.into_iter().for_each(|layer| attends[layer] = true);
    }
    let offset = attends.iter().position(|attends| *attends).unwrap_or(attends.len());
    let fits = |period: &usize| attends.iter().enumerate().all(|(n, is)| *is == (n % period == offset));
    Some((offset, (offset + 1..attends.len() + 2).find(fits)?))
}

/// What a program does that `transformers` has no field for.
fn beyond(spec: &ModelSpec, program: &Program) -> Option<String> {
    let pure = program.nodes.iter().any(|node| matches!(node.op, Op::SelectiveScan { .. } | Op::Ssd(_)));
    let layer_norm =
        pure && program.head.norm.is_some_and(|norm| matches!(norm.kind, NormKind::Layer { .. }));
    let has = |is: fn(&Op) -> bool| program.nodes.iter().any(|node| is(&node.op));
    let attends = has(|op| matches!(op, Op::Attention(_)));
    let original = program.matrix(program.table).key.starts_with("backbone.");
    // Falcon-H1 says how wide its state space is, the others how many times as wide as the stream.
    let odd = spec.family.name() != "falcon-h1"
        && state_space(program).is_some_and(|(inner, d)| !inner.is_multiple_of(d));
    if spec.fields.contains_key(PRUNED) {
        return Some("the model lacks parts of layers, which transformers' has in all of them".into());
    }
    if program.reduced.is_some() {
        return Some("the model has rows for some ids only, which transformers' does not".into());
    }
    let what = match () {
        () if odd => "a state space that is no whole number of times as wide as the residual stream",
        () if layer_norm => "LayerNorm in the place of RMS norms",
        () if program.head.norm.is_none() => "a table with a basis of its own",
        () if has(|op| matches!(op, Op::Copy { .. })) => "a gated network beside its state space",
        () if original && attends => "layers of attention",
        () if spec.family.name() == "jamba" && attending(program).is_none() => {
            "layers of attention at unequal distances"
        }
        () => return None,
    };
    Some(format!("the model has {what}, which transformers' does not"))
}

/// Sizes that differ from layer to layer, of which a configuration has one.
fn uneven(spec: &ModelSpec) -> Option<String> {
    let uneven = |name: &str, value: &Value| value.is_array() && !LISTS.contains(&name);
    let (name, field) = spec.fields.iter().find(|(name, field)| uneven(name, &field.value))?;
    Some(format!("{name} is {}, a size for each layer, and transformers knows one for all", field.value))
}

//! What a weight does, told from its key: for models that cannot be run, which declare nothing.

use statepress_core::Role;

/// The role of a key; `None` where it sounds like nothing known.
pub(crate) fn by_key(key: &str, shape: &[usize]) -> Option<Role> {
    let parts: Vec<&str> = key.split('.').collect();
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
    let ends = |words: &[&str]| words.iter().any(|word| key.ends_with(word));
    let matrix = shape.len() >= 2 && shape.iter().filter(|&&dim| dim > 1).count() >= 2;
    if ends(&["A_log", ".D", "dt_bias", "time_decay", "time_first", "time_faaaa"]) {
        return Some(Role::Dynamics);
    }
    if key.contains("conv1d") || (has(&["conv"]) && !key.contains("proj")) {
        return Some(Role::Conv);
    }
    if key.contains("norm") || has(&["ln", "ln0", "ln1", "ln2", "ln_f", "ln_out", "ln_x", "pre_ln"]) {
        return Some(Role::Norm);
    }
    if !matrix {
        // Mixing coefficients, biases and whatever else is as small.
        return Some(if ends(&["bias"]) { Role::Bias } else { Role::Dynamics });
    }
    if ends(&["lm_head.weight", "head.weight", "output_layer.weight"]) {
        return Some(Role::Head);
    }
    if key.contains("position_embedding") || ends(&["wpe.weight"]) {
        return Some(Role::Positions);
    }
    if key.contains("embed") || has(&["emb", "wte"]) {
        return Some(Role::Table);
    }
    let expert = key.contains("experts");
    if has(&["router", "gate"]) && !key.contains("gate_proj") && !expert {
        return Some(Role::Router);
    }
    let ssm = has(&["mixer", "mamba", "ssm", "linear_attn", "att", "time_mix", "attn"]);
    match () {
        () if ends(&["x_proj.weight"]) => Some(Role::XProj),
        () if ends(&["dt_proj.weight"]) => Some(Role::DtProj),
        () if ends(&["delta_proj.weight"]) => Some(Role::DeltaProj),
        () if ends(&[
            "down_proj.weight",
            "w2.weight",
            "fc2.weight",
            "output_linear.weight",
            "ffn.value.weight",
        ]) =>
        {
            Some(if expert { Role::ExpertOut } else { Role::FfnOut })
        }
        () if has(&["mlp", "ffn", "feed_forward", "intermediate", "experts", "shared_mlp"]) => {
            Some(if expert { Role::ExpertIn } else { Role::FfnIn })
        }
        () if ends(&[
            "out_proj.weight",
            "o_proj.weight",
            "output.weight",
            "output.dense.weight",
            "c_proj.weight",
        ]) =>
        {
            Some(if has(&["self_attn", "attention"]) { Role::AttentionOut } else { Role::OutProj })
        }
        () if ends(&["in_proj.weight"]) => Some(Role::InProj),
        () if has(&["self_attn", "attention", "self"]) => Some(Role::AttentionIn),
        () if ssm => Some(Role::InProj),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_families_that_do_not_run_have_roles() {
        for (key, shape, role) in [
            ("blocks.3.att.receptance.weight", &[64, 64][..], Some(Role::InProj)),
            ("blocks.3.att.output.weight", &[64, 64], Some(Role::OutProj)),
            ("blocks.3.ffn.key.weight", &[256, 64], Some(Role::FfnIn)),
            ("blocks.3.ffn.value.weight", &[64, 256], Some(Role::FfnOut)),
            ("blocks.3.att.x_r", &[1, 1, 64], Some(Role::Dynamics)),
            ("emb.weight", &[100, 64], Some(Role::Table)),
            ("head.weight", &[100, 64], Some(Role::Head)),
            ("model.layers.1.linear_attn.conv1d.weight", &[64, 1, 4], Some(Role::Conv)),
            ("model.layers.1.mlp.experts.3.down_proj.weight", &[64, 32], Some(Role::ExpertOut)),
            ("model.layers.1.self_attn.q_proj.weight", &[64, 32], Some(Role::AttentionIn)),
            ("backbone.layers.1.mixer.in_proj.weight", &[64, 32], Some(Role::InProj)),
            ("something.else.weight", &[64, 32], None),
        ] {
            assert_eq!(by_key(key, shape), role, "{key}");
        }
    }
}

//! The published yardstick: plain weight-only methods on itera-tiny, as recipes.

use statepress::{Recipe, recipes};

/// A recipe of `(pattern, precision)` rules; the rest stays FP32.
pub fn recipe(rules: &[(&str, &str)], options: &str) -> Recipe {
    let rules: Vec<String> = rules
        .iter()
        .map(|(pattern, precision)| format!(r#"{{"match":"{pattern}","precision":"{precision}"}}"#))
        .collect();
    let json = format!(
        r#"{{"version":1,"name":"test","steps":[{{"quantize":{{"rules":[{}],"otherwise":"fp32"{options}}}}}]}}"#,
        rules.join(",")
    );
    Recipe::from_json(&json).unwrap()
}

/// Tensors of two dimensions in an Itera-Lite checkpoint, whatever the precision.
fn matrices(tables: &str, rest: &str, options: &str) -> Recipe {
    let fp32 = ["*norm*", "*.bias", "*conv1d*", "*A_log", "*.ssm.D"].map(|pattern| (pattern, "fp32"));
    let mut rules = vec![("*embedding.weight", tables)];
    rules.extend(fp32);
    rules.push(("*", rest));
    recipe(&rules, options)
}

/// Every row of `yardstick.json` that is about itera-tiny, as a recipe.
pub fn yardstick() -> Vec<(&'static str, Recipe)> {
    let fp16_absmax = r#","nf4":{"block":64,"doubleQuant":false,"absmax":"fp16"}"#;
    let mixer = [("*embedding.weight", "int8"), ("layers.*.ssm.*", "fp16")];
    vec![
        ("fp32", recipes::find("none").unwrap()),
        ("fp16_all", recipes::find("fp16").unwrap()),
        ("mixed_int8emb_fp16mixer_fp32rest", recipe(&mixer, "")),
        ("int8_per_row_all_2d", matrices("int8", "int8", "")),
        ("nf4_b64_2d_except_emb(fp32_emb)", matrices("fp32", "nf4", fp16_absmax)),
        ("nf4_b64_2d_plus_int8row_emb", matrices("int8", "nf4", fp16_absmax)),
        ("nf4_b64_all_2d", matrices("nf4", "nf4", fp16_absmax)),
        ("int4_sym_b32_all_2d", matrices("int4", "int4", "")),
    ]
}

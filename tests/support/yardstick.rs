//! The published yardstick: plain weight-only methods on three models, as recipes.

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

/// Tables in one precision, all other matrices in another, the rest FP32.
fn matrices(tables: &str, rest: &str, options: &str) -> Recipe {
    let fp32 = ["*norm*", "*.ln?.*", "*.bias", "*conv1d*", "*A_log", "*.D"].map(|pattern| (pattern, "fp32"));
    let mut rules = vec![("*embedding*.weight", tables)];
    rules.extend(fp32);
    rules.push(("*", rest));
    recipe(&rules, options)
}

/// Every row of `yardstick.json` about a model, as a recipe.
pub fn yardstick() -> Vec<(&'static str, Recipe)> {
    let fp16_absmax = r#","nf4":{"block":64,"doubleQuant":false,"absmax":"fp16"}"#;
    let mixer = ["layers.*.ssm.*", "blocks.*.attention.*", "*.mixer.*"].map(|pattern| (pattern, "fp16"));
    let mixed: Vec<_> = std::iter::once(("*embedding*.weight", "int8")).chain(mixer).collect();
    vec![
        ("fp32", recipes::find("none").unwrap()),
        ("fp16_all", recipes::find("fp16").unwrap()),
        ("mixed_int8emb_fp16mixer_fp32rest", recipe(&mixed, "")),
        ("int8_per_row_all_2d", matrices("int8", "int8", "")),
        ("nf4_b64_2d_except_emb(fp32_emb)", matrices("fp32", "nf4", fp16_absmax)),
        ("nf4_b64_2d_plus_int8row_emb", matrices("int8", "nf4", fp16_absmax)),
        ("nf4_b64_all_2d", matrices("nf4", "nf4", fp16_absmax)),
        ("int4_sym_b32_all_2d", matrices("int4", "int4", "")),
    ]
}

//! Keys behind prefixes and with the names of wrappers in them: the model is found, runs to the last bit as
//! without them, and every recipe decides as without them. What is not the model's is named; what would
//! change what it computes is refused.

use std::collections::BTreeMap;

use serde_json::Value;
use statepress::{Checkpoint, Finding, Level, OpenOptions, Recipe, Workspace, recipes, report::Plan};
use statepress_tests::edit::{Edit, Stored};
use statepress_tests::files::{fixture, open_folder};
use statepress_tests::yardstick::recipe;

fn open(edit: &Edit) -> Checkpoint {
    Checkpoint::open(edit.write(), OpenOptions::default()).unwrap()
}

fn findings(checkpoint: &Checkpoint, code: &str) -> Vec<Finding> {
    let found = checkpoint.inspection().findings.into_iter();
    found.filter(|finding| finding.code == code).collect()
}

fn logits(checkpoint: &Checkpoint, what: &str) -> Vec<f32> {
    let model = checkpoint.model().unwrap_or_else(|error| panic!("{what}: {error}"));
    let (mut state, mut ws, mut logits) = (model.start(), Workspace::exact(), Vec::new());
    model.forward(&[3, 1, 4, 1, 5, 9], &mut state, &mut ws, None).unwrap();
    let hidden = std::mem::take(&mut ws.hidden);
    model.logits(&hidden, &mut ws, &mut logits);
    assert!(!logits.is_empty() && logits.iter().all(|logit| logit.is_finite()), "{what}");
    logits
}

/// Precision, rule and bytes by tensor.
type Decided = BTreeMap<String, (String, String, u64)>;

/// What a recipe decides of each tensor by what a tensor is called without its prefix, and what the rules left undone.
fn decided(plan: &Plan, original: &dyn Fn(&str) -> Option<String>) -> (Decided, Vec<Finding>) {
    let tensors = plan.tensors.iter().filter_map(|tensor| {
        let about = (tensor.precision.name().to_string(), tensor.rule.clone(), tensor.bytes_after);
        Some((original(&tensor.name)?, about))
    });
    let rules = plan.findings.iter().filter(|finding| finding.code.ends_with("-pattern"));
    (tensors.collect(), rules.cloned().collect())
}

/// The built-in recipes, and one whose patterns begin as keys without a prefix do.
fn every_recipe(first_layer: &str) -> Vec<Recipe> {
    let mut all = recipes::builtin().unwrap();
    all.push(recipe(
        &[("lm_head.weight", "int8"), (&format!("{first_layer}.*"), "bf16"), ("nothing", "nf4")],
        "",
    ));
    all
}

fn il_ffn() -> Edit {
    Edit::file(&fixture("fixtures/il_ffn.untied.pt"))
}

/// Keys as PyTorch's own wrappers give them.
#[test]
fn what_pytorch_wraps_runs_and_compresses_as_the_bare_model() {
    let bare = Edit::read(&std::fs::read(fixture("fixtures/il_ffn.safetensors")).unwrap());
    let (checkpoint, values): (_, BTreeMap<&str, &Stored>) =
        (open(&bare), bare.0.iter().map(|stored| (stored.name.as_str(), stored)).collect());
    let expected = logits(&checkpoint, "bare");
    let json = std::fs::read_to_string(fixture("cases/spelling/keys.json")).unwrap();
    let wrapped: BTreeMap<String, Vec<(String, Value)>> = serde_json::from_str(&json).unwrap();
    assert!(wrapped.len() > 12);
    for (what, keys) in &wrapped {
        let (mut strays, mut originals) = (Vec::new(), BTreeMap::new());
        let tensors = keys.iter().map(|(name, of)| {
            let mut stored = match of.as_str() {
                Some(of) => {
                    originals.insert(name.clone(), of.to_string());
                    values[of].clone()
                }
                None => {
                    strays.push(name.clone());
                    let shape = serde_json::from_value(of.clone()).unwrap();
                    let dtype = if name.ends_with("n_averaged") { "I64" } else { "F32" };
                    Stored { name: String::new(), dtype: dtype.into(), shape, bytes: Vec::new() }
                }
            };
            stored.name.clone_from(name);
            stored
        });
        let wrapped = open(&Edit(tensors.collect()));
        assert_eq!(wrapped.inspection().family.0, "itera-lite", "{what}");
        assert_eq!(logits(&wrapped, what), expected, "{what}");
        assert_eq!(findings(&wrapped, "prefix").is_empty(), what == "bare with a loss", "{what}");
        let told = findings(&wrapped, "not-in-model");
        assert_eq!(told.is_empty(), strays.is_empty(), "{what}: {told:?}");
        for (stray, finding) in strays.iter().zip(told.iter().cycle()) {
            assert!(finding.message.contains(&format!("`{stray}`")), "{what}: {finding:?}");
            assert_eq!(finding.level, Level::Info, "{what}: {finding:?}");
        }
        for recipe in every_recipe("layers.0") {
            let found = decided(&wrapped.plan(&recipe).unwrap(), &|name| originals.get(name).cloned());
            let bare = decided(&checkpoint.plan(&recipe).unwrap(), &|name| Some(name.into()));
            assert_eq!(found, bare, "{what}: {}", recipe.name);
        }
    }
}

/// Prefixes of every kind before the keys of families that usually have one of their own.
#[test]
fn every_family_is_found_behind_any_prefix() {
    type Spell<'a> = &'a dyn Fn(&str) -> String;
    let mut found = 0;
    for folder in
        ["mamba-odd", "mamba2-groups", "mamba-original-odd", "gpt2-odd", "llama-odd", "jamba-dense", "rwkv4"]
    {
        let bare = Edit::folder(&fixture(&format!("families/{folder}")));
        let whole = open_folder(&fixture(&format!("families/{folder}")));
        // Without the configuration beside it, so that both take the same defaults.
        let original = open(&bare);
        let family = original.inspection().family;
        let runs = original.load().is_ok();
        assert_eq!(family, whole.inspection().family, "{folder}");
        let trunk = ["backbone.", "model.", "transformer.", "rwkv."];
        let trunk =
            trunk.into_iter().find(|trunk| bare.0.iter().any(|stored| stored.name.starts_with(trunk)));
        let spellings: [(&str, Spell); 6] = [
            ("model.", &|name| format!("model.{name}")),
            ("_forward_module.net.", &|name| format!("_forward_module.net.{name}")),
            ("teacher.model.module.", &|name| format!("teacher.model.module.{name}")),
            ("inner wrappers", &|name| {
                name.replace("layers.0.", "layers.0._fsdp_wrapped_module._orig_mod.")
                    .replace("h.1.", "h.1.module.")
            }),
            ("without the trunk", &|name| name.strip_prefix(trunk.unwrap_or("")).unwrap_or(name).into()),
            ("encoder. for the trunk", &|name| {
                let bare = name.strip_prefix(trunk.unwrap_or(""));
                bare.map_or_else(|| name.into(), |bare| format!("encoder.{bare}"))
            }),
        ];
        for (what, spell) in spellings {
            let what = format!("{folder}: {what}");
            let mut edit = bare.clone();
            let mut names = BTreeMap::new();
            for stored in &mut edit.0 {
                let name = spell(&stored.name);
                names.insert(name.clone(), std::mem::replace(&mut stored.name, name));
            }
            let renamed = open(&edit);
            assert_eq!(renamed.inspection().family, family, "{what}");
            if runs {
                assert_eq!(logits(&renamed, &what), logits(&original, folder), "{what}");
                found += 1;
            }
            for recipe in recipes::builtin().unwrap() {
                let found = decided(&renamed.plan(&recipe).unwrap(), &|name| names.get(name).cloned());
                let expected = decided(&original.plan(&recipe).unwrap(), &|name| Some(name.into()));
                assert_eq!(found, expected, "{what}: {}", recipe.name);
            }
        }
    }
    assert!(found >= 24, "{found}");
}

#[test]
fn some_keys_may_lack_the_prefix() {
    let mut edit = il_ffn();
    let expected = logits(&open(&edit), "bare");
    for stored in &mut edit.0 {
        if !stored.name.starts_with("lm_head") && !stored.name.starts_with("norm") {
            stored.name.insert_str(0, "student.");
        }
    }
    let checkpoint = open(&edit);
    assert_eq!(logits(&checkpoint, "partly"), expected);
    let told = findings(&checkpoint, "prefix");
    assert!(told[0].message.contains(" keys start with student.; read without it"), "{told:?}");
    assert!(told[0].message.contains(" of "), "{told:?}");
    assert!(findings(&checkpoint, "not-in-model").is_empty());
}

/// A head in the trunk, where the script's own class had everything side by side.
#[test]
fn a_head_within_the_trunk_is_the_head() {
    let bare = Edit::folder(&fixture("families/llama-odd"));
    let mut edit = bare.clone();
    if !edit.0.iter().any(|stored| stored.name == "lm_head.weight") {
        let table = edit.tensor("model.embed_tokens.weight").clone();
        let bytes = table.bytes.iter().rev().copied().map(|byte| byte & 0x3f).collect();
        edit.0.push(Stored { name: "lm_head.weight".into(), bytes, ..table });
    }
    let expected = logits(&open(&edit), "bare");
    edit.tensor("lm_head.weight").name = "model.lm_head.weight".into();
    assert_eq!(logits(&open(&edit), "within"), expected);
}

/// Strict stays strict: nothing that may be a weight of the model is taken for a stray.
#[test]
fn a_weight_that_the_model_does_not_know_stays_a_refusal() {
    let refused = |what: &str, family: &str, change: &dyn Fn(&mut Edit), words: &[&str]| {
        let mut edit =
            if family.is_empty() { il_ffn() } else { Edit::folder(&fixture(&format!("families/{family}"))) };
        change(&mut edit);
        let checkpoint = open(&edit);
        let told = findings(&checkpoint, "cannot-run");
        assert_eq!(told.len(), 1, "{what}: {:?}", checkpoint.inspection().findings);
        for word in words {
            assert!(told[0].message.contains(word), "{what}: {word}: {}", told[0].message);
        }
        assert!(checkpoint.load().is_err(), "{what}");
    };
    let add = |edit: &mut Edit, name: &str| {
        let stored = Stored { name: name.into(), dtype: "F32".into(), shape: vec![16], bytes: Vec::new() };
        edit.0.push(stored);
    };
    let prefix = |edit: &mut Edit, prefix: &str| {
        edit.0.iter_mut().for_each(|stored| stored.name.insert_str(0, prefix));
    };
    let rename = |edit: &mut Edit, from: &str, to: &str| edit.tensor(from).name = to.into();
    for name in ["lm_head.bias", "layers.0.ssm.in_proj.bias", "embed_norm.weight", "embedding.scale"] {
        refused(name, "", &|edit| add(edit, name), &[&format!("do not fit the model: unexpected [{name}]")]);
        let within = format!("module.net.{name}");
        let change = |edit: &mut Edit| {
            prefix(edit, "module.net.");
            add(edit, &within);
        };
        refused(&within, "", &change, &[&format!("unexpected [{within}]")]);
    }
    // Beside a wrapper's prefix, too.
    for outer in ["module.", "student.", "_orig_mod.module."] {
        let mut edit = il_ffn();
        prefix(&mut edit, outer);
        add(&mut edit, "projection.weight");
        let checkpoint = open(&edit);
        assert!(checkpoint.load().is_ok(), "{outer}: {:?}", findings(&checkpoint, "cannot-run"));
        let told = findings(&checkpoint, "not-in-model");
        assert!(
            told[0].level == Level::Warning && told[0].message.contains("`projection.weight`"),
            "{told:?}"
        );
    }
    // Beside the prefix, but called as a part of the model is.
    let change = |edit: &mut Edit| {
        prefix(edit, "model.");
        add(edit, "lm_head.bias");
    };
    refused("a bias beside the prefix", "", &change, &["unexpected [lm_head.bias]"]);
    let change = |edit: &mut Edit| {
        prefix(edit, "student.");
        rename(edit, "student.norm.weight", "student.norm.weigth");
    };
    let words =
        ["do not fit the model: missing [student.norm.weight]. Near", "Near to it: student.norm.weigth"];
    refused("misspelled", "", &change, &words);
    let change = |edit: &mut Edit| {
        prefix(edit, "student.");
        rename(edit, "student.norm.weight", "final.norm.weight");
    };
    refused("moved", "", &change, &["do not fit the model: missing [student.norm.weight]"]);
    let change = |edit: &mut Edit| add(edit, "backbone.layers.0.mixer.gate_bias");
    refused("in the trunk", "mamba-odd", &change, &["unexpected [backbone.layers.0.mixer.gate_bias]"]);
    let change = |edit: &mut Edit| add(edit, "lm_head.bias");
    refused("beside the trunk", "mamba-odd", &change, &["unexpected [lm_head.bias]"]);
}

/// What tools leave in the place of weights is named, with what gives weights.
#[test]
fn keys_that_a_tool_has_rewritten_are_explained() {
    for (from, to, words) in [
        (
            "layers.0.ssm.in_proj.weight",
            "layers.0.ssm.in_proj.parametrizations.weight.original0",
            "remove_parametrizations",
        ),
        ("layers.0.ssm.in_proj.weight", "layers.0.ssm.in_proj.base_layer.weight", "merge_and_unload"),
        ("layers.0.ssm.in_proj.weight", "layers.0.ssm.in_proj.weight_g", "remove_weight_norm"),
        ("layers.0.ssm.in_proj.weight", "layers.0.ssm.in_proj.weight_orig", "prune.remove"),
        ("layers.0.ssm.in_proj.weight", "layers.0._fsdp_wrapped_module._flat_param", "FULL_STATE_DICT"),
    ] {
        let mut edit = il_ffn();
        edit.tensor(from).name = to.into();
        let told = findings(&open(&edit), "cannot-run");
        assert!(told[0].message.contains(words) && told[0].message.contains(to), "{to}: {told:?}");
    }
}

/// Heads of other tasks and other models beside a trunk do not change what is computed.
#[test]
fn what_stands_beside_a_trunk_is_named_and_does_not_stop_it() {
    let bare = Edit::folder(&fixture("families/mamba-odd"));
    let expected = logits(&open(&bare), "bare");
    let mut edit = bare;
    for name in ["v_head.summary.weight", "criterion.weight", "train_acc.total"] {
        edit.0.push(Stored { name: name.into(), dtype: "F32".into(), shape: vec![4], bytes: Vec::new() });
    }
    let checkpoint = open(&edit);
    assert_eq!(logits(&checkpoint, "with a value head"), expected);
    let told = findings(&checkpoint, "not-in-model");
    assert!(told.len() == 1 && told[0].level == Level::Warning, "{told:?}");
    assert!(told[0].message.contains("`v_head.summary.weight`"), "{told:?}");
}

/// Of two models one is taken by a rule that is said.
#[test]
fn of_several_models_one_is_taken_and_the_rule_is_said() {
    let small = il_ffn();
    let large = Edit::file(&fixture("fixtures/il_moe.untied.pt"));
    let second = {
        let mut edit = small.clone();
        edit.0.iter_mut().for_each(|stored| stored.bytes.iter_mut().for_each(|byte| *byte &= 0xbf));
        edit
    };
    let [a, b, c] = [&small, &second, &large].map(|edit| logits(&open(edit), "one"));
    assert_ne!(a, b);
    let check = |first: (&str, &Edit), other: (&str, &Edit), expected: &[f32], taken: &str, not: &str| {
        let mut both = Edit(Vec::new());
        for (prefix, edit) in [first, other] {
            both.0.extend(edit.0.iter().map(|stored| {
                let name = format!("{prefix}{}", stored.name);
                Stored { name, ..stored.clone() }
            }));
        }
        let checkpoint = open(&both);
        assert!(logits(&checkpoint, taken) == expected, "{taken} is taken, not {not}");
        let told = findings(&checkpoint, "several-models");
        assert!(told.len() == 1 && told[0].level == Level::Warning, "{told:?}");
        assert!(
            told[0].message.contains(&format!("the one under {taken} is taken, not {not}. ")),
            "{told:?}"
        );
        assert!(findings(&checkpoint, "not-in-model").is_empty(), "{told:?}");
    };
    check(("student.", &small), ("teacher.", &large), &a, "`student.`", "`teacher.`");
    check(("target.", &second), ("online.", &small), &a, "`online.`", "`target.`");
    check(("ema.module.", &second), ("generator.", &small), &a, "`generator.`", "`ema.`");
    check(("a.", &small), ("b.", &second), &a, "`a.`", "`b.`");
    check(("a.", &small), ("b.", &large), &c, "`b.`", "`a.`");
    check(("", &small), ("ema_model.", &second), &a, "no prefix", "`ema_model.`");
    check(("model.", &small), ("model.ema.", &second), &a, "`model.`", "`model.ema.`");
}

/// A rule that can decide nothing says why.
#[test]
fn a_rule_behind_one_that_takes_everything_is_told() {
    let checkpoint = open(&il_ffn());
    let told = |rules: &[(&str, &str)]| -> Vec<(String, Level, String)> {
        let plan = checkpoint.plan(&recipe(rules, "")).unwrap();
        let told = plan.findings.into_iter().filter(|finding| finding.code.ends_with("-pattern"));
        told.map(|finding| (finding.code, finding.level, finding.message)).collect()
    };
    let behind = told(&[
        ("*norm*", "fp32"),
        ("*", "int8"),
        ("lm_head.weight", "fp16"),
        ("role:conv", "fp16"),
        ("x", "fp16"),
    ]);
    assert_eq!(behind.len(), 3, "{behind:?}");
    for (pattern, (code, level, message)) in ["lm_head.weight", "role:conv", "x"].iter().zip(&behind) {
        assert_eq!((code.as_str(), *level), ("shadowed-pattern", Level::Warning));
        assert!(message.contains(pattern) && message.contains("rule 2, *,"), "{message}");
    }
    let within = told(&[("layers.*", "int8"), ("layers.0.ssm.*", "fp16"), ("nothing", "fp16")]);
    let codes: Vec<_> = within.iter().map(|(code, level, _)| (code.as_str(), *level)).collect();
    assert_eq!(codes, [("shadowed-pattern", Level::Info), ("unused-pattern", Level::Info)]);
    assert!(within[0].2.contains("(rule 1, layers.*)"), "{within:?}");
    assert!(
        told(&[("role:router", "int8"), ("*", "fp16")]).is_empty(),
        "a role without weights is no mistake"
    );
}

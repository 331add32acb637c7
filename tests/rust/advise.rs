//! Advice: which rule counts, what was measured against rules, and that a model's own figures come before all of it.

use std::path::PathBuf;

use statepress::losses::{JUDGED, Loss, MEASURED};
use statepress::report::{Advice, Basis, MeasuredRecipe, Recommendation, VerdictResult};
use statepress::{AdviseOptions, Checkpoint, Target, recipes};
use statepress_engine::advise::rules::RULES;
use statepress_tests::files::{demo, fixture, open, open_folder};

fn itera() -> Checkpoint {
    open(&demo().join("model.safetensors"), &[])
}

/// A family that nobody has measured.
fn mamba2() -> Checkpoint {
    open_folder(&fixture("families/mamba2-groups"))
}

fn told<'a>(advice: &'a Advice, code: &str) -> Vec<&'a str> {
    let of_code = advice.findings.iter().filter(|finding| finding.code == code);
    of_code.map(|finding| finding.message.as_str()).collect()
}

fn named(list: &[Recommendation]) -> Vec<&str> {
    list.iter().map(|it| it.recipe.as_str()).collect()
}

fn of<'a>(list: &'a [Recommendation], recipe: &str) -> &'a Recommendation {
    list.iter()
        .find(|it| it.recipe == recipe)
        .unwrap_or_else(|| panic!("{recipe} is not in {:?}", named(list)))
}

fn rules(it: &Recommendation) -> Vec<&str> {
    it.rules.iter().map(|rule| rule.id.as_str()).collect()
}

fn measured(recipe: &str, loss: f64, kl: f64, ratio: f64) -> MeasuredRecipe {
    MeasuredRecipe {
        recipe: recipe.into(),
        loss,
        stderr: None,
        kl,
        ratio,
        tokens: Some(4080),
        tokens_per_second: None,
        backend: None,
    }
}

#[test]
fn every_piece_names_its_rules_and_what_can_be_asked_for() {
    for checkpoint in [itera(), mamba2(), open(&fixture("fixtures/tf.zip.pt"), &[])] {
        for target in [None, Some(Target::Gpu), Some(Target::Cpu), Some(Target::Edge)] {
            for max_loss in [None, Some(1.0), Some(10.0), Some(50.0)] {
                let options = AdviseOptions { target, max_loss, ..AdviseOptions::default() };
                let advice = checkpoint.advise(&options).unwrap();
                assert!(!advice.recommended.is_empty());
                for it in &advice.recommended {
                    recipes::find(&it.recipe).unwrap();
                    assert!(it.expected_loss.unwrap_or(0.0) <= max_loss.unwrap_or(3.0));
                }
                for it in advice.recommended.iter().chain(&advice.avoid) {
                    assert!(!it.rules.is_empty(), "{target:?} {max_loss:?}: {}", it.recipe);
                    // A loss is shown where one was measured, and its scorecard with it.
                    let known = [it.kl.is_some(), it.verdict.is_some(), it.basis == Basis::Measured];
                    assert_eq!(known, [it.expected_loss.is_some(); 3], "{}", it.recipe);
                }
                for it in &advice.techniques {
                    assert!(
                        it.command.starts_with("statepress ") && !it.command.contains("KIND"),
                        "{}",
                        it.command
                    );
                    assert!(!it.rules.is_empty(), "{}", it.technique);
                }
                assert_eq!(told(&advice, "order").len(), 1);
            }
        }
    }
}

#[test]
fn a_rule_has_a_name_of_its_own_and_a_source_that_can_be_looked_up() {
    let mut ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
    for rule in RULES {
        let report = rule.report();
        assert!(!report.source.is_empty());
        assert!(report.url.is_none_or(|url| url.starts_with("https://")));
        // What is refuted must have been said.
        for technique in rule.refuted.iter().flat_map(|refuted| refuted.of) {
            assert_eq!(rule.of(*technique).map(|(_, refuted)| refuted), Some(true), "{}", rule.id);
        }
    }
}

#[test]
fn a_quality_limit_outweighs_the_size_class_and_what_it_outweighed_is_told() {
    let advise = |max_loss| {
        let options = AdviseOptions { max_loss: Some(max_loss), ..AdviseOptions::default() };
        mamba2().advise(&options).unwrap()
    };
    // Under 10 million parameters the document wants no INT4: up to 10 % lost, it allows that.
    let ten = advise(10.0);
    assert!(rules(of(&ten.recommended, "nf4")).contains(&"loss-under-10"));
    let gave_way = told(&ten, "rule-gave-way");
    let of_int4 = gave_way.iter().find(|message| message.starts_with("INT4: ")).unwrap();
    assert!(of_int4.contains("(size class) gave way to \"up to 10 % lost"), "{of_int4}");
    // Up to 3 % it allows none, and the architecture, which would, gives way.
    let three = advise(3.0);
    assert_eq!(rules(of(&three.avoid, "nf4")), ["loss-under-3"]);
    let gave_way = told(&three, "rule-gave-way");
    let of_int4 = gave_way.iter().find(|message| message.starts_with("INT4: ")).unwrap();
    assert!(of_int4.contains("(architecture) gave way to \"up to 3 % lost"), "{of_int4}");
}

#[test]
fn what_was_measured_refutes_rules_and_the_measurement_is_told() {
    let options =
        AdviseOptions { max_loss: Some(10.0), target: Some(Target::Cpu), ..AdviseOptions::default() };
    let advice = mamba2().advise(&options).unwrap();
    let refuted = told(&advice, "rule-refuted").join("\n");
    for said in [
        "INT4 costs 10 to 20 %",
        "no pruning, which breaks the recurrence",
        "no INT4, INT8 or FP16, which need a GPU",
    ] {
        assert!(refuted.contains(said), "{said}: {refuted}");
    }
    // Refuted, it advises against nothing: pruning of a state space is worth a try, INT8 on a CPU comes first.
    assert!(!named(&advice.avoid).contains(&"pruning"));
    let pruning = advice.techniques.iter().find(|it| it.technique == "pruning").unwrap();
    assert_eq!(
        pruning.rules.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(),
        ["pruning-costs", "loss-under-10"]
    );
    // Of what this family has to prune.
    assert!(pruning.command.contains("--prune head=0.75"), "{pruning:?}");
    assert!(
        advice.techniques.iter().any(|it| it.technique == "distillation"),
        "what the document wants on a CPU"
    );
    assert!(rules(of(&advice.recommended, "int8")).contains(&"cpu"));
}

#[test]
fn of_a_family_that_was_measured_its_figures_decide() {
    for known in MEASURED {
        let checkpoint = match known.family {
            "itera-lite" => itera(),
            "mamba" => open_folder(&fixture("families/mamba-default")),
            "transformer" => open(&fixture("fixtures/tf.zip.pt"), &[]),
            other => panic!("no fixture of {other}"),
        };
        let advice = checkpoint.advise(&AdviseOptions::default()).unwrap();
        for it in advice.recommended.iter().chain(&advice.avoid).filter(|it| it.basis != Basis::Literature) {
            let loss = known.loss(&it.recipe, false).unwrap();
            assert_eq!(it.expected_loss, Some(loss.change));
            assert_eq!((it.measured_on.as_deref(), it.tokens), (Some(known.model), Some(JUDGED)));
            assert_ne!(it.measured_on.as_deref(), Some(Recommendation::THIS_FILE));
        }
        assert_eq!(advice.recommended[0].recipe, "int8", "nothing else is as small and does no harm");
        assert_eq!(told(&advice, "measured-elsewhere").len(), 1);
        let better = advice.techniques.iter().find(|it| it.technique == "calibration").unwrap();
        assert!(better.why.contains(known.model), "{}", better.why);
    }
}

#[test]
fn of_any_other_family_no_loss_is_claimed_and_what_measuring_takes_is_said() {
    let folders = std::fs::read_dir(fixture("families")).unwrap().map(|it| it.unwrap().path());
    let mut seen = Vec::new();
    for folder in folders.filter(|path: &PathBuf| path.join("model.safetensors").exists()) {
        let checkpoint = open_folder(&folder);
        let inspection = checkpoint.inspection();
        let family = inspection.family.name().to_string();
        let advice = checkpoint.advise(&AdviseOptions::default()).unwrap();
        let is_measured = MEASURED.iter().any(|it| it.family == family);
        let all = || advice.recommended.iter().chain(&advice.avoid);
        assert_eq!(all().any(|it| it.expected_loss.is_some()), is_measured, "{}", folder.display());
        let runs = inspection.findings.iter().all(|finding| finding.code != "cannot-run");
        let offer = advice.measure.as_ref();
        assert_eq!(offer.is_some(), runs, "{}", folder.display());
        if let Some(offer) = offer {
            assert!(offer.seconds >= 1.0 && offer.tokens == 2048);
            assert_eq!(offer.command, "statepress advise FILE --measure TEXT");
        }
        seen.push(family);
    }
    assert!(seen.len() > 10, "{seen:?}");
}

#[test]
fn what_was_measured_on_the_model_itself_comes_before_everything() {
    let options = AdviseOptions {
        max_loss: Some(3.0),
        measured: vec![
            measured("int8", 7.0, 0.07, 3.8),
            measured("nf4", 9.0, 0.09, 7.4),
            // The last one counts.
            measured("nf4", 1.5, 0.02, 7.4),
            measured("fp16", 0.01, 1e-7, 2.0),
        ],
        ..AdviseOptions::default()
    };
    for checkpoint in [itera(), mamba2()] {
        let advice = checkpoint.advise(&options).unwrap();
        let int8 = of(&advice.avoid, "int8");
        assert_eq!(rules(int8), ["max-loss", "measured-first"]);
        assert_eq!((int8.expected_loss, int8.kl, int8.basis), (Some(7.0), Some(0.07), Basis::Measured));
        assert_eq!(int8.verdict.as_ref().unwrap().result, VerdictResult::Partial);
        let nf4 = of(&advice.recommended, "nf4");
        assert_eq!(nf4.measured_on.as_deref(), Some("this file"));
        assert_eq!((nf4.expected_loss, nf4.expected_ratio), (Some(1.5), Some(7.4)));
        let overruled = told(&advice, "rule-gave-way").iter().any(|it| {
            it.starts_with("INT4: ")
                && it.contains("gave way to what was measured: this file lost 1.50 % by nf4")
        });
        assert!(overruled, "{:?}", told(&advice, "rule-gave-way"));
        assert_eq!(advice.measured, options.measured);
    }
    // Without a limit the least harm comes first.
    let options = AdviseOptions { max_loss: None, ..options };
    let advice = mamba2().advise(&options).unwrap();
    assert_eq!(named(&advice.recommended)[..2], ["fp16", "nf4"]);
}

#[test]
fn a_target_is_a_guess_until_speeds_were_measured_on_it() {
    let guessed =
        itera().advise(&AdviseOptions { target: Some(Target::Gpu), ..AdviseOptions::default() }).unwrap();
    assert_eq!(named(&guessed.recommended)[..2], ["mixed", "mixed-aggressive"]);
    let order = told(&guessed, "order")[0];
    assert!(order.contains("guess") && order.contains("--measure TEXT --target gpu"), "{order}");
    let edge =
        itera().advise(&AdviseOptions { target: Some(Target::Edge), ..AdviseOptions::default() }).unwrap();
    assert_eq!(named(&edge.recommended)[..2], ["int8", "fp16"]);

    let speeds = |backend: &str| {
        let timed = |recipe: &str, tokens_per_second: f64| MeasuredRecipe {
            tokens_per_second: Some(tokens_per_second),
            backend: Some(backend.into()),
            ..measured(recipe, 0.1, 0.001, 4.0)
        };
        let all = ["int8", "mixed", "mixed-aggressive", "nf4", "int4", "fp16", "bf16"];
        let speeds = all.iter().zip([500.0, 300.0, 400.0, 700.0, 600.0, 200.0, 100.0]);
        let mut measured: Vec<_> = speeds.map(|(recipe, speed)| timed(recipe, speed)).collect();
        measured.push(timed("none", 900.0));
        AdviseOptions { target: Some(Target::Cpu), measured, ..AdviseOptions::default() }
    };
    let here = itera().advise(&speeds("cpu")).unwrap();
    assert_eq!(named(&here.recommended)[..3], ["nf4", "int4", "int8"]);
    assert_eq!(here.recommended[0].tokens_per_second, Some(700.0));
    assert!(told(&here, "order")[0].contains("as measured on this device"));
    assert_eq!(told(&here, "original-faster").len(), 1);
    // What a GPU did says nothing of a CPU.
    let elsewhere = itera().advise(&speeds("webgpu")).unwrap();
    assert!(told(&elsewhere, "order")[0].contains("guess"));
}

#[test]
fn what_is_no_measurement_is_refused() {
    let advise =
        |it| itera().advise(&AdviseOptions { measured: vec![it], ..AdviseOptions::default() }).map(|_| ());
    let error = advise(measured("int3", 1.0, 0.1, 4.0)).unwrap_err().to_string();
    assert!(error.contains("int3"), "{error}");
    let error = advise(measured("int8", f64::NAN, 0.1, 4.0)).unwrap_err().to_string();
    assert!(error.contains("measured.loss") && error.contains("finite"), "{error}");
}

/// The README's table is what the advice knows. `UPDATE_README=1` rewrites it.
#[test]
fn the_readme_has_every_loss_that_was_measured() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- losses: generated, see tests/rust/advise.rs -->\n", "<!-- /losses -->");
    let titles: Vec<_> = MEASURED.iter().map(|it| format!("{} (`{}`)", it.model, it.family)).collect();
    let mut table =
        format!("\n| recipe | {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len() + 1));
    for loss in MEASURED[0].losses {
        let name = if loss.calibrated { format!("{}, calibrated", loss.recipe) } else { loss.recipe.into() };
        let cells = MEASURED.iter().map(|it| {
            let &Loss { ratio, change, kl, .. } = it.loss(loss.recipe, loss.calibrated).unwrap();
            format!("{ratio:.2}x, {change:+.2} %, {kl:.1e}")
        });
        table += &format!("| {name} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    table += "\n";
    let (before, rest) = readme.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            found, table,
            "run UPDATE_README=1 cargo test -p statepress-tests --test native advise::readme"
        );
    }
}

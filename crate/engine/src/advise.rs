//! Advice: the rules of the research as written, named as such, and what measurements say.
//!
//! Rules: quality limit > size class > architecture > target. The research's tree and matrix
//! contradict each other and several of its own claims; measured findings override them, and
//! both are shown.

use statepress_core::report::{Advice, Recommendation, Risk};
use statepress_core::spec::Family;
use statepress_core::{Finding, Index};

use crate::EngineError;
use crate::spec::ModelSpec;
use crate::techniques::{find, plan};

/// Where the model is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    Gpu,
    Cpu,
    Edge,
}

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdviseOptions {
    /// Where the model is to run.
    pub target: Option<Target>,
    /// The perplexity change in percent that is allowed.
    pub max_loss: Option<f64>,
    /// The bytes that are allowed.
    pub max_size: Option<u64>,
}

/// What was measured of a built-in recipe: weight-only, itera-tiny, WikiText-2 test, 322,830
/// tokens, window 256 (perplexity change in percent), and who should prefer it.
struct Measured {
    recipe: &'static str,
    loss: f64,
    risk: Risk,
    /// The rule of the research that speaks for or against it.
    rule: &'static str,
}

/// Ordered by preference where nothing else decides: smallest harm per byte first.
const MEASURED: [Measured; 6] = [
    Measured {
        recipe: "int8",
        loss: 0.0,
        risk: Risk::Low,
        rule: "research 6.3: \"mobile: INT8 per channel\"; its \"CPU: avoid INT8\" is refuted by measurement",
    },
    Measured {
        recipe: "mixed",
        loss: 0.0,
        risk: Risk::Low,
        rule: "research 6.2: \"SSM: mixed precision, INT8 tables, FP16 core, expected 2-2.5x\"",
    },
    Measured {
        recipe: "mixed-aggressive",
        loss: 0.6,
        risk: Risk::Low,
        rule: "research 6.3: \"SSM needing more: INT4 on non-critical layers, +5-10 %\"; measured far lower",
    },
    Measured {
        recipe: "nf4",
        loss: 2.0,
        risk: Risk::Medium,
        rule: "research 6.3: \"fallback NF4, +10-20 %\"; measured lower",
    },
    Measured {
        recipe: "int4",
        loss: 2.8,
        risk: Risk::Medium,
        rule: "research 6.1: \"INT4: good, risky below 10M parameters\"; measured +2.8 %",
    },
    Measured {
        recipe: "fp16",
        loss: 0.0,
        risk: Risk::Low,
        rule: "research 6.2: \"mobile, edge: INT8, then FP16\"",
    },
];

/// Applies the rules to a checkpoint.
pub fn advise(index: &Index, spec: &ModelSpec, options: &AdviseOptions) -> Result<Advice, EngineError> {
    let max_loss = options.max_loss.unwrap_or(3.0);
    if !(max_loss >= 0.0 && max_loss.is_finite()) {
        return Err(EngineError::option("maxLoss", max_loss, "0 or more (percent)"));
    }
    let mut recommended = Vec::new();
    let mut avoid = Vec::new();
    let mut findings = Vec::new();
    for Measured { recipe, loss, risk, rule } in &MEASURED {
        let planned = plan::plan(index, &find(recipe)?, &[])?.plan;
        let advice = |why: String| Recommendation {
            recipe: (*recipe).into(),
            why,
            expected_ratio: Some(planned.bytes.ratio),
            expected_loss: Some(*loss),
            risk: *risk,
        };
        let measured = format!("measured {loss:+.1} % perplexity on itera-tiny (WikiText-2 test); {rule}");
        if *loss > max_loss {
            avoid.push(advice(format!("over the allowed {max_loss} %: {measured}")));
        } else if let Some(max_size) = options.max_size.filter(|&max_size| planned.bytes.after > max_size) {
            avoid.push(advice(format!(
                "{} bytes, over the allowed {max_size}: {measured}",
                planned.bytes.after
            )));
        } else if planned.bytes.after >= planned.bytes.before {
            avoid.push(advice(format!("does not make this file smaller: {measured}")));
        } else {
            recommended.push(advice(format!("ratio predicted from this file's shapes; {measured}")));
        }
    }
    if options.max_size.is_some() || options.max_loss.is_some() {
        recommended
            .sort_by(|a, b| b.expected_ratio.unwrap_or(0.0).total_cmp(&a.expected_ratio.unwrap_or(0.0)));
    }
    if recommended.is_empty() {
        findings.push(Finding::warning(
            "nothing-fits",
            "no built-in recipe meets the limits: allow more loss or bytes",
        ));
    }
    techniques_without_recipe(spec, options, max_loss, &mut recommended, &mut avoid);
    findings.push(Finding::info(
        "rules-as-written",
        "research rules are quoted as written, precedence quality limit > size class > architecture > target; \
         they contradict each other (small Transformer: pruning \"best\" and \"avoid\"; CPU: \"dynamic INT8 second\" \
         and \"avoid INT8\") and measured figures override them; figures of another model are a guide, compare yours",
    ));
    Ok(Advice { recommended, avoid, findings })
}

/// What the research recommends that no built-in recipe does.
fn techniques_without_recipe(
    spec: &ModelSpec,
    options: &AdviseOptions,
    max_loss: f64,
    recommended: &mut Vec<Recommendation>,
    avoid: &mut Vec<Recommendation>,
) {
    let technique = |recipe: &str, why: &str, ratio: Option<f64>, loss: Option<f64>, risk| Recommendation {
        recipe: recipe.into(),
        why: why.into(),
        expected_ratio: ratio,
        expected_loss: loss,
        risk,
    };
    if options.target == Some(Target::Cpu) {
        let why = "research 6.2: \"CPU: no compression, distil, 2-5x fewer parameters\"; measured once: 3.81x at \
                   unchanged perplexity on a templated text; this version cannot distil";
        recommended.push(technique("distillation", why, Some(3.81), None, Risk::High));
    }
    match spec.family {
        Family::Transformer if max_loss >= 3.0 => {
            let why = "research 6.2: \"Transformer: pruning first, 30-50 % of heads, 1.5-3x\"; not measured, and \
                       this version cannot prune";
            recommended.push(technique("pruning", why, Some(1.5), None, Risk::High));
        }
        Family::IteraLite | Family::Mamba | Family::Mamba2 => {
            let why = "research 6.1: \"SSM: avoid pruning\"; refuted by measurement for experts and feed-forward \
                       width (75 % removed: +0.3 % perplexity), true for states; this version cannot prune";
            avoid.push(technique("pruning", why, None, None, Risk::Medium));
        }
        _ => {}
    }
}

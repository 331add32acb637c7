//! Advice: the rules of the research as written, named as such, and what measurements say.
//!
//! Limits decide what is recommended; limits and target decide the order, and a finding says which
//! order it is. The research's tree and matrix contradict each other and several of its own claims;
//! measured findings override them, and both are shown.

use statepress_core::report::{Advice, Basis, Recommendation, Risk};
use statepress_core::spec::Family;
use statepress_core::{Finding, Index};

use crate::EngineError;
use crate::spec::{ModelSpec, is_mamba};
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
            basis: Basis::Measured,
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
    let (smallest_first, order) = order(options);
    if smallest_first {
        recommended
            .sort_by(|a, b| b.expected_ratio.unwrap_or(0.0).total_cmp(&a.expected_ratio.unwrap_or(0.0)));
    }
    findings.push(Finding::info("order", order));
    if recommended.is_empty() {
        findings.push(Finding::warning(
            "nothing-fits",
            "no built-in recipe meets the limits: allow more loss or bytes",
        ));
    }
    techniques_without_recipe(spec, options, max_loss, &mut avoid, &mut findings);
    findings.push(Finding::info(
        "rules-as-written",
        "research rules are quoted as written; of its precedence (quality limit > size class > architecture > \
         target) the limits and the target are followed, because its rules contradict each other (small \
         Transformer: pruning \"best\" and \"avoid\"; CPU: \"dynamic INT8 second\" and \"avoid INT8\") and measured \
         figures override them; figures of another model are a guide, compare yours",
    ));
    Ok(Advice { recommended, avoid, findings })
}

/// Whether the smallest result goes first, and the order in words.
fn order(options: &AdviseOptions) -> (bool, &'static str) {
    match options.target {
        Some(Target::Edge) => (
            true,
            "edge: the smallest first of what the limits allow, because memory and download are scarce",
        ),
        Some(Target::Gpu) => {
            let why = "gpu: the smallest first of what the limits allow, because every format runs from its packed \
                       bytes there, and a token has to read all of them; not measured on your GPU, `bench` does that";
            (true, why)
        }
        _ if options.max_size.is_some() || options.max_loss.is_some() => {
            (true, "the smallest first of what the limits allow")
        }
        Some(Target::Cpu) => (
            false,
            "cpu: the least harm per byte first; the research's \"avoid INT8\" is refuted by measurement",
        ),
        None => (false, "the least harm per byte first"),
    }
}

/// What the research says of techniques that no built-in recipe does. What it recommends of them is
/// a finding, because no command could be given its name.
fn techniques_without_recipe(
    spec: &ModelSpec,
    options: &AdviseOptions,
    max_loss: f64,
    avoid: &mut Vec<Recommendation>,
    findings: &mut Vec<Finding>,
) {
    let mut cannot = |why: &str| findings.push(Finding::info("no-recipe", why));
    if options.target == Some(Target::Cpu) {
        cannot(
            "distillation: research 6.2: \"CPU: no compression, distil, 2-5x fewer parameters\"; measured once: \
             3.81x at unchanged perplexity on a templated text; this version cannot distil",
        );
    }
    if spec.family == Family::TRANSFORMER && max_loss >= 3.0 {
        cannot(
            "pruning: research 6.2: \"Transformer: pruning first, 30-50 % of heads, 1.5-3x\"; not measured, and \
             this version cannot prune",
        );
    } else if spec.family == Family::ITERA_LITE || is_mamba(&spec.family) {
        let why = "research 6.1: \"SSM: avoid pruning\"; refuted by measurement for experts and feed-forward \
                   width (75 % removed: +0.3 % perplexity), true for states; this version cannot prune";
        avoid.push(Recommendation {
            recipe: "pruning".into(),
            why: why.into(),
            expected_ratio: None,
            expected_loss: None,
            risk: Risk::Medium,
            basis: Basis::Literature,
        });
    }
}

//! Advice: what measurements say of the built-in recipes, and what the research claimed of the rest.
//!
//! Limits decide what is recommended; limits and target decide the order, and a finding says which
//! order it is. Losses were measured on one model: other families get the order, and no figure. Where
//! the research's rules contradict each other or a measurement, the measurement counts.

use statepress_core::report::{Advice, Basis, Recommendation, Risk};
use statepress_core::spec::Family;
use statepress_core::{Finding, Index};

use crate::EngineError;
use crate::families::ModelSpec;
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

/// The model that losses were measured on.
const MEASURED_ON: &str = "itera-tiny";

/// What was measured of a built-in recipe: weight-only, itera-tiny, WikiText-2 test, 322,830
/// tokens, window 256 (perplexity change in percent), and what it is good for.
struct Measured {
    recipe: &'static str,
    loss: f64,
    risk: Risk,
    why: &'static str,
}

/// Ordered by preference where nothing else decides: smallest harm per byte first.
const MEASURED: [Measured; 6] = [
    Measured {
        recipe: "int8",
        loss: 0.0,
        risk: Risk::Low,
        why: "8 bits a weight, each row of a matrix with a scale of its own: the first thing to try",
    },
    Measured {
        recipe: "mixed",
        loss: 0.0,
        risk: Risk::Low,
        why: "keeps more bits where a recurrent model carries its errors along, and saves less for it",
    },
    Measured {
        recipe: "mixed-aggressive",
        loss: 0.6,
        risk: Risk::Low,
        why: "4 bits for the projections, more where step sizes and states are made",
    },
    Measured {
        recipe: "nf4",
        loss: 2.0,
        risk: Risk::Medium,
        why: "4 bits a weight, at levels that suit weights with a bell curve: for when size comes first",
    },
    Measured {
        recipe: "int4",
        loss: 2.8,
        risk: Risk::Medium,
        why: "4 bits a weight at equal steps: simpler to decode than nf4, and a little worse",
    },
    Measured {
        recipe: "fp16",
        loss: 0.0,
        risk: Risk::Low,
        why: "half the size, and read by every other tool",
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
    let known = spec.family == Family::ITERA_LITE;
    for Measured { recipe, loss, risk, why } in &MEASURED {
        let planned = plan::plan(index, spec, &find(recipe)?, &[])?.plan;
        let advice = |hindrance: Option<String>| Recommendation {
            recipe: (*recipe).into(),
            why: hindrance.map_or_else(|| (*why).into(), |it| format!("{it}; {why}")),
            expected_ratio: Some(planned.bytes.ratio),
            expected_loss: known.then_some(*loss),
            measured_on: known.then(|| MEASURED_ON.into()),
            risk: *risk,
            basis: if known { Basis::Measured } else { Basis::Unmeasured },
        };
        if *loss > max_loss {
            let over = format!("{MEASURED_ON} lost {loss} % by it, over the allowed {max_loss} %");
            avoid.push(advice(Some(over)));
        } else if let Some(max_size) = options.max_size.filter(|&max_size| planned.bytes.after > max_size) {
            let over = format!("{} bytes, over the allowed {max_size}", planned.bytes.after);
            avoid.push(advice(Some(over)));
        } else if planned.bytes.after >= planned.bytes.before {
            avoid.push(advice(Some("does not make this file smaller".into())));
        } else {
            recommended.push(advice(None));
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
    findings.push(if known {
        Finding::info(
            "measured-elsewhere",
            "losses were measured on itera-tiny (WikiText-2 test, 322,830 tokens), not on this file: compare the \
             compressed file with this one to have yours",
        )
    } else {
        Finding::info(
            "not-measured",
            format!(
                "no loss was measured on the family {}: the order, and what a limit of the loss leaves out, are \
                 those of {MEASURED_ON}, an itera-lite model; compare the compressed file with this one to have \
                 your figures",
                spec.family
            ),
        )
    });
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
        Some(Target::Cpu) => {
            (false, "cpu: the least harm per byte first: INT8 runs from its packed bytes there, too")
        }
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
            "distillation, a smaller model that learns from this one, gave 3.81x at unchanged perplexity where it was \
             measured, on a templated text; this version cannot distil",
        );
    }
    if spec.family == Family::TRANSFORMER && max_loss >= 3.0 {
        cannot(
            "pruning, leaving out heads, is said to take 1.5 to 3x off a Transformer; that was not measured: a prune step in a \
             recipe of your own does it",
        );
    } else if spec.is_recurrent() {
        let why = "leaving weights out is said to harm recurrent models; measured, that is true of states, and not of \
                   feed-forward width (half of it removed and repaired: +0.5 % perplexity); a prune step in a recipe of \
                   your own does it";
        avoid.push(Recommendation {
            recipe: "pruning".into(),
            why: why.into(),
            expected_ratio: None,
            expected_loss: None,
            measured_on: None,
            risk: Risk::Medium,
            basis: Basis::Literature,
        });
    }
}

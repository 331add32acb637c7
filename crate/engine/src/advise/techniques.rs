//! What can be done beyond a recipe by itself: the command that does it, and what is known of it.

use statepress_core::recipe::PruneKind;
use statepress_core::report::TechniqueAdvice;

use super::losses::Measured;
use super::rule::{Rule, Technique};
use super::rules::rule;
use crate::families::ModelSpec;
use crate::techniques::prune::prunable;

/// Something that no recipe does by itself.
pub struct Beyond {
    /// What it is called in reports.
    pub name: &'static str,
    /// What the rules call it; they say nothing of what has no name there, and that is always worth a try.
    pub technique: Option<Technique>,
    /// Whether the model has to run for it.
    runs: bool,
    why: &'static str,
    /// The command that does it. `KIND` is what the model has that can be removed.
    command: &'static str,
    /// The rule that says where it is from.
    pub source: &'static str,
}

/// All of it.
pub const BEYOND: &[Beyond] = &[
    Beyond {
        name: "calibration",
        technique: None,
        runs: true,
        why: "makes up for errors of rounding while the model reads a text, at the same size",
        command: "statepress compress FILE -o OUT --recipe nf4 --calibrate TEXT",
        source: "gptq",
    },
    Beyond {
        name: "search",
        technique: None,
        runs: true,
        why: "measures what rounding each tensor alone costs and spends the bits where they matter, for a size or for a loss",
        command: "statepress search FILE -o OUT --max-loss PERCENT --calibrate TEXT",
        source: "sensitivity",
    },
    Beyond {
        name: "entropy coding",
        technique: None,
        runs: false,
        why: "stores the same codes in fewer bytes and loses nothing more: 8 % off NF4 and INT8, 12 % off INT4 (itera-tiny); a search with --coded saves far more",
        command: "statepress compress FILE -o OUT --recipe RECIPE --coded",
        source: "entropy-coding",
    },
    Beyond {
        name: "pruning",
        technique: Some(Technique::Pruning),
        runs: true,
        why: "leaves out what matters least of channels, heads or widths, and fits the rest to do without",
        command: "statepress compress FILE -o OUT --recipe RECIPE --prune KIND=0.75 --calibrate TEXT",
        source: "pruning-costs",
    },
    Beyond {
        name: "distillation",
        technique: Some(Technique::Distillation),
        runs: true,
        why: "a smaller model is made of what matters most in this one, and learns to predict as it does: training that may take an hour",
        command: "statepress distill FILE -o OUT --student KIND=0.5 --text TEXT",
        source: "extreme",
    },
];

impl Beyond {
    /// What is said of it to whoever has a model of that family, by the rules that recommend it.
    pub fn advice(
        &self,
        measured: Option<&Measured>,
        spec: &ModelSpec,
        by: &[&Rule],
    ) -> Option<TechniqueAdvice> {
        if self.runs && spec.program.is_none() {
            return None;
        }
        let mut why = self.why.to_string();
        if let ("gptq", Some(measured)) = (self.source, measured) {
            for recipe in ["nf4", "int4"] {
                if let (Some(plain), Some(better)) =
                    (measured.loss(recipe, false), measured.loss(recipe, true))
                {
                    let model = measured.model;
                    why += &format!(
                        "; {recipe} lost {:.1} % without and {:.1} % with it on {model}",
                        plain.change, better.change
                    );
                }
            }
        }
        let rules = rule(self.source).into_iter().chain(by.iter().copied()).map(Rule::report).collect();
        // Of what families have, what pruning costs least is tried first.
        let kind = match self.technique {
            Some(Technique::Pruning | Technique::Distillation) => {
                let there = spec.program.as_deref().map(prunable).unwrap_or_default();
                let first = [PruneKind::Width, PruneKind::Inner, PruneKind::Head, PruneKind::AttentionHead];
                first.into_iter().find(|kind| there.contains(kind))?.name()
            }
            _ => "",
        };
        let command = self.command.replace("KIND", kind);
        Some(TechniqueAdvice { technique: self.name.into(), why, command, rules })
    }
}

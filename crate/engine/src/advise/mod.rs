//! Advice: which recipes suit a model, by what was measured of it, else of its family, else by rules.
//!
//! A loss is shown where it was measured on this very model or on another one of its family; of all others it is unknown, and
//! the advice says what measuring it takes. Rules that contradict each other are weighed ([`rule::Weight`]), and a finding
//! says which one gave way.

mod candidates;
mod judge;
pub mod losses;
mod offer;
mod order;
pub mod rule;
pub mod rules;
mod techniques;

use statepress_core::report::{Advice, Basis, Bytes, MeasuredRecipe, Recommendation, Risk, Verdict};
use statepress_core::spec::Family;
use statepress_core::{Finding, Index};

use crate::EngineError;
use crate::families::{ModelSpec, is_buffer};
use crate::techniques::{find, plan};
use candidates::{CANDIDATES, Candidate};
use judge::{Facts, Judged};
use losses::{Loss, Measured};
use rule::{Architecture, Rule, Technique};
use rules::rule;
use techniques::BEYOND;

/// Where the model is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    Gpu,
    Cpu,
    Edge,
}

impl Target {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Edge => "edge",
        }
    }

    /// The backend by which this device is such a target.
    fn backend(self) -> Option<&'static str> {
        match self {
            Self::Gpu => Some("webgpu"),
            Self::Cpu => Some("cpu"),
            Self::Edge => None,
        }
    }
}

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct AdviseOptions {
    /// Where the model is to run.
    pub target: Option<Target>,
    /// The perplexity change in percent that is allowed: 3 where nothing is said.
    pub max_loss: Option<f64>,
    /// The bytes that are allowed.
    pub max_size: Option<u64>,
    /// What was measured of built-in recipes on this very model.
    pub measured: Vec<MeasuredRecipe>,
}

/// The perplexity change in percent that is allowed where nothing is said.
const MAX_LOSS: f64 = 3.0;

/// What is known of the loss of a recipe.
struct Known<'a> {
    loss: f64,
    kl: f64,
    on: &'a str,
    tokens: Option<u64>,
    /// Measured on this very model.
    own: Option<&'a MeasuredRecipe>,
}

impl Known<'_> {
    /// In words.
    fn lost(&self, recipe: &str) -> String {
        format!("{} lost {:.2} % by {recipe}", self.on, self.loss)
    }

    fn risk(&self) -> Risk {
        match self.loss {
            loss if loss < 1.0 => Risk::Low,
            loss if loss <= Verdict::DEGRADATION => Risk::Medium,
            _ => Risk::High,
        }
    }
}

/// What is asked, and what is known.
struct Asked<'a> {
    options: &'a AdviseOptions,
    facts: Facts,
    family: Option<&'static Measured>,
}

/// Applies what was measured, and the rules, to a checkpoint.
pub fn advise(index: &Index, spec: &ModelSpec, options: &AdviseOptions) -> Result<Advice, EngineError> {
    check_measured(&options.measured)?;
    let asked =
        Asked { options, facts: facts(index, spec, options)?, family: Measured::of(spec.family.name()) };
    let (mut recommended, mut avoid, mut worth_measuring) = (Vec::new(), Vec::new(), Vec::new());
    let mut smaller = false;
    for candidate in &CANDIDATES {
        let planned = plan::plan(index, spec, &find(candidate.recipe)?, &[])?.plan;
        let judged = asked.facts.judge(candidate.technique(&planned));
        let planned = planned.bytes;
        smaller |= planned.after < planned.before;
        if asked.too_large(&planned).is_none() {
            worth_measuring.push(candidate.recipe.to_string());
        }
        match asked.piece(candidate, &planned, &judged) {
            (piece, true) => recommended.push((piece, judged)),
            (piece, false) => avoid.push(piece),
        }
    }
    let runs = spec.program.is_some();
    let mut findings = vec![order::order(&mut recommended, options, runs)];
    let recommended: Vec<_> = recommended.into_iter().map(|(piece, _)| piece).collect();
    if recommended.is_empty() {
        let message = match smaller {
            true => "no built-in recipe meets the limits: allow more loss or bytes",
            false => "no built-in recipe makes this file smaller: its weights are stored in few bits already",
        };
        findings.push(Finding::warning("nothing-fits", message));
    }
    let mut techniques = Vec::new();
    for beyond in BEYOND {
        let judged = beyond.technique.map(|technique| asked.facts.judge(technique));
        let by: Vec<_> = judged.iter().flat_map(Judged::recommended_by).collect();
        match judged.as_ref().and_then(Judged::avoided_by) {
            Some(rule) => avoid.push(against(beyond.name, rule)),
            None => techniques.extend(beyond.advice(asked.family, spec, &by)),
        }
        findings.extend(judged.and_then(|judged| judged.gave_way()));
    }
    findings.extend(asked.contradictions());
    findings.extend(asked.facts.refuted());
    let measure = (runs && !worth_measuring.is_empty())
        .then(|| offer::offer(worth_measuring, asked.facts.params, options.target));
    findings.extend(offer::whose(recommended.iter().chain(&avoid), asked.family, spec, measure.as_ref()));
    findings.extend(offer::faster_as_it_is(options, &recommended));
    let measured = options.measured.clone();
    Ok(Advice { recommended, avoid, techniques, measured, measure, findings })
}

fn facts(index: &Index, spec: &ModelSpec, options: &AdviseOptions) -> Result<Facts, EngineError> {
    let max_loss = options.max_loss.unwrap_or(MAX_LOSS);
    if !(max_loss >= 0.0 && max_loss.is_finite()) {
        return Err(EngineError::option("maxLoss", max_loss, "0 or more (percent)"));
    }
    let weights = index.tensors.iter().filter(|entry| entry.tied_to.is_none() && !is_buffer(entry));
    let architecture = if spec.is_recurrent() {
        Architecture::StateSpace
    } else if spec.family == Family::UNKNOWN {
        Architecture::Other
    } else {
        Architecture::Transformer
    };
    let params = weights.map(|entry| entry.params()).sum();
    Ok(Facts { max_loss, params, architecture, target: options.target })
}

impl<'a> Asked<'a> {
    /// What was measured last on this model, else on its family.
    fn known(&self, recipe: &str) -> Option<Known<'a>> {
        if let Some(own) = self.options.measured.iter().rfind(|it| it.recipe == recipe) {
            let &MeasuredRecipe { loss, kl, tokens, .. } = own;
            return Some(Known { loss, kl, on: Recommendation::THIS_FILE, tokens, own: Some(own) });
        }
        let family = self.family?;
        let &Loss { change: loss, kl, .. } = family.loss(recipe, false)?;
        Some(Known { loss, kl, on: family.model, tokens: Some(losses::JUDGED), own: None })
    }

    /// Why a recipe is out of the question, whatever it loses, and the rule that says so.
    fn too_large(&self, planned: &Bytes) -> Option<(String, &'static str)> {
        if planned.after >= planned.before {
            return Some(("it does not make this file smaller".into(), "scorecard"));
        }
        let most = self.options.max_size.filter(|&most| planned.after > most)?;
        Some((format!("{} bytes, over the allowed {most}", planned.after), "max-size"))
    }

    /// Advice about a recipe, and whether it is recommended.
    fn piece(&self, candidate: &Candidate, planned: &Bytes, judged: &Judged) -> (Recommendation, bool) {
        let &Candidate { recipe, why, .. } = candidate;
        let max_loss = self.facts.max_loss;
        let known = self.known(recipe);
        let too_lossy = || match &known {
            Some(known) if known.loss > max_loss => {
                Some((format!("{}, over the allowed {max_loss} %", known.lost(recipe)), "max-loss"))
            }
            Some(_) => None,
            None => judged.avoided_by().map(|rule| (format!("by rule: {}", rule.title), rule.id)),
        };
        let hindrance = self.too_large(planned).or_else(too_lossy);
        let mut piece = unmeasured(recipe, why.into(), judged.risk(), Basis::Unmeasured);
        piece.expected_ratio = Some(planned.ratio);
        if let Some(known) = &known {
            fill(&mut piece, known);
        }
        let is_recommended = hindrance.is_none();
        let measured = known.is_some().then_some("measured-first").and_then(rule);
        if let Some((hindrance, by)) = hindrance {
            piece.why = format!("{hindrance}; {why}");
            piece.rules = rule(by).into_iter().chain(measured).map(Rule::report).collect();
        } else {
            piece.rules = measured.into_iter().chain(judged.recommended_by()).map(Rule::report).collect();
        }
        (piece, is_recommended)
    }

    /// Rules that gave way: to what was measured, else to rules that count more.
    fn contradictions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for technique in [Technique::Mixed, Technique::Half, Technique::Int8, Technique::Int4] {
            let recipes = || CANDIDATES.iter().filter(|it| it.technique == technique).map(|it| it.recipe);
            let kept = |recipe| self.known(recipe).filter(|known| known.loss <= self.facts.max_loss);
            let kept: Vec<_> = recipes().filter_map(|recipe| Some(kept(recipe)?.lost(recipe))).collect();
            let judged = self.facts.judge(technique);
            findings.extend(judged.overruled(&kept));
            if recipes().any(|recipe| self.known(recipe).is_none()) {
                findings.extend(judged.gave_way());
            }
        }
        findings
    }
}

/// A piece of advice without figures.
fn unmeasured(recipe: &str, why: String, risk: Risk, basis: Basis) -> Recommendation {
    Recommendation {
        recipe: recipe.into(),
        why,
        expected_ratio: None,
        expected_loss: None,
        loss_stderr: None,
        kl: None,
        tokens: None,
        measured_on: None,
        tokens_per_second: None,
        verdict: None,
        risk,
        basis,
        rules: Vec::new(),
    }
}

/// A technique that is no recipe, advised against by a rule.
fn against(technique: &str, by: &Rule) -> Recommendation {
    let why = format!("by rule: {}", by.title);
    Recommendation { rules: vec![by.report()], ..unmeasured(technique, why, Risk::High, Basis::Literature) }
}

fn check_measured(measured: &[MeasuredRecipe]) -> Result<(), EngineError> {
    for it in measured {
        find(&it.recipe)?;
        let numbers = [("loss", it.loss), ("kl", it.kl), ("ratio", it.ratio)];
        let more = [("stderr", it.stderr), ("tokensPerSecond", it.tokens_per_second)];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
        if let Some((name, value)) = numbers.into_iter().chain(more).find(|(_, value)| !value.is_finite()) {
            return Err(EngineError::option(&format!("measured.{name}"), value, "a finite number"));
        }
    }
    Ok(())
}

/// Figures that were measured.
fn fill(piece: &mut Recommendation, known: &Known) {
    let &Known { loss, kl, on, tokens, own } = known;
    if let Some(own) = own {
        piece.expected_ratio = Some(own.ratio);
        piece.loss_stderr = own.stderr;
        piece.tokens_per_second = own.tokens_per_second;
    }
    piece.expected_loss = Some(loss);
    piece.kl = Some(kl);
    piece.tokens = tokens;
    piece.measured_on = Some(on.into());
    piece.basis = Basis::Measured;
    piece.risk = known.risk();
    let ratio = piece.expected_ratio.unwrap_or(1.0);
    piece.verdict = Some(Verdict::of((ratio, Verdict::COMPRESSION), (loss, Verdict::DEGRADATION)));
}

//! Rules weighed against each other: what they say of a technique for a model and a wish, and which gave way.

use statepress_core::Finding;
use statepress_core::report::Risk;

use super::Target;
use super::rule::{Architecture, Refuted, Rule, Says, Technique, WEIGHTS, When};
use super::rules::RULES;

/// All that rules ask about.
pub struct Facts {
    /// The perplexity change in percent that is allowed.
    pub max_loss: f64,
    /// Parameters of the model.
    pub params: u64,
    /// What it is built of.
    pub architecture: Architecture,
    /// Where it is to run.
    pub target: Option<Target>,
}

/// What rules say of a technique.
pub struct Judged {
    technique: Technique,
    /// Those that have a say, by their weight.
    said: Vec<(&'static Rule, Says)>,
}

impl Facts {
    /// Rules that apply, by their weight.
    fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        let applies = |rule: &&Rule| match rule.when {
            When::Always => true,
            When::Loss(above, most) => above < self.max_loss && self.max_loss <= most,
            When::Params(from, below) => (from..below).contains(&self.params),
            When::Architecture(of) => self.architecture == of,
            When::Target(target) => self.target == Some(target),
        };
        let mut rules: Vec<_> = RULES.iter().filter(applies).collect();
        rules.sort_by_key(|rule| rule.weight());
        rules.into_iter()
    }

    /// What they say of a technique; what was refuted has no say.
    pub fn judge(&self, technique: Technique) -> Judged {
        let said = self.rules().filter_map(|rule| match rule.of(technique)? {
            (_, true) => None,
            (says, false) => Some((rule, says)),
        });
        Judged { technique, said: said.collect() }
    }

    /// What was measured against rules that apply: one finding for each measurement.
    pub fn refuted(&self) -> Vec<Finding> {
        let mut measurements: Vec<(&Refuted, Vec<String>)> = Vec::new();
        for (rule, refuted) in self.rules().flat_map(|rule| rule.refuted.iter().map(move |it| (rule, it))) {
            let of: Vec<_> = refuted.of.iter().map(|it| it.name()).collect();
            let of = if of.is_empty() { String::new() } else { format!(" (as to {})", of.join(", ")) };
            let rule = format!("\"{}\"{of}", rule.title);
            match measurements.iter_mut().find(|(it, _)| it.by == refuted.by) {
                Some((_, rules)) => rules.push(rule),
                None => measurements.push((refuted, vec![rule])),
            }
        }
        let told = measurements.into_iter().map(|(refuted, rules)| {
            Finding::info("rule-refuted", format!("refuted: {}; {}", rules.join(", "), refuted.by))
        });
        told.collect()
    }
}

impl Judged {
    /// The rule that says what is to be done: the weightiest that has a say.
    fn deciding(&self) -> Option<(&'static Rule, Says)> {
        self.said.first().copied()
    }

    /// The rule by which it is advised against, where it is.
    pub fn avoided_by(&self) -> Option<&'static Rule> {
        self.deciding().filter(|(_, says)| *says == Says::Avoid).map(|(rule, _)| rule)
    }

    /// Rules that recommend it, where it is not advised against.
    pub fn recommended_by(&self) -> impl Iterator<Item = &'static Rule> {
        let avoided = self.avoided_by().is_some();
        self.said.iter().filter(move |(_, says)| !avoided && *says != Says::Avoid).map(|(rule, _)| *rule)
    }

    /// What each weight says, the weightiest first: by these two techniques are ordered.
    pub fn rank(&self) -> [u8; WEIGHTS] {
        let mut rank = [2; WEIGHTS];
        for (rule, says) in &self.said {
            let at = &mut rank[rule.weight() as usize];
            *at = (*at).min(*says as u8);
        }
        rank
    }

    /// Where it stands in the order of the target's rule; last where that does not name it.
    pub fn place_by_target(&self) -> usize {
        let by_target = |(rule, says): &&(&'static Rule, Says)| {
            matches!(rule.when, When::Target(_)) && *says != Says::Avoid
        };
        let place =
            |(rule, _): &(&'static Rule, Says)| rule.says.iter().position(|(of, _)| *of == self.technique);
        self.said.iter().find(by_target).and_then(place).unwrap_or(usize::MAX)
    }

    /// How risky it is, as long as nothing was measured.
    pub fn risk(&self) -> Risk {
        match self.technique {
            Technique::Mixed | Technique::Half | Technique::Int8 => Risk::Low,
            _ if self.said.iter().any(|(_, says)| *says == Says::Avoid) => Risk::High,
            _ => Risk::Medium,
        }
    }

    /// Rules that say the opposite of the one that decides, where nothing was measured.
    pub fn gave_way(&self) -> Option<Finding> {
        let (winner, says) = self.deciding()?;
        let avoids = says == Says::Avoid;
        let losers = self.quoted(|other| (other == Says::Avoid) != avoids)?;
        let (name, title, weight) = (self.technique.name(), winner.title, winner.weight().words());
        let message = format!("{name}: {losers} gave way to \"{title}\" ({weight})");
        Some(Finding::info("rule-gave-way", message))
    }

    /// Rules against it, which do not count where what it loses is known.
    pub fn overruled(&self, losses: &[String]) -> Option<Finding> {
        let losers = self.quoted(|says| says == Says::Avoid).filter(|_| !losses.is_empty())?;
        let (name, losses) = (self.technique.name(), losses.join(", "));
        let message = format!("{name}: {losers} gave way to what was measured: {losses}");
        Some(Finding::info("rule-gave-way", message))
    }

    fn quoted(&self, which: impl Fn(Says) -> bool) -> Option<String> {
        let titles = self.said.iter().filter(|(_, says)| which(*says));
        let titles: Vec<_> =
            titles.map(|(rule, _)| format!("\"{}\" ({})", rule.title, rule.weight().words())).collect();
        (!titles.is_empty()).then(|| titles.join(" and "))
    }
}

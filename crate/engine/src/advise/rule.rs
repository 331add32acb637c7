//! What a rule is: when it applies, what it says of which technique, where it is from, and what was measured against it.

use statepress_core::report::RuleReport;

use super::Target;

/// What can be done to a model, as the rules speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Technique {
    /// More bits where a model needs them.
    Mixed,
    /// 16 bits everywhere.
    Half,
    /// 8 bits everywhere.
    Int8,
    /// 4 bits everywhere.
    Int4,
    /// Leaving weights out, a channel, a head or an expert at a time.
    Pruning,
    /// Training a smaller model on what this one says.
    Distillation,
}

impl Technique {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed precision",
            Self::Half => "16 bits",
            Self::Int8 => "INT8",
            Self::Int4 => "INT4",
            Self::Pruning => "pruning",
            Self::Distillation => "distillation",
        }
    }
}

/// What a rule says of a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// Before all others.
    Best,
    /// It may be done.
    Good,
    /// Not to be done.
    Avoid,
}

/// When a rule applies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// Whatever the model and the wishes.
    Always,
    /// The perplexity change that is allowed, in percent, is above the first and at most the second.
    Loss(f64, f64),
    /// Parameters: from the first, below the second.
    Params(u64, u64),
    /// What the model is built of.
    Architecture(Architecture),
    /// Where it is to run.
    Target(Target),
}

/// What a model is built of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// It carries a state along, alone or beside attention.
    StateSpace,
    /// It has attention alone.
    Transformer,
    /// Nobody knows.
    Other,
}

/// Which of two rules counts that contradict each other: the earlier one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Holds for every model that was measured.
    Measured,
    /// The loss that is allowed.
    Quality,
    /// How large the model is.
    Size,
    /// What it is built of.
    Architecture,
    /// Where it runs.
    Target,
}

/// How many there are.
pub const WEIGHTS: usize = 5;

impl Weight {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Measured => "measurement",
            Self::Quality => "quality limit",
            Self::Size => "size class",
            Self::Architecture => "architecture",
            Self::Target => "target",
        }
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// A stable kebab-case word for programs.
    pub id: &'static str,
    /// The rule in a few words, with what it promises.
    pub title: &'static str,
    /// Where it is from.
    pub source: Source,
    /// When it applies.
    pub when: When,
    /// What it says of which technique, the first one first.
    pub says: &'static [(Technique, Says)],
    /// What was measured against it.
    pub refuted: &'static [Refuted],
}

/// What was measured against a rule.
#[derive(Debug)]
pub struct Refuted {
    /// What it says of these does not count any more; nothing where only a promise is refuted.
    pub of: &'static [Technique],
    /// The figure, and how it was made.
    pub by: &'static str,
}

/// Where a rule is from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A section of the findings document of Itera-Lite.
    Findings(&'static str),
    /// A paper on arXiv: its title and number.
    Paper(&'static str, &'static str),
    /// What was measured with this program, or what its options mean: a section of its README.
    Readme(&'static str),
}

const FINDINGS: &str =
    "https://github.com/CisnerosCodes/Itera-Lite/blob/main/PROJECT_COMPRESSION_FINDINGS.md";

impl Source {
    fn title(self) -> String {
        match self {
            Self::Findings(section) => format!("Project Compression Findings (Itera-Lite), \"{section}\""),
            Self::Paper(title, number) => format!("{title}, arXiv:{number}"),
            Self::Readme(section) => format!("statepress README, \"{section}\""),
        }
    }

    fn url(self) -> Option<String> {
        match self {
            Self::Findings(_) => Some(FINDINGS.into()),
            Self::Paper(_, number) => Some(format!("https://arxiv.org/abs/{number}")),
            Self::Readme(_) => None,
        }
    }
}

impl Rule {
    /// For reports.
    pub fn report(&self) -> RuleReport {
        RuleReport {
            id: self.id.into(),
            title: self.title.into(),
            source: self.source.title(),
            url: self.source.url(),
        }
    }

    /// How much it counts.
    pub fn weight(&self) -> Weight {
        match self.when {
            When::Always => Weight::Measured,
            When::Loss(..) => Weight::Quality,
            When::Params(..) => Weight::Size,
            When::Architecture(_) => Weight::Architecture,
            When::Target(_) => Weight::Target,
        }
    }

    /// What it says of a technique, and whether that was refuted.
    pub fn of(&self, technique: Technique) -> Option<(Says, bool)> {
        let (_, says) = self.says.iter().find(|(of, _)| *of == technique)?;
        let refuted = self.refuted.iter().any(|it| it.of.contains(&technique));
        Some((*says, refuted))
    }
}

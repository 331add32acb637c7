//! Removing structure: channels, heads, states, experts, in every weight that has them; or whole layers.

use serde::{Deserialize, Serialize};

use super::RecipeError;

/// Remove structure, so that a smaller model is left which runs like any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prune {
    /// What is removed.
    pub kind: PruneKind,
    /// What stays of it in every layer, or of all layers. At most 1: the share, rounded down, though one stays, and 1 is all; a whole number from
    /// 2: how many.
    pub keep: f64,
    /// How candidates are ranked. `l2` when left out.
    #[serde(default)]
    pub by: PruneBy,
    /// Whether the weights that read what is removed are fitted to do without it, by least squares over what a calibration
    /// text sends them. `false` when left out.
    #[serde(default)]
    pub repair: bool,
    /// Windows of 256 tokens of the calibration text that are read, evenly spaced, 1 to 4096; of a shorter text as many as it
    /// has. 32 when left out: fitting takes more than rounding does. Of kinds layers and sublayers no more than 4, as whole models are run over them.
    #[serde(default = "usual_windows")]
    pub windows: usize,
    /// The layers it is done in, counted from 0; all that have such structure when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "types", ts(optional))]
    pub layers: Option<Vec<usize>>,
}

fn usual_windows() -> usize {
    32
}

/// What a prune step removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum PruneKind {
    /// Channels inside an SSM block.
    Inner,
    /// States of a channel or a head.
    State,
    /// Heads of an SSM.
    Head,
    /// Heads of attention: one of keys and values with the heads of queries that read it.
    AttentionHead,
    /// Channels inside a feed-forward network or an expert.
    Width,
    /// Whole experts.
    Experts,
    /// Rows of the projection of which Itera-Lite's step size is the mean. Those that stay are fitted to the step sizes
    /// of all, which is no cut but an approximation: it needs `by` loss and `repair`.
    Delta,
    /// Directions of the residual stream, through all layers. Those that stay are combinations of all channels, which is no cut
    /// but an approximation: it needs `by` loss. Training is meant to follow.
    Hidden,
    /// Whole layers, one after the other: each time the one without which predictions on a text change least, so that it needs
    /// `by` loss. Nothing makes up for them: it is an approximation, too.
    Layers,
    /// Parts of layers that add to the residual stream by themselves: a mixer, a feed-forward network, a mixture of experts. As
    /// whole layers, of which one part always stays.
    Sublayers,
    /// Rows of the token table, and of the head: those of ids that a text has most often stay, and it needs `by` usage. Ids stay what
    /// they are; those without a row are read as the unknown token. Logits of the others stay the same.
    Vocabulary,
}

/// How a prune step ranks candidates. All but the first two need a calibration text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "types", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum PruneBy {
    /// Sums of magnitudes, of every weight as a share of its whole.
    L1,
    /// The same of squares.
    #[default]
    L2,
    /// How large a part of their readers' outputs they are.
    Activation,
    /// What their readers' outputs lose though the rest makes up for it; one is removed after the other.
    Loss,
    /// How much the router sends to an expert, or how often a text has an id; only of these.
    Usage,
}

impl PruneKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Inner,
        Self::State,
        Self::Head,
        Self::AttentionHead,
        Self::Width,
        Self::Experts,
        Self::Delta,
        Self::Hidden,
        Self::Layers,
        Self::Sublayers,
        Self::Vocabulary,
    ];

    /// Its name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::State => "state",
            Self::Head => "head",
            Self::AttentionHead => "attentionHead",
            Self::Width => "width",
            Self::Experts => "experts",
            Self::Delta => "delta",
            Self::Hidden => "hidden",
            Self::Layers => "layers",
            Self::Sublayers => "sublayers",
            Self::Vocabulary => "vocabulary",
        }
    }

    /// What it removes, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Inner => "inner channels",
            Self::State => "states",
            Self::Head => "heads of a state space",
            Self::AttentionHead => "heads of attention",
            Self::Width => "channels of a feed-forward network or an expert",
            Self::Experts => "experts",
            Self::Delta => "rows of a step size's projection",
            Self::Hidden => "directions of the residual stream",
            Self::Layers => "whole layers",
            Self::Sublayers => "parts of layers",
            Self::Vocabulary => "rows of the token table",
        }
    }

    /// How candidates are ranked best where there is a text.
    pub fn by_text(self) -> PruneBy {
        if self == Self::Vocabulary { PruneBy::Usage } else { PruneBy::Loss }
    }

    /// Why it cannot be ranked but by what a text says, where it cannot.
    pub fn why_by_text(self) -> Option<&'static str> {
        match self {
            Self::Delta => Some("whose rows are fitted to the step sizes of all"),
            Self::Hidden => Some("which directions matter, a text says"),
            Self::Layers | Self::Sublayers => Some("which of them matter, a text says"),
            Self::Vocabulary => Some("which ids matter, a text says"),
            _ => None,
        }
    }

    /// Why nothing can make up for what goes, where nothing can.
    pub fn why_unrepaired(self) -> Option<&'static str> {
        match self {
            Self::Experts => Some("which are asked, and how much, is the router's to say"),
            Self::Layers | Self::Sublayers => Some("those that stay are as they were"),
            Self::Vocabulary => Some("rows that stay are as they were"),
            _ => None,
        }
    }

    /// Why it is never done in some layers alone, where it is not.
    fn why_in_all(self) -> Option<&'static str> {
        match self {
            Self::Hidden => Some("the residual stream goes through all layers"),
            Self::Layers | Self::Sublayers => Some("any of them may go"),
            Self::Vocabulary => Some("the table is in none"),
            _ => None,
        }
    }
}

impl PruneBy {
    /// Its name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Activation => "activation",
            Self::Loss => "loss",
            Self::Usage => "usage",
        }
    }
}

impl Prune {
    /// Whether a text has to be read for it.
    pub fn needs_calibration(&self) -> bool {
        self.repair || !matches!(self.by, PruneBy::L1 | PruneBy::L2)
    }

    /// How many of `size` stay.
    pub fn kept(&self, size: usize) -> usize {
        let wanted = if self.keep <= 1.0 { (self.keep * size as f64 + 1e-6).floor() } else { self.keep };
        (wanted as usize).clamp(1.min(size), size)
    }

    /// Checks every option against what is allowed.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        let Self { kind, keep, by, repair, windows, layers } = self;
        let is_count = *keep >= 2.0 && keep.fract() == 0.0 && *keep <= f64::from(u32::MAX);
        if !(*keep > 0.0 && *keep <= 1.0 || is_count) {
            let allowed =
                "above 0 and at most 1, a share of which 1 is all, or a whole number from 2, a count";
            return Err(RecipeError::option("prune.keep", keep, allowed));
        }
        let name = kind.name();
        if let Some(why) = kind.why_by_text().filter(|_| *by != kind.by_text()) {
            let allowed = format!("{} of kind {name}: {why}", kind.by_text().name());
            return Err(RecipeError::option("prune.by", by.name(), &allowed));
        }
        if *by == PruneBy::Usage && !matches!(kind, PruneKind::Experts | PruneKind::Vocabulary) {
            let allowed = "l1, l2, activation, loss; usage is that of experts and of ids";
            return Err(RecipeError::option("prune.by", "usage", allowed));
        }
        if *kind == PruneKind::Delta && !repair {
            let why = kind.why_by_text().unwrap_or_default();
            return Err(RecipeError::option("prune.repair", repair, &format!("true of kind delta: {why}")));
        }
        if let Some(why) = kind.why_unrepaired().filter(|_| *repair) {
            return Err(RecipeError::option("prune.repair", repair, &format!("false of kind {name}: {why}")));
        }
        if let Some(why) = kind.why_in_all().filter(|_| layers.is_some()) {
            return Err(RecipeError::option(
                "prune.layers",
                "given",
                &format!("nothing of kind {name}: {why}"),
            ));
        }
        if !(1..=4096).contains(windows) {
            return Err(RecipeError::option("prune.windows", windows, "1 to 4096"));
        }
        if layers.as_ref().is_some_and(Vec::is_empty) {
            let allowed = "numbers of layers, or nothing for all of them";
            return Err(RecipeError::option("prune.layers", "[]", allowed));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    fn read(step: &str) -> Result<Recipe, RecipeError> {
        Recipe::from_json(&format!(r#"{{"version":1,"name":"t","steps":[{{"prune":{step}}}]}}"#))
    }

    #[test]
    fn steps_are_read_with_what_is_left_out() {
        let step = Prune {
            kind: PruneKind::Inner,
            keep: 0.75,
            by: PruneBy::L2,
            repair: false,
            windows: 32,
            layers: None,
        };
        let recipe = read(r#"{"kind":"inner","keep":0.75}"#).unwrap();
        assert_eq!(recipe.steps, [super::super::Step::Prune(step.clone())]);
        assert!(!step.needs_calibration() && Prune { repair: true, ..step.clone() }.needs_calibration());
        assert_eq!([1, 3, 10].map(|size| step.kept(size)), [1, 2, 7]);
        assert_eq!(Prune { keep: 3.0, ..step.clone() }.kept(10), 3);
        assert_eq!(Prune { keep: 3.0, ..step.clone() }.kept(2), 2);
        assert_eq!(Prune { keep: 0.01, ..step }.kept(10), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (step, told) in [
            (r#"{"kind":"inner","keep":0}"#, "prune.keep is 0"),
            (r#"{"kind":"inner","keep":2.5}"#, "prune.keep is 2.5"),
            (r#"{"kind":"inner","keep":1.5}"#, "a count"),
            (r#"{"kind":"width","keep":0.5,"by":"usage"}"#, "prune.by is usage"),
            (r#"{"kind":"delta","keep":4}"#, "prune.by is l2; allowed: loss of kind delta"),
            (
                r#"{"kind":"delta","keep":4,"by":"loss"}"#,
                "prune.repair is false; allowed: true of kind delta",
            ),
            (r#"{"kind":"hidden","keep":0.5}"#, "prune.by is l2; allowed: loss of kind hidden"),
            (
                r#"{"kind":"hidden","keep":0.5,"by":"loss","layers":[0]}"#,
                "prune.layers is given; allowed: nothing of kind hidden",
            ),
            (r#"{"kind":"experts","keep":0.5,"repair":true}"#, "prune.repair is true"),
            (r#"{"kind":"layers","keep":0.5}"#, "prune.by is l2; allowed: loss of kind layers"),
            (
                r#"{"kind":"layers","keep":0.5,"by":"loss","repair":true}"#,
                "prune.repair is true; allowed: false of kind layers",
            ),
            (
                r#"{"kind":"layers","keep":0.5,"by":"loss","layers":[0]}"#,
                "prune.layers is given; allowed: nothing of kind layers",
            ),
            (r#"{"kind":"sublayers","keep":0.5}"#, "prune.by is l2; allowed: loss of kind sublayers"),
            (
                r#"{"kind":"sublayers","keep":0.5,"by":"loss","layers":[0]}"#,
                "prune.layers is given; allowed: nothing of kind sublayers",
            ),
            (
                r#"{"kind":"vocabulary","keep":0.5,"by":"loss"}"#,
                "prune.by is loss; allowed: usage of kind vocabulary",
            ),
            (
                r#"{"kind":"vocabulary","keep":0.5,"by":"usage","repair":true}"#,
                "prune.repair is true; allowed: false of kind vocabulary",
            ),
            (r#"{"kind":"inner","keep":0.5,"layers":[]}"#, "prune.layers is []"),
            (r#"{"kind":"inner","keep":0.5,"windows":0}"#, "prune.windows is 0; allowed: 1 to 4096"),
            (r#"{"kind":"rows","keep":0.5}"#, "rows"),
            (r#"{"kind":"inner","keep":0.5,"share":1}"#, "share"),
        ] {
            let error = read(step).unwrap_err().to_string();
            assert!(error.contains(told), "{step}: {error}");
        }
    }

    #[test]
    fn structure_goes_before_bits() {
        let quantize = r#"{"quantize":{"rules":[],"otherwise":"int8"}}"#;
        let prune = r#"{"prune":{"kind":"width","keep":0.5}}"#;
        let recipe =
            |steps: &str| Recipe::from_json(&format!(r#"{{"version":1,"name":"t","steps":[{steps}]}}"#));
        assert!(recipe(&format!("{prune},{prune},{quantize}")).is_ok());
        let error = recipe(&format!("{quantize},{prune}")).unwrap_err().to_string();
        assert!(error.contains("before quantize"), "{error}");
    }

    #[test]
    fn names_are_those_of_recipes() {
        for kind in PruneKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}

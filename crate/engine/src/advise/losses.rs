//! What recipes cost, measured: one model of each family that was.
//!
//! Each with this program's own commands: `compress --recipe R`, then `compare --ids WIKITEXT2-TEST --limit 32768`, in
//! windows of 256 tokens. Calibrated ones were given the first 16,384 tokens of the validation text.

/// What models were judged by.
pub const TEXT: &str = "WikiText-2 test";

/// Tokens that were judged.
pub const JUDGED: u64 = 32_640;

/// What was measured on a model.
#[derive(Debug)]
pub struct Measured {
    /// The family it is of, by its name in reports.
    pub family: &'static str,
    /// What it is called.
    pub model: &'static str,
    /// What each recipe cost.
    pub losses: &'static [Loss],
}

/// What a recipe cost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// The built-in recipe.
    pub recipe: &'static str,
    /// Whether errors were made up for.
    pub calibrated: bool,
    /// Bytes before over bytes after.
    pub ratio: f64,
    /// Perplexity change in percent.
    pub change: f64,
    /// Mean KL divergence, nats a token.
    pub kl: f64,
}

impl Measured {
    /// What was measured on the family, if anything.
    pub fn of(family: &str) -> Option<&'static Self> {
        MEASURED.iter().find(|it| it.family == family)
    }

    /// What a recipe cost.
    pub fn loss(&self, recipe: &str, calibrated: bool) -> Option<&Loss> {
        self.losses.iter().find(|it| it.recipe == recipe && it.calibrated == calibrated)
    }
}

const fn rounded(recipe: &'static str, ratio: f64, change: f64, kl: f64) -> Loss {
    Loss { recipe, calibrated: false, ratio, change, kl }
}

const fn calibrated(recipe: &'static str, ratio: f64, change: f64, kl: f64) -> Loss {
    Loss { calibrated: true, ..rounded(recipe, ratio, change, kl) }
}

/// All that was measured.
pub const MEASURED: &[Measured] = &[
    Measured {
        family: "itera-lite",
        model: "itera-tiny",
        losses: &[
            rounded("int8", 3.82, -0.03, 1.36e-4),
            rounded("mixed", 2.73, -0.02, 9.62e-5),
            rounded("mixed-aggressive", 4.84, 0.53, 5.02e-3),
            rounded("nf4", 7.50, 2.31, 2.77e-2),
            rounded("int4", 6.90, 2.96, 2.46e-2),
            rounded("fp16", 2.00, 0.00, 8.58e-7),
            rounded("bf16", 2.00, 0.01, 2.19e-5),
            calibrated("nf4", 7.50, 1.38, 1.06e-2),
            calibrated("int4", 6.90, 1.09, 1.08e-2),
        ],
    },
    Measured {
        family: "mamba",
        model: "mamba-micro",
        losses: &[
            rounded("int8", 3.70, 0.04, 1.25e-4),
            rounded("mixed", 3.00, 0.03, 8.94e-5),
            rounded("mixed-aggressive", 4.25, 0.82, 6.27e-3),
            rounded("nf4", 6.99, 2.81, 2.60e-2),
            rounded("int4", 6.47, 1.99, 2.51e-2),
            rounded("fp16", 2.00, 0.00, 2.76e-7),
            rounded("bf16", 2.00, -0.01, 2.23e-5),
            calibrated("nf4", 6.99, 1.10, 1.13e-2),
            calibrated("int4", 6.47, 1.15, 1.15e-2),
        ],
    },
    Measured {
        family: "transformer",
        model: "transformer-tiny",
        losses: &[
            rounded("int8", 3.88, 0.01, 1.14e-4),
            rounded("mixed", 2.76, 0.00, 8.68e-5),
            rounded("mixed-aggressive", 4.91, 0.40, 6.04e-3),
            rounded("nf4", 7.69, 2.77, 2.93e-2),
            rounded("int4", 7.06, 2.49, 2.49e-2),
            rounded("fp16", 2.00, 0.00, 2.83e-7),
            rounded("bf16", 2.00, 0.00, 1.68e-5),
            calibrated("nf4", 7.69, 1.56, 1.28e-2),
            calibrated("int4", 7.06, 1.64, 1.16e-2),
        ],
    },
];

//! Every rule of the advice, as one table.
//!
//! Most are those of the findings document of Itera-Lite, which contradict each other and, some of them, what was measured.
//! Which of two counts is the order of [`Weight`](super::rule::Weight); what was measured of the model, or of its family,
//! comes before all of them.

use super::Target;
use super::rule::{Architecture, Refuted, Rule, Says, Source, Technique, When};

use Says::{Avoid, Best, Good};
use Source::{Findings, Paper, Readme};
use Technique::{Distillation, Half, Int4, Int8, Mixed, Pruning};

const MILLION: u64 = 1_000_000;

const INT8_LOSES_NOTHING: &str = "INT8 changed perplexity by less than 0.1 % on all three families that were measured, \
                                  16 bits by less than that (compress and compare on WikiText-2 test)";

const WIDTH_IS_FREE: &str = "half the width of feed-forward networks went for +0.5 % perplexity and a tenth of a Mamba's channels for \
                             +0.4 %, what reads them fitted and nothing trained (README, \"What pruning costs\")";

/// All of them.
pub const RULES: &[Rule] = &[
    // What outweighs the document.
    Rule {
        id: "measured-first",
        title: "what was measured of the model, or else of its family, comes before every rule",
        source: Readme("What each technique costs"),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    Rule {
        id: "int8-first",
        title: "INT8 first: it costs next to nothing on every family that was measured",
        source: Readme("What each technique costs"),
        when: When::Always,
        says: &[(Int8, Best)],
        refuted: &[],
    },
    Rule {
        id: "safe",
        title: "mixed precision and 16 bits are safe: on every family that was measured they cost next to nothing, and under 1 % \
                where projections have 4 bits",
        source: Readme("What each technique costs"),
        when: When::Always,
        says: &[(Mixed, Good), (Half, Good)],
        refuted: &[],
    },
    Rule {
        id: "max-loss",
        title: "what is known to lose more than is allowed is left out",
        source: Readme("What each technique costs"),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    Rule {
        id: "max-size",
        title: "what is larger than is allowed is left out",
        source: Readme("What each technique costs"),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    // Success metrics.
    Rule {
        id: "scorecard",
        title: "success: at least 1.5x smaller and at most 5 % of perplexity lost; partial: smaller only; failure: else",
        source: Findings("Success Metrics"),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    Rule {
        id: "int4-costs",
        title: "INT4 costs 10 to 20 % of perplexity",
        source: Findings("GPU (NVIDIA A30, H100, etc.)"),
        when: When::Always,
        says: &[],
        refuted: &[Refuted {
            of: &[],
            by: "it cost 2 to 3 % on the three models that were measured (compress and compare on WikiText-2 test), and 1.1 \
                 to 1.6 % with errors made up for",
        }],
    },
    // The quality limits.
    Rule {
        id: "loss-under-3",
        title: "up to 3 % lost: mixed precision only",
        source: Findings("Step 1: Assess Your Model"),
        when: When::Loss(f64::NEG_INFINITY, 3.0),
        says: &[(Mixed, Best), (Half, Avoid), (Int8, Avoid), (Int4, Avoid), (Pruning, Avoid)],
        refuted: &[
            Refuted { of: &[Half, Int8], by: INT8_LOSES_NOTHING },
            Refuted { of: &[Pruning], by: WIDTH_IS_FREE },
        ],
    },
    Rule {
        id: "loss-under-10",
        title: "up to 10 % lost: INT4 or pruning too",
        source: Findings("Step 1: Assess Your Model"),
        when: When::Loss(3.0, 10.0),
        says: &[(Int4, Good), (Pruning, Good), (Mixed, Good)],
        refuted: &[],
    },
    Rule {
        id: "loss-under-20",
        title: "up to 20 % lost: aggressive techniques too",
        source: Findings("Step 1: Assess Your Model"),
        when: When::Loss(10.0, f64::INFINITY),
        says: &[(Int4, Good), (Pruning, Good), (Distillation, Good), (Mixed, Good)],
        refuted: &[],
    },
    // The size classes: the list, and the matrix.
    Rule {
        id: "small",
        title: "under 10 million parameters: mixed precision only, pruning is too destructive",
        source: Findings("Decision Matrix"),
        when: When::Params(0, 10 * MILLION),
        says: &[
            (Mixed, Best),
            (Half, Avoid),
            (Int8, Avoid),
            (Int4, Avoid),
            (Pruning, Avoid),
            (Distillation, Good),
        ],
        refuted: &[
            Refuted { of: &[Half, Int8], by: INT8_LOSES_NOTHING },
            Refuted { of: &[Pruning], by: WIDTH_IS_FREE },
        ],
    },
    Rule {
        id: "medium",
        title: "10 to 100 million parameters: mixed precision or pruning",
        source: Findings("Decision Matrix"),
        when: When::Params(10 * MILLION, 100 * MILLION),
        says: &[(Mixed, Best), (Pruning, Best)],
        refuted: &[],
    },
    Rule {
        id: "large",
        title: "over 100 million parameters: distillation, or pruning and quantization combined",
        source: Findings("Decision Matrix"),
        when: When::Params(100 * MILLION, u64::MAX),
        says: &[(Distillation, Best), (Mixed, Good), (Int4, Good), (Pruning, Good)],
        refuted: &[],
    },
    // The architectures: the matrix, and the tree.
    Rule {
        id: "state-space",
        title: "state spaces: mixed precision (2 to 2.5x), INT4 for more; no pruning, which breaks the recurrence",
        source: Findings("Decision Matrix"),
        when: When::Architecture(Architecture::StateSpace),
        says: &[(Mixed, Best), (Int4, Good), (Distillation, Good), (Pruning, Avoid)],
        refuted: &[Refuted { of: &[Pruning], by: WIDTH_IS_FREE }],
    },
    Rule {
        id: "state-space-more",
        title: "state spaces that need more: INT4 in the layers that are not critical (3 to 4x in all, 5 to 10 % lost)",
        source: Findings("Final Recommendations"),
        when: When::Architecture(Architecture::StateSpace),
        says: &[(Int4, Good)],
        refuted: &[Refuted {
            of: &[],
            by: "4 bits in all matrices made itera-tiny and mamba-micro 6.5 to 7.5 times smaller for 2.0 to 3.0 % of perplexity, and for 1.1 to \
                 1.4 % with errors made up for (README, \"What each technique costs\")",
        }],
    },
    Rule {
        id: "transformer",
        title: "Transformers: pruning first (1.5 to 3x: 30 to 50 % of heads and experts), then mixed precision",
        source: Findings("Step 2: Choose Technique (Decision Tree)"),
        when: When::Architecture(Architecture::Transformer),
        says: &[(Pruning, Best), (Mixed, Good), (Int4, Good), (Distillation, Good)],
        refuted: &[],
    },
    Rule {
        id: "other",
        title: "neither state space nor Transformer: INT4 (1.3 to 1.5x)",
        source: Findings("Step 2: Choose Technique (Decision Tree)"),
        when: When::Architecture(Architecture::Other),
        says: &[(Int4, Best)],
        refuted: &[Refuted {
            of: &[],
            by: "4 bits a weight and their scales make 6.5 to 7.5x of float32, every byte counted (plan says what they make of a file)",
        }],
    },
    // The targets.
    Rule {
        id: "gpu",
        title: "GPU: mixed precision (2 to 2.7x, 1.5 to 2x as fast, under 3 % lost), then INT4 (1.2 to 1.5x as fast)",
        source: Findings("GPU (NVIDIA A30, H100, etc.)"),
        when: When::Target(Target::Gpu),
        says: &[(Mixed, Best), (Int4, Good)],
        refuted: &[],
    },
    Rule {
        id: "cpu",
        title: "CPU: distillation, then dynamic quantization to INT8",
        source: Findings("Decision Matrix"),
        when: When::Target(Target::Cpu),
        says: &[(Distillation, Best), (Int8, Good)],
        refuted: &[],
    },
    Rule {
        id: "cpu-as-is",
        title: "CPU: FP32 as it is; no INT4, INT8 or FP16, which need a GPU",
        source: Findings("CPU (x86, ARM)"),
        when: When::Target(Target::Cpu),
        says: &[(Int8, Avoid), (Int4, Avoid), (Half, Avoid), (Mixed, Avoid)],
        refuted: &[Refuted {
            of: &[Int8, Int4, Half, Mixed],
            by: "a file is as much smaller on a CPU, and weights are multiplied from their packed bytes: NF4 makes tokens twice as fast as \
                 FP32 (`bench` of itera-tiny in wasm with SIMD, one core, median of three rounds in turn)",
        }],
    },
    Rule {
        id: "edge",
        title: "mobile and edge: INT8 (3 to 5x as fast, under 10 % lost), then FP16; of a student of 0.5 to 1 million parameters",
        source: Findings("Mobile/Edge (ARM NEON, Qualcomm Hexagon)"),
        when: When::Target(Target::Edge),
        says: &[(Int8, Best), (Half, Good), (Distillation, Good)],
        refuted: &[],
    },
    // Where techniques are from that no recipe does by itself.
    Rule {
        id: "extreme",
        title: "over 10x: distillation first, then mixed precision of the student (10 to 20x)",
        source: Findings("Final Recommendations"),
        when: When::Always,
        says: &[],
        refuted: &[Refuted {
            of: &[],
            by: "a search alone made itera-tiny 11.6 times smaller for 1.1 % of perplexity and 17 times for 5.5 % (README, \"What a search for \
                 the entropy coder finds\")",
        }],
    },
    Rule {
        id: "gptq",
        title: "errors of rounding can be made up for by the weights that are rounded later",
        source: Paper(
            "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
            "2210.17323",
        ),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    Rule {
        id: "pruning-costs",
        title: "what is left can make up for what is removed, where that is little",
        source: Readme("What pruning costs"),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    Rule {
        id: "sensitivity",
        title: "tensors differ in what rounding them costs: bits belong where they matter",
        source: Paper(
            "HAWQ: Hessian AWare Quantization of Neural Networks with Mixed-Precision",
            "1905.03696",
        ),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
    Rule {
        id: "entropy-coding",
        title: "codes take as many bytes as they are surprising",
        source: Paper("Asymmetric numeral systems", "1311.2540"),
        when: When::Always,
        says: &[],
        refuted: &[],
    },
];

/// The rule of that name.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

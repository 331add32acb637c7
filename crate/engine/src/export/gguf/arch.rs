//! The architectures of llama.cpp that our families are, and what each has a place for: what its `src/models/*.cpp` load.

use statepress_core::Finding;
use statepress_core::words::counted;
use statepress_kernels::program::{Activation, Op, Program};

use super::piece::Piece;
use crate::EngineError;
use crate::families::ModelSpec;

/// An architecture of llama.cpp.
#[derive(Debug)]
pub(super) struct Arch {
    /// Its name in files.
    pub name: &'static str,
    /// Our families that it computes.
    pub families: &'static [&'static str],
    /// The tensors that it reads: those of a layer without `blk.N.`.
    pub reads: &'static [&'static [&'static str]],
    /// What it calls the norm before the feed-forward network; with a point behind it nothing is added to that.
    pub ffn_norm: &'static str,
    /// How heads turn.
    pub rope: Rope,
    /// Whether it has fields for the multipliers of [`super::walk::Scales`].
    pub has_scales: bool,
    /// Whether it cannot do without a bias of the convolution.
    pub wants_conv_bias: bool,
    /// What its networks compute between products, beside gates.
    pub activations: &'static [Activation],
    /// Whether a layer's state space has to be twice as wide as the residual stream.
    pub expands_by_two: bool,
}

/// How the channels of a head turn with the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rope {
    /// Neighbours together: heads as `transformers` has them are put into another order.
    Pairs,
    /// One half with the other, as in `transformers`.
    Halves,
}

const OUTER: &[&str] = &["token_embd.weight", "output_norm.weight", "output.weight"];
const SSM: &[&str] = &[
    "ssm_in.weight",
    "ssm_conv1d.weight",
    "ssm_conv1d.bias",
    "ssm_dt.bias",
    "ssm_a",
    "ssm_d",
    "ssm_out.weight",
];
const ATTENTION: &[&str] = &["attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"];
const ATTENTION_BIASES: &[&str] = &["attn_q.bias", "attn_k.bias", "attn_v.bias"];
const FFN: &[&str] = &["ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"];
const FFN_BIASES: &[&str] = &["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"];
const NORM: &[&str] = &["attn_norm.weight"];
const NORMS: &[&str] = &["attn_norm.weight", "ffn_norm.weight"];

/// What most of them have in common.
const USUAL: Arch = Arch {
    name: "",
    families: &[],
    reads: &[],
    ffn_norm: "ffn_norm",
    rope: Rope::Halves,
    has_scales: false,
    wants_conv_bias: false,
    activations: &[Activation::Silu],
    expands_by_two: false,
};

const ARCHS: &[Arch] = &[
    Arch {
        name: "mamba",
        families: &["mamba", "falcon-mamba"],
        reads: &[OUTER, NORM, SSM, &["ssm_x.weight", "ssm_dt.weight"]],
        wants_conv_bias: true,
        expands_by_two: true,
        ..USUAL
    },
    Arch {
        name: "mamba2",
        families: &["mamba2"],
        reads: &[OUTER, NORM, SSM, &["ssm_norm.weight"]],
        wants_conv_bias: true,
        ..USUAL
    },
    Arch {
        name: "llama",
        families: &["llama"],
        reads: &[
            OUTER,
            NORMS,
            ATTENTION,
            ATTENTION_BIASES,
            FFN,
            FFN_BIASES,
            &["attn_output.bias", "rope_freqs.weight"],
        ],
        rope: Rope::Pairs,
        ..USUAL
    },
    Arch {
        name: "qwen2",
        families: &["qwen2"],
        reads: &[OUTER, NORMS, ATTENTION, ATTENTION_BIASES, FFN],
        ..USUAL
    },
    Arch {
        name: "qwen3",
        families: &["qwen3"],
        reads: &[OUTER, NORMS, ATTENTION, FFN, &["attn_q_norm.weight", "attn_k_norm.weight"]],
        ..USUAL
    },
    Arch {
        name: "gpt2",
        families: &["gpt2"],
        reads: &[
            OUTER,
            NORMS,
            FFN_BIASES,
            &["position_embd.weight", "output_norm.bias", "attn_norm.bias", "ffn_norm.bias"],
            &["attn_qkv.weight", "attn_qkv.bias", "attn_output.weight", "attn_output.bias"],
            &["ffn_up.weight", "ffn_down.weight"],
        ],
        activations: &[Activation::GeluTanh],
        ..USUAL
    },
    Arch {
        name: "granitehybrid",
        families: &["granite-hybrid"],
        reads: &[OUTER, NORMS, SSM, &["ssm_norm.weight"], ATTENTION, ATTENTION_BIASES, FFN],
        rope: Rope::Pairs,
        has_scales: true,
        wants_conv_bias: true,
        ..USUAL
    },
    Arch {
        name: "falcon-h1",
        families: &["falcon-h1"],
        reads: &[
            OUTER,
            NORM,
            &["ffn_norm", "ssm_norm.weight"],
            SSM,
            ATTENTION,
            ATTENTION_BIASES,
            &["attn_output.bias"],
            FFN,
            FFN_BIASES,
        ],
        ffn_norm: "ffn_norm.",
        wants_conv_bias: true,
        ..USUAL
    },
];

impl Arch {
    /// The architecture that computes a family.
    pub fn of(spec: &ModelSpec) -> Result<&'static Self, EngineError> {
        let family = spec.family.name();
        ARCHS.iter().find(|arch| arch.families.contains(&family)).ok_or_else(|| {
            let known: Vec<&str> = ARCHS.iter().flat_map(|arch| arch.families).copied().collect();
            let reason = format!(
                "no GGUF of the family {family} can be written; those that can be are {}",
                known.join(", ")
            );
            EngineError::UnknownModel { reason }
        })
    }

    /// That it does not compute what a model does.
    pub fn refused(&self, block: &str, what: &str) -> EngineError {
        let place = match block.trim_end_matches('.') {
            "" => "the model".to_string(),
            block => format!("{} of the model", block.replace("blk.", "layer ")),
        };
        let reason =
            format!("{place} {what}, which llama.cpp's {} does not: no GGUF of it is written", self.name);
        EngineError::UnknownModel { reason }
    }

    /// The tensors, if it reads all of them.
    pub fn admitted(
        &self,
        pieces: Vec<Piece>,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<Piece>, EngineError> {
        let bare = |name: &'_ str| match name.strip_prefix("blk.") {
            Some(rest) => rest.split_once('.').map_or(rest, |(_, bare)| bare).to_string(),
            None => name.to_string(),
        };
        let reads = |name: &str| self.reads.iter().any(|names| names.contains(&name));
        if let Some(piece) = pieces.iter().find(|piece| !reads(&bare(&piece.name))) {
            let reason = format!(
                "the model has {}, for which llama.cpp's {} has no place: no GGUF of it is written",
                piece.name, self.name
            );
            return Err(EngineError::UnknownModel { reason });
        }
        let zeros = |piece: &&Piece| piece.made == super::piece::Made::Numbers(vec![0.0; piece.shape[0]]);
        let made: Vec<&Piece> = pieces.iter().filter(zeros).collect();
        if let Some(first) = made.first() {
            let tensors = counted(made.len(), "bias of zeros is", "biases of zeros are");
            let message = format!(
                "{tensors} added: llama.cpp's {} does not do without, and they change nothing",
                self.name
            );
            findings.push(Finding::info("zeros-added", message).about(&first.name));
        }
        Ok(pieces)
    }

    /// What is not quite the same there.
    pub fn told(&self, program: &Program) -> Option<Finding> {
        let eps = program.head.norm?.eps;
        let other = program.nodes.iter().find_map(|node| match &node.op {
            Op::Norm { norm, .. } if norm.eps != eps => Some(norm.eps),
            Op::GatedNorm { norm: Some(norm), .. } if norm.eps != eps => Some(norm.eps),
            _ => None,
        })?;
        let message = format!(
            "norms have an eps of {eps} and of {other}: llama.cpp's {} has one, {eps}, so that it computes slightly \
             different numbers",
            self.name
        );
        Some(Finding::warning("one-eps", message))
    }
}

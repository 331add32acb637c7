//! WGSL twins of the codecs and ops, put together to kernels. Text only: who runs it is another
//! crate's affair.
//!
//! A kernel is a file with an entry point and the files it builds on. Its matrices have names;
//! for each the text of the matrix's codec is taken, with `MATRIX` replaced by the name, so that
//! every precision goes through the same kernels. Variants are WGSL `override` constants, or
//! another file of the same functions ([`Features`]).

mod params;

use std::fmt::Write;

use statepress_core::Encoding;
use statepress_core::encoding::{AbsmaxType, ScaleType};

use crate::codecs::nf4;
pub use params::*;

/// Threads of every workgroup: what every adapter has.
pub const THREADS: u32 = 256;

/// The most numbers that a fused kernel's workgroup holds; 10 of the 16 KiB that every adapter has.
pub const FUSED_OPERAND: u32 = 2560;

/// The most experts of a fused kernel.
pub const FUSED_EXPERTS: u32 = 64;

/// Tokens and rows of a tile of `linear/tokens.wgsl`.
pub const TILE: u32 = 64;

/// The widest head of `ops/attention/attention.wgsl`.
pub const MAX_HEAD: u32 = THREADS;

/// Sets of labels of `ops/softmax/nll.wgsl`.
pub const LABEL_SETS: u32 = 4;

/// How a matrix's numbers are stored, as far as a kernel's text depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Codec {
    Fp32,
    Fp16,
    Bf16,
    Int8,
    Int4 { scale: Scale },
    Nf4 { absmax: Scale },
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Scale {
    Fp32,
    Fp16,
    Double,
}

impl From<Encoding> for Codec {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Fp32 => Self::Fp32,
            Encoding::Fp16 => Self::Fp16,
            Encoding::Bf16 => Self::Bf16,
            Encoding::Int8 { .. } => Self::Int8,
            Encoding::Int4 { scale: ScaleType::Fp32, .. } => Self::Int4 { scale: Scale::Fp32 },
            Encoding::Int4 { scale: ScaleType::Fp16, .. } => Self::Int4 { scale: Scale::Fp16 },
            Encoding::Nf4 { absmax: AbsmaxType::Fp32, .. } => Self::Nf4 { absmax: Scale::Fp32 },
            Encoding::Nf4 { absmax: AbsmaxType::Fp16, .. } => Self::Nf4 { absmax: Scale::Fp16 },
            Encoding::Nf4 { absmax: AbsmaxType::Double, .. } => Self::Nf4 { absmax: Scale::Double },
        }
    }
}

impl Codec {
    /// Every one there is.
    pub const ALL: [Self; 9] = [
        Self::Fp32,
        Self::Fp16,
        Self::Bf16,
        Self::Int8,
        Self::Int4 { scale: Scale::Fp32 },
        Self::Int4 { scale: Scale::Fp16 },
        Self::Nf4 { absmax: Scale::Fp32 },
        Self::Nf4 { absmax: Scale::Fp16 },
        Self::Nf4 { absmax: Scale::Double },
    ];

    /// Bytes of the codes of eight numbers.
    pub fn eight_bytes(self) -> usize {
        match self {
            Self::Fp32 => 32,
            Self::Fp16 | Self::Bf16 => 16,
            Self::Int8 => 8,
            Self::Int4 { .. } | Self::Nf4 { .. } => 4,
        }
    }

    fn text(self) -> String {
        let (codes, scale) = match self {
            Self::Fp32 => return include_str!("../linear/fp32.wgsl").into(),
            Self::Fp16 => return include_str!("../codecs/half16/fp16.wgsl").into(),
            Self::Bf16 => return include_str!("../codecs/half16/bf16.wgsl").into(),
            Self::Int8 => (include_str!("../codecs/int8/int8.wgsl"), Scale::Fp32),
            Self::Int4 { scale } => (include_str!("../codecs/int4/int4.wgsl"), scale),
            Self::Nf4 { absmax } => (include_str!("../codecs/nf4/nf4.wgsl"), absmax),
        };
        let mut text = codes.to_string();
        if self != Self::Int8 {
            text.push_str(include_str!("../codecs/blocks.wgsl"));
        }
        text.replace(
            "SCALE",
            match scale {
                Scale::Fp32 => "scale_fp32",
                Scale::Fp16 => "scale_fp16",
                Scale::Double => "scale_double",
            },
        )
    }
}

/// What an adapter offers beyond what every one has, and is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Sums over lanes by subgroup shuffles.
    pub subgroups: bool,
    /// Dot products of packed bytes, for single tokens with INT8 matrices.
    pub packed_dot: bool,
}

/// A kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kernel {
    Embed,
    LayerNorm,
    Token,
    Tokens,
    Conv1d,
    Step,
    ScanSequential,
    ScanParallel,
    SkipGate,
    Route,
    Combine,
    Attention,
    Nll,
    Sample,
    SsmToken,
    MixerToken,
}

impl Kernel {
    /// Every one there is.
    pub const ALL: [Self; 16] = [
        Self::Embed,
        Self::LayerNorm,
        Self::Token,
        Self::Tokens,
        Self::Conv1d,
        Self::Step,
        Self::ScanSequential,
        Self::ScanParallel,
        Self::SkipGate,
        Self::Route,
        Self::Combine,
        Self::Attention,
        Self::Nll,
        Self::Sample,
        Self::SsmToken,
        Self::MixerToken,
    ];

    /// The names of its matrices, in the order of their bindings.
    pub fn matrices(self) -> &'static [&'static str] {
        match self {
            Self::Embed => &["tokens", "positions"],
            Self::Token | Self::Tokens => &["w"],
            Self::SsmToken => &["delta", "b", "c", "proj"],
            Self::MixerToken => &["gate", "w1", "w2"],
            _ => &[],
        }
    }

    /// Its `override` constants.
    pub fn overrides(self) -> &'static [&'static str] {
        match self {
            Self::Token => &["NORM", "GELU", "ADD", "KEPT", "ROUTED", "INTEGER"],
            Self::Tokens => &["GELU", "ADD", "ROUTED"],
            Self::MixerToken => &["EXPERTS"],
            _ => &[],
        }
    }

    /// Whether it changes the control block; the others only read it.
    pub fn writes_control(self) -> bool {
        self == Self::Sample
    }

    /// Layout of its uniform block.
    pub fn params(self) -> &'static [Field] {
        match self {
            Self::Embed => Embed::FIELDS,
            Self::LayerNorm => LayerNorm::FIELDS,
            Self::Token => Token::FIELDS,
            Self::Tokens => Tokens::FIELDS,
            Self::Conv1d => Conv1d::FIELDS,
            Self::Step => Step::FIELDS,
            Self::ScanSequential | Self::ScanParallel => Scan::FIELDS,
            Self::SkipGate => SkipGate::FIELDS,
            Self::Route => Route::FIELDS,
            Self::Combine => Combine::FIELDS,
            Self::Attention => Attention::FIELDS,
            Self::Nll => Nll::FIELDS,
            Self::Sample => Sample::FIELDS,
            Self::SsmToken => SsmToken::FIELDS,
            Self::MixerToken => MixerToken::FIELDS,
        }
    }

    /// Its own file, and those it builds on besides `common.wgsl`, its matrices and sums.
    fn files(self) -> (&'static str, &'static [&'static str]) {
        const GATE: &str = include_str!("../ops/gate/gate.wgsl");
        const NORM: &str = include_str!("../ops/norm/norm.wgsl");
        const SOFTMAX: &str = include_str!("../ops/softmax/softmax.wgsl");
        const ADVANCE: &str = include_str!("../ops/conv1d/advance.wgsl");
        match self {
            Self::Embed => (include_str!("../ops/embed/embed.wgsl"), &[]),
            Self::LayerNorm => (include_str!("../ops/norm/layer_norm.wgsl"), &[NORM]),
            Self::Token => (include_str!("../linear/token.wgsl"), &[NORM, GATE]),
            Self::Tokens => (include_str!("../linear/tokens.wgsl"), &[GATE]),
            Self::Conv1d => (include_str!("../ops/conv1d/conv1d.wgsl"), &[GATE]),
            Self::Step => (include_str!("../ops/gate/step.wgsl"), &[GATE]),
            Self::ScanSequential => (include_str!("../ops/scan/sequential.wgsl"), &[ADVANCE]),
            Self::ScanParallel => (include_str!("../ops/scan/parallel.wgsl"), &[ADVANCE]),
            Self::SkipGate => (include_str!("../ops/gate/skip_gate.wgsl"), &[GATE]),
            Self::Route => (include_str!("../ops/route/route.wgsl"), &[]),
            Self::Combine => (include_str!("../ops/route/combine.wgsl"), &[]),
            Self::Attention => (include_str!("../ops/attention/attention.wgsl"), &[]),
            Self::Nll => (include_str!("../ops/softmax/nll.wgsl"), &[SOFTMAX]),
            Self::Sample => (include_str!("../ops/softmax/sample.wgsl"), &[SOFTMAX]),
            Self::SsmToken => (include_str!("../fused/ssm_token.wgsl"), &[GATE]),
            Self::MixerToken => (include_str!("../fused/mixer_token.wgsl"), &[NORM, GATE]),
        }
    }

    /// Whether it sums over threads.
    pub fn sums(self) -> bool {
        self.files().0.contains("SUBGROUP_START")
    }

    /// Its text, for matrices of these codecs.
    pub fn source(self, codecs: &[Codec], features: Features) -> String {
        let (own, builds_on) = self.files();
        let subgroups = features.subgroups && self.sums();
        let mut text = String::new();
        let access = if self.writes_control() { "read_write" } else { "read" };
        text.push_str(&include_str!("common.wgsl").replace("CONTROL_ACCESS", access));
        if self.sums() {
            text.push_str(match subgroups {
                true => include_str!("reduce_subgroup.wgsl"),
                false => include_str!("reduce.wgsl"),
            });
        }
        if !self.matrices().is_empty() {
            text.push_str(include_str!("../codecs/scales.wgsl"));
            text.push_str(&tables(codecs));
        }
        for (i, (name, codec)) in self.matrices().iter().zip(codecs).enumerate() {
            let mut matrix = codec.text();
            if own.contains("_dot(") {
                matrix.push_str(include_str!("../linear/dot.wgsl"));
            }
            if own.contains("_integer_dot(") {
                let integers = features.packed_dot && *codec == Codec::Int8;
                let text = match integers {
                    true => include_str!("../codecs/int8/integer.wgsl"),
                    false => include_str!("../linear/no_integers.wgsl"),
                };
                matrix.push_str(&text.replace("SCALE(", "scale_fp32("));
            }
            text.push_str(&matrix.replace("MATRIX", name).replace("BINDING", &(4 + i).to_string()));
        }
        builds_on.iter().for_each(|file| text.push_str(file));
        let (argument, start) = match subgroups {
            true => (",\n    @builtin(subgroup_size) width: u32,\n", "subgroup_width = width;"),
            false => ("", ""),
        };
        let own = own.replace("SUBGROUP_ARGUMENT", argument).replace("SUBGROUP_START", start);
        let own = own.replace("FUSED_OPERAND", &(FUSED_OPERAND / 4).to_string());
        text.push_str(&own.replace("FUSED_EXPERTS", &FUSED_EXPERTS.to_string()));
        text.replace("THREADS = 256u", &format!("THREADS = {THREADS}u"))
    }
}

/// The tables that codecs look codes up in, and how they get there.
fn tables(codecs: &[Codec]) -> String {
    if !codecs.iter().any(|codec| matches!(codec, Codec::Nf4 { .. })) {
        return "fn prepare_tables(thread: u32) {}\n".into();
    }
    let mut values = String::new();
    for value in nf4::TABLE {
        // Writing to a String cannot fail.
        let _ = write!(values, "{value:?}, ");
    }
    include_str!("../codecs/nf4/table.wgsl").replace("NF4_VALUES", &values)
}

//! Every family there is: the ones that run, and the ones that are only known by their keys.

use statepress_core::Index;

use super::builder::Builder;
use super::{bamba, falcon_h1, gpt2, granite, itera_lite, jamba, llama, mamba, mamba2, transformer};
use crate::EngineError;

/// One file of this folder, or a family that cannot be run yet.
pub(crate) struct Entry {
    /// Its name in reports; a family that finds a closer one says so ([`Builder::family`]).
    pub name: &'static str,
    /// What people call it, with its closest kin.
    pub title: &'static str,
    /// What stands before every key but the head's in the usual spelling; `model.`, say.
    pub trunk: &'static str,
    /// Keys behind the trunk that its checkpoints have. `*` stands for a layer's number.
    pub keys: &'static [&'static str],
    /// Keys that they do not have.
    pub without: &'static [&'static str],
    /// Other spellings within a key: `(found, usual)`.
    pub aliases: &'static [(&'static str, &'static str)],
    /// The token table, with the trunk.
    pub table: &'static str,
    /// Other names of configuration fields: `(ours, others)`. `a.b` is field `b` of object `a`. Ours is the
    /// one that `declare` asks for, which is what the family's `transformers` configuration calls it.
    pub fields: &'static [(&'static str, &'static [&'static str])],
    /// What it takes to run it.
    pub run: Run,
}

impl Entry {
    /// What stands behind the trunk before the number of a layer.
    pub fn layers(&self) -> &'static str {
        self.keys.first().and_then(|key| key.split(['*', '0']).next()).unwrap_or_default()
    }
}

/// What it takes to run a family.
pub(crate) enum Run {
    /// Its program.
    Program(fn(&mut Builder) -> Result<(), EngineError>),
    /// An op that this version lacks, in words.
    Lacks(&'static str),
}

/// The order counts: the first family whose keys are there is taken.
pub(crate) const REGISTRY: &[&Entry] = &[
    &itera_lite::ENTRY,
    &transformer::ENTRY,
    &falcon_h1::ENTRY,
    &granite::ENTRY,
    &jamba::ENTRY,
    &bamba::ENTRY,
    &mamba::ENTRY,
    &mamba2::ENTRY,
    &named(
        "mamba3",
        "Mamba-3",
        "backbone.",
        &["layers.*.mixer.B_bias", "layers.*.mixer.B_norm.weight"],
        "backbone.embedding.weight",
        "its trapezoidal scan with rotating states",
    ),
    &named(
        "nemotron-h",
        "Nemotron-H",
        "backbone.",
        &["layers.*.mixer.in_proj.weight", "layers.*.mixer.up_proj.weight"],
        "backbone.embeddings.weight",
        "its squared ReLU and its pattern of layers",
    ),
    &named(
        "zamba2",
        "Zamba2",
        "model.",
        &["layers.*.mamba.in_proj.weight", "layers.*.shared_transformer.self_attn.q_proj.weight"],
        "model.embed_tokens.weight",
        "attention that layers share, with LoRA",
    ),
    &named(
        "jamba-moe",
        "Jamba with experts",
        "model.",
        &["layers.*.mamba.x_proj.weight", "layers.*.feed_forward.router.weight"],
        "model.embed_tokens.weight",
        "experts beside dense layers",
    ),
    &named(
        "qwen3-next",
        "Qwen3-Next, Gated DeltaNet",
        "model.",
        &["layers.*.linear_attn.A_log"],
        "model.embed_tokens.weight",
        "the gated delta rule",
    ),
    &named(
        "delta-net",
        "DeltaNet",
        "model.",
        &["layers.*.attn.b_proj.weight", "layers.*.attn.q_conv1d.weight"],
        "model.embeddings.weight",
        "the delta rule",
    ),
    &named(
        "lfm2",
        "LFM2",
        "model.",
        &["layers.*.conv.in_proj.weight"],
        "model.embed_tokens.weight",
        "gated short convolutions",
    ),
    &named(
        "rwkv7",
        "RWKV-7",
        "",
        &["blocks.*.att.w1", "blocks.*.att.k_k"],
        "emb.weight",
        "the generalised delta rule of RWKV-7",
    ),
    &named(
        "rwkv7",
        "RWKV-7",
        "model.",
        &["layers.*.attn.w_lora.lora.0.weight", "layers.*.attn.k_k"],
        "model.embeddings.weight",
        "the generalised delta rule of RWKV-7",
    ),
    &named(
        "rwkv6",
        "RWKV-6",
        "",
        &["blocks.*.att.time_maa_w1"],
        "emb.weight",
        "the data-dependent decay of RWKV-6",
    ),
    &named(
        "rwkv5",
        "RWKV-5",
        "",
        &["blocks.*.att.time_decay", "blocks.*.att.ln_x.weight"],
        "emb.weight",
        "the matrix-valued state of RWKV-5",
    ),
    &named(
        "rwkv4",
        "RWKV-4",
        "rwkv.",
        &["blocks.*.attention.time_decay"],
        "rwkv.embeddings.weight",
        "the weighted key-value recurrence of RWKV-4",
    ),
    &named(
        "rwkv4",
        "RWKV-4",
        "",
        &["blocks.*.att.time_decay"],
        "emb.weight",
        "the weighted key-value recurrence of RWKV-4",
    ),
    &named(
        "xlstm",
        "xLSTM",
        "backbone.",
        &["blocks.*.mlstm_layer.igate_preact.weight"],
        "backbone.embeddings.weight",
        "the exponential gates of xLSTM",
    ),
    &named(
        "recurrent-gemma",
        "RecurrentGemma, Griffin",
        "model.",
        &["layers.*.temporal_block.rg_lru.recurrent_param"],
        "model.embed_tokens.weight",
        "the real-gated linear recurrent unit",
    ),
    &llama::ENTRY,
    &gpt2::ENTRY,
    &named(
        "bert",
        "BERT and its kin",
        "bert.",
        &["encoder.layer.*.attention.self.query.weight"],
        "bert.embeddings.word_embeddings.weight",
        "attention that looks ahead: it predicts no next token",
    ),
];

const fn named(
    name: &'static str,
    title: &'static str,
    trunk: &'static str,
    keys: &'static [&'static str],
    table: &'static str,
    lacks: &'static str,
) -> Entry {
    Entry { name, title, trunk, keys, without: &[], aliases: &[], table, fields: &[], run: Run::Lacks(lacks) }
}

/// A family for people: what the README's table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyInfo {
    /// Its name in reports.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What this version lacks to run it.
    pub lacks: Option<&'static str>,
}

/// Every family, those that run first.
pub fn families() -> Vec<FamilyInfo> {
    let mut all: Vec<FamilyInfo> = Vec::new();
    for entry in REGISTRY {
        let lacks = match entry.run {
            Run::Program(_) => None,
            Run::Lacks(what) => Some(what),
        };
        if !all.iter().any(|known| known.name == entry.name) {
            all.push(FamilyInfo { name: entry.name, title: entry.title, lacks });
        }
    }
    all.sort_by_key(|family| family.lacks.is_some());
    all
}

/// The error of a checkpoint of no family.
pub(crate) fn unknown(index: &Index) -> EngineError {
    let first: Vec<_> = index.tensors.iter().take(5).map(|entry| entry.name.as_str()).collect();
    let runnable: Vec<_> = families().into_iter().filter(|family| family.lacks.is_none()).collect();
    let titles: Vec<_> = runnable.iter().map(|family| family.title).collect();
    let reason = format!(
        "no model of a known family ({}); the first keys are [{}]",
        titles.join("; "),
        first.join(", ")
    );
    EngineError::UnknownModel { reason }
}

//! Models in llama.cpp's files: which tensor there is which weight, what was done to its numbers, and what the header's keys
//! say in the words of configurations. Sources: `gguf-py/gguf/tensor_mapping.py` and `convert_hf_to_gguf.py` of llama.cpp.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use statepress_core::coded::Undo;
use statepress_core::index::{Format, Stored};
use statepress_core::words::counted;
use statepress_core::{Encoding, Entry, Finding, Index, Source};
use statepress_formats::{FormatError, gguf, read_tensor};
use statepress_kernels::codecs;

use crate::EngineError;

/// An architecture of llama.cpp, and the family that it is here.
struct Arch {
    /// `general.architecture`.
    name: &'static str,
    /// `model_type` of configurations.
    kind: &'static str,
    /// What stands before weights of the model, and before the number of a layer.
    trunk: &'static str,
    layers: &'static str,
    /// Tensors of the model and of its layers.
    names: &'static [&'static [Name]],
    /// Fields by what the header calls them, behind the name of the architecture.
    fields: &'static [&'static [Name]],
    /// Fields that are so in all its files.
    always: &'static [(&'static str, bool)],
    /// Whether neighbouring channels of a head turn together (rope of the type NORM), where `transformers` turns halves (NEOX).
    interleaved_rope: bool,
    /// Whether the products' weights stand as `[in, out]` in the family.
    transposes: bool,
}

/// What something is called there, and here. Tensors are called so before `.weight` and `.bias`, unless that is said.
type Name = (&'static str, &'static str);

const SSM: &[Name] = &[
    ("ssm_in", "mixer.in_proj"),
    ("ssm_conv1d", "mixer.conv1d"),
    ("ssm_x", "mixer.x_proj"),
    ("ssm_dt", "mixer.dt_proj"),
    ("ssm_a", "mixer.A_log"),
    ("ssm_d", "mixer.D"),
    ("ssm_out", "mixer.out_proj"),
    ("attn_norm", "norm"),
];
const SSD: &[Name] = &[("ssm_dt.bias", "mixer.dt_bias"), ("ssm_norm", "mixer.norm")];
const HYBRID: &[Name] = &[
    ("ssm_in", "mamba.in_proj"),
    ("ssm_conv1d", "mamba.conv1d"),
    ("ssm_dt.bias", "mamba.dt_bias"),
    ("ssm_a", "mamba.A_log"),
    ("ssm_d", "mamba.D"),
    ("ssm_norm", "mamba.norm"),
    ("ssm_out", "mamba.out_proj"),
];
const ATTENTION: &[Name] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];
const MLP: &[Name] = &[
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const OUTER: &[Name] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
const OUTER_SSM: &[Name] =
    &[("token_embd", "backbone.embeddings"), ("output_norm", "backbone.norm_f"), ("output", "lm_head")];

const SIZES: &[Name] = &[("block_count", "num_hidden_layers"), ("embedding_length", "hidden_size")];
const SSM_FIELDS: &[Name] = &[
    ("attention.layer_norm_rms_epsilon", "layer_norm_epsilon"),
    ("ssm.conv_kernel", "conv_kernel"),
    ("ssm.state_size", "state_size"),
];
const ATTENTION_FIELDS: &[Name] = &[
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.sliding_window", "sliding_window"),
    ("context_length", "max_position_embeddings"),
    ("rope.freq_base", "rope_theta"),
    ("rope.scaling.type", "rope_type"),
    ("rope.scaling.factor", "rope_factor"),
    ("rope.scaling.original_context_length", "rope_original_positions"),
];
const HYBRID_FIELDS: &[Name] = &[("ssm.group_count", "mamba_n_groups"), ("ssm.conv_kernel", "mamba_d_conv")];

/// What most of them have in common.
const USUAL: Arch = Arch {
    name: "",
    kind: "",
    trunk: "model.",
    layers: "layers.",
    names: &[OUTER, ATTENTION, MLP],
    fields: &[SIZES, ATTENTION_FIELDS],
    always: &[],
    interleaved_rope: false,
    transposes: false,
};

const ARCHS: &[Arch] = &[
    Arch {
        name: "mamba",
        kind: "mamba",
        trunk: "backbone.",
        names: &[OUTER_SSM, SSM],
        fields: &[
            SIZES,
            SSM_FIELDS,
            &[("ssm.inner_size", "intermediate_size"), ("ssm.time_step_rank", "time_step_rank")],
        ],
        ..USUAL
    },
    Arch {
        name: "mamba2",
        kind: "mamba2",
        trunk: "backbone.",
        names: &[OUTER_SSM, SSD, SSM],
        fields: &[SIZES, SSM_FIELDS, &[("ssm.group_count", "n_groups"), ("ssm.time_step_rank", "num_heads")]],
        always: &[("norm_before_gate", false)],
        ..USUAL
    },
    Arch { name: "llama", kind: "llama", interleaved_rope: true, ..USUAL },
    Arch { name: "qwen2", kind: "qwen2", ..USUAL },
    Arch { name: "qwen3", kind: "qwen3", ..USUAL },
    Arch {
        name: "gpt2",
        kind: "gpt2",
        trunk: "transformer.",
        layers: "h.",
        names: &[
            &[
                ("token_embd", "transformer.wte"),
                ("position_embd", "transformer.wpe"),
                ("output_norm", "transformer.ln_f"),
                ("output", "lm_head"),
            ],
            &[
                ("attn_norm", "ln_1"),
                ("ffn_norm", "ln_2"),
                ("attn_qkv", "attn.c_attn"),
                ("attn_output", "attn.c_proj"),
                ("ffn_up", "mlp.c_fc"),
                ("ffn_down", "mlp.c_proj"),
            ],
        ],
        fields: &[
            SIZES,
            &[
                ("attention.layer_norm_epsilon", "layer_norm_epsilon"),
                ("attention.head_count", "num_attention_heads"),
                ("context_length", "max_position_embeddings"),
            ],
        ],
        transposes: true,
        ..USUAL
    },
    Arch {
        name: "granitehybrid",
        kind: "granitemoehybrid",
        names: &[
            OUTER,
            ATTENTION,
            HYBRID,
            &[("ffn_norm", "post_attention_layernorm"), ("ffn_down", "shared_mlp.output_linear")],
        ],
        fields: &[
            SIZES,
            ATTENTION_FIELDS,
            HYBRID_FIELDS,
            &[
                ("embedding_scale", "embedding_multiplier"),
                ("residual_scale", "residual_multiplier"),
                ("attention.scale", "attention_multiplier"),
                ("logit_scale", "logits_scaling"),
            ],
        ],
        interleaved_rope: true,
        ..USUAL
    },
    Arch {
        name: "falcon-h1",
        kind: "falcon_h1",
        names: &[
            &[
                ("token_embd", "model.embed_tokens"),
                ("output_norm", "model.final_layernorm"),
                ("output", "lm_head"),
            ],
            ATTENTION,
            HYBRID,
            &[
                // Here it lacks the ending that all norms have, or has it.
                ("ffn_norm", "pre_ff_layernorm.weight"),
                ("ffn_norm.weight", "pre_ff_layernorm.weight"),
                ("ffn_gate", "feed_forward.gate_proj"),
                ("ffn_up", "feed_forward.up_proj"),
                ("ffn_down", "feed_forward.down_proj"),
            ],
        ],
        // What its configuration multiplies by was multiplied into the weights when the file was made.
        fields: &[SIZES, ATTENTION_FIELDS, HYBRID_FIELDS],
        always: &[("mamba_norm_before_gate", false)],
        ..USUAL
    },
];

/// Gates and values of Granite's shared network, which are one weight there.
const GATE: &str = "ffn_gate.weight";
const UP: &str = "ffn_up.weight";
const BOTH: &str = "shared_mlp.input_linear.weight";

/// What frequencies of rotary positions are divided by.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The index of a file of llama.cpp's in the words of its family; any other index as it is.
///
/// # Errors
/// Where factors of rotary positions, which are a tensor there and part of the configuration here, cannot be read.
pub fn translated(source: &dyn Source, mut index: Index) -> Result<Index, EngineError> {
    if index.format != Format::Gguf {
        return Ok(index);
    }
    let said = index.config.take().unwrap_or_default();
    let name = said.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
    let Some(arch) = ARCHS.iter().find(|arch| arch.name == name) else {
        let known: Vec<&str> = ARCHS.iter().map(|arch| arch.name).collect();
        let message = format!(
            "llama.cpp's architecture `{name}` is none that is known here; those are {}",
            known.join(", ")
        );
        index.findings.push(Finding::warning("unknown-architecture", message));
        return Ok(index);
    };
    let mut config = arch.config(&said);
    config.insert("tie_word_embeddings".into(), index.get("output.weight").is_none().into());
    if arch.name == "mamba" && said.get("mamba.ssm.dt_b_c_rms") == Some(&true.into()) {
        config.insert("model_type".into(), "falcon_mamba".into());
        // llama.cpp has one eps for all norms.
        config.extend(config.get("layer_norm_epsilon").cloned().map(|eps| ("mixer_rms_eps".into(), eps)));
    }
    if arch.name == "granitehybrid" && said.get("granitehybrid.rope.scaling.finetuned") == Some(&true.into())
    {
        config.insert("position_embedding_type".into(), "rope".into());
    }
    let factors = index.get(ROPE_FACTORS).filter(|it| is_short(it));
    if let Some(factors) = factors {
        let factors = codecs::into_numbers(read_tensor(source, factors)?);
        config.insert("rope_factors".into(), factors.into());
    }
    if let Some(experts) = said.get(&format!("{name}.expert_count")).filter(|count| **count != 0) {
        let message =
            format!("the model has {experts} experts in each layer, which are not read from GGUF files");
        index.findings.push(Finding::warning("experts-not-read", message));
    }
    let pairs = arch.interleaved_rope.then(|| head(&said, arch.name)).flatten();
    let entries = std::mem::take(&mut index.tensors);
    let of: BTreeMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    index.tensors = entries.iter().filter_map(|entry| arch.entry(entry, &of, pairs)).collect();
    let mut names = BTreeSet::new();
    if let Some(twice) = index.tensors.iter().find(|entry| !names.insert(entry.name.as_str())) {
        let (tensor, why) = (twice.name.clone(), "two tensors of the file mean it".into());
        return Err(FormatError::Tensor { tensor, why }.into());
    }
    index.findings.extend(told(&index));
    index.config = Some(config);
    Ok(index)
}

impl Arch {
    /// The weight that a tensor is; `None` for what is part of another one, or of the configuration.
    fn entry(&self, entry: &Entry, of: &BTreeMap<&str, &Entry>, pairs: Option<[usize; 2]>) -> Option<Entry> {
        let Self { trunk, layers, .. } = self;
        let in_layer = entry.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let (prefix, bare) = match in_layer {
            Some((layer, bare)) => (format!("{trunk}{layers}{layer}."), bare),
            None => (String::new(), entry.name.as_str()),
        };
        if entry.name == ROPE_FACTORS && is_short(entry) {
            return None;
        }
        let as_it_is = || Some(entry.clone());
        if self.kind == "granitemoehybrid" && [GATE, UP].contains(&bare) {
            let [gate, up] =
                [GATE, UP].map(|other| of.get(entry.name.replace(bare, other).as_str()).copied());
            let Some(both) =
                gate.zip(up).and_then(|(gate, up)| one_below_the_other(&format!("{prefix}{BOTH}"), gate, up))
            else {
                return as_it_is();
            };
            return (bare == GATE).then_some(both);
        }
        let Some(name) = self.name_of(bare) else { return as_it_is() };
        let Some((shape, undo)) = self.form(bare, &entry.shape, pairs) else { return as_it_is() };
        gguf::entry(&format!("{prefix}{name}"), shape, &[entry], undo).or_else(as_it_is)
    }

    /// What a tensor is called here.
    fn name_of(&self, bare: &str) -> Option<String> {
        let names = || self.names.iter().copied().flatten();
        if let Some((_, ours)) = names().find(|(theirs, _)| *theirs == bare) {
            return Some((*ours).into());
        }
        let (stem, ending) = bare.rsplit_once('.')?;
        let (_, ours) = names().find(|(theirs, _)| *theirs == stem)?;
        Some(format!("{ours}.{ending}"))
    }

    /// The shape that it has here, and what was done to its numbers; `None` where that cannot be said.
    fn form(
        &self,
        bare: &str,
        shape: &[usize],
        pairs: Option<[usize; 2]>,
    ) -> Option<(Vec<usize>, Option<Undo>)> {
        let flat = || vec![shape.iter().product()];
        Some(match (bare, shape) {
            // Of Mamba-2 one number for each head.
            ("ssm_a", [_, 1]) => (flat(), Some(Undo::NegExp)),
            ("ssm_a", _) => (shape.to_vec(), Some(Undo::NegExp)),
            ("ssm_d" | "ssm_norm.weight", _) => (flat(), None),
            ("ssm_conv1d.weight", [channels, taps]) => (vec![*channels, 1, *taps], None),
            ("attn_q.weight" | "attn_q.bias" | "attn_k.weight" | "attn_k.bias", [rows, ..])
                if self.interleaved_rope =>
            {
                let [head, rotary] = pairs.filter(|[head, _]| rows.is_multiple_of(*head))?;
                (shape.to_vec(), Some(Undo::Pairs { head, rotary }))
            }
            (
                "attn_qkv.weight" | "attn_output.weight" | "ffn_up.weight" | "ffn_down.weight",
                [rows, columns],
            ) if self.transposes => (vec![*columns, *rows], Some(Undo::Transpose)),
            _ => (shape.to_vec(), None),
        })
    }

    /// The configuration that the header is.
    fn config(&self, said: &Map<String, Value>) -> Map<String, Value> {
        let mut config = Map::from_iter([("model_type".to_string(), self.kind.into())]);
        config.extend(self.always.iter().map(|(field, value)| ((*field).into(), (*value).into())));
        for (theirs, ours) in self.fields.iter().copied().flatten() {
            let value = match said.get(&format!("{}.{theirs}", self.name)) {
                // One for each layer, of which those without attention have none.
                Some(Value::Array(each)) => each.iter().max_by_key(|it| it.as_u64()).cloned(),
                value => value.cloned(),
            };
            let value = value
                .map(|value| if *ours == "rope_type" && value == "none" { "default".into() } else { value });
            if let Some(value) = value.filter(|value| *value != 0) {
                config.insert((*ours).into(), value);
            }
        }
        // As files had it before there were types of scaling.
        if let Some(factor) =
            said.get(&format!("{}.rope.scale_linear", self.name)).filter(|it| it.as_f64() != Some(1.0))
        {
            config.insert("rope_type".into(), "linear".into());
            config.insert("rope_factor".into(), factor.clone());
        }
        if let Some([head, rotary]) = head(said, self.name)
            && rotary < head
        {
            config.insert("partial_rotary_factor".into(), (rotary as f64 / head as f64).into());
        }
        config
    }
}

/// Whether a tensor is a few plain numbers, which are read when the file is opened.
fn is_short(entry: &Entry) -> bool {
    const MOST: usize = 4096;
    matches!(entry.shape[..], [len] if len <= MOST) && matches!(entry.stored, Stored::Strided(_))
}

/// The rows of two matrices as one.
fn one_below_the_other(name: &str, above: &Entry, below: &Entry) -> Option<Entry> {
    match (&above.shape[..], &below.shape[..]) {
        (&[rows, columns], &[more, as_wide]) if columns == as_wide => {
            gguf::entry(name, vec![rows.checked_add(more)?, columns], &[above, below], None)
        }
        _ => None,
    }
}

/// The width of a head, and how many of its channels turn.
fn head(said: &Map<String, Value>, arch: &str) -> Option<[usize; 2]> {
    let count = |key: &str| {
        let value = match said.get(&format!("{arch}.{key}"))? {
            Value::Array(each) => each.iter().filter_map(Value::as_u64).max()?,
            value => value.as_u64()?,
        };
        usize::try_from(value).ok().filter(|value| *value > 0)
    };
    let head = match count("attention.key_length") {
        Some(head) => head,
        None => count("embedding_length")? / count("attention.head_count")?,
    };
    let rotary = count("rope.dimension_count").unwrap_or(head);
    (head > 0 && rotary <= head).then_some([head, rotary])
}

/// Says what quantized weights are run from: their codes, or numbers that these are decoded to.
fn told(index: &Index) -> Vec<Finding> {
    // How many weights of which types, and the first of them.
    let mut weights: [BTreeMap<&str, (usize, &str)>; 2] = Default::default();
    for entry in &index.tensors {
        if let Stored::Coded(coded) = &entry.stored
            && !coded.is_plain()
        {
            let of = &mut weights[usize::from(coded.encoding == Encoding::Fp32)];
            of.entry(&coded.scheme).or_insert((0, &entry.name)).0 += 1;
        }
    }
    let [kept, numbers] = weights.map(|types| {
        let (count, first) = types.values().fold((0, ""), |(sum, _), (count, first)| (sum + count, *first));
        let names: Vec<&str> = types.keys().copied().collect();
        (count > 0).then(|| (counted(count, "weight is", "weights are"), names.join(", "), first.to_string()))
    });
    let kept = kept.map(|(weights, types, first)| {
        let message = format!("{weights} quantized, {types}: run from the same codes");
        Finding::info("quantized", message).about(first)
    });
    let numbers = numbers.map(|(weights, types, first)| {
        let message = format!(
            "{weights} quantized, {types}: no encoding here has the same codes in the same order, so they are decoded to float32 to compute \
             with and to compress, which takes more memory than the file"
        );
        Finding::info("quantized", message).about(first)
    });
    kept.into_iter().chain(numbers).collect()
}

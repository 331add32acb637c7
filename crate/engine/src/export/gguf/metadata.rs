//! What the header says of a model: sizes under the keys of llama.cpp's architectures, counted from the program.

use statepress_core::{GgmlType, Role, spec::Fields};
use statepress_formats::export::gguf::Value;
use statepress_kernels::program::{Attention, NormKind, Op, Program, Ssd, VectorForm};

use super::GgufOptions;
use super::arch::Arch;
use super::walk::Scales;
use crate::EngineError;
use crate::families::ModelSpec;

type Metadata = Vec<(String, Value)>;

/// What llama.cpp takes for a sequence's length where a model sets no limit.
const ENDLESS: u32 = 1 << 20;

/// The version of ggml's block types.
const QUANTIZATION_VERSION: u32 = 2;

/// What every file says.
pub(super) fn general(arch: &Arch, options: &GgufOptions, kinds: &[GgmlType], asked: GgmlType) -> Metadata {
    let mut metadata: Metadata = vec![("general.architecture".into(), arch.name.into())];
    if let Some(name) = &options.name {
        metadata.push(("general.name".into(), name.as_str().into()));
    }
    metadata.push(("general.file_type".into(), asked.file_type().into()));
    if kinds.iter().any(|kind| kind.block().0 > 1) {
        metadata.push(("general.quantization_version".into(), QUANTIZATION_VERSION.into()));
    }
    metadata
}

/// What the architecture wants to know.
///
/// # Errors
/// Layers of several sizes, of which llama.cpp knows one.
pub(super) fn model(
    arch: &Arch,
    program: &Program,
    spec: &ModelSpec,
    scales: &Scales,
) -> Result<Metadata, EngineError> {
    let mut metadata = Metadata::new();
    let mut put = |key: &str, value: Value| metadata.push((format!("{}.{key}", arch.name), value));
    let layers = program.n_layers();
    put("context_length", program.max_tokens.map_or(ENDLESS, whole).into());
    put("embedding_length", whole(program.hidden_size()).into());
    put("block_count", whole(layers).into());
    put("vocab_size", whole(program.matrix(program.table).rows).into());
    put("feed_forward_length", by_layer(feed_forward(program)));
    if let Some(norm) = program.head.norm {
        let eps = match norm.kind {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer { .. } => "attention.layer_norm_epsilon",
        };
        put(eps, norm.eps.into());
    }

    let attention = |of: fn(&Attention) -> usize| -> Vec<u32> {
        let mut each = vec![0; layers];
        for node in &program.nodes {
            if let (Op::Attention(it), Some(layer)) = (&node.op, node.layer) {
                each[layer] = whole(of(it));
            }
        }
        each
    };
    // The number of heads is one where all layers that attend agree: llama.cpp tells layers without by their heads of keys.
    let heads = attention(|it| it.heads);
    let most = heads.iter().copied().max().unwrap_or(0);
    let even = heads.iter().all(|&heads| heads == 0 || heads == most);
    put("attention.head_count", if even { most.into() } else { Value::U32s(heads) });
    if most > 0 {
        put("attention.head_count_kv", by_layer(attention(|it| it.kv_heads)));
        let head = one(arch, "heads have", program, |op| match op {
            Op::Attention(it) => Some(vec![it.head, it.inv_freq.map_or(0, |id| 2 * program.vector(id).len)]),
            _ => None,
        })?;
        if let Some([head, rotary]) = head.as_deref() {
            put("attention.key_length", whole(*head).into());
            put("attention.value_length", whole(*head).into());
            if *rotary > 0 {
                put("rope.dimension_count", whole(*rotary).into());
                let theta = number(&spec.fields, "rope_theta").unwrap_or(10_000.0);
                put("rope.freq_base", (theta as f32).into());
            }
            if arch.has_scales {
                // What this key says beside its name: whether attention has rotary positions at all.
                put("rope.scaling.finetuned", (*rotary > 0).into());
            }
        }
    }
    for (key, value) in state_space(arch, program)? {
        put(&key, value);
    }
    if arch.has_scales {
        let fields = [
            ("embedding_scale", scales.embedding),
            ("residual_scale", scales.residual),
            ("attention.scale", scales.attention),
            // Logits are divided by it.
            ("logit_scale", 1.0 / scales.logits),
        ];
        for (key, scale) in fields {
            put(key, scale.into());
        }
    }
    Ok(metadata)
}

/// Sizes of Mamba and Mamba-2.
fn state_space(arch: &Arch, program: &Program) -> Result<Metadata, EngineError> {
    let taps = one(arch, "convolutions have", program, |op| match op {
        Op::Conv1d { taps, .. } => match program.vector(*taps).form {
            VectorForm::Taps { k } => Some(vec![k]),
            _ => None,
        },
        _ => None,
    })?;
    let sizes = one(arch, "state spaces have", program, |op| match op {
        // Inner width, states, rank or heads, groups.
        Op::SelectiveScan { u, a, .. } => {
            let rank = program.matrices.iter().find(|matrix| matrix.role == Role::DtProj)?.cols;
            Some(vec![u.width, program.vector(*a).len / u.width, rank, 0])
        }
        Op::Ssd(Ssd { heads, head, groups, states, .. }) => {
            Some(vec![heads * head, *states, *heads, *groups])
        }
        _ => None,
    })?;
    let (Some([taps]), Some([inner, states, rank, groups])) = (taps.as_deref(), sizes.as_deref()) else {
        return Ok(Metadata::new());
    };
    let d = program.hidden_size();
    if arch.expands_by_two && *inner != 2 * d {
        let what = format!(
            "has a state space of {inner} channels beside a residual stream of {d}, not of twice as many"
        );
        return Err(arch.refused("", &what));
    }
    let mut metadata: Metadata = vec![
        ("ssm.conv_kernel".into(), whole(*taps).into()),
        ("ssm.inner_size".into(), whole(*inner).into()),
        ("ssm.state_size".into(), whole(*states).into()),
        ("ssm.time_step_rank".into(), whole(*rank).into()),
    ];
    if *groups > 0 {
        metadata.push(("ssm.group_count".into(), whole(*groups).into()));
    } else {
        // Step size, B and C are normalised, without weights, in Falcon-Mamba alone.
        let normed = program
            .nodes
            .iter()
            .any(|node| matches!(node.op, Op::Norm { norm, .. } if norm.weight.is_none()));
        metadata.push(("ssm.dt_b_c_rms".into(), normed.into()));
    }
    Ok(metadata)
}

/// The width of each layer's feed-forward network; zeros where there is none.
fn feed_forward(program: &Program) -> Vec<u32> {
    let mut each = vec![0; program.n_layers()];
    for matrix in program.matrices.iter().filter(|matrix| matrix.role == Role::FfnOut) {
        if let Some(layer) = matrix.layer {
            each[layer] = whole(matrix.cols);
        }
    }
    each
}

/// What is asked of the ops, if all layers that have it agree.
fn one(
    arch: &Arch,
    what: &str,
    program: &Program,
    of: impl Fn(&Op) -> Option<Vec<usize>>,
) -> Result<Option<Vec<usize>>, EngineError> {
    let mut all = program.nodes.iter().filter_map(|node| Some((node.layer, of(&node.op)?)));
    let Some((_, first)) = all.next() else { return Ok(None) };
    match all.find(|(_, sizes)| *sizes != first) {
        None => Ok(Some(first)),
        Some((layer, _)) => {
            let block = layer.map(|layer| format!("blk.{layer}.")).unwrap_or_default();
            Err(arch.refused(&block, &format!("is of another size than the layers before ({what} one)")))
        }
    }
}

/// One number where the layers agree, else one for each.
fn by_layer(each: Vec<u32>) -> Value {
    match each.first() {
        Some(&first) if each.iter().all(|&other| other == first) => first.into(),
        _ => Value::U32s(each),
    }
}

fn number(fields: &Fields, name: &str) -> Option<f64> {
    fields.get(name)?.value.as_f64()
}

/// A size as the file has it.
fn whole(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

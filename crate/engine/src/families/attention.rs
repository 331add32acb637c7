//! Attention as Llama and the hybrids have it: projections of queries, keys and values, each with the
//! bias and norm whose tensors are there.

use statepress_core::Role;
use statepress_kernels::program::{Attention, AxisName, Op, StateSize, VectorId, View};

use super::builder::{Builder, Lin};
use crate::EngineError;

/// Attention of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub scale: f32,
    pub inv_freq: Option<VectorId>,
    pub q_norm: Option<(VectorId, f32)>,
    pub k_norm: Option<(VectorId, f32)>,
}

/// Multipliers of a layer's attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionScales {
    pub input: f32,
    pub key: f32,
    pub output: f32,
}

impl Default for AttentionScales {
    fn default() -> Self {
        Self { input: 1.0, key: 1.0, output: 1.0 }
    }
}

/// The width of a head where heads are together as wide as the model. Where some were pruned they are not, and
/// `head_dim` says it: their number is then that of each layer.
pub(super) fn head_width(
    b: &mut Builder,
    d: usize,
    (default, why): (usize, &str),
    rows: usize,
) -> Result<usize, EngineError> {
    let Some(value) = b.fields.optional("head_dim") else {
        return Ok(d / b.fields.free_divisor("num_attention_heads", default, why, d)?);
    };
    let head = value.as_u64().and_then(|head| usize::try_from(head).ok());
    match head.filter(|&head| head > 0 && rows.is_multiple_of(head)) {
        Some(head) => {
            b.fields.counted("num_attention_heads", rows / head, "rows of queries / width of a head");
            Ok(head)
        }
        None => {
            let allowed = format!("a divisor of the {rows} rows of queries");
            Err(b.fields.refuse("head_dim", &value, &allowed))
        }
    }
}

/// Heads of a model, which all its layers of attention share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub head: usize,
}

impl Heads {
    /// Counts the heads of the attention in `scope`; how many there are is in no tensor, unless
    /// queries have norms.
    pub fn of(b: &mut Builder, scope: &str) -> Result<Self, EngineError> {
        let [q_rows, _] = b.shape::<2>(&format!("{scope}q_proj.weight"))?;
        let [k_rows, _] = b.shape::<2>(&format!("{scope}k_proj.weight"))?;
        if b.has(&format!("{scope}q_norm.weight")) {
            let [head] = b.shape(&format!("{scope}q_norm.weight"))?;
            b.expect(
                &format!("{scope}q_proj.weight"),
                q_rows.is_multiple_of(head),
                format!("whole heads of {head}"),
            )?;
            b.fields.counted("num_attention_heads", q_rows / head, "rows of q_proj / length of q_norm");
            b.fields.counted("head_dim", head, "length of q_norm");
            b.fields.counted("num_key_value_heads", k_rows / head, "rows of k_proj / length of q_norm");
            return Ok(Self { head });
        }
        let usual = if q_rows >= 2048 { 128 } else { 64 };
        let fits = |head: &usize| q_rows.is_multiple_of(*head) && k_rows.is_multiple_of(*head);
        let head = (1..=usual).rev().find(fits).unwrap_or(1);
        let why = format!(
            "heads of {head} channels, the most up to the usual {usual} that divide queries and keys"
        );
        let heads = b.fields.free_divisor("num_attention_heads", q_rows / head, &why, q_rows)?;
        let head = q_rows / heads;
        if !k_rows.is_multiple_of(head) {
            let allowed = format!("heads whose width divides {q_rows} and {k_rows}");
            return Err(b.fields.refuse("num_attention_heads", &heads.into(), &allowed));
        }
        b.fields.counted("head_dim", head, "rows of q_proj / heads");
        b.fields.counted("num_key_value_heads", k_rows / head, "rows of k_proj / width of a head");
        Ok(Self { head })
    }

    /// The attention of the layer whose keys begin with `scope`. Without `scale`, scores are divided
    /// by the root of a head's width.
    pub fn shape(
        &self,
        b: &mut Builder,
        scope: &str,
        inv_freq: Option<VectorId>,
        scale: Option<f32>,
        eps: f64,
    ) -> Result<AttentionShape, EngineError> {
        let head = self.head;
        b.scoped(scope, |b| {
            let [q_rows, _] = b.shape::<2>("q_proj.weight")?;
            let [k_rows, _] = b.shape::<2>("k_proj.weight")?;
            b.expect(
                "q_proj.weight",
                q_rows.is_multiple_of(head),
                format!("whole heads of {head} channels"),
            )?;
            b.expect(
                "k_proj.weight",
                k_rows.is_multiple_of(head),
                format!("whole heads of {head} channels"),
            )?;
            let (heads, kv_heads) = (q_rows / head, k_rows / head);
            b.expect(
                "q_proj.weight",
                heads.is_multiple_of(kv_heads),
                format!("a multiple of {kv_heads} heads"),
            )?;
            let channel = b.axis(AxisName::HeadChannel, head);
            let mut norm = |key: &str| b.has(key).then(|| (b.vector(key, Role::Norm, channel), eps as f32));
            let (q_norm, k_norm) = (norm("q_norm.weight"), norm("k_norm.weight"));
            let scale = scale.unwrap_or_else(|| (head as f32).sqrt().recip());
            Ok(AttentionShape { heads, kv_heads, head, scale, inv_freq, q_norm, k_norm })
        })
    }
}

/// Attention of the normed input `x`, added to the residual stream.
pub(crate) fn attention(b: &mut Builder, shape: &AttentionShape, scales: AttentionScales, x: View) {
    let channels = b.hidden_axis();
    let [rows, kv] = b.attention_heads(shape.heads, shape.kv_heads).map(|heads| heads.each(shape.head));
    let lin = |key, rows| Lin::new(key, Role::AttentionIn, rows, channels).x_scale(scales.input);
    let q = b.linear(lin("q_proj", rows), x);
    b.watch("q", q);
    let k = b.linear(lin("k_proj", kv).y_scale(scales.key), x);
    b.watch_product("k");
    let v = b.linear(lin("v_proj", kv), x);
    b.watch("v", v);
    let y = attend(b, shape, q, k, v);
    b.watch("attention", y);
    let o_proj = Lin::new("o_proj", Role::AttentionOut, channels, rows);
    b.linear_add(o_proj.y_scale(scales.output), y);
    b.watch_product("o_proj");
}

/// Attention proper.
pub(super) fn attend(b: &mut Builder, shape: &AttentionShape, q: View, k: View, v: View) -> View {
    let AttentionShape { heads, kv_heads, head, scale, inv_freq, q_norm, k_norm } = *shape;
    let (keys, values) = (
        b.state("k", StateSize::PerToken(kv_heads * head)),
        b.state("v", StateSize::PerToken(kv_heads * head)),
    );
    let y = b.value(heads * head);
    b.push(Op::Attention(Attention {
        heads,
        kv_heads,
        head,
        scale,
        inv_freq,
        q_norm,
        k_norm,
        q,
        k,
        v,
        keys,
        values,
        y: y.value,
    }));
    y
}

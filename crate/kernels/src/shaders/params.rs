//! The uniform blocks of the kernels: the Rust twins of the structs in the WGSL files, which say
//! what the fields mean. A test compares every layout through naga.

use super::NONE;

/// A field of a block: its name, where it lies, in bytes, and its type in WGSL.
pub type Field = (&'static str, usize, &'static str);

/// A uniform block.
pub trait Block {
    /// What WGSL calls it where it is a field of another.
    const NAME: &'static str;

    /// Fields in order.
    const FIELDS: &'static [Field];

    /// The words of the fields in order, of which there are no others.
    fn words(&self, out: &mut Vec<u32>);
}

/// What a field may be.
trait Words {
    /// Its type in WGSL.
    const TYPE: &'static str;

    fn push(&self, out: &mut Vec<u32>);
}

impl Words for u32 {
    const TYPE: &'static str = "u32";

    fn push(&self, out: &mut Vec<u32>) {
        out.push(*self);
    }
}

impl Words for f32 {
    const TYPE: &'static str = "f32";

    fn push(&self, out: &mut Vec<u32>) {
        out.push(self.to_bits());
    }
}

impl<B: Block> Words for B {
    const TYPE: &'static str = B::NAME;

    fn push(&self, out: &mut Vec<u32>) {
        self.words(out);
    }
}

macro_rules! block {
    ($(#[$docs:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        block! { $(#[$docs])* #[derive(Default)] struct $name { $($field: $type),+ } }
    };
    ($(#[$docs:meta])* struct $name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the WGSL file says what they mean")]
        pub struct $name { $(pub $field: $type),+ }

        impl Block for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [Field] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field), <$type as Words>::TYPE)),+];

            fn words(&self, out: &mut Vec<u32>) {
                $(Words::push(&self.$field, out);)+
            }
        }
    };
}

block! {
    /// A matrix or a bank of them; see `common.wgsl`.
    Matrix { rows: u32, cols: u32, eights: u32, scales: u32, block: u32, even: u32, bank_scales: u32, nested: u32 }
}
block! {
    /// Rows of a part of a wider buffer: row t begins at `at + t * stride`; in WGSL a `vec2<u32>`.
    Rows { at: u32, stride: u32 }
}
block! {
    /// A LayerNorm or RMSNorm; see `common.wgsl`.
    Norm { weight: u32, bias: u32, eps: f32, d: u32 }
}
block! {
    /// What is done to a product before any activation; see `linear/affine.wgsl`.
    struct Affine { bias: u32, row_scale: u32, x_scale: f32, y_scale: f32 }
}
block! {
    /// What changes from step to step, and stands before the ids; see `common.wgsl`.
    Control { position: u32, n: u32, row: u32, slot: u32, step: u32, draw: u32, first: u32, capacity: u32 }
}
block! {
    /// `ops/embed/embed.wgsl`
    Embed { tokens: Matrix, positions: Matrix, y: u32, scale: f32, bias: u32, places: u32, first: u32 }
}
block! {
    /// `ops/norm/norm_rows.wgsl`
    NormRows { norm: Norm, x: Rows, y: Rows }
}
block! {
    /// `linear/matvec.wgsl`
    Matvec {
        w: Matrix, norm: Norm, affine: Affine, x: u32, y: u32, lanes: u32, routes: u32, first_expert: u32,
        n_experts: u32, x_stride: u32, z: u32, z_scale: f32, tail: u32, convolved: u32, taps: u32,
        conv_bias: u32, k: u32, rows_of: u32, wanted: u32,
    }
}
block! {
    /// `linear/matmul.wgsl`
    Matmul {
        w: Matrix, affine: Affine, x: Rows, y: Rows, counts: u32, lists: u32, room: u32, first_expert: u32,
        slots: u32, rows_of: u32, wanted: u32,
    }
}
block! {
    /// `ops/conv1d/conv1d.wgsl`
    Conv1d { x: Rows, y: Rows, tail: u32, taps: u32, bias: u32, inner: u32, k: u32 }
}
block! {
    /// `ops/gate/softplus_mean.wgsl`
    SoftplusMean { delta: u32, dt: u32, bias: u32, inner: u32 }
}
block! {
    /// `ops/scan/sequential.wgsl` and `ops/scan/parallel.wgsl`
    Scan {
        x: Rows, dt: u32, bx: u32, h: u32, states: u32, a: u32, n_states: u32, tail: u32, inner: u32, k: u32,
    }
}
block! {
    /// `ops/gate/gate.wgsl`
    Gate { x: Rows, z: Rows, y: Rows, a: Rows, d: u32, z_scale: f32, width: u32, slots: u32 }
}
block! {
    /// `ops/route/route.wgsl`
    Route { logits: u32, routes: u32, shares: u32, counts: u32, lists: u32, room: u32, n_experts: u32, top_k: u32 }
}
block! {
    /// `ops/route/combine.wgsl`
    Combine { hidden: u32, outputs: u32, shares: u32, d: u32, top_k: u32 }
}
block! {
    /// `ops/attention/attention.wgsl`
    Attention {
        q: Rows, k: Rows, v: Rows, y: Rows, keys: u32, values: u32, heads: u32, kv_heads: u32, head: u32,
        scale: f32, turns: u32, pairs: u32, rope_scale: f32, q_norm: u32, k_norm: u32, eps: f32,
    }
}
block! {
    /// `ops/attention/rotate.wgsl`
    Rotate {
        q: Rows, k: Rows, heads: u32, head: u32, turns: u32, pairs: u32, rope_scale: f32, q_norm: u32,
        k_norm: u32, eps: f32,
    }
}
block! {
    /// `ops/accumulate/accumulate.wgsl`
    Accumulate { x: Rows, sums: u32, cols: u32, counts: u32, lists: u32, slots: u32 }
}
block! {
    /// `ops/norm/gated_norm.wgsl`
    GatedNorm { norm: Norm, x: Rows, z: Rows, y: Rows, z_scale: f32 }
}
block! {
    /// `linear/matvec3.wgsl`
    Matvec3 {
        q: Matrix, k: Matrix, v: Matrix, norm: Norm, q_affine: Affine, k_affine: Affine, v_affine: Affine,
        x: u32, q_y: u32, k_y: u32, v_y: u32, lanes: u32,
    }
}
block! {
    /// `linear/matvec_gated.wgsl`
    MatvecGated {
        gate: Matrix, up: Matrix, norm: Norm, gate_affine: Affine, up_affine: Affine, x: u32, y: u32, rows: u32,
        gate_first: u32, up_first: u32, lanes: u32,
    }
}
block! {
    /// `linear/matvec_t.wgsl`
    MatvecT { w: Matrix, norm: Norm, affine: Affine, x: u32, y: u32, lanes: u32 }
}
block! {
    /// `ops/conv1d/advance.wgsl`
    Advance { x: Rows, tail: u32, inner: u32, k: u32 }
}
block! {
    /// `ops/gate/activate.wgsl`
    Activate { x: Rows, width: u32, slots: u32 }
}
block! {
    /// `ops/gate/softplus.wgsl`
    Softplus { x: Rows, y: Rows, bias: u32, least: f32, most: f32, width: u32 }
}
block! {
    /// `ops/gate/copy.wgsl`
    CopyRows { x: Rows, y: Rows, width: u32 }
}
block! {
    /// `ops/selective_scan/selective_scan.wgsl`
    SelectiveScan {
        dt_proj: Matrix, u: Rows, b: Rows, c: Rows, dt: Rows, z: Rows, y: Rows, x: Rows, h: u32, a: u32, d: u32,
        dt_bias: u32, dt_least: f32, dt_most: f32, inner: u32, n_states: u32, tail: u32, k: u32,
    }
}
block! {
    /// `ops/ssd/ssd.wgsl`
    Ssd {
        u: Rows, b: Rows, c: Rows, dt: Rows, y: Rows, x: Rows, h: u32, a: u32, d: u32, d_per_channel: u32,
        dt_bias: u32, dt_least: f32, dt_most: f32, heads: u32, head: u32, groups: u32, n_states: u32, lanes: u32,
        tail: u32, conv: u32, k: u32,
    }
}
block! {
    /// `ops/softmax/nll.wgsl`
    Nll { logits: u32, nll: u32, vocab_size: u32 }
}
block! {
    /// `ops/softmax/sample.wgsl`
    Sample {
        logits: u32, kept: u32, vocab_size: u32, probabilities: u32, random: u32, usable: u32, top_k: u32,
        temperature: f32,
    }
}
block! {
    /// `fused/ssm_token.wgsl`
    SsmToken {
        delta: Matrix, b: Matrix, c: Matrix, proj: Matrix, xz: u32, hidden: u32, tail: u32, h: u32, taps: u32,
        conv_bias: u32, a: u32, d: u32, delta_bias: u32, inner: u32, n_states: u32, k: u32, lanes: u32,
    }
}
block! {
    /// `fused/ffn_token.wgsl`
    FfnToken {
        gate: Matrix, w1: Matrix, w2: Matrix, norm: Norm, hidden: u32, n_experts: u32, top_k: u32, lanes: u32,
    }
}

impl Rows {
    /// Rows of `width` numbers without a gap.
    pub fn whole(at: u32, width: usize) -> Self {
        Self { at, stride: width as u32 }
    }

    /// The part of these rows that begins with column `first`.
    pub fn from_column(self, first: usize) -> Self {
        Self { at: self.at + first as u32, ..self }
    }
}

/// Nothing.
impl Default for Affine {
    fn default() -> Self {
        Self { bias: NONE, row_scale: NONE, x_scale: 1.0, y_scale: 1.0 }
    }
}

//! The uniform blocks of the kernels: the Rust twins of the structs in the WGSL files, which say
//! what the fields mean. A test compares every layout through naga.

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
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    /// A LayerNorm; see `common.wgsl`.
    Norm { weight: u32, bias: u32, eps: f32, d: u32 }
}
block! {
    /// What changes from step to step, and stands before the ids; see `common.wgsl`.
    Control { position: u32, n: u32, row: u32, slot: u32, step: u32, draw: u32, first: u32, capacity: u32 }
}
block! {
    /// `ops/embed/embed.wgsl`
    Embed { tokens: Matrix, positions: Matrix, y: u32 }
}
block! {
    /// `ops/norm/layer_norm.wgsl`
    LayerNorm { norm: Norm, x: u32, y: u32 }
}
block! {
    /// `linear/token.wgsl`
    Token {
        w: Matrix, norm: Norm, x: u32, y: u32, lanes: u32, routes: u32, first_expert: u32, n_experts: u32,
        x_per_slot: u32,
    }
}
block! {
    /// `linear/tokens.wgsl`
    Tokens { w: Matrix, x: u32, y: u32, counts: u32, lists: u32, room: u32, first_expert: u32, slots: u32 }
}
block! {
    /// `ops/conv1d/conv1d.wgsl`
    Conv1d { wide: u32, tail: u32, y: u32, taps: u32, bias: u32, inner: u32, k: u32 }
}
block! {
    /// `ops/gate/step.wgsl`
    Step { delta: u32, dt: u32, bias: u32, inner: u32 }
}
block! {
    /// `ops/scan/sequential.wgsl` and `ops/scan/parallel.wgsl`
    Scan {
        dt: u32, driven: u32, h: u32, states: u32, a: u32, n_states: u32, tail: u32, wide: u32, inner: u32, k: u32,
    }
}
block! {
    /// `ops/gate/skip_gate.wgsl`
    SkipGate { y: u32, a: u32, wide: u32, d: u32, inner: u32 }
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
    Attention { qkv: u32, keys: u32, values: u32, y: u32, d: u32, heads: u32 }
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
        delta: Matrix, b: Matrix, c: Matrix, proj: Matrix, wide: u32, hidden: u32, tail: u32, h: u32, taps: u32,
        conv_bias: u32, a: u32, d: u32, delta_bias: u32, inner: u32, n_states: u32, k: u32, lanes: u32,
    }
}
block! {
    /// `fused/mixer_token.wgsl`
    MixerToken {
        gate: Matrix, w1: Matrix, w2: Matrix, norm: Norm, hidden: u32, n_experts: u32, top_k: u32, lanes: u32,
    }
}

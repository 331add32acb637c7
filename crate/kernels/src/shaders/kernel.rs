//! The kernels there are.

use super::params::{self, Block as _, Field};

macro_rules! kernels {
    ($($kernel:ident: $params:ident, $file:literal, [$($matrix:literal),*], [$($override:literal),*];)+) => {
        /// A kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the WGSL file says what it computes")]
        pub enum Kernel { $($kernel),+ }

        impl Kernel {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$kernel),+];

            /// The names of its matrices, in the order of their bindings.
            pub fn matrices(self) -> &'static [&'static str] {
                match self { $(Self::$kernel => &[$($matrix),*]),+ }
            }

            /// Its `override` constants.
            pub fn overrides(self) -> &'static [&'static str] {
                match self { $(Self::$kernel => &[$($override),*]),+ }
            }

            /// Layout of its uniform block.
            pub fn params(self) -> &'static [Field] {
                match self { $(Self::$kernel => params::$params::FIELDS),+ }
            }

            /// Its own file.
            pub(super) fn text(self) -> &'static str {
                match self { $(Self::$kernel => shader!(concat!("../", $file))),+ }
            }
        }
    };
}

// Kernel: uniform block, file, matrices, overrides.
kernels! {
    Embed: Embed, "ops/embed/embed.wgsl", ["tokens", "positions"], ["POSITIONS", "MAPPED"];
    Norm: NormRows, "ops/norm/norm_rows.wgsl", [], [];
    GatedNorm: GatedNorm, "ops/norm/gated_norm.wgsl", [], ["NORM_FIRST"];
    Matvec: Matvec, "linear/matvec.wgsl", ["w"],
        ["NORM", "GATED", "NORM_FIRST", "CONV", "GELU", "GELU_TANH", "SILU", "ADD", "KEPT", "ROUTED", "INTEGER", "MAPPED"];
    Matmul: Matmul, "linear/matmul.wgsl", ["w"],
        ["GELU", "GELU_TANH", "SILU", "ADD", "ROUTED", "TRANSPOSED", "MAPPED"];
    Matvec3: Matvec3, "linear/matvec3.wgsl", ["q", "k", "v"], ["NORM", "INTEGER"];
    MatvecGated: MatvecGated, "linear/matvec_gated.wgsl", ["gate", "up"], ["NORM", "INTEGER"];
    MatvecT: MatvecT, "linear/matvec_t.wgsl", ["w"], ["NORM", "GELU", "GELU_TANH", "SILU", "ADD"];
    Conv1d: Conv1d, "ops/conv1d/conv1d.wgsl", [], ["SILU", "ADVANCE"];
    Advance: Advance, "ops/conv1d/advance.wgsl", [], [];
    Activate: Activate, "ops/gate/activate.wgsl", [], ["GELU", "GELU_TANH", "SILU"];
    Softplus: Softplus, "ops/gate/softplus.wgsl", [], [];
    SoftplusMean: SoftplusMean, "ops/gate/softplus_mean.wgsl", [], [];
    ScanSequential: Scan, "ops/scan/sequential.wgsl", [], [];
    ScanParallel: Scan, "ops/scan/parallel.wgsl", [], [];
    SelectiveScan: SelectiveScan, "ops/selective_scan/selective_scan.wgsl", ["dt_proj"],
        ["SOFTPLUS", "DT_PROJ", "GATE", "ADVANCE"];
    Ssd: Ssd, "ops/ssd/ssd.wgsl", [], ["SOFTPLUS", "ADVANCE"];
    Gate: Gate, "ops/gate/gate.wgsl", [], ["SKIP", "UNGATED"];
    Copy: CopyRows, "ops/gate/copy.wgsl", [], [];
    Route: Route, "ops/route/route.wgsl", [], [];
    Combine: Combine, "ops/route/combine.wgsl", [], [];
    Attention: Attention, "ops/attention/attention.wgsl", [], ["ROTATE"];
    Rotate: Rotate, "ops/attention/rotate.wgsl", [], [];
    Accumulate: Accumulate, "ops/accumulate/accumulate.wgsl", [], ["GRAM", "ROUTED"];
    Nll: Nll, "ops/softmax/nll.wgsl", [], [];
    Sample: Sample, "ops/softmax/sample.wgsl", [], [];
    SsmToken: SsmToken, "fused/ssm_token.wgsl", ["delta", "b", "c", "proj"], [];
    FfnToken: FfnToken, "fused/ffn_token.wgsl", ["gate", "w1", "w2"], ["EXPERTS"];
}

impl Kernel {
    /// Whether it changes the control block; the others only read it.
    pub fn writes_control(self) -> bool {
        self == Self::Sample
    }
}

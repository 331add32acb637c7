//! WGSL twins of the codecs and ops, put together to kernels. Text only: who runs it is another
//! crate's affair.
//!
//! A kernel is a file with an entry point and the files that it imports: a line `// import: norm,
//! gate` at the top of a file names them. Its matrices have names; for each the text of the
//! matrix's codec is taken, with `MATRIX` replaced by the name, so that every precision goes
//! through the same kernels. Variants are WGSL `override` constants, or another file of the same
//! functions ([`Features`]).

mod codec;
mod import;
mod kernel;
mod params;
mod turns;

pub use codec::{Codec, Scale};
pub use kernel::Kernel;
pub use params::*;
pub use turns::turns;

/// Threads of every workgroup: what every adapter has.
pub const THREADS: u32 = 256;

/// The most numbers that a fused kernel's workgroup holds; 10 of the 16 KiB that every adapter has.
pub const FUSED_OPERAND: u32 = 2560;

/// The most experts of a fused kernel.
pub const FUSED_EXPERTS: u32 = 64;

/// Tokens and rows of a tile of `linear/matmul.wgsl`.
pub const TILE: u32 = 64;

/// The widest head of `ops/attention/attention.wgsl`.
pub const MAX_HEAD: u32 = THREADS;

/// The most groups of a norm that `linear/matvec.wgsl` gates and normalises while it loads.
pub const MAX_NORM_GROUPS: u32 = 64;

/// States that a thread of `ops/ssd/ssd.wgsl` holds.
pub const LANE_STATES: u32 = 16;

/// Sets of labels of `ops/softmax/nll.wgsl`.
pub const LABEL_SETS: u32 = 4;

/// In the place of something that is not there: a label, a bias, a weight.
pub const NONE: u32 = u32::MAX;

/// What an adapter offers beyond what every one has, and is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Sums over lanes by subgroup shuffles.
    pub subgroups: bool,
    /// Dot products of packed bytes, for single tokens with INT8 matrices.
    pub packed_dot: bool,
}

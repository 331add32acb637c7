//! WGSL twins of the codecs and ops, put together to kernels. Text only: who runs it is another
//! crate's affair.
//!
//! A kernel is a file with an entry point and the files that it imports: a line `// import: norm,
//! gate` at the top of a file names them. Its matrices have names; for each the text of the
//! matrix's codec is taken, with `MATRIX` replaced by the name, so that every precision goes
//! through the same kernels. Variants are WGSL `override` constants, or another file of the same
//! functions ([`Features`]).

/// The text of a file without its comments, but for what it imports: whatever a module holds is loaded by every page.
macro_rules! shader {
    ($($file:tt)*) => {{
        const TEXT: &str = include_str!($($file)*);
        const LEN: usize = $crate::shaders::without_comments::<0>(TEXT).1;
        const CODE: [u8; LEN] = $crate::shaders::without_comments::<LEN>(TEXT).0;
        const { match core::str::from_utf8(&CODE) { Ok(code) => code, Err(_) => panic!("a shader is UTF-8") } }
    }};
}

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

/// The first `LEN` bytes of a text without lines that are comments, and how many bytes there are.
const fn without_comments<const LEN: usize>(text: &str) -> ([u8; LEN], usize) {
    let text = text.as_bytes();
    let (mut code, mut len, mut at) = ([0; LEN], 0, 0);
    while at < text.len() {
        let mut word = at;
        while word < text.len() && text[word] == b' ' {
            word += 1;
        }
        let is_comment = begins(text, word, b"//") && !begins(text, word, b"// import: ");
        loop {
            let byte = text[at];
            at += 1;
            if !is_comment {
                if len < LEN {
                    code[len] = byte;
                }
                len += 1;
            }
            if byte == b'\n' || at == text.len() {
                break;
            }
        }
    }
    (code, len)
}

/// Whether a text goes on so.
const fn begins(text: &[u8], at: usize, with: &[u8]) -> bool {
    let mut same = 0;
    while same < with.len() && at + same < text.len() && text[at + same] == with[same] {
        same += 1;
    }
    same == with.len()
}

#[cfg(test)]
mod tests {
    use super::without_comments;

    #[test]
    fn comments_go_and_imports_stay() {
        const TEXT: &str =
            "// import: norm\n// What it is.\n\nfn a() {\n    // Why.\n    b(1 / 2); // c\n}\n// end";
        let code = "// import: norm\n\nfn a() {\n    b(1 / 2); // c\n}\n";
        let (bytes, len) = without_comments::<100>(TEXT);
        assert_eq!(str::from_utf8(&bytes[..len]), Ok(code));
        assert_eq!(without_comments::<0>(TEXT).1, code.len());
    }
}

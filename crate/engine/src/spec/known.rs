//! The public upstream files, recognised so that what is known of them need not be asked.
//!
//! All four were trained by a loop that shifts labels twice: position `t` predicts token
//! `t + 2`. Held-out perplexity of the distilled model read at offsets 0 to 3: 2191, 914,
//! 2.41, 2647.

/// A public upstream file by its size in bytes and what its shapes say.
struct Known {
    file: &'static str,
    bytes: u64,
    vocab_size: usize,
    n_layers: usize,
}

const KNOWN: [Known; 4] = [
    Known { file: "itera_lite_micro_distilled.pt", bytes: 1_197_653, vocab_size: 2000, n_layers: 3 },
    Known { file: "itera_lite_int4.pt", bytes: 1_200_127, vocab_size: 2000, n_layers: 3 },
    Known { file: "itera_lite_tiny_int8.pt", bytes: 2_328_694, vocab_size: 2000, n_layers: 4 },
    Known { file: "itera_lite_mixed_precision.pt", bytes: 4_164_117, vocab_size: 8000, n_layers: 4 },
];

/// The default prediction offset of a checkpoint, and why.
pub(crate) fn default_offset(file_bytes: u64, vocab_size: usize, n_layers: usize) -> (usize, String) {
    let found = KNOWN
        .iter()
        .find(|known| (known.bytes, known.vocab_size, known.n_layers) == (file_bytes, vocab_size, n_layers));
    match found {
        Some(known) => {
            (2, format!("by its size this is the public {}, which predicts two tokens ahead", known.file))
        }
        None => (1, "next-token prediction is usual; detect it on a text with offset \"detect\"".into()),
    }
}

//! What a file is, by its content. Names and endings say nothing.

use statepress_core::{Index, Source};

use crate::choice::Choice;
use crate::cursor::read;
use crate::zip::Archive;
use crate::{FormatError, foreign, gguf, numpy, pytorch, safetensors};

/// Bytes at the start that are looked at.
const HEAD_BYTES: u64 = 512;

/// What this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zip,
    Safetensors,
    Legacy,
    Gguf,
    /// Everything else, which is named.
    Foreign,
}

/// The index of one file, as the file has it: see [`quantized::join`](crate::quantized::join) for what is still apart.
pub(crate) fn headers(source: &dyn Source, choice: &Choice<'_>) -> Result<Index, FormatError> {
    let head = read(source, "the start of the file", 0, source.len().min(HEAD_BYTES))?;
    match kind(&head) {
        Kind::Zip => {
            let archive = Archive::open(source)?;
            match numpy::is_archive(&archive) {
                true => numpy::open(source, &archive),
                false => pytorch::open(source, &archive, choice),
            }
        }
        Kind::Safetensors => safetensors::open(source),
        Kind::Legacy => pytorch::open_legacy(source, choice),
        Kind::Gguf => gguf::open(source),
        Kind::Foreign => Err(foreign::refusal(&head)),
    }
}

fn kind(head: &[u8]) -> Kind {
    match head {
        // A plausible length and the start of JSON. It comes first because the length may look
        // like the signature of something else: 640 is that of a pickle of protocol 2.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Kind::Safetensors,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Kind::Zip,
        _ if head.starts_with(pytorch::MAGIC) => Kind::Legacy,
        _ if head.starts_with(gguf::MAGIC) => Kind::Gguf,
        _ if foreign::is_known(head) => Kind::Foreign,
        [_, _, _, _, _, _, _, _, b'{', ..] => Kind::Safetensors,
        _ => Kind::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_length_is_not_a_signature() {
        assert_eq!(kind(b"\x80\x02\0\0\0\0\0\0{\"a\""), Kind::Safetensors);
        assert_eq!(kind(b"\x1f\x8b\0\0\0\0\0\0{\"a\""), Kind::Safetensors);
        assert_eq!(kind(b"\x80\x02}q\0(X\x01{"), Kind::Foreign);
        assert_eq!(kind(pytorch::MAGIC), Kind::Legacy);
    }

    #[test]
    fn a_legacy_file_that_ends_is_cut_off() {
        let error = headers(&pytorch::MAGIC.to_vec(), &Choice::default()).unwrap_err();
        assert_eq!(error.code(), "truncated");
    }
}

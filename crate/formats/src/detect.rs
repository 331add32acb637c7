//! What a file is, by its content. Names and endings say nothing.

use statepress_core::{Index, Source};

use crate::choice::Choice;
use crate::cursor::read;
use crate::{FormatError, pytorch, safetensors};

/// Bytes at the start that are looked at.
const HEAD_BYTES: u64 = 512;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Zip,
    Safetensors,
    Legacy,
    Pickle,
    Gguf,
    LfsPointer,
    Html,
    Json,
    Gzip,
    Empty,
    Unknown,
}

/// The index of one file, as the file has it: see [`layouts::join`](crate::layouts::join) for what is still apart.
pub(crate) fn headers(source: &dyn Source, choice: &Choice<'_>) -> Result<Index, FormatError> {
    let head = read(source, "the start of the file", 0, source.len().min(HEAD_BYTES))?;
    let (what, help) = match kind(&head) {
        Kind::Zip => return pytorch::open(source, choice),
        Kind::Safetensors => return safetensors::open(source, choice),
        Kind::Legacy => return pytorch::open_legacy(source, choice),
        Kind::Gguf => (
            "a GGUF file, not supported yet",
            "open the checkpoint it was made from, saved with torch.save(model.state_dict(), \"model.pt\") or as safetensors",
        ),
        Kind::Pickle => (
            "a pickle that torch.save did not write",
            "save a state dict with torch.save(model.state_dict(), \"model.pt\")",
        ),
        Kind::LfsPointer => ("a git-lfs pointer, not the file itself", "fetch it with `git lfs pull`"),
        Kind::Html => ("a web page, not a checkpoint", "the download went wrong: fetch the file itself"),
        Kind::Json => {
            ("a JSON file, not a checkpoint", "open the .pt or .safetensors file that belongs to it")
        }
        Kind::Gzip => ("a gzip archive", "unpack it first"),
        Kind::Empty => ("an empty file", "fetch it again"),
        Kind::Unknown => {
            let what =
                format!("an unknown kind of file (it starts with {:02x?})", &head[..head.len().min(8)]);
            return Err(FormatError::unsupported(what, "PyTorch .pt files and safetensors are supported"));
        }
    };
    Err(FormatError::unsupported(what, help))
}

fn kind(head: &[u8]) -> Kind {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let starts = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    match head {
        [] => Kind::Empty,
        // A plausible length and the start of JSON. It comes first because the length may look
        // like the signature of something else: 640 is that of a pickle of protocol 2.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Kind::Safetensors,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Kind::Zip,
        [b'G', b'G', b'U', b'F', ..] => Kind::Gguf,
        [0x1f, 0x8b, ..] => Kind::Gzip,
        _ if head.starts_with(pytorch::MAGIC) => Kind::Legacy,
        [0x80, 0..=5, ..] => Kind::Pickle,
        _ if starts(b"version https://git-lfs") => Kind::LfsPointer,
        _ if starts(b"<!doctype") || starts(b"<html") || starts(b"<?xml") => Kind::Html,
        [_, _, _, _, _, _, _, _, b'{', ..] => Kind::Safetensors,
        _ if starts(b"{") || starts(b"[") => Kind::Json,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        let error = headers(&bytes.to_vec(), &Choice::default()).unwrap_err();
        assert_eq!(error.code(), "unsupported-format", "{error}");
        error.to_string()
    }

    #[test]
    fn a_header_length_is_not_a_signature() {
        assert_eq!(kind(b"\x80\x02\0\0\0\0\0\0{\"a\""), Kind::Safetensors);
        assert_eq!(kind(b"\x1f\x8b\0\0\0\0\0\0{\"a\""), Kind::Safetensors);
        assert_eq!(kind(b"\x80\x02}q\0(X\x01{"), Kind::Pickle);
    }

    #[test]
    fn what_is_not_read_is_named_and_helped() {
        assert!(message(b"").contains("an empty file"));
        assert!(
            message(b"version https://git-lfs.github.com/spec/v1\noid sha256:1").contains("git lfs pull")
        );
        assert!(message(b"\n<!DOCTYPE html><html></html>").contains("a web page"));
        assert!(message(b"GGUF\x03\0\0\0").contains("not supported yet"));
        assert_eq!(headers(&pytorch::MAGIC.to_vec(), &Choice::default()).unwrap_err().code(), "truncated");
        assert!(message(b"\x80\x04K\x01.").contains("torch.save did not write"));
        assert!(message(b"{\"vocab_size\": 3}").contains("a JSON file"));
        assert!(message(b"\x1f\x8b\x08").contains("gzip"));
        assert!(message(b"\x89HDF\r\n\x1a\n").contains("starts with [89, 48, 44, 46"));
    }
}

//! Files of other formats: each is refused by its name, with what would help.

use crate::FormatError;

/// What a file begins with, what it is, and what would help.
struct Format {
    /// Offset of the signature.
    at: usize,
    signature: &'static [u8],
    what: &'static str,
    help: &'static str,
}

const ORIGINAL: &str = "open the checkpoint it was made from, saved with torch.save(model.state_dict(), \"model.pt\") or \
                        as safetensors";
const UNPACK: &str = "unpack it first and open the checkpoint in it";
/// What helps whoever has something else than a state dict.
pub(crate) const SAVE: &str = "save a state dict with torch.save(model.state_dict(), \"model.pt\")";
const AGAIN: &str = "the download went wrong: fetch the file itself";

const fn starts(signature: &'static [u8], what: &'static str, help: &'static str) -> Format {
    Format { at: 0, signature, what, help }
}

/// By the first bytes.
const SIGNATURES: [Format; 29] = [
    starts(b"lmgg", "a GGML file (a predecessor of GGUF)", ORIGINAL),
    starts(b"fmgg", "a GGMF file (a predecessor of GGUF)", ORIGINAL),
    starts(b"tjgg", "a GGJT file (a predecessor of GGUF)", ORIGINAL),
    starts(b"algg", "a GGLA file (an adapter for llama.cpp)", ORIGINAL),
    starts(b"ggml", "a GGML file (a predecessor of GGUF)", ORIGINAL),
    starts(b"\x1f\x8b", "a gzip archive", UNPACK),
    starts(b"BZh", "a bzip2 archive", UNPACK),
    starts(b"\xfd7zXZ\0", "an xz archive", UNPACK),
    starts(b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    starts(b"\x04\x22\x4d\x18", "an LZ4 archive", UNPACK),
    starts(b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    starts(b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    Format { at: 257, signature: b"ustar", what: "a tar archive", help: UNPACK },
    starts(
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file (Keras and TensorFlow write them)",
        "load it in its own framework and save the weights as safetensors",
    ),
    starts(
        b"\x93NUMPY",
        "a NumPy array (.npy), which has no name",
        "put the arrays of the model into one file: numpy.savez(\"model.npz\", **{\"name\": array})",
    ),
    Format { at: 4, signature: b"TFL3", what: "a TensorFlow Lite model", help: ORIGINAL },
    Format { at: 4, signature: b"ORTM", what: "a model of ONNX Runtime (.ort)", help: ORIGINAL },
    Format { at: 4, signature: b"ET12", what: "a program of ExecuTorch (.pte)", help: ORIGINAL },
    Format { at: 4, signature: b"ftyp", what: "a video", help: AGAIN },
    starts(b"7767517\n", "a model of ncnn", ORIGINAL),
    starts(b"PAR1", "a Parquet file (a data set)", "open the checkpoint, not the data"),
    starts(b"%PDF", "a PDF document", AGAIN),
    starts(b"\x89PNG", "a picture", AGAIN),
    starts(b"\xff\xd8\xff", "a picture", AGAIN),
    starts(b"\x7fELF", "a program or library", AGAIN),
    starts(b"MZ\x90\0", "a program or library", AGAIN),
    starts(b"SQLite format 3\0", "an SQLite database", "open the checkpoint it belongs to"),
    starts(b"TRTR", "an engine of TensorRT", ORIGINAL),
    starts(b"ftrt", "an engine of TensorRT", ORIGINAL),
];

/// By the first words, in any case, behind blanks and a byte order mark.
const WORDS: [Format; 17] = [
    starts(
        b"version https://git-lfs",
        "a git-lfs pointer, not the file itself",
        "fetch it with `git lfs pull`",
    ),
    starts(b"<!doctype", "a web page, not a checkpoint", AGAIN),
    starts(b"<html", "a web page, not a checkpoint", AGAIN),
    starts(b"<head", "a web page, not a checkpoint", AGAIN),
    starts(b"<?xml", "an XML file (OpenVINO and error messages are written so)", ORIGINAL),
    starts(b"<net", "a model of OpenVINO (.xml)", ORIGINAL),
    starts(b"<error", "an error message of a server, not a checkpoint", AGAIN),
    starts(
        b"entry not found",
        "an error message of the Hugging Face Hub (`Entry not found`), not a checkpoint",
        "the file has another name there: look at the list of files of the repository",
    ),
    starts(
        b"repository not found",
        "an error message of the Hugging Face Hub (`Repository not found`), not a checkpoint",
        "check the name of the repository, and log in if it is private",
    ),
    starts(
        b"invalid username or password",
        "an error message of the Hugging Face Hub (`Invalid username or password`), not a checkpoint",
        "log in with `hf auth login` and fetch the file again",
    ),
    starts(
        b"access to model",
        "an error message of the Hugging Face Hub (access is restricted), not a checkpoint",
        "ask for access on the page of the model, log in with `hf auth login` and fetch the file again",
    ),
    starts(
        b"unauthorized",
        "an error message of a server (`Unauthorized`), not a checkpoint",
        "log in and fetch the file again",
    ),
    starts(
        b"forbidden",
        "an error message of a server (`Forbidden`), not a checkpoint",
        "log in and fetch the file again",
    ),
    starts(b"not found", "an error message of a server (`Not found`), not a checkpoint", AGAIN),
    starts(b"404", "an error message of a server (`404`), not a checkpoint", AGAIN),
    starts(
        b"internal server error",
        "an error message of a server, not a checkpoint",
        "fetch it again later",
    ),
    starts(
        b"{\"error\"",
        "an error message of a server (JSON), not a checkpoint",
        "log in if it asks for that, and fetch the file again",
    ),
];

/// Bytes of a text that are shown.
const SHOWN: usize = 60;

/// Whether a file is one of those that are named. Where it is not, it may still be a safetensors file with a header of
/// more than 4 GiB, which is an error of its own.
pub(crate) fn is_known(head: &[u8]) -> bool {
    by_name(head).is_some() || is_pickle(head)
}

fn by_name(head: &[u8]) -> Option<&'static Format> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let has = |format: &&Format| head.get(format.at..).is_some_and(|rest| rest.starts_with(format.signature));
    let says = |format: &&Format| {
        let start = text.get(..format.signature.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(format.signature))
    };
    SIGNATURES.iter().find(has).or_else(|| WORDS.iter().find(says))
}

fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 0..=5, ..])
}

/// The error of a file that is not read.
pub(crate) fn refusal(head: &[u8]) -> FormatError {
    if head.is_empty() {
        return FormatError::unsupported("an empty file", "fetch it again");
    }
    if is_pickle(head) {
        return pickle(head);
    }
    if let Some(format) = by_name(head) {
        // The members of the archives that torch wrote before version 0.2 stand in their names.
        let tar = format.signature == b"ustar";
        if tar
            && ["storages", "tensors", "pickle", "./storages"]
                .iter()
                .any(|name| head.starts_with(name.as_bytes()))
        {
            return FormatError::unsupported(
                "a PyTorch file from before version 0.2 (.tar)",
                "load it with torch.load(\"old.tar\", weights_only=False) and save it with torch.save",
            );
        }
        return FormatError::unsupported(format.what, format.help);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text {
        [] => return FormatError::unsupported("a file of blanks", "fetch it again"),
        [b'{' | b'[', ..] => {
            return FormatError::unsupported(
                "a JSON file, not a checkpoint",
                "open the .pt or .safetensors file that belongs to it",
            );
        }
        _ => {}
    }
    if head.iter().all(|&byte| byte == 0) {
        return FormatError::unsupported(
            "a file of zeros",
            "the download or the disk failed: fetch it again",
        );
    }
    if is_onnx(head) {
        return FormatError::unsupported("an ONNX model", ORIGINAL);
    }
    if is_msgpack(head) {
        return FormatError::unsupported(
            "a msgpack file (Flax writes them)",
            "load it with flax.serialization.msgpack_restore and save the flattened arrays with safetensors.numpy.save_file",
        );
    }
    // A text: its first words say what it is.
    let readable = std::str::from_utf8(&text[..text.len().min(SHOWN)])
        .is_ok_and(|start| start.chars().all(|char| !char.is_control() || char.is_ascii_whitespace()));
    if readable {
        let start = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
        let line = start.lines().next().unwrap_or_default();
        return FormatError::unsupported(
            format!("a text, not a checkpoint (it begins with `{line}`)"),
            "if that is the message of a server, the download went wrong: fetch the file itself",
        );
    }
    let what = format!("an unknown kind of file (it starts with {:02x?})", &head[..head.len().min(8)]);
    FormatError::unsupported(what, "PyTorch .pt files, safetensors, GGUF and NumPy .npz files are supported")
}

/// A pickle by itself: what is in it shows in its first names.
fn pickle(head: &[u8]) -> FormatError {
    let mentions = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    if mentions(b"numpy") {
        return FormatError::unsupported(
            "a pickle of NumPy arrays that torch.save did not write",
            "convert it: safetensors.numpy.save_file(pickle.load(open(\"weights.pkl\", \"rb\")), \"model.safetensors\")",
        );
    }
    if mentions(b"torch") {
        return FormatError::unsupported(
            "a pickle of tensors that torch.save did not write",
            "load it in Python with pickle.load and save it with torch.save(state_dict, \"model.pt\")",
        );
    }
    FormatError::unsupported("a pickle that torch.save did not write", SAVE)
}

/// The version of the format, a small number, and the name of the producer.
fn is_onnx(head: &[u8]) -> bool {
    matches!(head, [0x08, 1..=20, 0x12, ..] | [0x08, 1..=20, 0x3a, ..])
}

/// A map of few entries whose first key is a text.
fn is_msgpack(head: &[u8]) -> bool {
    let key = match head {
        [0x81..=0x8f, rest @ ..] | [0xde, _, _, rest @ ..] => rest,
        _ => return false,
    };
    let text = match key {
        [short @ 0xa1..=0xbf, rest @ ..] => rest.get(..usize::from(short & 0x1f)),
        [0xd9, len, rest @ ..] => rest.get(..usize::from(*len)),
        _ => None,
    };
    text.is_some_and(|text| text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '))
}

/// What a zip archive is that torch.save did not write, by the names in it.
pub(crate) fn archive(names: &[&str]) -> FormatError {
    let any = |fits: &dyn Fn(&str) -> bool| names.iter().any(|name| fits(name));
    let ends = |endings: &'static [&'static str]| {
        names.iter().copied().find(|name| {
            let name = name.to_ascii_lowercase();
            endings.iter().any(|ending| name.ends_with(ending))
        })
    };
    if any(&|name| name.ends_with("archive_format") || name.ends_with("serialized_exported_program.json")) {
        return FormatError::unsupported(
            "an archive of torch.export (.pt2), which holds a program",
            "save its weights with torch.save(torch.export.load(\"model.pt2\").state_dict, \"weights.pt\")",
        );
    }
    if any(&|name| name.ends_with("\\data.pkl")) {
        return FormatError::unsupported(
            "a zip archive whose names are written with backslashes",
            "unpack it and pack it again with `zip -0 -r model.pt FOLDER`",
        );
    }
    if any(&|name| name.ends_with(".weights.h5")) {
        return FormatError::unsupported(
            "a Keras model (.keras)",
            "open the PyTorch checkpoint it was made from, or save its weights as safetensors",
        );
    }
    if let Some(inner) = ends(&[".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".gguf"]) {
        return FormatError::unsupported(
            format!("a zip archive with the file `{inner}` in it"),
            "unpack it first and open that file",
        );
    }
    if any(&|name| name == "[Content_Types].xml" || name == "META-INF/MANIFEST.MF") {
        return FormatError::unsupported("a document or program in a zip archive", SAVE);
    }
    let held: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let what = format!("a zip archive without a data.pkl (it holds {})", crate::findings::list(&held));
    FormatError::unsupported(what, SAVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        refusal(bytes).to_string()
    }

    #[test]
    fn what_is_not_read_is_named_and_helped() {
        let tar = |name: &str| {
            let mut head = vec![0; 512];
            head[..name.len()].copy_from_slice(name.as_bytes());
            head[257..262].copy_from_slice(b"ustar");
            head
        };
        let (new, old) = (tar("model.pt"), tar("storages"));
        let cases: [(&[u8], &str); 23] = [
            (b"", "an empty file"),
            (b"  \n", "a file of blanks"),
            (b"\0\0\0\0\0\0\0\0\0", "a file of zeros"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
            (b"\n<!DOCTYPE html><html></html>", "a web page"),
            (b"Entry not found", "`Entry not found`"),
            (b"Invalid username or password.", "hf auth login"),
            (b"{\"error\":\"Access to model x is restricted\"}", "an error message of a server (JSON)"),
            (b"Too many requests", "it begins with `Too many requests`"),
            (b"tjgg\x03\0\0\0", "a predecessor of GGUF"),
            (b"\x80\x04K\x01.", "torch.save did not write"),
            (b"\x80\x04\x95\x01cnumpy.core.multiarray\n", "a pickle of NumPy arrays"),
            (b"{\"vocab_size\": 3}", "a JSON file"),
            (b"\x1f\x8b\x08", "a gzip archive"),
            (b"BZh9", "a bzip2 archive"),
            (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
            (b"\x93NUMPY\x01\0", "a NumPy array"),
            (b"\x83\xa5layer\x81", "a msgpack file"),
            (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
            (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
            (&new, "a tar archive"),
            (&old, "before version 0.2"),
            (b"\xfe\xdc\xba\x98", "starts with [fe, dc, ba, 98]"),
        ];
        for (bytes, words) in cases {
            assert!(message(bytes).contains(words), "{} does not say {words}", message(bytes));
            assert_eq!(refusal(bytes).code(), "unsupported-format");
        }
    }
}

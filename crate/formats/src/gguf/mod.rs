//! GGUF, llama.cpp's format, versions 2 and 3: what the header says of a model, and its tensors in ggml's types.
//! Source: `docs/gguf.md` of ggml.
//!
//! Tensors are here as the file has them, under ggml's names: which weights of which model they are is said by whoever
//! knows models, with [`entry`]. What the header says of the model is the index's configuration, key by key; of its
//! vocabulary, which may be most of a header, [`vocabulary`] tells.

mod blocks;
mod read;
mod values;

use std::collections::HashSet;

use serde_json::{Map, Value};
use statepress_core::coded::{Blocks, Coded, Rule, Undo};
use statepress_core::encoding::ScaleType;
use statepress_core::index::{Extent, Format, Stored, Strided};
use statepress_core::limits::{HEADER_BYTES, TENSORS};
use statepress_core::{DType, Encoding, Entry, GgmlType, Grid, Index, Source};

use crate::FormatError;
use crate::choice::{BARE, bare};
use crate::cursor::Cursor;
use crate::quantized::Told;
use crate::shape::checked_elements;
use crate::view::row_major;

pub(crate) use blocks::IQ4;
pub(crate) use read::read;

/// What a file begins with.
pub(crate) const MAGIC: &[u8] = b"GGUF";
const PART: &str = "GGUF header";
/// Tensors begin at multiples of it, unless a file says otherwise.
const ALIGNMENT: u64 = 32;
/// Keys of the header: models have some dozens.
const KEYS: u64 = 1 << 16;
/// What the vocabulary's keys begin with.
const VOCABULARY: &str = "tokenizer.";

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy)]
enum Kind {
    /// As plain numbers.
    Plain(DType),
    /// In blocks.
    Blocks(GgmlType),
    /// In blocks that are not read: their name, and how many numbers and bytes they have.
    Unread(&'static str, usize, usize),
}

impl Kind {
    /// The one of that number in files.
    fn of(id: u32) -> Option<Self> {
        let unread = |name, numbers, bytes| Some(Self::Unread(name, numbers, bytes));
        match id {
            0 => Some(Self::Plain(DType::F32)),
            1 => Some(Self::Plain(DType::F16)),
            24 => Some(Self::Plain(DType::I8)),
            25 => Some(Self::Plain(DType::I16)),
            26 => Some(Self::Plain(DType::I32)),
            27 => Some(Self::Plain(DType::I64)),
            28 => Some(Self::Plain(DType::F64)),
            30 => Some(Self::Plain(DType::Bf16)),
            9 => unread("Q8_1", 32, 36),
            15 => unread("Q8_K", 256, 292),
            16 => unread("IQ2_XXS", 256, 66),
            17 => unread("IQ2_XS", 256, 74),
            18 => unread("IQ3_XXS", 256, 98),
            19 => unread("IQ1_S", 256, 50),
            21 => unread("IQ3_S", 256, 110),
            22 => unread("IQ2_S", 256, 82),
            29 => unread("IQ1_M", 256, 56),
            34 => unread("TQ1_0", 256, 54),
            35 => unread("TQ2_0", 256, 66),
            39 => unread("MXFP4", 32, 17),
            40 => unread("NVFP4", 64, 36),
            id => GgmlType::of(id).map(Self::Blocks),
        }
    }

    /// Numbers and bytes of a block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Plain(dtype) => (1, dtype.bytes()),
            Self::Blocks(kind) => kind.block(),
            Self::Unread(_, numbers, bytes) => (numbers, bytes),
        }
    }
}

/// What the header says of a tensor.
struct Info {
    name: String,
    /// The outermost dimension first.
    shape: Vec<usize>,
    kind: u32,
    /// Behind the header.
    offset: u64,
}

/// Reads the header.
pub(crate) fn open(source: &dyn Source) -> Result<Index, FormatError> {
    let (mut cursor, tensors, keys) = begin(source)?;
    let mut config = values::read(&mut cursor, keys, |key| !key.starts_with(VOCABULARY))?;
    let parts = config.get("split.count").and_then(Value::as_u64).unwrap_or(1);
    // Which part of a model a file is, its name says as well.
    config.retain(|key, _| !key.starts_with("split."));
    // The first of several parts may have the header alone.
    if tensors == 0 && parts < 2 {
        let help = "a vocabulary alone is no model: open the file with its weights";
        return Err(FormatError::unsupported("a GGUF file with no tensors", help));
    }
    let infos: Vec<Info> = (0..tensors).map(|_| info(&mut cursor)).collect::<Result<_, _>>()?;
    let alignment = match config.get("general.alignment") {
        None => ALIGNMENT,
        Some(said) => said.as_u64().filter(|said| said.is_power_of_two()).ok_or_else(|| {
            FormatError::malformed(PART, format!("general.alignment is {said}, not a power of two"))
        })?,
    };
    let data = cursor.position().checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    let mut names = HashSet::new();
    let mut told = Told::default();
    let mut entries: Vec<Entry> = Vec::with_capacity(infos.len());
    let mut end = 0u64;
    for info in infos {
        if !names.insert(info.name.clone()) {
            return Err(FormatError::tensor(info.name, "it is in the header twice"));
        }
        // As ggml has it: tensors that share bytes would be a file of any size from a small one.
        if info.offset != end {
            let why = format!(
                "it begins at byte {} behind the header, and what is before it ends at {end}",
                info.offset
            );
            return Err(FormatError::tensor(info.name, why));
        }
        let (entry, len) = info.entry(source.len(), data)?;
        end = (end + len).checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        if let Stored::Opaque { scheme, .. } = &entry.stored {
            told.kept(scheme, "this version does not", std::slice::from_ref(&entry.name));
        }
        entries.push(entry);
    }
    Ok(Index {
        format: Format::Gguf,
        wrapper: BARE.into(),
        weights: bare(&entries),
        // Of several parts the first has the configuration, the others have none.
        config: (!config.is_empty()).then_some(config),
        metadata: Default::default(),
        tensors: entries,
        findings: told.findings().collect(),
    })
}

/// What the header of a GGUF file says of its vocabulary, under its keys: tokens, their kinds, merges.
///
/// # Errors
/// Where the header cannot be read.
pub fn vocabulary(source: &dyn Source) -> Result<Map<String, Value>, FormatError> {
    let (mut cursor, _, keys) = begin(source)?;
    values::read(&mut cursor, keys, |key| key.starts_with(VOCABULARY))
}

/// A cursor behind the counts of tensors and of keys.
fn begin(source: &dyn Source) -> Result<(Cursor<'_>, usize, u64), FormatError> {
    let mut cursor = Cursor::to_end(source, PART, 0, HEADER_BYTES)?;
    cursor.skip(MAGIC.len() as u64)?;
    let version = cursor.u32()?;
    match version {
        2 | 3 => {}
        1 => {
            let help = "write it anew with llama.cpp's converter: files of version 2 and 3 are read";
            return Err(FormatError::unsupported("a GGUF file of version 1", help));
        }
        _ if [2, 3].contains(&version.swap_bytes()) => {
            let help = "write it anew with llama.cpp's converter, without --bigendian";
            return Err(FormatError::unsupported(
                "a GGUF file for machines whose bytes go the other way",
                help,
            ));
        }
        _ => {
            let help = "files of version 2 and 3 are read";
            return Err(FormatError::unsupported(format!("a GGUF file of version {version}"), help));
        }
    }
    let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
    for (what, value, limit) in
        [("tensors in the file", tensors, TENSORS as u64), ("keys of the GGUF header", keys, KEYS)]
    {
        if value > limit {
            return Err(FormatError::TooLarge { what: what.into(), value, limit });
        }
    }
    Ok((cursor, tensors as usize, keys))
}

fn info(cursor: &mut Cursor<'_>) -> Result<Info, FormatError> {
    let name = values::string(cursor)?;
    let dims = cursor.u32()? as usize;
    // ggml has four; whatever is more than all formats have is not read.
    if dims > statepress_core::limits::DIMENSIONS {
        return Err(FormatError::tensor(name, format!("it has {dims} dimensions")));
    }
    let mut shape = Vec::with_capacity(dims);
    for _ in 0..dims {
        shape.push(usize::try_from(cursor.u64()?).unwrap_or(usize::MAX));
    }
    shape.reverse();
    checked_elements(&name, &shape)?;
    Ok(Info { name, shape, kind: cursor.u32()?, offset: cursor.u64()? })
}

impl Info {
    /// The tensor, and how many bytes it has.
    fn entry(&self, file: u64, data: u64) -> Result<(Entry, u64), FormatError> {
        let fail = |why: String| FormatError::tensor(&self.name, why);
        let id = self.kind;
        let kind = Kind::of(id).ok_or_else(|| {
            fail(format!("its type has the number {id}, which is none of ggml's that are known"))
        })?;
        let (block, size) = kind.block();
        let columns = self.shape.last().copied().unwrap_or(1);
        if !columns.is_multiple_of(block) {
            return Err(fail(format!("its rows of {columns} numbers are no whole blocks of {block}")));
        }
        let elements = checked_elements(&self.name, &self.shape)?;
        let len = ((elements / block) as u64).checked_mul(size as u64);
        let begin = data.checked_add(self.offset);
        let (Some(len), Some(begin)) = (len, begin) else { return Err(fail("its place overflows".into())) };
        if begin.checked_add(len).is_none_or(|end| end > file) {
            let what = format!("tensor `{}` reaches past the end", self.name);
            return Err(FormatError::Truncated { what, len: file });
        }
        let extent = Extent { offset: begin, len };
        let (name, shape) = (self.name.as_str(), self.shape.clone());
        let entry = match kind {
            Kind::Plain(dtype) => plain(name, shape, dtype, extent),
            Kind::Blocks(kind) => coded(name, shape, Blocks { parts: vec![(kind, extent)], undo: None }),
            Kind::Unread(scheme, ..) => {
                let shape = vec![usize::try_from(len).unwrap_or(usize::MAX)];
                let view =
                    Strided { dtype: DType::U8, storage: extent, first: 0, strides: vec![1], negated: false };
                let stored = Stored::Opaque { view, scheme: scheme.into() };
                Entry { name: name.into(), shape, stored, tied_to: None }
            }
        };
        Ok((entry, len))
    }
}

/// A tensor of a model made of tensors of the file: the rows of several, one after the other, as `name` of that shape, with what was
/// done to its numbers undone. `None` where one of them is not stored in types of ggml that are read.
pub fn entry(name: &str, shape: Vec<usize>, of: &[&Entry], undo: Option<Undo>) -> Option<Entry> {
    checked_elements(name, &shape).ok()?;
    if let ([only], None) = (of, undo)
        && let Stored::Strided(view) = &only.stored
    {
        return Some(plain(name, shape, view.dtype, view.storage));
    }
    let mut parts = Vec::new();
    for entry in of {
        match &entry.stored {
            Stored::Coded(coded) => match &coded.rule {
                Rule::Blocks(blocks) if blocks.undo.is_none() => parts.extend_from_slice(&blocks.parts),
                _ => return None,
            },
            Stored::Strided(view) => {
                let kind = match view.dtype {
                    DType::F32 => GgmlType::F32,
                    DType::F16 => GgmlType::F16,
                    DType::Bf16 => GgmlType::Bf16,
                    _ => return None,
                };
                parts.push((kind, view.storage));
            }
            _ => return None,
        }
    }
    Some(coded(name, shape, Blocks { parts, undo }))
}

fn plain(name: &str, shape: Vec<usize>, dtype: DType, storage: Extent) -> Entry {
    let view = Strided { dtype, storage, first: 0, strides: row_major(&shape), negated: false };
    Entry { name: name.into(), shape, stored: Stored::Strided(view), tied_to: None }
}

fn coded(name: &str, shape: Vec<usize>, blocks: Blocks) -> Entry {
    let mut kinds: Vec<&str> = blocks.parts.iter().map(|(kind, _)| kind.name()).collect();
    kinds.dedup();
    let (scheme, bytes) = (kinds.join("+"), blocks.parts.iter().map(|(_, extent)| extent.len).sum());
    let coded = Coded { scheme, encoding: encoding(&blocks, &shape), rule: Rule::Blocks(blocks), bytes };
    Entry { name: name.into(), shape, stored: Stored::Coded(Box::new(coded)), tied_to: None }
}

/// The encoding that has the same numbers, or the same codes and scales, else float32: types with levels of their own are none
/// of ours.
fn encoding(blocks: &Blocks, shape: &[usize]) -> Encoding {
    let [(kind, _), others @ ..] = blocks.parts.as_slice() else { return Encoding::Fp32 };
    if blocks.undo == Some(Undo::NegExp) || others.iter().any(|(other, _)| other != kind) {
        return Encoding::Fp32;
    }
    let found = match kind {
        GgmlType::F16 => return Encoding::Fp16,
        GgmlType::Bf16 => return Encoding::Bf16,
        // Blocks are of rows.
        _ if blocks.undo == Some(Undo::Transpose) => return Encoding::Fp32,
        GgmlType::Q8_0 => Encoding::grouped(Grid::Int8, 32, ScaleType::Fp16),
        GgmlType::Q4_0 => Encoding::grouped(Grid::Int4, 32, ScaleType::Fp16),
        GgmlType::Q5_0 => Encoding::grouped(Grid::Int5, 32, ScaleType::Fp16),
        // Scales of these are products of two numbers, which binary16 does not hold.
        GgmlType::Q6K => Encoding::grouped(Grid::Int6, 16, ScaleType::Fp32),
        GgmlType::Q3K => Encoding::grouped(Grid::Int3, 16, ScaleType::Fp32),
        GgmlType::Q5K | GgmlType::Q5_1 => Encoding::grouped(Grid::Int5, 32, ScaleType::Affine),
        GgmlType::Q4K | GgmlType::Q4_1 => Encoding::grouped(Grid::Int4, 32, ScaleType::Affine),
        GgmlType::Q2K => Encoding::grouped(Grid::Int2, 16, ScaleType::Affine),
        _ => return Encoding::Fp32,
    };
    if found.refusal(shape).is_none() { found } else { Encoding::Fp32 }
}

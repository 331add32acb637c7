//! GGUF version 3, as llama.cpp reads it: a header with everything about the model, then the tensors, one after the other.
//! Source: `docs/gguf.md` of ggml.
//!
//! Sizes follow from shapes and types, so the header goes first and tensors stream after it. Same input, same bytes.

mod iq4_nl;
mod k_quants;
mod quants;
mod types;
mod value;

use statepress_core::index::Extent;
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::{GgmlType, Sink, Source, shape};

pub use value::Value;

use crate::FormatError;
use crate::cursor::read;

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Tensors begin at multiples of it. It is the default, so no key says it.
const ALIGNMENT: u64 = 32;
/// The most bytes of a name, and the most dimensions, that ggml has room for.
const MOST_NAME: usize = 63;
const MOST_DIMS: usize = 4;

/// One tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    /// Its name there: `blk.0.attn_norm.weight`.
    pub name: String,
    /// Dimensions, outermost first: the last one is a row. The file has them the other way round.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub kind: GgmlType,
}

impl GgufTensor {
    /// Bytes of its numbers, without padding; `None` where they overflow or rows are no whole blocks.
    fn bytes(&self) -> Option<u64> {
        let (&columns, outer) = self.shape.split_last()?;
        let row = self.kind.row_bytes(columns)? as u64;
        row.checked_mul(shape::elements(outer)? as u64)
    }
}

/// Writes a GGUF file tensor by tensor, in the order given.
#[derive(Debug)]
pub struct GgufWriter<S: Sink> {
    sink: S,
    tensors: Vec<GgufTensor>,
    /// Index of the tensor that comes next, or of which some was written.
    next: usize,
    /// Bytes of that one.
    written: u64,
    /// Bytes of the whole file.
    bytes: u64,
}

impl<S: Sink> GgufWriter<S> {
    /// Writes the header.
    ///
    /// # Errors
    /// A name that is too long or taken, more than four dimensions, and rows that are no whole blocks of their type.
    pub fn new(
        mut sink: S,
        metadata: &[(String, Value)],
        tensors: Vec<GgufTensor>,
    ) -> Result<Self, FormatError> {
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            value::string(key, &mut header);
            value.write(&mut header);
        }
        let mut names = std::collections::HashSet::new();
        let mut offset = 0u64;
        for tensor in &tensors {
            let fail = |why: String| FormatError::write(&tensor.name, why);
            if tensor.name.len() > MOST_NAME {
                return Err(fail(format!("names in GGUF have at most {MOST_NAME} bytes")));
            }
            if !names.insert(&tensor.name) {
                return Err(fail("the name is taken".into()));
            }
            if tensor.shape.is_empty() || tensor.shape.len() > MOST_DIMS || tensor.shape.contains(&0) {
                let shape = &tensor.shape;
                return Err(fail(format!(
                    "its shape is {shape:?}; GGUF takes 1 to {MOST_DIMS} dimensions above zero"
                )));
            }
            let bytes = tensor.bytes().ok_or_else(|| {
                let (kind, block) = (tensor.kind.name(), tensor.kind.block().0);
                fail(format!("its shape is {:?}; rows of {kind} are multiples of {block}", tensor.shape))
            })?;
            value::string(&tensor.name, &mut header);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            header.extend(tensor.shape.iter().rev().flat_map(|&dim| (dim as u64).to_le_bytes()));
            header.extend(tensor.kind.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
            offset = end.ok_or_else(|| fail("the file overflows".into()))?;
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
        let bytes = header.len() as u64 + offset;
        sink.write(&header)?;
        Ok(Self { sink, tensors, next: 0, written: 0, bytes })
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the next tensor with blocks of its type that are at this place of a source. Returns the bytes they take.
    ///
    /// # Errors
    /// Another tensor than the next one, and more or fewer bytes than it has.
    pub fn copy(&mut self, name: &str, source: &dyn Source, blocks: Extent) -> Result<u64, FormatError> {
        let bytes = self.next(name)?.bytes().unwrap_or(0);
        if self.written > 0 || blocks.len != bytes {
            return Err(FormatError::write(
                name,
                format!("it has {bytes} bytes, and {} are copied", blocks.len),
            ));
        }
        for at in (0..bytes).step_by(CHUNK_BYTES) {
            let len = (bytes - at).min(CHUNK_BYTES as u64);
            self.sink.write(&read(source, name, blocks.offset + at, len)?)?;
        }
        self.written = bytes;
        self.close(bytes)?;
        Ok(bytes)
    }

    /// The next tensor of the header, which has to have that name.
    fn next(&self, name: &str) -> Result<&GgufTensor, FormatError> {
        let next = self.tensors.get(self.next).filter(|tensor| tensor.name == name);
        next.ok_or_else(|| FormatError::write(name, "it is not the next tensor of the header"))
    }

    /// Goes on to the tensor behind that of so many bytes, where those are written.
    fn close(&mut self, bytes: u64) -> Result<(), FormatError> {
        if self.written == bytes {
            let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
            self.sink.write(&[0; ALIGNMENT as usize][..padding as usize])?;
            self.next += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Writes the next numbers of the next tensor, row-major, all of it or whole blocks: they are rounded to its type here. Returns the
    /// bytes they take.
    ///
    /// # Errors
    /// Another tensor than the next one, more numbers than it has, numbers that the type cannot hold, and a type whose blocks are only
    /// copied.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<u64, FormatError> {
        let tensor = self.next(name)?;
        if !tensor.kind.is_written() {
            let (kind, written) = (tensor.kind.name(), GgmlType::names_of_written());
            return Err(FormatError::write(
                name,
                format!("no numbers are rounded to {kind}, but to {written}"),
            ));
        }
        let kind = tensor.kind;
        let (block, block_bytes) = kind.block();
        let bytes = tensor.bytes().unwrap_or(0);
        let after = self.written + (values.len() / block * block_bytes) as u64;
        if !values.len().is_multiple_of(block) || after > bytes {
            let before = self.written as usize / block_bytes * block;
            let why = format!(
                "there are {} numbers for its shape {:?}, in blocks of {block}",
                before + values.len(),
                tensor.shape
            );
            return Err(FormatError::write(name, why));
        }
        let mut buffer = Vec::new();
        for numbers in values.chunks(CHUNK_BYTES / 4 / block * block) {
            buffer.clear();
            for numbers in numbers.chunks(block) {
                if types::encode(kind, numbers, &mut buffer).is_none() {
                    let at = (self.written as usize + buffer.len()) / block_bytes;
                    return Err(FormatError::write(name, refusal(kind, at, numbers)));
                }
            }
            self.sink.write(&buffer)?;
            self.written += buffer.len() as u64;
        }
        self.close(bytes)?;
        Ok((values.len() / block * block_bytes) as u64)
    }

    /// Gives the sink back, and the bytes of the file. An error if tensors are missing.
    pub fn finish(self) -> Result<(S, u64), FormatError> {
        match self.tensors.get(self.next) {
            Some(missing) => {
                let (found, bytes) = (self.written, missing.bytes().unwrap_or(0));
                Err(FormatError::write(
                    &missing.name,
                    format!("{found} of its {bytes} bytes were given to the writer"),
                ))
            }
            None => Ok((self.sink, self.bytes)),
        }
    }
}

/// Why a block of numbers cannot be stored.
fn refusal(kind: GgmlType, block: usize, numbers: &[f32]) -> String {
    let kind = kind.name();
    match numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => format!("block {block} has the number {number}: {kind} holds finite ones only"),
        None => {
            let most = numbers.iter().fold(0f32, |most, number| most.max(number.abs()));
            format!("block {block} has numbers up to {most}, out of reach of {kind}: F32 and BF16 hold them")
        }
    }
}

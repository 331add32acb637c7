//! Writing safetensors: sizes are known before any weight is read, so the header goes first and
//! tensors stream after it, one at a time. Same input, same bytes.
//!
//! Entropy-coded codes have a size only once they are coded. A file with any is held until its last tensor came, which is
//! its whole size in memory: coding everything twice would cost the time of rounding and compensation too.

use std::collections::{BTreeMap, HashSet};

use serde::ser::{Serialize, SerializeMap, Serializer};
use statepress_core::index::Stored;
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::source::SourceError;
use statepress_core::{DType, Entry, Form, Packed, Part, Scales, Sink, Source, Tensor};

use super::{METADATA, PREFIX_BYTES};
use crate::cursor::reserve;
use crate::shape::checked_elements;
use crate::{FormatError, packed, streamed, view};

/// One tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its key.
    pub name: String,
    /// Dimensions of the tensor of numbers (not of packed codes).
    pub shape: Vec<usize>,
    /// What it is in the file.
    pub form: Form,
    /// Whether its codes, if it has any, are to be entropy-coded where that is smaller.
    pub coded: bool,
}

/// A safetensors file before its weights: the header and the order of tensors.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    /// As given.
    metadata: BTreeMap<String, String>,
    header: Vec<u8>,
    /// Bytes of the whole file.
    bytes: u64,
}

impl Layout {
    /// Lays out `tensors` in the order given. `metadata` goes to `__metadata__`, beside `format`
    /// and the description of quantized tensors, whose keys it must not use. What is to be entropy-coded is laid out packed,
    /// which is the most that it may take.
    pub fn new(tensors: &[TensorSpec], metadata: &BTreeMap<String, String>) -> Result<Self, FormatError> {
        Self::of(tensors, &vec![None; tensors.len()], metadata)
    }

    /// `streams` has the bytes of the codes of each tensor, where they are entropy-coded.
    fn of(
        tensors: &[TensorSpec],
        streams: &[Option<u64>],
        given: &BTreeMap<String, String>,
    ) -> Result<Self, FormatError> {
        let mut metadata = given.clone();
        metadata.entry("format".into()).or_insert_with(|| "pt".into());
        let json_error = |error: serde_json::Error| FormatError::write(METADATA, error.to_string());
        if metadata.contains_key(packed::KEY) {
            let why = format!("the metadata key `{}` is taken", packed::KEY);
            return Err(FormatError::write(METADATA, why));
        }
        if let Some(described) = packed::describe(tensors, streams).map_err(json_error)? {
            metadata.insert(packed::KEY.into(), described);
        }
        let mut header = Header { metadata, arrays: Vec::new() };
        let mut names = HashSet::from([METADATA.to_string()]);
        let mut data_bytes = 0u64;
        for (spec, stream) in tensors.iter().zip(streams) {
            for part in spec.parts(*stream)? {
                let name = format!("{}{}", spec.name, part.suffix);
                if !names.insert(name.clone()) {
                    return Err(FormatError::write(name, "the name is taken"));
                }
                let begin = data_bytes;
                data_bytes = begin
                    .checked_add(part.bytes())
                    .ok_or_else(|| FormatError::write(&spec.name, "the file overflows"))?;
                header.arrays.push((name, part, [begin, data_bytes]));
            }
        }
        let mut header = serde_json::to_vec(&header).map_err(json_error)?;
        // Spaces, so that the data begin at a multiple of eight bytes, as the reference writer does.
        header.resize(header.len().next_multiple_of(8), b' ');
        let bytes = (PREFIX_BYTES + header.len() as u64).checked_add(data_bytes);
        let bytes = bytes.ok_or_else(|| FormatError::write(METADATA, "the file overflows"))?;
        Ok(Self { tensors: tensors.to_vec(), metadata: given.clone(), header, bytes })
    }

    /// Bytes of the whole file; the most that they may be if anything is to be entropy-coded.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write_header(&self, sink: &mut impl Sink) -> Result<(), FormatError> {
        sink.write(&(self.header.len() as u64).to_le_bytes())?;
        Ok(sink.write(&self.header)?)
    }
}

impl TensorSpec {
    /// The arrays it consists of, once its shape is known to allow them; `stream` is the bytes of entropy-coded codes.
    fn parts(&self, stream: Option<u64>) -> Result<Vec<Part>, FormatError> {
        checked_elements(&self.name, &self.shape)?;
        if let Some(why) = self.form.refusal(&self.shape) {
            return Err(FormatError::write(&self.name, why));
        }
        let mut parts = self.form.parts(&self.shape);
        if let (Some(codes), Some(bytes)) = (parts.first_mut(), stream) {
            *codes = streamed::part(bytes);
        }
        Ok(parts)
    }
}

fn said(form: Form) -> String {
    match form {
        Form::Coded(encoding) => format!("{encoding:?}"),
        Form::Kept(dtype) => format!("kept {}", dtype.name()),
    }
}

/// The header as it is written: metadata first, then tensors in file order.
struct Header {
    metadata: BTreeMap<String, String>,
    arrays: Vec<(String, Part, [u64; 2])>,
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Array<'a> {
            dtype: DType,
            shape: &'a [usize],
            data_offsets: [u64; 2],
        }
        let mut map = serializer.serialize_map(Some(1 + self.arrays.len()))?;
        map.serialize_entry(METADATA, &self.metadata)?;
        for (name, part, data_offsets) in &self.arrays {
            let array = Array { dtype: part.dtype, shape: &part.shape, data_offsets: *data_offsets };
            map.serialize_entry(name, &array)?;
        }
        map.end()
    }
}

/// Writes a safetensors file tensor by tensor, in the order of its layout.
#[derive(Debug)]
pub struct Writer<S: Sink> {
    sink: S,
    layout: Layout,
    /// Index of the tensor that comes next.
    next: usize,
    /// What waits for its header, where that cannot be written yet.
    held: Option<Held>,
}

/// Tensors of which not all have a size yet.
#[derive(Debug, Default)]
struct Held {
    /// The arrays of each.
    tensors: Vec<Vec<u8>>,
    /// Bytes of the codes of each, where they are entropy-coded.
    streams: Vec<Option<u64>>,
}

impl Held {
    /// Where the arrays of the next tensor go.
    fn push(&mut self, room: Vec<u8>, stream: Option<u64>) -> &mut Vec<u8> {
        let at = self.tensors.len();
        self.streams.push(stream);
        self.tensors.push(room);
        &mut self.tensors[at]
    }
}

impl<S: Sink> Writer<S> {
    /// Writes the header, unless something is to be entropy-coded: then nothing is written before [`Self::finish`].
    pub fn new(
        sink: S,
        tensors: &[TensorSpec],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, FormatError> {
        Self::with_layout(sink, Layout::new(tensors, metadata)?)
    }

    /// The same for a layout that has been made before, to know the size of the file.
    pub fn with_layout(mut sink: S, layout: Layout) -> Result<Self, FormatError> {
        let held = layout.tensors.iter().any(|spec| spec.coded).then(Held::default);
        if held.is_none() {
            layout.write_header(&mut sink)?;
        }
        Ok(Self { sink, layout, next: 0, held })
    }

    /// Bytes that wait for the header.
    pub fn held(&self) -> u64 {
        self.held.iter().flat_map(|held| &held.tensors).map(|arrays| arrays.len() as u64).sum()
    }

    /// Writes the next tensor, after checking that it is the one the layout says. Returns the bytes it takes in the file.
    pub fn write(&mut self, name: &str, tensor: &Tensor) -> Result<u64, FormatError> {
        let spec = self.next(name, &tensor.shape)?.clone();
        let encoding = tensor.encoding();
        if spec.form != Form::Coded(encoding) {
            let why = format!("its encoding is {encoding:?}, the layout says {}", said(spec.form));
            return Err(FormatError::write(name, why));
        }
        let mut arrays = arrays(&tensor.data);
        let parts = spec.form.parts(&spec.shape);
        for (array, part) in arrays.iter().zip(&parts) {
            if array.bytes() != part.bytes() {
                let why = format!(
                    "its part `{name}{}` has {} bytes, the layout says {}",
                    part.suffix,
                    array.bytes(),
                    part.bytes()
                );
                return Err(FormatError::write(name, why));
            }
        }
        let stream = match &tensor.data {
            Packed::Codes(codes) if spec.coded => streamed::stream(name, &spec.shape, codes)?,
            _ => None,
        };
        if let (Some(codes), Some(stream)) = (arrays.first_mut(), &stream) {
            *codes = Array::Bytes(stream);
        }
        let bytes = arrays.iter().map(Array::bytes).sum();
        let stream = stream.as_ref().map(|stream| stream.len() as u64);
        let mut to = self.room(name, spec.form, bytes, stream)?;
        arrays.iter().try_for_each(|array| array.write(&mut to))?;
        to.finish()
    }

    /// Writes the next tensor as it is in the file it comes from, bit for bit, in row-major order. What lies in
    /// that order already is never in memory as a whole, unless it waits for the header.
    pub fn copy(&mut self, source: &dyn Source, entry: &Entry) -> Result<(), FormatError> {
        let form = self.next(&entry.name, &entry.shape)?.form;
        match &entry.stored {
            Stored::Strided(view) | Stored::Opaque { view, .. } if form == Form::Kept(view.dtype) => {
                let mut to = self.begin(&entry.name, &entry.shape)?;
                view::copy(source, &entry.name, &entry.shape, view, &mut to)?;
                to.finish()?;
                Ok(())
            }
            _ => {
                let why = format!("it is {}, the layout says {}", entry.dtype_name(), said(form));
                Err(FormatError::write(&entry.name, why))
            }
        }
    }

    /// Writes the next tensor from its bytes in row-major order, little-endian.
    pub fn write_bytes(&mut self, name: &str, shape: &[usize], bytes: &[u8]) -> Result<(), FormatError> {
        let spec = self.next(name, shape)?;
        let expected = spec.form.bytes(&spec.shape);
        if bytes.len() as u64 != expected {
            let why = format!("it has {} bytes, the layout says {expected}", bytes.len());
            return Err(FormatError::write(name, why));
        }
        let mut to = self.begin(name, shape)?;
        to.write(bytes)?;
        to.finish()?;
        Ok(())
    }

    /// Begins the next tensor, whose arrays are then written in parts, one array after the other.
    ///
    /// # Errors
    /// For one that is to be entropy-coded, which takes all of its codes.
    pub fn begin(&mut self, name: &str, shape: &[usize]) -> Result<TensorWriter<'_>, FormatError> {
        let spec = self.next(name, shape)?;
        if spec.coded {
            return Err(FormatError::write(name, "what is entropy-coded is written whole"));
        }
        let (form, bytes) = (spec.form, spec.form.bytes(&spec.shape));
        self.room(name, form, bytes, None)
    }

    /// Where the arrays of the next tensor go.
    fn room(
        &mut self,
        name: &str,
        form: Form,
        bytes: u64,
        stream: Option<u64>,
    ) -> Result<TensorWriter<'_>, FormatError> {
        let to = match &mut self.held {
            None => &mut self.sink as &mut dyn Sink,
            Some(held) => held.push(reserve(name, usize::try_from(bytes).unwrap_or(usize::MAX))?, stream),
        };
        Ok(TensorWriter { to, name: name.into(), form, bytes, written: 0, next: &mut self.next })
    }

    /// What the layout has next, if that is its name and shape.
    fn next(&self, name: &str, shape: &[usize]) -> Result<&TensorSpec, FormatError> {
        let Some(spec) = self.layout.tensors.get(self.next) else {
            return Err(FormatError::write(name, "every tensor of the layout has been written"));
        };
        if spec.name != name {
            return Err(FormatError::write(name, format!("the layout has `{}` here", spec.name)));
        }
        if spec.shape != shape {
            let why = format!("its shape is {shape:?}, the layout says {:?}", spec.shape);
            return Err(FormatError::write(name, why));
        }
        Ok(spec)
    }

    /// Gives the sink back, and the bytes of the file. An error if tensors are missing.
    pub fn finish(mut self) -> Result<(S, u64), FormatError> {
        if let Some(missing) = self.layout.tensors.get(self.next) {
            return Err(FormatError::write(&missing.name, "it was never given to the writer"));
        }
        if let Some(Held { tensors, streams }) = self.held {
            self.layout = Layout::of(&self.layout.tensors, &streams, &self.layout.metadata)?;
            self.layout.write_header(&mut self.sink)?;
            for arrays in tensors {
                self.sink.write(&arrays)?;
            }
        }
        Ok((self.sink, self.layout.bytes()))
    }
}

/// A tensor that is being written.
pub struct TensorWriter<'a> {
    to: &'a mut dyn Sink,
    name: String,
    form: Form,
    /// Of all its arrays.
    bytes: u64,
    written: u64,
    /// The writer's.
    next: &'a mut usize,
}

impl TensorWriter<'_> {
    /// Writes floats, of the type that the layout says, which follow those before.
    pub fn floats(&mut self, numbers: &Tensor) -> Result<(), FormatError> {
        let encoding = numbers.encoding();
        if encoding.is_described() || self.form != Form::Coded(encoding) {
            let why = format!("its numbers are {encoding:?}, the layout says {}", said(self.form));
            return Err(FormatError::write(&self.name, why));
        }
        arrays(&numbers.data).iter().try_for_each(|array| array.write(self))
    }

    /// Writes the scales of codes, behind all of these, which are written as bytes.
    pub fn scales(&mut self, scales: &Scales) -> Result<(), FormatError> {
        scale_arrays(scales).iter().try_for_each(|array| array.write(self))
    }

    /// Ends the tensor; gives the bytes it takes. An error where they are not as many as the layout says.
    pub fn finish(self) -> Result<u64, FormatError> {
        if self.written != self.bytes {
            let why = format!("it has {} bytes, the layout says {}", self.written, self.bytes);
            return Err(FormatError::write(self.name, why));
        }
        *self.next += 1;
        Ok(self.bytes)
    }
}

impl Sink for TensorWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.written += bytes.len() as u64;
        self.to.write(bytes)
    }
}

/// One stored array of a tensor in memory.
enum Array<'a> {
    F32(&'a [f32]),
    Bits16(&'a [u16]),
    Bytes(&'a [u8]),
    Indexes(Vec<u8>),
}

/// The arrays of a tensor, in the order of [`Form::parts`].
fn arrays(data: &Packed) -> Vec<Array<'_>> {
    let codes = match data {
        Packed::F32(values) => return vec![Array::F32(values)],
        Packed::F16(bits) | Packed::Bf16(bits) => return vec![Array::Bits16(bits)],
        Packed::Codes(codes) => codes,
        Packed::Rows(rows) => {
            let parts = rows.parts().iter().flat_map(|part| arrays(&part.data));
            return std::iter::once(Array::Indexes(rows.indexes())).chain(parts).collect();
        }
    };
    std::iter::once(Array::Bytes(&codes.codes)).chain(scale_arrays(&codes.scales)).collect()
}

/// Those of scales.
fn scale_arrays(scales: &Scales) -> Vec<Array<'_>> {
    let one = |number| Array::F32(std::slice::from_ref(number));
    match scales {
        Scales::F32(values) => vec![Array::F32(values)],
        Scales::F16(bits) => vec![Array::Bits16(bits)],
        Scales::Affine { scales, minimums } => vec![Array::F32(scales), Array::F32(minimums)],
        Scales::Log8 { codes, unit } => vec![Array::Bytes(codes), one(unit)],
        Scales::Double { codes, nested, offset } => {
            vec![Array::Bytes(codes), Array::F32(nested), one(offset)]
        }
    }
}

impl Array<'_> {
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::F32(values) => size_of_val(*values),
            Self::Bits16(bits) => size_of_val(*bits),
            Self::Bytes(codes) => codes.len(),
            Self::Indexes(indexes) => indexes.len(),
        };
        bytes as u64
    }

    fn write(&self, sink: &mut impl Sink) -> Result<(), FormatError> {
        match self {
            Self::F32(values) => in_chunks(values, f32::to_le_bytes, sink),
            Self::Bits16(bits) => in_chunks(bits, u16::to_le_bytes, sink),
            Self::Bytes(codes) => Ok(sink.write(codes)?),
            Self::Indexes(indexes) => Ok(sink.write(indexes)?),
        }
    }
}

/// Writes values through a buffer of [`CHUNK_BYTES`].
fn in_chunks<T: Copy, const N: usize>(
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
    sink: &mut impl Sink,
) -> Result<(), FormatError> {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES.min(size_of_val(values)));
    for chunk in values.chunks(CHUNK_BYTES / N) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&value| to_bytes(value)));
        sink.write(&buffer)?;
    }
    Ok(())
}

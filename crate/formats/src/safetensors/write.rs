//! Writing safetensors: sizes are known before any weight is read, so the header goes first and
//! tensors stream after it, one at a time. Same input, same bytes.

use std::collections::{BTreeMap, HashSet};

use serde::ser::{Serialize, SerializeMap, Serializer};
use statepress_core::index::Stored;
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::{DType, Entry, Form, Packed, Part, Scales, Sink, Source, Tensor};

use super::{METADATA, PREFIX_BYTES};
use crate::shape::checked_elements;
use crate::{FormatError, packed, view};

/// One tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its key.
    pub name: String,
    /// Dimensions of the tensor of numbers (not of packed codes).
    pub shape: Vec<usize>,
    /// What it is in the file.
    pub form: Form,
}

/// A safetensors file before its weights: the header and the order of tensors.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    header: Vec<u8>,
    /// Bytes of the whole file.
    bytes: u64,
}

impl Layout {
    /// Lays out `tensors` in the order given. `metadata` goes to `__metadata__`, beside `format`
    /// and the description of quantized tensors, whose keys it must not use.
    pub fn new(tensors: &[TensorSpec], metadata: &BTreeMap<String, String>) -> Result<Self, FormatError> {
        let mut metadata = metadata.clone();
        metadata.entry("format".into()).or_insert_with(|| "pt".into());
        let json_error = |error: serde_json::Error| FormatError::write(METADATA, error.to_string());
        if metadata.contains_key(packed::KEY) {
            let why = format!("the metadata key `{}` is taken", packed::KEY);
            return Err(FormatError::write(METADATA, why));
        }
        if let Some(described) = packed::describe(tensors).map_err(json_error)? {
            metadata.insert(packed::KEY.into(), described);
        }
        let mut header = Header { metadata, arrays: Vec::new() };
        let mut names = HashSet::from([METADATA.to_string()]);
        let mut data_bytes = 0u64;
        for spec in tensors {
            for part in spec.parts()? {
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
        Ok(Self { tensors: tensors.to_vec(), header, bytes })
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl TensorSpec {
    /// The arrays it consists of, once its shape is known to allow them.
    fn parts(&self) -> Result<Vec<Part>, FormatError> {
        checked_elements(&self.name, &self.shape)?;
        match self.form.refusal(&self.shape) {
            Some(why) => Err(FormatError::write(&self.name, why)),
            None => Ok(self.form.parts(&self.shape)),
        }
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
}

impl<S: Sink> Writer<S> {
    /// Writes the header.
    pub fn new(
        sink: S,
        tensors: &[TensorSpec],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, FormatError> {
        Self::with_layout(sink, Layout::new(tensors, metadata)?)
    }

    /// The same for a layout that has been made before, to know the size of the file.
    pub fn with_layout(mut sink: S, layout: Layout) -> Result<Self, FormatError> {
        sink.write(&(layout.header.len() as u64).to_le_bytes())?;
        sink.write(&layout.header)?;
        Ok(Self { sink, layout, next: 0 })
    }

    /// Writes the next tensor, after checking that it is the one the layout says.
    pub fn write(&mut self, name: &str, tensor: &Tensor) -> Result<(), FormatError> {
        let spec = self.next(name, &tensor.shape)?.clone();
        let encoding = tensor.encoding();
        if spec.form != Form::Coded(encoding) {
            let why = format!("its encoding is {encoding:?}, the layout says {}", said(spec.form));
            return Err(FormatError::write(name, why));
        }
        let arrays = arrays(&tensor.data);
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
        for array in arrays {
            array.write(&mut self.sink)?;
        }
        self.next += 1;
        Ok(())
    }

    /// Writes the next tensor as it is in the file it comes from, bit for bit, in row-major order. What lies in
    /// that order already is never in memory as a whole.
    pub fn copy(&mut self, source: &dyn Source, entry: &Entry) -> Result<(), FormatError> {
        let spec = self.next(&entry.name, &entry.shape)?;
        match &entry.stored {
            Stored::Strided(view) | Stored::Opaque { view, .. } if spec.form == Form::Kept(view.dtype) => {
                view::copy(source, &entry.name, &entry.shape, view, &mut self.sink)?;
            }
            _ => {
                let why = format!("it is {}, the layout says {}", entry.dtype_name(), said(spec.form));
                return Err(FormatError::write(&entry.name, why));
            }
        }
        self.next += 1;
        Ok(())
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
    pub fn finish(self) -> Result<(S, u64), FormatError> {
        match self.layout.tensors.get(self.next) {
            Some(missing) => Err(FormatError::write(&missing.name, "it was never given to the writer")),
            None => Ok((self.sink, self.layout.bytes())),
        }
    }
}

/// One stored array of a tensor in memory.
enum Array<'a> {
    F32(&'a [f32]),
    Bits16(&'a [u16]),
    Bytes(&'a [u8]),
}

/// The arrays of a tensor, in the order of [`Form::parts`].
fn arrays(data: &Packed) -> Vec<Array<'_>> {
    let codes = match data {
        Packed::F32(values) => return vec![Array::F32(values)],
        Packed::F16(bits) | Packed::Bf16(bits) => return vec![Array::Bits16(bits)],
        Packed::Codes(codes) => codes,
    };
    let mut arrays = vec![Array::Bytes(&codes.codes)];
    match &codes.scales {
        Scales::F32(values) => arrays.push(Array::F32(values)),
        Scales::F16(bits) => arrays.push(Array::Bits16(bits)),
        Scales::Log8 { codes, unit } => {
            arrays.extend([Array::Bytes(codes), Array::F32(std::slice::from_ref(unit))]);
        }
        Scales::Double { codes, nested, offset } => {
            arrays.extend([Array::Bytes(codes), Array::F32(nested), Array::F32(std::slice::from_ref(offset))])
        }
    }
    arrays
}

impl Array<'_> {
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::F32(values) => size_of_val(*values),
            Self::Bits16(bits) => size_of_val(*bits),
            Self::Bytes(codes) => codes.len(),
        };
        bytes as u64
    }

    fn write(&self, sink: &mut impl Sink) -> Result<(), FormatError> {
        match self {
            Self::F32(values) => in_chunks(values, f32::to_le_bytes, sink),
            Self::Bits16(bits) => in_chunks(bits, u16::to_le_bytes, sink),
            Self::Bytes(codes) => Ok(sink.write(codes)?),
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

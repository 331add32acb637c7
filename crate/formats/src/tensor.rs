//! Reading one tensor through its entry, in the precision it is stored in.
//!
//! Bytes are converted in chunks, so memory peaks at the tensor itself plus [`CHUNK_BYTES`],
//! whatever the order of its elements in the file.

use statepress_core::encoding::{Granularity, ScaleType};
use statepress_core::index::{AffineScales, Extent, Stored, Strided};
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::{
    ClassedRows, Codes, DType, Encoding, Entry, Grid, Packed, Scales, Source, Tensor, shape,
};

use crate::cursor::{range_end, reserve};
use crate::shape::checked_elements;
use crate::small_float::{float8, float16};
use crate::view::read_view;
use crate::{FormatError, coded, streamed};

/// Reads one tensor.
///
/// Floats of 16 and 32 bits and packed tensors come as they are stored. Torch's INT8 comes as
/// INT8 where its zero points are 0 and the shape allows it, else as f32. Weights in the
/// layout of another tool come as [`statepress_core::coded::Coded::encoding`] says. Every other
/// element type comes as f32, but for complex numbers, which are refused.
pub fn read_tensor(source: &dyn Source, entry: &Entry) -> Result<Tensor, FormatError> {
    let data = match &entry.stored {
        Stored::Strided(view) => read_numbers(source, entry, view)?,
        Stored::Affine { codes, scales } => read_affine(source, entry, codes, scales)?,
        Stored::Packed { encoding, coded, parts } => read_packed(source, entry, *encoding, *coded, parts)?,
        Stored::Coded(coded) => coded::read(source, entry, coded)?,
        Stored::Opaque { scheme, .. } => {
            let why = format!("it is part of a weight in {scheme}, which is kept but cannot be decoded");
            return Err(FormatError::tensor(&entry.name, why));
        }
    };
    Ok(Tensor { shape: entry.shape.clone(), data })
}

fn read_numbers(source: &dyn Source, entry: &Entry, view: &Strided) -> Result<Packed, FormatError> {
    Ok(match view.dtype {
        DType::F16 => Packed::F16(read_view(source, &entry.name, &entry.shape, view, u16::from_le_bytes)?),
        DType::Bf16 => Packed::Bf16(read_view(source, &entry.name, &entry.shape, view, u16::from_le_bytes)?),
        _ => Packed::F32(read_f32(source, &entry.name, &entry.shape, view)?),
    })
}

/// The elements of any type but complex numbers, as f32.
pub(crate) fn read_f32(
    source: &dyn Source,
    name: &str,
    shape: &[usize],
    view: &Strided,
) -> Result<Vec<f32>, FormatError> {
    match view.dtype {
        DType::F32 => read_view(source, name, shape, view, f32::from_le_bytes),
        DType::F64 => read_view(source, name, shape, view, |bytes| f64::from_le_bytes(bytes) as f32),
        DType::I64 => read_view(source, name, shape, view, |bytes| i64::from_le_bytes(bytes) as f32),
        DType::I32 => read_view(source, name, shape, view, |bytes| i32::from_le_bytes(bytes) as f32),
        DType::I16 => read_view(source, name, shape, view, |bytes| f32::from(i16::from_le_bytes(bytes))),
        DType::I8 => read_view(source, name, shape, view, |bytes| f32::from(i8::from_le_bytes(bytes))),
        DType::U64 => read_view(source, name, shape, view, |bytes| u64::from_le_bytes(bytes) as f32),
        DType::U32 => read_view(source, name, shape, view, |bytes| u32::from_le_bytes(bytes) as f32),
        DType::U16 => read_view(source, name, shape, view, |bytes| f32::from(u16::from_le_bytes(bytes))),
        DType::U8 => read_view(source, name, shape, view, |[byte]| f32::from(byte)),
        DType::F8E4m3 | DType::F8E5m2 | DType::F8E8m0 => {
            read_view(source, name, shape, view, |[byte]| float8(view.dtype, byte))
        }
        DType::C64 => Err(FormatError::tensor(
            name,
            "its numbers are complex, which no model here computes with: compressing keeps them as they are",
        )),
        DType::Bool => read_view(source, name, shape, view, |[byte]| f32::from(u8::from(byte != 0))),
        DType::F16 => read_view(source, name, shape, view, |bytes| float16(u16::from_le_bytes(bytes))),
        DType::Bf16 => read_view(source, name, shape, view, |[low, high]| {
            f32::from_bits(u32::from_le_bytes([0, 0, low, high]))
        }),
    }
}

/// Torch's affine quantization (`torch.per_tensor_affine`, `torch.per_channel_affine` along rows):
/// `value = (code - zero_point) * scale` in f32, scale rounded to f32 first, as torch does.
fn read_affine(
    source: &dyn Source,
    entry: &Entry,
    codes: &Strided,
    scales: &AffineScales,
) -> Result<Packed, FormatError> {
    let rows = entry.shape.first().copied().unwrap_or(1);
    let (scales, zero_points, granularity) = match scales {
        AffineScales::PerTensor { scale, zero_point } => {
            (vec![*scale as f32], vec![*zero_point as f32], Granularity::Tensor)
        }
        AffineScales::PerRow { scales, zero_points } => (
            read_f32(source, &entry.name, &[rows], scales)?,
            read_f32(source, &entry.name, &[rows], zero_points)?,
            Granularity::Row,
        ),
    };
    let symmetric = zero_points.iter().all(|&zero_point| zero_point == 0.0);
    // torch has a scale for each index of the first dimension, we for each row of the last.
    let by_row = granularity == Granularity::Tensor || shape::matrix(&entry.shape).0 == rows;
    let packs = by_row && Encoding::int8(granularity).refusal(&entry.shape).is_none();
    if codes.dtype == DType::I8 && symmetric && packs {
        let codes = read_view(source, &entry.name, &entry.shape, codes, u8::from_le_bytes)?;
        let (grid, group) = (Grid::Int8, granularity.of(&entry.shape).into());
        let scales = Scales::F32(scales);
        return Ok(Packed::Codes(Codes { grid, group, codes, scales }));
    }
    let mut values = read_f32(source, &entry.name, &entry.shape, codes)?;
    let per_scale = (values.len() / scales.len().max(1)).max(1);
    for ((row, scale), zero_point) in values.chunks_mut(per_scale).zip(&scales).zip(&zero_points) {
        row.iter_mut().for_each(|value| *value = (*value - zero_point) * scale);
    }
    Ok(Packed::F32(values))
}

fn read_packed(
    source: &dyn Source,
    entry: &Entry,
    encoding: Encoding,
    coded: bool,
    extents: &[Extent],
) -> Result<Packed, FormatError> {
    checked_elements(&entry.name, &entry.shape)?;
    if let Some(why) = encoding.refusal(&entry.shape) {
        return Err(FormatError::tensor(&entry.name, why));
    }
    let parts = encoding.parts(&entry.shape);
    // How long a stream is, it says itself.
    let mut sized = parts.iter().zip(extents).skip(usize::from(coded));
    if parts.len() != extents.len() || sized.any(|(part, at)| part.bytes() != at.len) {
        return Err(FormatError::tensor(&entry.name, "its parts are not those of its encoding"));
    }
    let Encoding::Rows(classes) = encoding else {
        return read_plain(source, entry, encoding, coded, extents);
    };
    let indexes: Vec<u8> = Part { source, entry, extent: extents[0] }.read(u8::from_le_bytes)?;
    let (mut of_classes, mut rest) = (Vec::new(), &extents[1..]);
    for class in classes.all() {
        let (encoding, shape) = (class.encoding(), vec![class.rows, entry.shape[1]]);
        let (extents, next) = rest.split_at(encoding.parts(&shape).len());
        of_classes.push(Tensor { data: read_plain(source, entry, encoding, false, extents)?, shape });
        rest = next;
    }
    let rows = ClassedRows::stored(of_classes, &indexes);
    Ok(Packed::Rows(rows.map_err(|why| FormatError::tensor(&entry.name, why))?))
}

/// The numbers of a tensor, or of a class of its rows, whose extents are those of its encoding.
fn read_plain(
    source: &dyn Source,
    entry: &Entry,
    encoding: Encoding,
    coded: bool,
    extents: &[Extent],
) -> Result<Packed, FormatError> {
    let reader = |part: usize| Part { source, entry, extent: extents[part] };
    let coding = match encoding {
        Encoding::Fp32 => return Ok(Packed::F32(reader(0).read(f32::from_le_bytes)?)),
        Encoding::Fp16 => return Ok(Packed::F16(reader(0).read(u16::from_le_bytes)?)),
        Encoding::Bf16 => return Ok(Packed::Bf16(reader(0).read(u16::from_le_bytes)?)),
        Encoding::Codes(coding) => coding,
        Encoding::Rows(_) => {
            return Err(FormatError::tensor(&entry.name, "a class of its rows has classes itself"));
        }
    };
    let one = |part: usize| -> Result<f32, FormatError> {
        Ok(reader(part).read(f32::from_le_bytes)?.first().copied().unwrap_or(0.0))
    };
    let scales = match coding.scale {
        ScaleType::Fp16 => Scales::F16(reader(1).read(u16::from_le_bytes)?),
        ScaleType::Fp32 => Scales::F32(reader(1).read(f32::from_le_bytes)?),
        ScaleType::Affine => Scales::Affine {
            scales: reader(1).read(f32::from_le_bytes)?,
            minimums: reader(2).read(f32::from_le_bytes)?,
        },
        ScaleType::Log8 => Scales::Log8 { codes: reader(1).read(u8::from_le_bytes)?, unit: one(2)? },
        ScaleType::Double => Scales::Double {
            codes: reader(1).read(u8::from_le_bytes)?,
            nested: reader(2).read(f32::from_le_bytes)?,
            offset: one(3)?,
        },
    };
    let codes = match coded {
        true => streamed::read(source, entry, extents[0], coding.grid)?,
        false => reader(0).read(u8::from_le_bytes)?,
    };
    Ok(Packed::Codes(Codes { grid: coding.grid, group: coding.group, codes, scales }))
}

/// One stored array of a packed tensor.
struct Part<'a> {
    source: &'a dyn Source,
    entry: &'a Entry,
    extent: Extent,
}

impl Part<'_> {
    fn read<T, const N: usize>(&self, convert: impl Fn([u8; N]) -> T) -> Result<Vec<T>, FormatError> {
        read_run(self.source, &self.entry.name, self.extent, convert)
    }
}

/// The elements of `N` bytes that fill an extent.
pub(crate) fn read_run<T, const N: usize>(
    source: &dyn Source,
    name: &str,
    extent: Extent,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, FormatError> {
    let end = range_end(source, name, extent.offset, extent.len)?;
    let mut values = reserve(name, usize::try_from(extent.len).unwrap_or(usize::MAX) / N)?;
    let mut buffer = vec![0; CHUNK_BYTES.min(values.capacity().saturating_mul(N))];
    let mut at = extent.offset;
    while at < end {
        let len = (end - at).min(buffer.len() as u64);
        let chunk = &mut buffer[..len as usize];
        source.read_at(at, chunk)?;
        values.extend(chunk.as_chunks::<N>().0.iter().map(|&bytes| convert(bytes)));
        at += len;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use statepress_core::Group;

    const BYTES: [u8; 6] = [0, 1, 2, 253, 254, 255];

    /// A view of `BYTES`, of floats from offset 6, or of i64 from offset 14.
    fn view(dtype: DType, offset: u64, elements: u64, strides: &[u64]) -> Strided {
        let storage = Extent { offset, len: elements * dtype.bytes() as u64 };
        Strided { dtype, storage, first: 0, strides: strides.to_vec(), negated: false }
    }

    fn read(shape: &[usize], codes: Strided, scales: AffineScales) -> Packed {
        let mut bytes = BYTES.to_vec();
        bytes.extend([0.5f32, 2.0].iter().flat_map(|scale| scale.to_le_bytes()));
        bytes.extend([0i64, 3].iter().flat_map(|zero_point| zero_point.to_le_bytes()));
        let stored = Stored::Affine { codes, scales };
        let entry = Entry { name: "w".into(), shape: shape.to_vec(), stored, tied_to: None };
        read_tensor(&bytes, &entry).unwrap().data
    }

    #[test]
    fn symmetric_int8_stays_packed() {
        let per_tensor = AffineScales::PerTensor { scale: 0.5, zero_point: 0 };
        let codes = view(DType::I8, 0, 6, &[3, 1]);
        let expected = Packed::Codes(Codes {
            grid: Grid::Int8,
            group: Group::Tensor,
            codes: BYTES.to_vec(),
            scales: Scales::F32(vec![0.5]),
        });
        assert_eq!(read(&[2, 3], codes, per_tensor), expected);
    }

    #[test]
    fn what_int8_cannot_hold_is_dequantized() {
        let shifted = AffineScales::PerTensor { scale: 0.5, zero_point: 1 };
        let read_shifted = read(&[2, 3], view(DType::U8, 0, 6, &[3, 1]), shifted);
        assert_eq!(read_shifted, Packed::F32(vec![-0.5, 0.0, 0.5, 126.0, 126.5, 127.0]));
        let per_row = AffineScales::PerRow {
            scales: view(DType::F32, 6, 2, &[1]),
            zero_points: view(DType::I64, 14, 2, &[1]),
        };
        let read_rows = read(&[2, 3], view(DType::I8, 0, 6, &[3, 1]), per_row);
        assert_eq!(read_rows, Packed::F32(vec![0.0, 0.5, 1.0, -12.0, -10.0, -8.0]));
        let vector = AffineScales::PerTensor { scale: 2.0, zero_point: 0 };
        assert_eq!(read(&[2], view(DType::I8, 0, 6, &[1]), vector), Packed::F32(vec![0.0, 2.0]));
    }

    #[test]
    fn packed_parts_must_be_those_of_the_encoding() {
        let encoding = Encoding::int8(Granularity::Row);
        let parts = vec![Extent { offset: 0, len: 6 }, Extent { offset: 6, len: 4 }];
        let stored = Stored::Packed { encoding, coded: false, parts };
        let entry = Entry { name: "w".into(), shape: vec![2, 3], stored, tied_to: None };
        let error = read_tensor(&vec![0u8; 20], &entry).unwrap_err();
        assert_eq!(error.to_string(), "tensor `w`: its parts are not those of its encoding");
    }
}

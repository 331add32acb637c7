//! Strided views of storages: their bounds, and reading them in row-major order.
//!
//! A view has `shape`, `strides` and `first`, all in elements (torch's `size`, `stride`,
//! `storage_offset`). What is contiguous is read as one run. Everything else is walked in the
//! order of the storage and scattered into the result, so that a transposed matrix costs one
//! pass over its bytes instead of one per row.

use statepress_core::index::{Extent, Strided};
use statepress_core::limits::CHUNK_BYTES;
use statepress_core::words::counted;
use statepress_core::{Sink, Source};

use crate::FormatError;
use crate::cursor::{range_end, reserve};
use crate::shape::checked_elements;
use crate::tensor::read_run;

/// Bytes of a view that repeats its storage, as expanded masks do, however small the file is.
pub(crate) const REPEATED_BYTES: u64 = 64 << 20;

/// Whether the elements lie in row-major order without gaps. Strides of single steps do not matter.
pub(crate) fn is_contiguous(shape: &[usize], strides: &[u64]) -> bool {
    let wanted = row_major(shape);
    let fits = |((&dim, &stride), wanted): ((&usize, &u64), &u64)| dim == 1 || stride == *wanted;
    shape.contains(&0) || shape.iter().zip(strides).zip(&wanted).all(fits)
}

/// Strides of a row-major tensor.
pub(crate) fn row_major(shape: &[usize]) -> Vec<u64> {
    let mut strides: Vec<u64> = Vec::with_capacity(shape.len());
    let mut stride = 1u64;
    for &dim in shape.iter().rev() {
        strides.push(stride);
        stride = stride.saturating_mul(dim.max(1) as u64);
    }
    strides.reverse();
    strides
}

/// Checks that a view stays within its storage and is no larger than a file of `file_bytes` can justify,
/// or [`REPEATED_BYTES`] (strides of zero repeat elements). Returns the number of elements.
pub(crate) fn check(
    name: &str,
    shape: &[usize],
    view: &Strided,
    file_bytes: u64,
) -> Result<usize, FormatError> {
    let elements = checked_elements(name, shape)?;
    if view.strides.len() != shape.len() {
        let why = format!(
            "{} for {}",
            counted(view.strides.len(), "stride", "strides"),
            counted(shape.len(), "dimension", "dimensions")
        );
        return Err(FormatError::tensor(name, why));
    }
    if elements == 0 {
        return Ok(0);
    }
    let size = view.dtype.bytes() as u64;
    let stored = view.storage.len / size;
    let last = shape.iter().zip(&view.strides).try_fold(view.first, |last, (&dim, &stride)| {
        (dim as u64 - 1).checked_mul(stride).and_then(|steps| last.checked_add(steps))
    });
    if last.is_none_or(|last| last >= stored) {
        let why = format!(
            "shape {shape:?} with strides {:?} from element {} reaches past its storage of {}",
            view.strides,
            view.first,
            counted(stored, "element", "elements")
        );
        return Err(FormatError::tensor(name, why));
    }
    let bytes = elements as u64 * size;
    let limit = file_bytes.max(REPEATED_BYTES);
    if bytes > limit {
        return Err(FormatError::TooLarge {
            what: format!("bytes of tensor `{name}`, which repeats a smaller storage"),
            value: bytes,
            limit,
        });
    }
    Ok(elements)
}

/// The elements of a view of `shape`, in row-major order.
pub(crate) fn read_view<T: Copy + Default, const N: usize>(
    source: &dyn Source,
    name: &str,
    shape: &[usize],
    view: &Strided,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, FormatError> {
    let elements = check(name, shape, view, source.len())?;
    if elements == 0 {
        return Ok(Vec::new());
    }
    range_end(source, name, view.storage.offset, view.storage.len)?;
    // The sign is the first bit of every float, and its bytes are little-endian.
    let sign = if view.negated { 0x80 } else { 0 };
    let convert = |mut bytes: [u8; N]| {
        if let Some(last) = bytes.last_mut() {
            *last ^= sign;
        }
        convert(bytes)
    };
    // What is repeated along its first dimensions is read once.
    let repeated =
        view.strides.iter().zip(shape).take_while(|&(&stride, &dim)| stride == 0 || dim == 1).count();
    if repeated > 0 {
        let (outer, inner) = shape.split_at(repeated);
        let strides = view.strides[repeated..].to_vec();
        let once = read_inner(source, name, inner, &Strided { strides, ..view.clone() }, &convert)?;
        if outer.iter().all(|&dim| dim == 1) {
            return Ok(once);
        }
        let mut values: Vec<T> = reserve(name, elements)?;
        while values.len() < elements {
            values.extend_from_slice(&once);
        }
        return Ok(values);
    }
    read_inner(source, name, shape, view, &convert)
}

/// The elements of a view whose bounds have been checked.
fn read_inner<T: Copy + Default, const N: usize>(
    source: &dyn Source,
    name: &str,
    shape: &[usize],
    view: &Strided,
    convert: &impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, FormatError> {
    let elements = checked_elements(name, shape)?;
    if is_contiguous(shape, &view.strides) {
        return read_run(source, name, run(name, shape, view)?, convert);
    }
    let mut values: Vec<T> = reserve(name, elements)?;
    values.resize(elements, T::default());
    let walk = Walk::new(shape, view);
    // Steps back would read a window again and again: then it holds one element only.
    let bytes = if walk.never_steps_back() { CHUNK_BYTES } else { N };
    let mut window = Window { source, storage: view.storage, buffer: vec![0; bytes], start: 0, end: 0 };
    for (from, to) in walk {
        values[to] = convert(window.element(from)?);
    }
    Ok(values)
}

/// Writes the elements of a view as they are, in row-major order.
pub(crate) fn copy(
    source: &dyn Source,
    name: &str,
    shape: &[usize],
    view: &Strided,
    sink: &mut impl Sink,
) -> Result<(), FormatError> {
    if check(name, shape, view, source.len())? == 0 {
        return Ok(());
    }
    if view.negated || !is_contiguous(shape, &view.strides) {
        return match view.dtype.bytes() {
            1 => scattered::<1>(source, name, shape, view, sink),
            2 => scattered::<2>(source, name, shape, view, sink),
            4 => scattered::<4>(source, name, shape, view, sink),
            _ => scattered::<8>(source, name, shape, view, sink),
        };
    }
    let Extent { offset, len } = contiguous_extent(name, shape, view)?;
    let end = range_end(source, name, offset, len)?;
    let mut buffer = vec![0; CHUNK_BYTES.min(len as usize)];
    for at in (offset..end).step_by(CHUNK_BYTES) {
        let chunk = (end - at).min(CHUNK_BYTES as u64) as usize;
        source.read_at(at, &mut buffer[..chunk])?;
        sink.write(&buffer[..chunk])?;
    }
    Ok(())
}

/// The same for elements of `N` bytes that do not lie in that order.
fn scattered<const N: usize>(
    source: &dyn Source,
    name: &str,
    shape: &[usize],
    view: &Strided,
    sink: &mut impl Sink,
) -> Result<(), FormatError>
where
    [u8; N]: Default,
{
    Ok(sink.write(read_view(source, name, shape, view, |bytes: [u8; N]| bytes)?.as_flattened())?)
}

/// Where the bytes of a contiguous view lie.
pub(crate) fn contiguous_extent(name: &str, shape: &[usize], view: &Strided) -> Result<Extent, FormatError> {
    if view.negated || !is_contiguous(shape, &view.strides) {
        let why = "its codes or scales are a strided or negated view: save it contiguous";
        return Err(FormatError::tensor(name, why));
    }
    run(name, shape, view)
}

/// The bytes of a view without gaps.
fn run(name: &str, shape: &[usize], view: &Strided) -> Result<Extent, FormatError> {
    let size = view.dtype.bytes() as u64;
    let offset = view.first.checked_mul(size).and_then(|bytes| bytes.checked_add(view.storage.offset));
    let len = (checked_elements(name, shape)? as u64).checked_mul(size);
    match (offset, len) {
        (Some(offset), Some(len)) => Ok(Extent { offset, len }),
        _ => Err(FormatError::tensor(name, "its place in the file overflows")),
    }
}

/// Every element of a view once: its index in the storage and in the row-major result, in the
/// order of the storage where steps allow it.
struct Walk {
    /// Dimensions of more than one element, widest step first.
    axes: Vec<Axis>,
    from: u64,
    to: usize,
    left: usize,
}

struct Axis {
    dim: usize,
    at: usize,
    from_step: u64,
    to_step: usize,
}

impl Walk {
    /// The view has passed [`check`], so no index overflows.
    fn new(shape: &[usize], view: &Strided) -> Self {
        let to_steps = row_major(shape);
        let mut axes: Vec<Axis> = shape
            .iter()
            .zip(&view.strides)
            .zip(to_steps)
            .filter(|((dim, _), _)| **dim > 1)
            .map(|((&dim, &from_step), to)| Axis { dim, at: 0, from_step, to_step: to as usize })
            .collect();
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.from_step));
        Self { axes, from: view.first, to: 0, left: shape.iter().product() }
    }

    /// Whether every step is at least as wide as all the narrower ones together reach.
    fn never_steps_back(&self) -> bool {
        let mut reach = 0u64;
        self.axes.iter().rev().all(|axis| {
            let forward = axis.from_step >= reach;
            reach = reach.saturating_add(axis.from_step.saturating_mul(axis.dim as u64 - 1));
            forward
        })
    }
}

impl Iterator for Walk {
    type Item = (u64, usize);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let item = (self.from, self.to);
        for axis in self.axes.iter_mut().rev() {
            axis.at += 1;
            if axis.at < axis.dim {
                self.from += axis.from_step;
                self.to += axis.to_step;
                break;
            }
            axis.at = 0;
            self.from -= axis.from_step * (axis.dim as u64 - 1);
            self.to -= axis.to_step * (axis.dim - 1);
        }
        Some(item)
    }
}

/// The bytes of a storage around the element read last.
struct Window<'a> {
    source: &'a dyn Source,
    storage: Extent,
    buffer: Vec<u8>,
    /// Bytes of the storage that `buffer` holds.
    start: u64,
    end: u64,
}

impl Window<'_> {
    /// The bytes of one element, which lies within the storage.
    fn element<const N: usize>(&mut self, index: u64) -> Result<[u8; N], FormatError> {
        let begin = index * N as u64;
        if begin < self.start || begin + N as u64 > self.end {
            let len = (self.storage.len - begin).min(self.buffer.len() as u64);
            self.source.read_at(self.storage.offset + begin, &mut self.buffer[..len as usize])?;
            (self.start, self.end) = (begin, begin + len);
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[(begin - self.start) as usize..][..N]);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use statepress_core::DType;

    use super::*;

    /// 0, 1, 2, ... as u8 elements, seen through strides.
    fn view(bytes: &[u8], first: u64, strides: &[u64]) -> Strided {
        let storage = Extent { offset: 0, len: bytes.len() as u64 };
        Strided { dtype: DType::U8, storage, first, strides: strides.to_vec(), negated: false }
    }

    fn numbers(shape: &[usize], first: u64, strides: &[u64], len: u8) -> Result<Vec<u8>, FormatError> {
        let bytes: Vec<u8> = (0..len).collect();
        read_view(&bytes, "t", shape, &view(&bytes, first, strides), u8::from_le_bytes)
    }

    #[test]
    fn views_come_in_row_major_order() {
        assert_eq!(numbers(&[2, 3], 0, &[3, 1], 6).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(numbers(&[3, 2], 0, &[1, 3], 6).unwrap(), [0, 3, 1, 4, 2, 5], "transposed");
        assert_eq!(numbers(&[2, 2], 3, &[4, 1], 12).unwrap(), [3, 4, 7, 8], "offset and wide rows");
        assert_eq!(numbers(&[3], 1, &[2], 6).unwrap(), [1, 3, 5], "stride 2");
        assert_eq!(numbers(&[2, 2], 1, &[0, 1], 4).unwrap(), [1, 2, 1, 2], "repeated rows");
        assert_eq!(numbers(&[3, 2], 0, &[1, 1], 9).unwrap(), [0, 1, 1, 2, 2, 3], "overlapping windows");
        assert_eq!(numbers(&[1, 3], 0, &[77, 1], 3).unwrap(), [0, 1, 2], "the stride of one step is free");
        assert_eq!(numbers(&[], 2, &[], 3).unwrap(), [2], "a scalar");
        assert_eq!(
            numbers(&[2, 1, 2, 2], 1, &[0, 9, 1, 0], 4).unwrap(),
            [1, 1, 2, 2, 1, 1, 2, 2],
            "both ways"
        );
        assert!(numbers(&[0, 5], 9, &[5, 1], 3).unwrap().is_empty());
    }

    #[test]
    fn negated_views_have_the_other_sign_on_every_path() {
        let bytes: Vec<u8> =
            [1.5f32, -2.0, 0.0, f32::INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect();
        let storage = Extent { offset: 0, len: 16 };
        let view = |strides: &[u64]| Strided {
            dtype: DType::F32,
            storage,
            first: 0,
            strides: strides.to_vec(),
            negated: true,
        };
        let read = |shape: &[usize], strides: &[u64]| {
            read_view(&bytes, "t", shape, &view(strides), f32::from_le_bytes).unwrap()
        };
        assert_eq!(read(&[4], &[1]), [-1.5, 2.0, 0.0, f32::NEG_INFINITY]);
        assert_eq!(read(&[2, 2], &[1, 2]), [-1.5, 0.0, 2.0, f32::NEG_INFINITY]);
        assert_eq!(read(&[2, 2], &[0, 1]), [-1.5, 2.0, -1.5, 2.0]);
        assert!(read(&[3], &[1])[2].is_sign_negative());
        assert!(contiguous_extent("t", &[4], &view(&[1])).is_err());
    }

    #[test]
    fn a_transposed_matrix_is_read_once() {
        struct Counting(Vec<u8>, std::cell::Cell<u64>);
        impl Source for Counting {
            fn len(&self) -> u64 {
                self.0.len() as u64
            }
            fn read_at(
                &self,
                offset: u64,
                buffer: &mut [u8],
            ) -> Result<(), statepress_core::source::SourceError> {
                self.1.set(self.1.get() + buffer.len() as u64);
                self.0.as_slice().read_at(offset, buffer)
            }
        }
        let (rows, cols) = (700, 300);
        let source = Counting((0..rows * cols).map(|i| i as u8).collect(), Default::default());
        let transposed = view(&source.0, 0, &[1, cols as u64]);
        let values = read_view(&source, "t", &[cols, rows], &transposed, u8::from_le_bytes).unwrap();
        assert!((0..cols).all(|c| (0..rows).all(|r| values[c * rows + r] == (r * cols + c) as u8)));
        assert_eq!(source.1.get(), (rows * cols) as u64);
    }

    #[test]
    fn views_outside_their_storage_or_larger_than_the_file_are_refused() {
        let code =
            |shape: &[usize], first, strides: &[u64]| numbers(shape, first, strides, 6).unwrap_err().code();
        assert_eq!(code(&[2, 4], 0, &[3, 1]), "malformed-tensor");
        assert_eq!(code(&[2], 5, &[1]), "malformed-tensor");
        assert_eq!(code(&[2, 2], 0, &[u64::MAX, 2]), "malformed-tensor");
        assert_eq!(code(&[2, 2], 0, &[1]), "malformed-tensor");
        assert_eq!(numbers(&[3], 4, &[0], 6).unwrap(), [4, 4, 4]);
        assert_eq!(code(&[(64 << 20) + 1], 0, &[0]), "too-large");
    }
}

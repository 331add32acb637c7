//! Which numbers of a tensor are NaN, infinite, or out of float32's reach, told from the file itself: what is
//! read as float32 does not know any more what an infinity was.

use statepress_core::index::{Stored, Strided};
use statepress_core::{DType, Entry, Source};

use crate::FormatError;
use crate::small_float::float8;
use crate::view::{read_view, row_major};

/// What is not an ordinary number in a tensor, by position in row-major order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Survey {
    /// How many are NaN.
    pub nan: u64,
    /// How many are infinite.
    pub infinite: u64,
    /// The first of either.
    pub first: Option<(usize, f64)>,
    /// How many are finite and become infinite as float32.
    pub beyond: u64,
    /// The first of those.
    pub first_beyond: Option<(usize, f64)>,
    /// How many are not 0 and become 0 as float32.
    pub below: u64,
    /// The first of those.
    pub first_below: Option<(usize, f64)>,
}

impl Survey {
    /// Takes in what was found in the numbers from position `at` on, which follow those seen so far.
    pub fn follow(&mut self, next: &Self, at: usize) {
        let placed = |first: Option<(usize, f64)>| first.map(|(index, number)| (at + index, number));
        self.nan += next.nan;
        self.infinite += next.infinite;
        self.first = self.first.or(placed(next.first));
        self.beyond += next.beyond;
        self.first_beyond = self.first_beyond.or(placed(next.first_beyond));
        self.below += next.below;
        self.first_below = self.first_below.or(placed(next.first_below));
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Finite,
    Nan,
    Infinite,
    Beyond,
    Below,
}

impl Kind {
    fn of(value: f64) -> Self {
        match value {
            _ if value.is_nan() => Self::Nan,
            _ if value.is_infinite() => Self::Infinite,
            _ if (value as f32).is_infinite() => Self::Beyond,
            _ if value != 0.0 && value as f32 == 0.0 => Self::Below,
            _ => Self::Finite,
        }
    }
}

/// Looks at every number of a tensor whose type is wider than float32, or one of those that are kept as they
/// are: float64, complex, 8-bit floats. Of other tensors there is nothing to tell here. In memory is a byte
/// for each number.
pub fn survey(source: &dyn Source, entry: &Entry) -> Result<Survey, FormatError> {
    let Stored::Strided(view) = &entry.stored else { return Ok(Survey::default()) };
    let mut it = Survey::default();
    for (index, kind) in kinds(source, entry, view)?.into_iter().enumerate() {
        let (count, first) = match kind {
            Kind::Finite => continue,
            Kind::Nan => (&mut it.nan, &mut it.first),
            Kind::Infinite => (&mut it.infinite, &mut it.first),
            Kind::Beyond => (&mut it.beyond, &mut it.first_beyond),
            Kind::Below => (&mut it.below, &mut it.first_below),
        };
        *count += 1;
        if first.is_none() {
            *first = Some((index, number(source, entry, view, index)?));
        }
    }
    Ok(it)
}

fn kinds(source: &dyn Source, entry: &Entry, view: &Strided) -> Result<Vec<Kind>, FormatError> {
    let (name, shape, dtype) = (&entry.name, &entry.shape, view.dtype);
    match dtype {
        DType::F64 => read_view(source, name, shape, view, |bytes| Kind::of(f64::from_le_bytes(bytes))),
        DType::C64 => read_view(source, name, shape, view, |bytes| Kind::of(odder(bytes))),
        DType::F8E4m3 | DType::F8E5m2 | DType::F8E8m0 => {
            read_view(source, name, shape, view, |[byte]| Kind::of(float8(dtype, byte).into()))
        }
        _ => Ok(Vec::new()),
    }
}

/// Of a complex number the part that is not finite, if one is.
fn odder(bytes: [u8; 8]) -> f64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    let parts = [f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h])];
    parts.into_iter().find(|part| !part.is_finite()).unwrap_or(parts[0]).into()
}

/// The number at a position in row-major order.
fn number(source: &dyn Source, entry: &Entry, view: &Strided, index: usize) -> Result<f64, FormatError> {
    let steps = row_major(&entry.shape);
    let mut left = index as u64;
    let mut at = view.first;
    for (step, stride) in steps.iter().zip(&view.strides) {
        at += left / step * stride;
        left %= step;
    }
    let view = Strided { first: at, strides: Vec::new(), ..view.clone() };
    let name = &entry.name;
    let found = match view.dtype {
        DType::F64 => read_view(source, name, &[], &view, f64::from_le_bytes)?,
        DType::C64 => read_view(source, name, &[], &view, odder)?,
        dtype => read_view(source, name, &[], &view, |[byte]| f64::from(float8(dtype, byte)))?,
    };
    Ok(found.first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use statepress_core::index::Extent;

    use super::*;

    fn of(dtype: DType, bytes: Vec<u8>, shape: &[usize], strides: &[u64]) -> Survey {
        let storage = Extent { offset: 0, len: bytes.len() as u64 };
        let stored =
            Stored::Strided(Strided { dtype, storage, first: 0, strides: strides.to_vec(), negated: false });
        let entry = Entry { name: "t".into(), shape: shape.to_vec(), stored, tied_to: None };
        survey(&bytes, &entry).unwrap()
    }

    #[test]
    fn float64_beyond_float32_is_not_an_infinity_of_the_file() {
        // The largest that rounds to a float32, and the next.
        let edge = f64::from(f32::MAX) + f64::from(f32::MAX - f32::MAX.next_down()) / 2.0;
        let numbers = [1.0, edge.next_down(), -edge, f64::NAN, f64::INFINITY, 1e300];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let found = of(DType::F64, bytes.clone(), &[2, 3], &[3, 1]);
        assert_eq!((found.nan, found.infinite, found.beyond), (1, 1, 2));
        assert_eq!((found.first.unwrap().0, found.first_beyond), (3, Some((2, -edge))));
        assert_eq!((found.below, found.first_below), (0, None));
        // Transposed: 1, NaN / edge, infinity / -edge, 1e300.
        let found = of(DType::F64, bytes, &[3, 2], &[1, 3]);
        assert_eq!((found.first.unwrap().0, found.first_beyond), (1, Some((4, -edge))));
    }

    #[test]
    fn float64_below_float32_is_not_a_zero_of_the_file() {
        // Half of the smallest float32 rounds to 0, a little more to it.
        let half = f64::from(f32::from_bits(1)) / 2.0;
        let bytes: Vec<u8> =
            [0.0, half.next_up(), -half, 1e-200].into_iter().flat_map(f64::to_le_bytes).collect();
        let found = of(DType::F64, bytes, &[4], &[1]);
        assert_eq!(
            (found.below, found.first_below, found.first, found.beyond),
            (2, Some((2, -half)), None, 0)
        );
    }

    #[test]
    fn complex_numbers_and_floats_of_eight_bits_are_looked_at_too() {
        let parts = [1.0f32, 2.0, 3.0, f32::NEG_INFINITY, f32::NAN, 0.0];
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
        let found = of(DType::C64, bytes, &[3], &[1]);
        assert_eq!((found.nan, found.infinite, found.first), (1, 1, Some((1, f64::NEG_INFINITY))));
        let found = of(DType::F8E5m2, vec![0, 0x7c, 0x7d, 0x3c], &[4], &[1]);
        assert_eq!((found.nan, found.infinite, found.first), (1, 1, Some((1, f64::INFINITY))));
        assert_eq!(of(DType::I64, vec![0xff; 16], &[2], &[1]), Survey::default());
    }
}

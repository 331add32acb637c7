//! A matrix whose rows are of a few classes, each coded for itself: frequent rows of a vocabulary finer than rare ones.
//!
//! Which class a row is of is stored as an index of `ceil(log2 classes)` bits a row, a stream that begins in the highest bits
//! of the first byte. The rows of a class keep their order; they are a matrix of their own, coded as any other.

use super::{Coding, Encoding, Part};
use crate::{DType, shape};

/// The most classes that a matrix may have.
pub const MOST_CLASSES: usize = 8;

/// An encoding that is the same for all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Plain {
    /// IEEE binary32.
    #[default]
    Fp32,
    /// IEEE binary16.
    Fp16,
    /// bfloat16.
    Bf16,
    /// Codes and scales.
    Codes(Coding),
}

/// One class of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowClass {
    /// How many rows are of it.
    pub rows: usize,
    /// How their numbers are coded.
    pub plain: Plain,
}

/// The classes of a matrix, two or more of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowClasses {
    classes: [RowClass; MOST_CLASSES],
    count: usize,
}

impl From<Plain> for Encoding {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Fp32 => Self::Fp32,
            Plain::Fp16 => Self::Fp16,
            Plain::Bf16 => Self::Bf16,
            Plain::Codes(coding) => Self::Codes(coding),
        }
    }
}

impl Encoding {
    /// The same where it is one for all rows.
    pub const fn plain(self) -> Option<Plain> {
        match self {
            Self::Fp32 => Some(Plain::Fp32),
            Self::Fp16 => Some(Plain::Fp16),
            Self::Bf16 => Some(Plain::Bf16),
            Self::Codes(coding) => Some(Plain::Codes(coding)),
            Self::Rows(_) => None,
        }
    }
}

impl RowClass {
    /// How its rows are coded.
    pub fn encoding(self) -> Encoding {
        self.plain.into()
    }
}

impl std::fmt::Debug for RowClasses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

impl RowClasses {
    /// Two classes to [`MOST_CLASSES`], none of them without rows.
    ///
    /// # Errors
    /// Says what else was given.
    pub fn new(given: &[RowClass]) -> Result<Self, String> {
        if !(2..=MOST_CLASSES).contains(&given.len()) {
            return Err(format!("{} classes of rows where 2 to {MOST_CLASSES} are allowed", given.len()));
        }
        if let Some(empty) = given.iter().position(|class| class.rows == 0) {
            return Err(format!("class {empty} of its rows is of no row"));
        }
        let mut classes = [RowClass::default(); MOST_CLASSES];
        classes[..given.len()].copy_from_slice(given);
        Ok(Self { classes, count: given.len() })
    }

    /// Every class, in order.
    pub fn all(&self) -> &[RowClass] {
        &self.classes[..self.count]
    }

    /// Rows of all classes; `usize::MAX` where they are more than can be counted.
    pub fn rows(&self) -> usize {
        self.all().iter().fold(0, |sum, class| sum.saturating_add(class.rows))
    }

    /// The class of most rows, the first of several.
    pub(super) const fn largest(&self) -> RowClass {
        let (mut largest, mut at) = (self.classes[0], 1);
        while at < self.count {
            if self.classes[at].rows > largest.rows {
                largest = self.classes[at];
            }
            at += 1;
        }
        largest
    }

    /// Bits of the index of a class.
    const fn bits(&self) -> usize {
        (usize::BITS - (self.count - 1).leading_zeros()) as usize
    }

    /// Bytes of the indexes of all rows.
    pub fn index_bytes(&self) -> usize {
        self.rows().saturating_mul(self.bits()).div_ceil(8)
    }

    /// The arrays of a matrix: the indexes, then those of each class, whose names begin with its number.
    pub(super) fn parts(&self, shape: &[usize]) -> Vec<Part> {
        let (_, cols) = shape::matrix(shape);
        let mut parts = vec![Part::new("", DType::U8, vec![self.index_bytes()])];
        for (at, class) in self.all().iter().enumerate() {
            for part in class.encoding().parts(&[class.rows, cols]) {
                parts.push(Part { suffix: format!(".{at}{}", part.suffix), ..part });
            }
        }
        parts
    }

    /// Why a tensor of `shape` cannot have these classes, if it cannot.
    pub(super) fn refusal(&self, shape: &[usize]) -> Option<String> {
        let &[rows, cols] = shape else {
            return Some(format!("only matrices have classes of rows (shape {shape:?})"));
        };
        if self.rows() != rows || u32::try_from(rows).is_err() {
            return Some(format!("its classes have {} rows in all, where it has {rows}", self.rows()));
        }
        self.all().iter().find_map(|class| class.encoding().refusal(&[class.rows, cols]))
    }

    /// Where every row is, with the rows of all classes one class after the other, by the indexes as they are stored.
    ///
    /// # Errors
    /// Where they are not those of as many rows of every class as there are.
    pub fn places(&self, indexes: &[u8]) -> Result<Vec<u32>, String> {
        if indexes.len() != self.index_bytes() {
            return Err(format!(
                "{} bytes of row classes, where {} are needed",
                indexes.len(),
                self.index_bytes()
            ));
        }
        let bits = self.bits();
        let bit = |at: usize| usize::from(indexes[at / 8] >> (7 - at % 8) & 1);
        let classes =
            (0..self.rows()).map(|row| (0..bits).fold(0, |index, at| index << 1 | bit(row * bits + at)));
        self.placed(classes)
    }

    /// The same by the class of every row.
    ///
    /// # Errors
    /// As [`Self::places`].
    pub fn placed(&self, classes: impl ExactSizeIterator<Item = usize>) -> Result<Vec<u32>, String> {
        let (mut next, mut ends, mut sum) = ([0; MOST_CLASSES], [0; MOST_CLASSES], 0);
        for (at, class) in self.all().iter().enumerate() {
            next[at] = sum;
            sum = class.rows.saturating_add(sum);
            ends[at] = sum;
        }
        if classes.len() != sum {
            return Err(format!("{} rows have a class, where the classes have {sum}", classes.len()));
        }
        let mut places = Vec::with_capacity(sum);
        for (row, class) in classes.enumerate() {
            if class >= self.count {
                return Err(format!("row {row} is of class {class}, where there are {}", self.count));
            }
            if next[class] == ends[class] {
                let rows = self.classes[class].rows;
                return Err(format!("more rows than {rows} are of class {class}, row {row} among them"));
            }
            places.push(next[class] as u32);
            next[class] += 1;
        }
        Ok(places)
    }

    /// The indexes as they are stored, by [`Self::places`].
    pub fn indexes(&self, places: &[u32]) -> Vec<u8> {
        let (bits, mut indexes) = (self.bits(), vec![0; self.index_bytes()]);
        for (row, &place) in places.iter().enumerate() {
            let (class, _) = self.find(place as usize);
            for at in 0..bits {
                let bit = (class >> (bits - 1 - at) & 1) as u8;
                indexes[(row * bits + at) / 8] |= bit << (7 - (row * bits + at) % 8);
            }
        }
        indexes
    }

    /// The class at a place, and the row in it.
    pub fn find(&self, mut place: usize) -> (usize, usize) {
        for (at, class) in self.all().iter().enumerate() {
            if place < class.rows {
                return (at, place);
            }
            place -= class.rows;
        }
        (self.count - 1, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(rows: &[usize]) -> RowClasses {
        let classes: Vec<_> = rows.iter().map(|&rows| RowClass { rows, plain: Plain::Fp16 }).collect();
        RowClasses::new(&classes).unwrap()
    }

    #[test]
    fn indexes_go_there_and_back() {
        for rows in
            [&[1, 1][..], &[5, 9], &[3, 1, 7], &[2, 2, 2, 2], &[1, 2, 3, 4, 5], &[1, 1, 1, 1, 1, 1, 1, 30]]
        {
            let classes = classes(rows);
            // Dealt round, and what is left over in order.
            let mut left: Vec<_> = rows.to_vec();
            let mut of_rows = Vec::new();
            while of_rows.len() < classes.rows() {
                for (class, left) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
                    *left -= 1;
                    of_rows.push(class);
                }
            }
            let places = classes.placed(of_rows.iter().copied()).unwrap();
            let indexes = classes.indexes(&places);
            assert_eq!(indexes.len(), classes.index_bytes());
            assert_eq!(classes.places(&indexes).unwrap(), places);
            let found: Vec<_> = places.iter().map(|&place| classes.find(place as usize).0).collect();
            assert_eq!(found, of_rows);
        }
        assert_eq!(classes(&[3, 1, 7]).indexes(&[0, 3, 4, 1, 5, 2, 6, 7, 8, 9, 10])[0], 0b0001_1000);
    }

    #[test]
    fn what_does_not_add_up_is_told() {
        let three = classes(&[1, 2, 1]);
        assert_eq!(three.places(&[0b0001_0110]), Ok(vec![0, 1, 2, 3]));
        assert!(three.places(&[0b0001_0111]).unwrap_err().contains("row 3 is of class 3, where there are 3"));
        assert!(three.places(&[0b0001_0101]).unwrap_err().contains("more rows than 2 are of class 1"));
        assert!(three.places(&[0, 0]).unwrap_err().contains("2 bytes of row classes, where 1"));
        assert!(RowClasses::new(&[RowClass { rows: 4, plain: Plain::Fp32 }]).unwrap_err().contains("2 to 8"));
        assert!(Encoding::Rows(three).refusal(&[5, 3]).unwrap().contains("4 rows in all, where it has 5"));
        assert!(Encoding::Rows(three).refusal(&[2, 2, 3]).unwrap().contains("only matrices"));
    }
}

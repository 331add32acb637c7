//! Reading weights in the layout of another tool: its codes where one of our encodings has the same, else numbers.
//!
//! The shapes of arrays were held against each other when they were joined; what their elements say is checked here.

use statepress_core::coded::{Array, BlockMax, Coded, Codes, Grid, Packed as Words, Rule, Table, Zeros};
use statepress_core::encoding::{Coding, Granularity, ScaleType};
use statepress_core::{
    DType, Encoding, Entry, Grid as Levels, Group, Packed, Scales, Source, shape, tensor as packed,
};

use crate::FormatError;
use crate::cursor::reserve;
use crate::tensor::{read_f32, read_run};
use crate::view::read_view;
use crate::{gguf, streamed};

/// Reads one weight.
pub(crate) fn read(source: &dyn Source, entry: &Entry, coded: &Coded) -> Result<Packed, FormatError> {
    let from = From { source, name: &entry.name };
    let n = shape::elements(&entry.shape).unwrap_or(0);
    match &coded.rule {
        Rule::Table(table) => from.table(table, coded.encoding, n),
        Rule::Grid(grid) => from.grid(grid, coded.encoding, shape::matrix(&entry.shape)),
        Rule::Blocks(blocks) => gguf::read(source, entry, blocks, coded.encoding),
    }
}

/// A weight as the arrays that layouts of whole numbers have in common, in the order of rows `[out, in]`.
pub(crate) struct Whole {
    /// Codes, counted from the least one.
    pub codes: Vec<u8>,
    /// The bytes of the scales of each row, one for each of its groups, in the type that they are stored in.
    pub scales: Vec<u8>,
    /// A zero point for each scale, counted like codes; none where all are the middle.
    pub zeros: Option<Vec<u8>>,
}

/// The arrays of a weight on a grid whose groups are of neighbours, and whose zero points are among its codes.
pub(crate) fn whole(source: &dyn Source, entry: &Entry, grid: &Grid) -> Result<Whole, FormatError> {
    From { source, name: &entry.name }.whole(grid, shape::matrix(&entry.shape))
}

/// The code of zero where there are no zero points, counted from the least one.
pub(crate) const fn middle(bits: u32) -> i32 {
    1 << (bits - 1)
}

/// A source, and the weight that errors speak of.
struct From<'a> {
    source: &'a dyn Source,
    name: &'a str,
}

impl From<'_> {
    fn floats(&self, array: &Array) -> Result<Vec<f32>, FormatError> {
        read_f32(self.source, self.name, &array.shape, &array.view)
    }

    fn all<T: Copy + Default, const N: usize>(
        &self,
        array: &Array,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, FormatError> {
        read_view(self.source, self.name, &array.shape, &array.view, convert)
    }

    /// The scales, as they multiply codes.
    fn scales(&self, grid: &Grid) -> Result<Vec<f32>, FormatError> {
        let mut scales = self.floats(&grid.scales)?;
        if grid.unit != 1.0 {
            scales.iter_mut().for_each(|scale| *scale *= grid.unit);
        }
        Ok(scales)
    }

    /// The zero point that belongs to the scale in a row and column of theirs.
    fn zeros(&self, grid: &Grid) -> Result<impl Fn(usize, usize) -> f32, FormatError> {
        let (digits, plus) = match &grid.zeros {
            Zeros::Same(zero) => (None, *zero),
            Zeros::Each(codes, plus) => (Some(self.digits(codes)?), *plus),
        };
        Ok(move |row, col| digits.as_ref().map_or(0.0, |digits| digits.get(row, col)) + plus as f32)
    }

    fn table(&self, table: &Table, encoding: Encoding, n: usize) -> Result<Packed, FormatError> {
        let codes = read_run(self.source, self.name, table.codes, u8::from_le_bytes)?;
        if let Encoding::Codes(Coding { grid, group, scale }) = encoding {
            let scales = match &table.absmax {
                BlockMax::Double { codes, nested, offset, .. } if scale == ScaleType::Double => {
                    Scales::Double {
                        codes: self.all(codes, u8::from_le_bytes)?,
                        nested: self.floats(nested)?,
                        offset: *offset,
                    }
                }
                absmax => Scales::F32(self.maxima(absmax)?),
            };
            return Ok(Packed::Codes(packed::Codes { grid, group, codes, scales }));
        }
        let absmax = self.maxima(&table.absmax)?;
        let mut values = reserve(self.name, n)?;
        for (block, absmax) in (0..n).step_by(table.block).zip(absmax) {
            values.extend((block..n.min(block + table.block)).map(|i| {
                let byte = codes[i / 2];
                table.table[usize::from(if i % 2 == 0 { byte >> 4 } else { byte & 15 })] * absmax
            }));
        }
        Ok(Packed::F32(values))
    }

    fn maxima(&self, absmax: &BlockMax) -> Result<Vec<f32>, FormatError> {
        match absmax {
            BlockMax::Plain(array) => self.floats(array),
            BlockMax::Double { codes, table, nested, block, offset } => {
                let nested = self.floats(nested)?;
                let codes = self.all(codes, u8::from_le_bytes)?;
                let maximum = |(i, code): (usize, u8)| table[usize::from(code)] * nested[i / block] + offset;
                Ok(codes.into_iter().enumerate().map(maximum).collect())
            }
        }
    }

    fn grid(
        &self,
        grid: &Grid,
        encoding: Encoding,
        (rows, cols): (usize, usize),
    ) -> Result<Packed, FormatError> {
        let Encoding::Codes(coding) = encoding else {
            return Ok(Packed::F32(self.numbers(grid, rows, cols)?));
        };
        if coding.scale == ScaleType::Affine {
            return self.with_minimums(grid, coding, rows, cols);
        }
        let Zeros::Same(zero) = &grid.zeros else {
            return Ok(Packed::F32(self.numbers(grid, rows, cols)?));
        };
        let codes = match (coding.grid.bits(), &grid.codes.packed) {
            (8, None) if *zero == 0 => self.all(&grid.codes.array, u8::from_le_bytes)?,
            _ => {
                let numbers = self.each(grid, rows, cols, |code| code as i16 - *zero as i16)?;
                streamed::pack(self.name, coding.grid, &numbers)?
            }
        };
        let groups = match coding.group {
            Group::Values(group) => cols / group,
            Group::Row | Group::Tensor => 1,
        };
        let scales = match coding.scale {
            ScaleType::Fp16 => {
                Scales::F16(turned(&self.all(&grid.scales, u16::from_le_bytes)?, grid, rows, groups))
            }
            _ if matches!(coding.group, Group::Values(_)) => {
                Scales::F32(turned(&self.scales(grid)?, grid, rows, groups))
            }
            _ => Scales::F32(self.scales(grid)?),
        };
        Ok(Packed::Codes(packed::Codes { grid: coding.grid, group: coding.group, codes, scales }))
    }

    /// Codes with the zero points of groups, as what the least code of each stands for.
    fn with_minimums(
        &self,
        grid: &Grid,
        coding: Coding,
        rows: usize,
        cols: usize,
    ) -> Result<Packed, FormatError> {
        let plus = grid.from_least() + coding.grid.least() as i32;
        let codes = self.each(grid, rows, cols, |code| (code as i32 + plus) as i16)?;
        let codes = streamed::pack(self.name, coding.grid, &codes)?;
        let [per_row, per_col] = grid.per;
        let count @ [_, across] = [rows.div_ceil(per_row), cols.div_ceil(per_col)];
        let (zero, of_file) = (self.zeros(grid)?, self.scales(grid)?);
        let (mut scales, mut minimums) = (Vec::new(), Vec::new());
        for (row, group) in (0..rows).flat_map(|row| (0..across).map(move |group| (row, group))) {
            let [r, c, width] = place(grid, count, row, group);
            let scale = of_file[r * width + c];
            scales.push(scale);
            minimums.push(-(zero(r, c) + grid.from_least() as f32) * scale);
        }
        let scales = Scales::Affine { scales, minimums };
        Ok(Packed::Codes(packed::Codes { grid: coding.grid, group: coding.group, codes, scales }))
    }

    fn numbers(&self, grid: &Grid, rows: usize, cols: usize) -> Result<Vec<f32>, FormatError> {
        let mut values = self.each(grid, rows, cols, |code| code)?;
        let (zero, scales) = (self.zeros(grid)?, self.scales(grid)?);
        let [per_row, per_col] = grid.per;
        let (down, across) = (rows.div_ceil(per_row), cols.div_ceil(per_col));
        let groups = match &grid.groups {
            Some(array) => self.groups(array, across)?,
            None => (0..cols).map(|col| col / per_col).collect(),
        };
        for (row, values) in values.chunks_mut(cols.max(1)).enumerate() {
            for (value, &group) in values.iter_mut().zip(&groups) {
                let [r, c, width] = place(grid, [down, across], row, group);
                *value = (*value - zero(r, c)) * scales[r * width + c];
            }
        }
        Ok(values)
    }

    fn whole(&self, grid: &Grid, (rows, cols): (usize, usize)) -> Result<Whole, FormatError> {
        let plus = grid.from_least();
        let codes = self.each(grid, rows, cols, |code| (code as i32 + plus) as u8)?;
        let count = [rows.div_ceil(grid.per[0]), cols.div_ceil(grid.per[1])];
        let places =
            || (0..rows).flat_map(|row| (0..count[1]).map(move |group| place(grid, count, row, group)));
        let scales = match grid.scale_type() {
            DType::F32 => {
                let scales = self.scales(grid)?;
                places().flat_map(|[r, c, width]| scales[r * width + c].to_le_bytes()).collect()
            }
            _ => {
                let halves = self.all(&grid.scales, |half: [u8; 2]| half)?;
                places().flat_map(|[r, c, width]| halves[r * width + c]).collect()
            }
        };
        let bits = grid.codes.packed.map_or(8, |packed| packed.bits);
        let zeros = match &grid.zeros {
            Zeros::Same(zero) if zero + plus == middle(bits) => None,
            Zeros::Same(zero) => Some(places().map(|_| (zero + plus) as u8).collect()),
            Zeros::Each(zeros, more) => {
                let digits = self.digits(zeros)?;
                let zero = |[r, c, _]: [usize; 3]| {
                    let zero = digits.get(r, c) as i32 + more + plus;
                    let why =
                        || format!("its zero point {zero} is none of its codes, 0 to {}", (1 << bits) - 1);
                    let fits = (0..1 << bits).contains(&zero);
                    fits.then_some(zero as u8).ok_or_else(|| FormatError::tensor(self.name, why()))
                };
                Some(places().map(zero).collect::<Result<_, _>>()?)
            }
        };
        Ok(Whole { codes, scales, zeros })
    }

    /// What is made of the codes, as `[out, in]`.
    fn each<T>(
        &self,
        grid: &Grid,
        rows: usize,
        cols: usize,
        make: impl Fn(f32) -> T,
    ) -> Result<Vec<T>, FormatError> {
        let digits = self.digits(&grid.codes)?;
        let mut values = reserve(self.name, rows * cols)?;
        for row in 0..rows {
            values.extend(
                (0..cols).map(|col| {
                    make(if grid.transposed { digits.get(col, row) } else { digits.get(row, col) })
                }),
            );
        }
        Ok(values)
    }

    fn digits(&self, codes: &Codes) -> Result<Digits, FormatError> {
        let width = codes.array.shape.last().copied().unwrap_or(1);
        Ok(match codes.packed {
            None => Digits::Plain { values: self.floats(&codes.array)?, width },
            Some(packed) => {
                Digits::Words { words: self.all(&codes.array, u32::from_le_bytes)?, width, packed }
            }
        })
    }

    /// The group of every input.
    fn groups(&self, array: &Array, count: usize) -> Result<Vec<usize>, FormatError> {
        let groups = self.all(array, u32::from_le_bytes)?;
        match groups.iter().find(|&&group| group as usize >= count) {
            Some(group) => {
                let why = format!("an input belongs to group {}, of {count}", *group as i32);
                Err(FormatError::tensor(self.name, why))
            }
            None => Ok(groups.into_iter().map(|group| group as usize).collect()),
        }
    }
}

/// Where the scale of a group of a row is: its row and column, and how wide such a row is. There are scales of so many down and across.
fn place(grid: &Grid, [down, across]: [usize; 2], row: usize, group: usize) -> [usize; 3] {
    match grid.transposed {
        true => [group, row / grid.per[0], down],
        false => [row / grid.per[0], group, across],
    }
}

/// Scales, one a row and group, in the order of rows.
fn turned<T: Copy>(scales: &[T], grid: &Grid, rows: usize, groups: usize) -> Vec<T> {
    let at = |row, group| if grid.transposed { group * rows + row } else { row * groups + group };
    (0..rows).flat_map(|row| (0..groups).map(move |group| scales[at(row, group)])).collect()
}

/// A matrix of codes in memory.
enum Digits {
    Plain { values: Vec<f32>, width: usize },
    Words { words: Vec<u32>, width: usize, packed: Words },
}

impl Digits {
    fn get(&self, row: usize, col: usize) -> f32 {
        match self {
            Self::Plain { values, width } => values[row * width + col],
            Self::Words { words, width, packed: Words { bits, axis, order } } => {
                let (along, start, step) =
                    if *axis == 0 { (row, col, *width) } else { (col, row * width, 1) };
                let bit = (along / 8 * 8 + usize::from(order[along % 8])) * *bits as usize;
                let (word, shift) = (start + bit / 32 * step, bit as u32 % 32);
                let mut code = words[word] >> shift;
                if shift + bits > 32 {
                    code |= words[word + step] << (32 - shift);
                }
                (code & ((1 << bits) - 1)) as f32
            }
        }
    }
}

/// The one code that all are, if they are.
pub(crate) fn all_same(
    source: &dyn Source,
    name: &str,
    codes: &Codes,
    rows: usize,
    cols: usize,
) -> Result<Option<u32>, FormatError> {
    let digits = From { source, name }.digits(codes)?;
    let first = digits.get(0, 0);
    let same = (0..rows).all(|row| (0..cols).all(|col| digits.get(row, col) == first));
    Ok(same.then_some(first as u32))
}

/// Whether groups are of neighbours after all: input `i` belongs to group `i / size`.
pub(crate) fn are_neighbours(
    source: &dyn Source,
    name: &str,
    groups: &Array,
    size: usize,
) -> Result<bool, FormatError> {
    let groups = From { source, name }.all(groups, u32::from_le_bytes)?;
    Ok(groups.iter().enumerate().all(|(i, &group)| group as usize == i / size))
}

/// The encoding that has the same codes and scales as a grid of `shape`, else that of numbers.
pub(crate) fn encoding(grid: &Grid, shape: &[usize]) -> Encoding {
    let (rows, cols) = shape::matrix(shape);
    let bits = match grid.codes.packed {
        Some(packed) => packed.bits,
        None if grid.codes.array.dtype() == DType::I8 => 8,
        None => return Encoding::Fp32,
    };
    let symmetric = matches!(grid.zeros, Zeros::Same(zero) if zero + grid.from_least() == middle(bits));
    // What sixteen bits multiply is exact, so that a minimum and steps from it are to the last bit what a zero point is.
    let affine = !symmetric && grid.scale_type() != DType::F32;
    let integers = Levels::ALL.iter().find(|it| it.is_whole() && it.bits() == bits as usize);
    let found = match (integers, grid.per) {
        (Some(&levels), [1, per]) if affine => Encoding::grouped(levels, per.min(cols), ScaleType::Affine),
        (Some(Levels::Int8), [1, per]) if per >= cols => Encoding::int8(Granularity::Row),
        (Some(Levels::Int8), per) if per == [rows, cols] && symmetric => Encoding::int8(Granularity::Tensor),
        (Some(&levels), [1, per]) => {
            let half = grid.scales.dtype() == DType::F16 && grid.unit == 1.0;
            let scale = if half { ScaleType::Fp16 } else { ScaleType::Fp32 };
            Encoding::grouped(levels, per.min(cols), scale)
        }
        _ => return Encoding::Fp32,
    };
    let whole = found.refusal(shape).is_none() && cols.is_multiple_of(grid.per[1].min(cols));
    if (symmetric || affine) && whole && grid.groups.is_none() { found } else { Encoding::Fp32 }
}

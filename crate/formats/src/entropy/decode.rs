//! Reading a stream: every length and table is checked first, the rows follow as they are asked for.

use super::bits::BitReader;
use super::classes::OFFSET_BITS;
use super::crc32::crc32;
use super::table::{TOKENS, TOTAL, Table};
use super::{LANES, PART, PRECISION, STATE, VERSION};
use crate::FormatError;
use statepress_core::words::counted;

/// Bytes that a group of [`LANES`] codes may take: a word for each token and one for its plain bits.
const WINDOW: usize = LANES * 4;

/// Gives back the rows of a matrix that [`encode`](super::encode) wrote.
///
/// It holds a byte for each column at the most, and 17 KiB for each table of the stream, of which there are 64 at the
/// most; rows go where the caller wants them. A few bytes may stand for any number of rows of zeros: how large a matrix
/// may be is the caller's to say.
pub struct Decoder<'a> {
    payload: Payload<'a>,
    states: States,
    rows_left: usize,
    cols: usize,
    classes: Classes,
}

fn cut() -> FormatError {
    FormatError::malformed(PART, "it ends within its header")
}

/// States that take turns: one or all of [`LANES`].
enum States {
    One([u32; 1]),
    All([u32; LANES]),
}

impl<'a> Decoder<'a> {
    /// Reads all but the codes, of a matrix that has to have so many rows and columns.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize) -> Result<Self, FormatError> {
        let malformed = |why: String| FormatError::malformed(PART, why);
        let Some((stream, stored)) = bytes.split_last_chunk() else {
            return Err(malformed(format!(
                "it has {}, fewer than its checksum",
                counted(bytes.len(), "byte", "bytes")
            )));
        };
        let (stored, found) = (u32::from_le_bytes(*stored), crc32(stream));
        if found != stored {
            return Err(malformed(format!(
                "its {} bytes have the checksum {found:08x}, but end with {stored:08x}: they were cut off or changed, \
                 fetch the file again",
                bytes.len()
            )));
        }
        let mut bits = BitReader::new(stream);
        let version = bits.get(8).ok_or_else(cut)?;
        if version != u32::from(VERSION) {
            return Err(malformed(format!("its version is {version}; known is {VERSION}")));
        }
        let shape = (bits.get_len().ok_or_else(cut)?, bits.get_len().ok_or_else(cut)?);
        if shape != (rows as u64, cols as u64) {
            let (of_rows, of_cols) = shape;
            let why =
                format!("it is of {of_rows} rows and {of_cols} columns, the tensor of {rows} and {cols}");
            return Err(malformed(why));
        }
        let lanes = bits.get(8).ok_or_else(cut)?;
        let classes = Classes::read(&mut bits, cols)?;
        if classes.tables.is_empty() && rows > 0 && cols > 0 {
            return Err(malformed("it has codes, but no table".into()));
        }
        let rest = bits.finish().ok_or_else(|| malformed("its header is not filled up with zeros".into()))?;
        let (states, rest) = States::read(lanes, rest)?;
        let rows_left = if cols == 0 { 0 } else { rows };
        let decoder = Self { payload: Payload { rest }, states, rows_left, cols, classes };
        if rows_left == 0 { decoder.check_end().map(|()| decoder) } else { Ok(decoder) }
    }

    /// Reads as many rows as `out` holds, which have to be whole and still there. With the last row comes the check that
    /// the stream ends as it has to.
    pub fn read(&mut self, out: &mut [i16]) -> Result<(), FormatError> {
        let rows = out.len() / self.cols.max(1);
        if !out.len().is_multiple_of(self.cols.max(1)) || rows > self.rows_left {
            let why = format!(
                "{} codes are asked for, of {} rows of {} that are left",
                out.len(),
                self.rows_left,
                self.cols
            );
            return Err(FormatError::malformed(PART, why));
        }
        for row in out.chunks_exact_mut(self.cols.max(1)) {
            match &mut self.states {
                States::One(states) => self.classes.row(states, &mut self.payload, row)?,
                States::All(states) => self.classes.row(states, &mut self.payload, row)?,
            }
            self.rows_left -= 1;
        }
        if self.rows_left == 0 { self.check_end() } else { Ok(()) }
    }

    /// Nothing may be left, in the bytes and in the states.
    fn check_end(&self) -> Result<(), FormatError> {
        let left = self.payload.rest.len();
        let states = match &self.states {
            States::One(states) => states.as_slice(),
            States::All(states) => states,
        };
        if left > 0 {
            return Err(FormatError::malformed(
                PART,
                format!("{} left behind its last code", counted(left, "byte is", "bytes are")),
            ));
        }
        if states.iter().any(|state| *state != STATE) {
            let why =
                "it does not end as it began: its tables or its words are not those it was written with";
            return Err(FormatError::malformed(PART, why));
        }
        Ok(())
    }
}

/// Decodes a whole stream and calls `sink` with the index and the codes of each row.
pub fn decode(
    bytes: &[u8],
    rows: usize,
    cols: usize,
    mut sink: impl FnMut(usize, &[i16]),
) -> Result<(), FormatError> {
    let mut decoder = Decoder::new(bytes, rows, cols)?;
    let mut codes = Vec::new();
    let room = codes.try_reserve_exact(cols);
    room.map_err(|_| FormatError::malformed(PART, format!("there is no memory for a row of {cols} codes")))?;
    codes.resize(cols, 0);
    for row in 0..rows {
        decoder.read(&mut codes)?;
        sink(row, &codes);
    }
    Ok(())
}

impl States {
    fn read(lanes: u32, bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let (states, rest) = match lanes as usize {
            1 => split_states(bytes).map(|(states, rest)| (Self::One(states), rest)),
            LANES => split_states(bytes).map(|(states, rest)| (Self::All(states), rest)),
            _ => {
                let why = format!("it has {lanes} states; 1 and {LANES} are known");
                return Err(FormatError::malformed(PART, why));
            }
        }
        .ok_or_else(|| FormatError::malformed(PART, "it ends within its states"))?;
        let least = match &states {
            Self::One(states) => states[0],
            Self::All(states) => states.iter().min().copied().unwrap_or(0),
        };
        if least < STATE {
            return Err(FormatError::malformed(
                PART,
                format!("it begins with a state of {least}, below {STATE}"),
            ));
        }
        Ok((states, rest))
    }
}

/// States of four bytes, and what follows them.
fn split_states<const N: usize>(bytes: &[u8]) -> Option<([u32; N], &[u8])> {
    let (words, rest) = bytes.split_at_checked(4 * N)?;
    let mut words = words.as_chunks().0.iter();
    Some(([(); N].map(|()| words.next().map_or(0, |word| u32::from_le_bytes(*word))), rest))
}

/// The words that are not used yet.
struct Payload<'a> {
    rest: &'a [u8],
}

impl Payload<'_> {
    /// Runs `step` with the next words, behind the last of which there are zeros, and takes as many as it used.
    #[inline(always)]
    fn step<T>(&mut self, step: impl FnOnce(&mut Window) -> T) -> Result<T, FormatError> {
        let mut end = [0; WINDOW];
        let bytes = match self.rest.first_chunk() {
            Some(bytes) => bytes,
            None => {
                end[..self.rest.len()].copy_from_slice(self.rest);
                &end
            }
        };
        let mut window = Window { bytes, used: 0 };
        let value = step(&mut window);
        let used = 2 * window.used;
        self.rest =
            self.rest.get(used..).ok_or_else(|| FormatError::malformed(PART, "it ends within its codes"))?;
        Ok(value)
    }
}

/// The next words of the payload.
struct Window<'a> {
    bytes: &'a [u8; WINDOW],
    /// Words taken.
    used: usize,
}

impl Window<'_> {
    /// The state with a word more, if it is short of one.
    #[inline(always)]
    fn refilled(&mut self, state: u32) -> u32 {
        let at = 2 * self.used % WINDOW;
        let word = u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]);
        let short = state < STATE;
        self.used += usize::from(short);
        if short { state << 16 | u32::from(word) } else { state }
    }

    /// The next number of a state.
    #[inline(always)]
    fn number(&mut self, state: &mut u32, table: &Lookup) -> i16 {
        let entry = table.entries[(*state % TOTAL) as usize];
        let token = table.tokens[(entry >> 24) as usize];
        let frequency = (entry >> PRECISION) % TOTAL + 1;
        // At most 4096 * (2^20 - 1) + 4095, which is the greatest u32.
        *state = self.refilled(frequency * (*state >> PRECISION) + entry % TOTAL);
        let extra = token >> 16;
        let mut number = token as u16;
        if extra > 0 {
            number = number.wrapping_add((*state & ((1 << extra) - 1)) as u16);
            *state = self.refilled(*state >> extra);
        }
        number.cast_signed()
    }
}

/// A table, by what a state says.
struct Lookup {
    /// For each of [`TOTAL`] remainders: the token, its frequency less one, and how far behind its first remainder it is.
    entries: [u32; TOTAL as usize],
    /// For each token: its plain bits, and its first number, modulo 2^16.
    tokens: [u32; TOKENS],
}

impl Lookup {
    fn new(table: &Table) -> Self {
        let mut lookup = Self { entries: [0; TOTAL as usize], tokens: [0; TOKENS] };
        let mut entries = lookup.entries.iter_mut();
        for (index, &frequency) in table.frequencies.iter().enumerate() {
            let token = table.shape.token(index);
            if let Some(slot) = lookup.tokens.get_mut(index) {
                *slot = token.extra << 16 | (token.base.cast_unsigned() & 0xffff);
            }
            for (behind, entry) in (0..frequency).zip(&mut entries) {
                *entry = (index as u32) << 24 | (frequency - 1) << PRECISION | behind;
            }
        }
        lookup
    }
}

/// Which table a code is read with.
struct Classes {
    /// What the class of a row is read with; without it that is 0.
    row_table: Option<Lookup>,
    tables: Vec<Lookup>,
    /// The table of each sum of the classes of row and column, from `least` on.
    table_of: Vec<u8>,
    least: i32,
    /// What each column adds to the class of its row; empty if nothing.
    columns: Vec<u8>,
}

impl Classes {
    /// Reads the tables, and what says which of them is for what.
    fn read(bits: &mut BitReader, cols: usize) -> Result<Self, FormatError> {
        let malformed = |why: String| FormatError::malformed(PART, why);
        let width = bits.get(3).ok_or_else(cut)?;
        let least = i32::from(bits.get(8).ok_or_else(cut)? as u8 as i8);
        if width > OFFSET_BITS {
            return Err(malformed(format!(
                "columns have offsets of {width} bits; {OFFSET_BITS} are the most"
            )));
        }
        let mut table_of = Vec::new();
        let mut tables_begun = 0u8;
        for _ in 0..bits.get(6).ok_or_else(cut)? {
            tables_begun += bits.get(1).ok_or_else(cut)? as u8;
            let table = tables_begun.checked_sub(1);
            table_of.push(table.ok_or_else(|| malformed("its first class has no table".into()))?);
        }
        let row_table = match bits.get(1).ok_or_else(cut)? {
            0 => None,
            _ => Some(Lookup::new(&Table::read(bits)?)),
        };
        let tables: Result<Vec<_>, _> = (0..tables_begun).map(|_| Table::read(bits)).collect();
        let tables: Vec<Lookup> = tables?.iter().map(Lookup::new).collect();
        if (cols as u64).saturating_mul(u64::from(width)) > bits.left() as u64 {
            return Err(cut());
        }
        let offsets = if width == 0 { 0 } else { cols };
        let columns: Option<Vec<u8>> = (0..offsets).map(|_| bits.get(width).map(|it| it as u8)).collect();
        let columns = columns.ok_or_else(cut)?;
        Ok(Self { row_table, tables, table_of, least, columns })
    }

    /// Reads a row: its class, then its codes.
    fn row<const N: usize>(
        &self,
        states: &mut [u32; N],
        payload: &mut Payload,
        out: &mut [i16],
    ) -> Result<(), FormatError> {
        let class = match &self.row_table {
            Some(table) => payload.step(|window| window.number(&mut states[0], table))?,
            None => 0,
        };
        let no_table = || FormatError::malformed(PART, "a row's class has no table");
        let tables = self.by_offset(i32::from(class)).ok_or_else(no_table)?;
        if self.columns.is_empty() {
            codes(states, payload, out, &tables, std::iter::repeat(&[0; N]))
        } else {
            let (offsets, rest) = self.columns.as_chunks();
            let mut last = [0; N];
            last[..rest.len()].copy_from_slice(rest);
            codes(states, payload, out, &tables, offsets.iter().chain([&last]))
        }
    }

    /// The table for each offset that a column may have.
    fn by_offset(&self, class: i32) -> Option<[&Lookup; OFFSETS]> {
        let last = self.table_of.len().checked_sub(1)?;
        let mut tables = [self.tables.first()?; OFFSETS];
        for (table, sum) in tables.iter_mut().zip(class - self.least..) {
            *table = self.tables.get(usize::from(self.table_of[(sum.max(0) as usize).min(last)]))?;
        }
        Some(tables)
    }
}

/// Offsets of columns that there may be.
const OFFSETS: usize = 1 << OFFSET_BITS;

/// Reads the codes of a row, as many at a time as there are states; `offsets` has those of their columns.
#[inline(always)]
fn codes<'o, const N: usize>(
    states: &mut [u32; N],
    payload: &mut Payload,
    out: &mut [i16],
    tables: &[&Lookup; OFFSETS],
    mut offsets: impl Iterator<Item = &'o [u8; N]>,
) -> Result<(), FormatError> {
    let mut now = *states;
    let (groups, rest) = out.as_chunks_mut::<N>();
    for (codes, offsets) in groups.iter_mut().zip(&mut offsets) {
        payload.step(|window| {
            for lane in 0..N {
                codes[lane] = window.number(&mut now[lane], tables[usize::from(offsets[lane]) % OFFSETS]);
            }
        })?;
    }
    if let (false, Some(offsets)) = (rest.is_empty(), offsets.next()) {
        payload.step(|window| {
            for ((code, state), offset) in rest.iter_mut().zip(&mut now).zip(offsets) {
                *code = window.number(state, tables[usize::from(*offset) % OFFSETS]);
            }
        })?;
    }
    *states = now;
    Ok(())
}

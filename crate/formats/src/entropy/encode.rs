//! Writing a stream: the plan, then every code from the last to the first.

use super::bits::BitWriter;
use super::crc32::crc32;
use super::merge::Plan;
use super::table::{Table, Token};
use super::{FEW, LANES, PRECISION, STATE, VERSION};
use crate::FormatError;

/// Codes of a matrix, row by row, as a stream that [`Decoder`](super::Decoder) reads.
///
/// The same codes give the same bytes on every machine. An error if there are not `rows * cols` codes.
pub fn encode(codes: &[i16], rows: usize, cols: usize) -> Result<Vec<u8>, FormatError> {
    if rows.checked_mul(cols) != Some(codes.len()) {
        let why = format!("{} codes are not a matrix of {rows} rows and {cols} columns", codes.len());
        return Err(FormatError::malformed("matrix of codes", why));
    }
    let plan = Plan::new(codes, cols);
    let lanes = if codes.len() < FEW { 1 } else { LANES };
    let mut out = header(&plan, rows, cols, lanes);
    let mut states = States::new(lanes);
    let tables: Vec<Steps> = plan.tables.iter().map(Steps::new).collect();
    let row_table = plan.row_table.as_ref().map(Steps::new);
    let mut of_offset: Vec<&Steps> = Vec::new();
    for (row, class) in codes.chunks(cols.max(1)).zip(&plan.rows).rev() {
        of_offset.clear();
        of_offset.extend((0..1 << plan.width).map(|at| &tables[plan.table(i32::from(*class), at) as usize]));
        for (column, code) in row.iter().enumerate().rev() {
            states.put(column % lanes, of_offset[plan.columns[column] as usize], *code);
        }
        if let Some(table) = &row_table {
            states.put(0, table, *class);
        }
    }
    out.extend(states.states.iter().flat_map(|state| state.to_le_bytes()));
    out.extend(states.words.iter().rev().flat_map(|word| word.to_le_bytes()));
    out.extend(crc32(&out).to_le_bytes());
    Ok(out)
}

/// All that comes before the states.
fn header(plan: &Plan, rows: usize, cols: usize, lanes: usize) -> Vec<u8> {
    let mut out = BitWriter::default();
    out.put(u32::from(VERSION), 8);
    out.put_len(rows);
    out.put_len(cols);
    out.put(lanes as u32, 8);
    out.put(plan.width, 3);
    out.put(plan.least.cast_unsigned(), 8);
    out.put(plan.table_of.len() as u32, 6);
    let mut before = None;
    for table in &plan.table_of {
        out.put(u32::from(before != Some(table)), 1);
        before = Some(table);
    }
    out.put(u32::from(plan.row_table.is_some()), 1);
    plan.row_table.iter().for_each(|table| table.write(&mut out));
    plan.tables.iter().for_each(|table| table.write(&mut out));
    plan.columns.iter().for_each(|offset| out.put(u32::from(*offset), plan.width));
    out.finish()
}

/// A table, ready to code with.
struct Steps<'a> {
    table: &'a Table,
    /// Of every token its numbers, its frequency, and the frequencies before it.
    tokens: Vec<(Token, u32, u32)>,
}

impl<'a> Steps<'a> {
    fn new(table: &'a Table) -> Self {
        let mut before = 0;
        let step = |(index, &frequency): (usize, &u32)| {
            let start = before;
            before += frequency;
            (table.shape.token(index), frequency, start)
        };
        Self { table, tokens: table.frequencies.iter().enumerate().map(step).collect() }
    }
}

/// States of the coder, and the words that they gave off, the last one first.
struct States {
    states: Vec<u32>,
    words: Vec<u16>,
}

impl States {
    fn new(lanes: usize) -> Self {
        Self { states: vec![STATE; lanes], words: Vec::new() }
    }

    /// Codes a number. A table has a token for whatever it was fitted to.
    fn put(&mut self, lane: usize, steps: &Steps, code: i16) {
        let (Token { base, extra }, frequency, start) = steps.tokens[steps.table.shape.of(code)];
        if extra > 0 {
            let state = self.room(lane, extra);
            self.states[lane] = state << extra | (i32::from(code) - base).cast_unsigned();
        }
        // Room for `log2(4096 / frequency)` bits: below `frequency << 20`, which is 2^32 for the only token of a table.
        let state = self.states[lane];
        let state = if u64::from(state) >= u64::from(frequency) << (32 - PRECISION) {
            self.words.push(state as u16);
            state >> 16
        } else {
            state
        };
        self.states[lane] = ((state / frequency) << PRECISION) + state % frequency + start;
    }

    /// The state with room for so many plain bits.
    fn room(&mut self, lane: usize, bits: u32) -> u32 {
        let state = self.states[lane];
        if u64::from(state) >> (32 - bits) == 0 {
            return state;
        }
        self.words.push(state as u16);
        state >> 16
    }
}

//! What an encoder decides before it writes: classes or none, and which of them share a table.

use super::classes::{GREATEST, LEAST, of_columns, of_rows};
use super::fit::{Counter, FINE, Fitted, Histogram, fit, joined};
use super::table::Table;

/// How a matrix is coded.
pub(super) struct Plan {
    /// The table of the classes of rows; none if all are 0.
    pub(super) row_table: Option<Table>,
    /// The class of each row.
    pub(super) rows: Vec<i16>,
    /// What each column adds to it.
    pub(super) columns: Vec<u8>,
    /// Bits of these; 0 if they add nothing.
    pub(super) width: u32,
    /// The sum from which `table_of` counts; sums below it are taken for it.
    pub(super) least: i32,
    /// The table of each sum; those beyond the last are taken for it. Equal or one more from each to the next.
    pub(super) table_of: Vec<u8>,
    /// What the codes are written with.
    pub(super) tables: Vec<Table>,
    /// Size of all of it, in units of [`FINE`].
    size: u64,
}

impl Plan {
    /// The shortest there is.
    pub(super) fn new(codes: &[i16], cols: usize) -> Self {
        let rows = codes.chunks(cols.max(1)).count();
        let mut best = Self::of(codes, &vec![0; rows], &vec![0; cols]);
        if codes.is_empty() {
            return best;
        }
        let classes = of_rows(codes, cols);
        let columns = of_columns(codes, cols, &classes);
        for columns in [vec![0; cols], columns] {
            let other = Self::of(codes, &classes, &columns);
            if other.size < best.size {
                best = other;
            }
        }
        best
    }

    /// With these classes of rows and columns.
    fn of(codes: &[i16], rows: &[i32], columns: &[i32]) -> Self {
        let least = columns.iter().min().copied().unwrap_or(0);
        let offsets: Vec<u8> = columns.iter().map(|class| (class - least) as u8).collect();
        let width = u8::BITS - offsets.iter().max().map_or(8, |greatest| greatest.leading_zeros());
        let sum = |row: i32, offset: u8| (row + least + i32::from(offset)).clamp(LEAST, GREATEST);

        let mut counters = vec![Counter::default(); (GREATEST - LEAST + 1) as usize];
        for (row, class) in codes.chunks(columns.len().max(1)).zip(rows) {
            for (code, offset) in row.iter().zip(&offsets) {
                counters[(sum(*class, *offset) - LEAST) as usize].add(*code);
            }
        }
        let histograms = counters.into_iter().map(Counter::finish).enumerate();
        let parts = merged(histograms.filter(|(_, histogram)| !histogram.is_empty()).collect());

        let lowest = parts.first().map_or(0, |part| part.first);
        let mut table_of = Vec::new();
        for (table, part) in parts.iter().enumerate() {
            table_of.resize(part.first - lowest, table.saturating_sub(1) as u8);
            table_of.push(table as u8);
        }
        let lowest = lowest as i32 + LEAST;
        let mut plan = Self {
            row_table: None,
            rows: Vec::new(),
            columns: offsets,
            width,
            least: lowest - least,
            table_of,
            size: 0,
            tables: Vec::new(),
        };
        plan.rows = plan.told_apart(rows);
        let beside = plan.table_of.len() as u64 + u64::from(width) * columns.len() as u64;
        plan.size = (beside << FINE) + parts.iter().map(|part| part.fitted.size).sum::<u64>();
        match plan.rows.first() {
            Some(&class) if plan.rows.iter().any(|other| *other != class) => {
                let mut counter = Counter::default();
                plan.rows.iter().for_each(|class| counter.add(*class));
                let fitted = fit(&counter.finish());
                plan.size += fitted.size;
                plan.row_table = Some(fitted.table);
            }
            // Told once, with the classes of columns.
            Some(&class) => {
                plan.least -= i32::from(class);
                plan.rows.fill(0);
            }
            None => {}
        }
        plan.tables = parts.into_iter().map(|part| part.fitted.table).collect();
        plan
    }

    /// Classes of rows, one for all those that make no difference to any column.
    fn told_apart(&self, rows: &[i32]) -> Vec<i16> {
        let mut seen: Vec<(i32, Vec<u8>)> = Vec::new();
        let tables =
            |class: i32| (0..1 << self.width).map(|offset| self.table(class, offset)).collect::<Vec<u8>>();
        let range = (LEAST..=GREATEST).map(|class| {
            let tables = tables(class);
            match seen.iter().find(|(_, same)| *same == tables) {
                Some((first, _)) => *first,
                None => {
                    seen.push((class, tables));
                    class
                }
            }
        });
        let first: Vec<i32> = range.collect();
        rows.iter().map(|class| first[(class - LEAST) as usize] as i16).collect()
    }

    /// The table of a code by the class of its row and what its column adds.
    pub(super) fn table(&self, row: i32, offset: u8) -> u8 {
        let last = self.table_of.len().saturating_sub(1);
        let at = row + i32::from(offset) - self.least;
        self.table_of.get((at.max(0) as usize).min(last)).copied().unwrap_or(0)
    }
}

/// Neighbouring sums with one table.
struct Part {
    /// The first of them.
    first: usize,
    histogram: Histogram,
    fitted: Fitted,
}

/// Joins neighbours as long as one table for both is shorter than two.
fn merged(histograms: Vec<(usize, Histogram)>) -> Vec<Part> {
    let part = |first, histogram| Part { first, fitted: fit(&histogram), histogram };
    let both = |one: &Part, other: &Part| part(one.first, joined(&one.histogram, &other.histogram));
    let mut parts: Vec<Part> =
        histograms.into_iter().map(|(first, histogram)| part(first, histogram)).collect();
    // `pairs[i]`: parts `i` and `i + 1` as one.
    let mut pairs: Vec<Part> = parts.windows(2).map(|pair| both(&pair[0], &pair[1])).collect();
    loop {
        let saved = |at: usize| {
            let apart = parts[at].fitted.size + parts[at + 1].fitted.size;
            apart.checked_sub(pairs[at].fitted.size)
        };
        let Some(at) = (0..pairs.len()).filter(|&at| saved(at).is_some()).max_by_key(|&at| saved(at)) else {
            return parts;
        };
        parts.remove(at + 1);
        parts[at] = pairs.remove(at);
        if let Some(next) = parts.get(at + 1) {
            pairs[at] = both(&parts[at], next);
        }
        if let Some(before) = at.checked_sub(1) {
            pairs[before] = both(&parts[before], &parts[at]);
        }
    }
}

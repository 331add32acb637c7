//! The classes of rows that a token table and a head are chosen about in: few rows are used often, and many hardly ever.

use statepress_core::encoding::{Plain, RowClass, RowClasses};
use statepress_core::report::CostRows;
use statepress_core::{Entry, Role};

/// Rows that are used more than those of a class, as a share of all: six classes, each twice as large as all before or four times.
const AFTER: [usize; 5] = [64, 16, 8, 4, 2];

/// Fewer rows are not worth telling apart.
const LEAST: usize = 64;

/// Whether rows of a tensor in that role are told apart. Codes are not: they could not be kept.
pub(super) fn is_cut(entry: &Entry, role: Option<Role>) -> bool {
    let enough = matches!(entry.shape[..], [rows, _] if rows >= LEAST);
    entry.is_plain() && enough && matches!(role, Some(Role::Table | Role::Head))
}

/// The classes of a tensor, the most used first.
pub(super) fn classes(entry: &Entry) -> Vec<CostRows> {
    let rows = entry.shape.first().copied().unwrap_or(0);
    let ends = AFTER.iter().map(|share| rows / share).chain([rows]);
    let mut after = 0;
    let class = |end: usize| {
        let rows = CostRows { after: after as u64, count: (end - after) as u64 };
        after = end;
        rows
    };
    ends.map(class).collect()
}

/// Bytes that say which class each row is of.
pub(super) fn index_bytes(classes: &[CostRows]) -> u64 {
    let class = |it: &CostRows| RowClass { rows: it.count as usize, plain: Plain::default() };
    let classes: Vec<_> = classes.iter().map(class).collect();
    RowClasses::new(&classes).map_or(0, |classes| classes.index_bytes() as u64)
}

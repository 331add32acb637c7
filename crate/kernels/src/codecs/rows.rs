//! Rows in classes: each class is a matrix of its own, coded as any other.

use std::ops::Range;

use statepress_core::encoding::RowClasses;
use statepress_core::{ClassedRows, Packed, Tensor};

use super::{Clip, Encoded, decode_range, encode};
use crate::KernelError;

/// The numbers of the rows that are of a class, row after row.
pub fn of_class(values: &[f32], of_rows: &[u8], class: usize) -> Vec<f32> {
    let cols = (values.len() / of_rows.len().max(1)).max(1);
    let rows = values.chunks_exact(cols).zip(of_rows).filter(|(_, of)| usize::from(**of) == class);
    rows.flat_map(|(row, _)| row.iter().copied()).collect()
}

/// A matrix of the rows of every class, each already coded; `of_rows` has the class of each row.
///
/// # Errors
/// If there are not as many rows of each class as it has.
pub fn join(shape: &[usize], parts: Vec<Tensor>, of_rows: &[u8]) -> Result<Tensor, KernelError> {
    let rows = ClassedRows::new(parts, of_rows).map_err(KernelError::Shape)?;
    let tensor = Tensor { shape: shape.to_vec(), data: Packed::Rows(rows) };
    super::check(&tensor)?;
    Ok(tensor)
}

/// Codes `values`, whose rows are dealt to the classes in turn, as long as each has room.
pub(super) fn dealt(
    values: &[f32],
    shape: &[usize],
    classes: &RowClasses,
    clip: Clip,
) -> Result<Encoded, KernelError> {
    let mut left: Vec<usize> = classes.all().iter().map(|class| class.rows).collect();
    let mut of_rows = Vec::with_capacity(classes.rows());
    while left.iter().any(|left| *left > 0) {
        for (class, left) in left.iter_mut().enumerate().filter(|(_, left)| **left > 0) {
            *left -= 1;
            of_rows.push(class as u8);
        }
    }
    let (mut parts, mut clipped) = (Vec::new(), 0);
    for (at, class) in classes.all().iter().enumerate() {
        let shape = [class.rows, shape[1]];
        let coded = encode(&of_class(values, &of_rows, at), &shape, class.encoding(), clip)?;
        clipped += coded.clipped;
        parts.push(coded.tensor);
    }
    Ok(Encoded { tensor: join(shape, parts, &of_rows)?, clipped })
}

/// The numbers of a range of the flattened matrix.
pub(super) fn decode(rows: &ClassedRows, cols: usize, range: Range<usize>, out: &mut [f32]) {
    let mut at = range.start;
    while at < range.end {
        let (row, col) = (at / cols, at % cols);
        let end = range.end.min((row + 1) * cols);
        let (part, row) = rows.find(row);
        decode_range(part, row * cols + col, &mut out[at - range.start..end - range.start]);
        at = end;
    }
}

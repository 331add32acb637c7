//! Rounding a matrix to any grid there is.

use statepress_core::Levels;
use statepress_core::encoding::{Coding, ScaleType};

use super::groups::Groups;
use super::{Options, Prepared, Rounded, fitted};
use crate::codecs::Clip;
use crate::codecs::fit::or_zero;
use crate::codecs::levels::{Integers, NOTHING, Quantizer, Table};
use crate::codecs::scales;

/// Rounds a matrix whose numbers are `values`, in the order of its tensor, to any grid there is.
pub fn round(
    prepared: &Prepared,
    values: &[f32],
    coding: Coding,
    groups: Groups,
    options: &Options,
) -> Rounded {
    let Coding { grid, scale, .. } = coding;
    match grid.levels() {
        Levels::Integers => stored(prepared, values, &Integers::new(grid, scale), scale, groups, options),
        Levels::Table(it) => stored(prepared, values, &Table::new(it, scale), scale, groups, options),
    }
}

/// The scales of the least squared error weighted by the diagonal of H `[cols, cols]`: for
/// [`crate::codecs::encode_scaled`], of weights that are rounded each by itself.
pub fn scales(values: &[f32], coding: Coding, groups: Groups, h: &[f32]) -> Vec<f32> {
    let Coding { grid, scale, .. } = coding;
    let found = match grid.levels() {
        Levels::Integers => fitted(values, &Integers::new(grid, scale), &groups, h, Clip::Weighted),
        Levels::Table(it) => fitted(values, &Table::new(it, scale), &groups, h, Clip::Weighted),
    };
    values.chunks(groups.group).zip(found).map(|(values, scale)| or_zero(values, scale)).collect()
}

/// What [`round`] does, with codes for the scales that a reader will have: double quantization rounds them all together in the end.
fn stored(
    prepared: &Prepared,
    values: &[f32],
    quantizer: &impl Quantizer,
    kind: ScaleType,
    groups: Groups,
    options: &Options,
) -> Rounded {
    let mut rounded = prepared.round(values, quantizer, groups, options);
    forget_nothing(&mut rounded.scales);
    if kind == ScaleType::Double {
        let (scales, _) = scales::store(rounded.scales.clone(), kind, 0.0);
        let read = scales::all(&scales).into_iter().map(|scale| if scale == 0.0 { NOTHING } else { scale });
        let again = prepared.round_with(values, quantizer, groups, read.collect(), options.passes);
        (rounded.codes, rounded.loss) = (again.codes, again.loss);
    }
    rounded
}

/// Makes zeros of the scales that stand for nothing.
pub(super) fn forget_nothing(scales: &mut [f32]) {
    scales.iter_mut().filter(|scale| **scale == NOTHING).for_each(|scale| *scale = 0.0);
}

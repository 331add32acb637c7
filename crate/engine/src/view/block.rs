//! A few numbers of a tensor before and after, with the scale they share.

use std::ops::Range;

use statepress_core::report::BlockView;
use statepress_core::{Levels, Packed, Tensor};
use statepress_kernels::codecs::{self, scales, stream};

/// The most numbers that are shown.
const SHOWN: usize = 64;

/// The block of the largest magnitude.
pub fn view(values: &[f32], coded: &Tensor) -> BlockView {
    let Some(Block { range, scale, levels }) = Block::holding(largest(values), coded) else {
        return shown(values, coded, 0..values.len().min(SHOWN));
    };
    BlockView { scale: Some(scale), levels, ..shown(values, coded, around(largest(values), range)) }
}

/// What shares one scale.
struct Block {
    range: Range<usize>,
    scale: f32,
    levels: Vec<f32>,
}

impl Block {
    /// The block of number `at`; floats have none.
    fn holding(at: usize, coded: &Tensor) -> Option<Self> {
        let Packed::Codes(codes) = &coded.data else { return None };
        let (n, size) = (coded.shape.iter().product::<usize>(), codes.group.size(&coded.shape));
        let start = at / size * size;
        let range = start..(start + size).min(n);
        let (grid, scale) = (codes.grid, scales::get(&codes.scales, at / size));
        let levels = match grid.levels() {
            Levels::Table(table) => levels(table.iter().map(|level| level * scale)),
            // Plain rounding has no use for the lowest integer, which has no twin above zero.
            Levels::Integers => {
                let level = |i| grid.level(stream::get(&codes.codes, grid.bits(), i));
                let lowest = range.clone().map(level).fold(-grid.most(), f32::min);
                let center = scales::center(&codes.scales, grid, at / size);
                levels((lowest as i32..=grid.most() as i32).map(|level| level as f32 * scale + center))
            }
        };
        Some(Self { range, scale, levels })
    }
}

/// Where the largest finite magnitude is, the first of several.
fn largest(values: &[f32]) -> usize {
    let mut at = 0;
    let mut largest = 0.0;
    for (i, value) in values.iter().enumerate() {
        if value.is_finite() && value.abs() > largest {
            (at, largest) = (i, value.abs());
        }
    }
    at
}

/// The part of a block that is shown: counted off from its start, so that precisions with blocks of
/// different sizes show the same numbers, and no shorter at its end than elsewhere.
fn around(at: usize, block: Range<usize>) -> Range<usize> {
    let start = block.start + (at - block.start) / SHOWN * SHOWN;
    let start = start.min(block.end.saturating_sub(SHOWN)).max(block.start);
    start..(start + SHOWN).min(block.end)
}

fn shown(values: &[f32], coded: &Tensor, range: Range<usize>) -> BlockView {
    let mut decoded = vec![0.0; range.len()];
    codecs::decode_range(coded, range.start, &mut decoded);
    BlockView { start: range.start as u64, values: values[range].to_vec(), decoded, ..BlockView::default() }
}

/// Ascending, each once: a scale may be 0, and a doubly quantized absmax less than that.
fn levels(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut levels: Vec<f32> = values.collect();
    levels.sort_unstable_by(f32::total_cmp);
    levels.dedup();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_lies_in_the_block_and_holds_the_number() {
        assert_eq!(around(70, 64..96), 64..96, "a small block is shown whole");
        assert_eq!(around(300, 256..512), 256..320);
        assert_eq!(around(450, 256..512), 448..512);
        assert_eq!(around(199, 100..200), 136..200, "the end is as long as the rest");
        assert_eq!(around(163, 100..200), 100..164);
    }
}

//! Panels of INT8 codes, in tiles of eight rows by eight columns.
//!
//! A tile is four groups of 16 bytes, one per pair of columns; a group holds the pair of row 0,
//! of row 1, ... Widened to 16 bits, eight bytes are what one dot product of pairs takes: four
//! rows by two columns. Missing columns are zeros.
//!
//! One token, where rows have scales: `y = scale[row] * sum over blocks of (activation scale * sum of integer products)`.
//! A block has 64 columns; its sum is at most 64 * 128 * 32767 < 2^31. Where groups of columns have them, [`Grouped`](super::Grouped)
//! does the same with its own, shorter blocks.

use statepress_core::Codes;

use super::super::activations::Block;
use super::grouped::Code;
use super::{Aligned, PANEL, Panels, Scratch, TILE, each_panel, interleave};
use crate::codecs::scales;
use crate::lanes::{F32x4, I16x8, I32x4, load8, store8};

const TILES_PER_BLOCK: usize = 8;
const LEVEL: f32 = 32767.0;

type Tile = Aligned<[[[i8; 8]; 2]; TILE / 2]>;

/// The numbers of a tile, `[col][row]`.
#[inline(always)]
fn numbers(Aligned(tile): &Tile) -> [[F32x4; 2]; TILE] {
    let pairs = tile.each_ref().map(|[a, b]| {
        let (a, b) = (I16x8::widen(a), I16x8::widen(b));
        [[a.even().to_f32(), b.even().to_f32()], [a.odd().to_f32(), b.odd().to_f32()]]
    });
    std::array::from_fn(|col| pairs[col / 2][col % 2])
}

/// Sums of the integer products of some tiles, one per row.
#[inline(always)]
fn dot(tiles: &[Tile], x: &[[[i16; 2]; TILE / 2]]) -> [I32x4; 2] {
    let mut sums = [I32x4::ZERO; 2];
    for (tile, x) in tiles.iter().zip(x) {
        for ([a, b], &x) in tile.0.iter().zip(x) {
            let x = I16x8::splat_pair(x);
            sums = [sums[0] + I16x8::widen(a).dot(x), sums[1] + I16x8::widen(b).dot(x)];
        }
    }
    sums
}

/// Codes that share a scale with others of their row.
pub(in crate::linear) struct InGroups;

impl Code for InGroups {
    type Tile = Tile;

    const UNIT: f32 = 1.0;
    const ZERO: Tile = Aligned([[[0; 8]; 2]; TILE / 2]);

    fn level(_: usize) -> f32 {
        LEVEL
    }

    fn put(Aligned(tile): &mut Tile, row: usize, col: usize, code: u8) {
        tile[col / 2][row / 4][row % 4 * 2 + col % 2] = code as i8;
    }

    fn get(Aligned(tile): &Tile, row: usize, col: usize) -> u8 {
        tile[col / 2][row / 4][row % 4 * 2 + col % 2] as u8
    }

    fn value(code: u8) -> f32 {
        f32::from(code as i8)
    }

    fn decode(tile: &Tile) -> [[f32; PANEL]; TILE] {
        numbers(tile).map(store8)
    }

    #[inline(always)]
    fn dot(tiles: &[Tile], x: &[[[i16; 2]; TILE / 2]], _: &Block) -> [I32x4; 2] {
        dot(tiles, x)
    }
}

/// A matrix of INT8 codes with a scale per row.
pub(in crate::linear) struct Int8 {
    cols: usize,
    tiles: Vec<Tile>,
    scales: Vec<[f32; PANEL]>,
}

impl Int8 {
    /// Rearranges codes with a scale per row, or one for all.
    pub fn new(codes: &Codes, rows: usize, cols: usize) -> Self {
        let mut tiles = vec![InGroups::ZERO; rows.div_ceil(PANEL) * cols.div_ceil(TILE)];
        interleave(&codes.codes, cols, |panel, row, col, code| {
            let tile = &mut tiles[panel * cols.div_ceil(TILE) + col / TILE];
            InGroups::put(tile, row, col % TILE, code);
        });
        let one = codes.scales.len() == 1;
        let scale = |row: usize| match row < rows {
            true => scales::get(&codes.scales, if one { 0 } else { row }),
            false => 0.0,
        };
        let panels = 0..rows.div_ceil(PANEL);
        let scales = panels.map(|panel| std::array::from_fn(|row| scale(panel * PANEL + row))).collect();
        Self { cols, tiles, scales }
    }

    fn panel(&self, panel: usize) -> &[Tile] {
        let tiles = self.cols.div_ceil(TILE);
        &self.tiles[panel * tiles..][..tiles]
    }
}

impl Panels for Int8 {
    fn decode(&self, panel: usize, out: &mut [[f32; PANEL]]) {
        let [low, high] = load8(&self.scales[panel]);
        for (columns, tile) in out.chunks_mut(TILE).zip(self.panel(panel)) {
            for (column, [a, b]) in columns.iter_mut().zip(numbers(tile)) {
                *column = store8([a * low, b * high]);
            }
        }
    }

    fn with_token(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let integers = &mut scratch.integers;
        integers.quantize(x, TILES_PER_BLOCK, LEVEL);
        each_panel(out, |panel| {
            let mut sums = [F32x4::ZERO; 2];
            let blocks =
                self.panel(panel).chunks(TILES_PER_BLOCK).zip(integers.tiles.chunks(TILES_PER_BLOCK));
            for ((tiles, x), block) in blocks.zip(&integers.blocks) {
                let [low, high] = dot(tiles, x);
                let scale = F32x4::splat(block.scale);
                sums = [low.to_f32().mul_add(scale, sums[0]), high.to_f32().mul_add(scale, sums[1])];
            }
            let [low, high] = load8(&self.scales[panel]);
            [sums[0] * low, sums[1] * high]
        });
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        let (panel, row) = (row / PANEL, row % PANEL);
        let scale = self.scales[panel][row];
        for (out, tile) in out.chunks_mut(TILE).zip(self.panel(panel)) {
            for (col, out) in out.iter_mut().enumerate() {
                *out = InGroups::value(InGroups::get(tile, row, col)) * scale;
            }
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.tiles) + size_of_val(&*self.scales)
    }
}

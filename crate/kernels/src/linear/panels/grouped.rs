//! Panels of codes in tiles of eight rows by eight columns, with a scale per row and
//! group of columns.
//!
//! A file's groups run over the flattened matrix. Here a row has its own scales, one per
//! `group = gcd(cols, group of the file)` columns, so a file's group that covers several rows is
//! repeated. Scales are f32 whatever the file has: half a bit a weight for groups of 64, one for 32, and as much
//! again for minimums.
//!
//! One token: `y = sum over groups of (scale[row] * activation scale * sum of integer products)`, and where groups have minimums
//! the sum of their activations times what code 0 stands for. Numbers are counted from the least code, as decoding counts them.
//! Where groups do not consist of whole tiles, panels are decoded for one token too.

use statepress_core::{Codes, Scales};

use super::super::activations::Block;
use super::super::product;
use super::{PANEL, Panels, Scratch, TILE, each_panel};
use crate::codecs::{scales, stream};
use crate::lanes::{F32x4, F32x8, I32x4, load8, store8};

/// Most tiles of an activation block: what [`Code::dot`] must be able to add up.
pub(in crate::linear) const MAX_TILES: usize = 4;

/// What distinguishes the grids: where a tile keeps them, and what they stand for.
pub(in crate::linear) trait Code {
    /// The codes of eight rows and eight columns.
    type Tile: Copy;
    /// What one unit of the integer that a code stands for is worth, before the group's scale.
    const UNIT: f32;
    /// A tile of zeros.
    const ZERO: Self::Tile;

    /// The largest integer activation for which `dot` cannot overflow in a block of `columns`.
    fn level(columns: usize) -> f32;

    /// Puts a code into a tile that has [`Self::ZERO`]'s there.
    fn put(tile: &mut Self::Tile, row: usize, col: usize, code: u8);

    /// The code at a place.
    fn get(tile: &Self::Tile, row: usize, col: usize) -> u8;

    /// The number that a code stands for, before the group's scale.
    fn value(code: u8) -> f32;

    /// The numbers of a tile, `[col][row]`, before the group's scale.
    fn decode(tile: &Self::Tile) -> [[f32; PANEL]; TILE] {
        let mut numbers = [[0.0; PANEL]; TILE];
        for (col, numbers) in numbers.iter_mut().enumerate() {
            for (row, number) in numbers.iter_mut().enumerate() {
                *number = Self::value(Self::get(tile, row, col));
            }
        }
        numbers
    }

    /// Sums of the integer products of at most [`MAX_TILES`] tiles, one per row.
    fn dot(tiles: &[Self::Tile], x: &[[[i16; 2]; TILE / 2]], block: &Block) -> [I32x4; 2];
}

/// A matrix of codes.
pub(in crate::linear) struct Grouped<C: Code> {
    cols: usize,
    group: usize,
    tiles: Vec<C::Tile>,
    scales: OfGroups,
    /// Where groups have such, beside what is added to codes to count them from the least.
    minimums: Option<(OfGroups, f32)>,
}

/// A number for each row and group: `[panel][group][8]`. Apart from the grids, as what does not depend on them need not be there
/// nine times.
struct OfGroups {
    per_panel: usize,
    values: Vec<[f32; PANEL]>,
}

impl OfGroups {
    /// Those of a file whose groups are of `size` numbers, by its group.
    #[inline(never)]
    fn new([rows, cols]: [usize; 2], group: usize, size: usize, value: &dyn Fn(usize) -> f32) -> Self {
        let per_panel = cols / group;
        let mut values = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * per_panel];
        for row in 0..rows {
            for at in 0..per_panel {
                values[row / PANEL * per_panel + at][row % PANEL] = value((row * cols + at * group) / size);
            }
        }
        Self { per_panel, values }
    }

    fn panel(&self, panel: usize) -> &[[f32; PANEL]] {
        &self.values[panel * self.per_panel..][..self.per_panel]
    }

    /// Multiplies the numbers of a tile, to which `plus` is added, whose first column is `first`.
    #[inline(never)]
    fn scale_tile(
        &self,
        panel: usize,
        first: usize,
        group: usize,
        plus: f32,
        numbers: &[[f32; PANEL]; TILE],
        out: &mut [[f32; PANEL]],
    ) {
        let (scales, plus) = (self.panel(panel), F32x4::splat(plus));
        for (i, (column, numbers)) in out.iter_mut().zip(numbers).enumerate() {
            let [low, high] = load8(&scales[(first + i) / group]);
            let [a, b] = load8(numbers).map(|it| it + plus);
            *column = store8([a * low, b * high]);
        }
    }

    /// The same with the numbers of a row.
    #[inline(never)]
    fn scale_row(&self, row: usize, group: usize, plus: f32, out: &mut [f32]) {
        for (out, scales) in out.chunks_mut(group).zip(self.panel(row / PANEL)) {
            out.iter_mut().for_each(|out| *out = (*out + plus) * scales[row % PANEL]);
        }
    }

    /// Adds to the sums of a panel what code 0 stands for, times the activations of its group: the minimum, and `from_least` steps.
    #[inline(never)]
    fn add_product(
        &self,
        scales: &[[f32; PANEL]],
        from_least: f32,
        panel: usize,
        blocks: &[Block],
        per_group: usize,
        mut sums: F32x8,
    ) -> F32x8 {
        let groups = self.panel(panel).iter().zip(scales).zip(blocks.chunks(per_group));
        for ((minimums, scales), blocks) in groups {
            let sum = blocks.iter().map(|block| block.scale * block.sum as f32).sum();
            let (minimums, scales) = (load8(minimums), load8(scales));
            let (sum, from_least) = (F32x4::splat(sum), F32x4::splat(from_least));
            for half in 0..2 {
                let center = scales[half].mul_add(from_least, minimums[half]);
                sums[half] = sum.mul_add(center, sums[half]);
            }
        }
        sums
    }

    /// Adds minimums to the numbers of a panel.
    #[inline(never)]
    fn add_to_panel(&self, panel: usize, group: usize, out: &mut [[f32; PANEL]]) {
        for (columns, minimums) in out.chunks_mut(group).zip(self.panel(panel)) {
            let [low, high] = load8(minimums);
            for column in columns {
                let [a, b] = load8(column);
                *column = store8([a + low, b + high]);
            }
        }
    }

    /// Adds minimums to the numbers of a row.
    #[inline(never)]
    fn add_to_row(&self, row: usize, group: usize, out: &mut [f32]) {
        for (out, minimums) in out.chunks_mut(group).zip(self.panel(row / PANEL)) {
            out.iter_mut().for_each(|out| *out += minimums[row % PANEL]);
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.values)
    }
}

impl<C: Code> Grouped<C> {
    /// Rearranges codes.
    pub fn new(codes: &Codes, rows: usize, cols: usize) -> Self {
        let (size, bits) = (codes.group.size(&[rows, cols]), codes.grid.bits());
        let group = gcd(cols, size);
        let (panels, tiles_per_row) = (rows.div_ceil(PANEL), cols.div_ceil(TILE));
        let mut tiles = vec![C::ZERO; panels * tiles_per_row];
        for row in 0..rows {
            let (panel, lane) = (row / PANEL, row % PANEL);
            for col in 0..cols {
                let tile = &mut tiles[panel * tiles_per_row + col / TILE];
                C::put(tile, lane, col % TILE, stream::get(&codes.codes, bits, row * cols + col));
            }
        }
        let of = |value: &dyn Fn(usize) -> f32| OfGroups::new([rows, cols], group, size, value);
        let minimums = match &codes.scales {
            Scales::Affine { minimums, .. } => Some((of(&|at| minimums[at]), -codes.grid.least())),
            _ => None,
        };
        Self { cols, group, tiles, scales: of(&|at| scales::get(&codes.scales, at)), minimums }
    }

    /// What is added to codes to count them from the least, where groups have minimums.
    fn added_to_codes(&self) -> f32 {
        self.minimums.as_ref().map_or(0.0, |(_, from_least)| *from_least)
    }

    fn tiles(&self, panel: usize) -> &[C::Tile] {
        let tiles = self.cols.div_ceil(TILE);
        &self.tiles[panel * tiles..][..tiles]
    }

    /// The product with one token where groups are whole tiles.
    fn dot(&self, panel: usize, scratch: &Scratch, tiles_per_block: usize) -> F32x8 {
        let integers = &scratch.integers;
        let (tiles, all_scales) = (self.tiles(panel), self.scales.panel(panel));
        let blocks_per_group = self.group / TILE / tiles_per_block;
        let mut sums = [F32x4::ZERO; 2];
        let blocks = tiles.chunks(tiles_per_block).zip(integers.tiles.chunks(tiles_per_block));
        let blocks = blocks.zip(&integers.blocks);
        let scales = all_scales.iter().flat_map(|scales| std::iter::repeat_n(scales, blocks_per_group));
        for (((tiles, x), block), scales) in blocks.zip(scales) {
            let [low, high] = C::dot(tiles, x, block);
            let ([low_scale, high_scale], unit) = (load8(scales), F32x4::splat(block.scale * C::UNIT));
            sums = [
                (low.to_f32() * unit).mul_add(low_scale, sums[0]),
                (high.to_f32() * unit).mul_add(high_scale, sums[1]),
            ];
        }
        match &self.minimums {
            Some((minimums, from_least)) => {
                minimums.add_product(all_scales, *from_least, panel, &integers.blocks, blocks_per_group, sums)
            }
            None => sums,
        }
    }
}

impl<C: Code> Panels for Grouped<C> {
    fn decode(&self, panel: usize, out: &mut [[f32; PANEL]]) {
        for (at, (columns, tile)) in out.chunks_mut(TILE).zip(self.tiles(panel)).enumerate() {
            self.scales.scale_tile(
                panel,
                at * TILE,
                self.group,
                self.added_to_codes(),
                &C::decode(tile),
                columns,
            );
        }
        if let Some((minimums, _)) = &self.minimums {
            minimums.add_to_panel(panel, self.group, out);
        }
    }

    fn with_token(&self, x: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        if self.group.is_multiple_of(TILE) {
            let tiles_per_block = gcd(self.group / TILE, MAX_TILES);
            scratch.integers.quantize(x, tiles_per_block, C::level(tiles_per_block * TILE));
            each_panel(out, |panel| self.dot(panel, scratch, tiles_per_block));
        } else {
            let buffer = &mut scratch.panel;
            buffer.resize(self.cols, [0.0; PANEL]);
            each_panel(out, |panel| {
                self.decode(panel, buffer);
                let [sum] = product::tile(buffer, x.as_chunks::<1>().0);
                sum
            });
        }
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        let tiles = self.tiles(row / PANEL);
        for (col, out) in out.iter_mut().enumerate() {
            *out = C::value(C::get(&tiles[col / TILE], row % PANEL, col % TILE));
        }
        self.scales.scale_row(row, self.group, self.added_to_codes(), out);
        if let Some((minimums, _)) = &self.minimums {
            minimums.add_to_row(row, self.group, out);
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.tiles)
            + self.scales.bytes()
            + self.minimums.as_ref().map_or(0, |(it, _)| it.bytes())
    }
}

/// The greatest common divisor of two numbers above zero.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

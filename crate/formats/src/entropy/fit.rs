//! From how often each number comes to the table that writes them shortest, its own bits counted.

use super::table::{Shape, TOKENS, TOTAL, Table, dropped};

/// Units of a bit in which sizes are told: `2^FINE`.
pub(super) const FINE: u32 = 12;

/// Bits of a frequency behind its highest that serve most tables, and others worth trying: a table of few codes is
/// shorter with coarse frequencies, that of many is worth fine ones.
const USUAL: u32 = 3;
const KEPT: [u32; 6] = [1, 2, 4, 5, 7, 11];

/// How often each number comes, by number; none of them never.
pub(super) type Histogram = Vec<(i16, u64)>;

/// A table with the size of what it codes, itself included, in units of [`FINE`].
#[derive(Clone)]
pub(super) struct Fitted {
    pub(super) table: Table,
    pub(super) size: u64,
}

/// Counts numbers.
#[derive(Clone, Default)]
pub(super) struct Counter {
    /// The number of the first count.
    least: i32,
    counts: Vec<u64>,
}

impl Counter {
    pub(super) fn add(&mut self, code: i16) {
        let code = i32::from(code);
        if self.counts.is_empty() {
            self.least = code;
        } else if code < self.least {
            self.counts.splice(0..0, std::iter::repeat_n(0, (self.least - code) as usize));
            self.least = code;
        }
        let at = (code - self.least) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
    }

    pub(super) fn finish(self) -> Histogram {
        let numbered = (self.least..).map(|number| number as i16).zip(self.counts);
        numbered.filter(|(_, count)| *count > 0).collect()
    }
}

/// Both histograms together.
pub(super) fn joined(one: &Histogram, other: &Histogram) -> Histogram {
    let mut all = [one.as_slice(), other].concat();
    all.sort_by_key(|(value, _)| *value);
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0 };
        same
    });
    all
}

/// The table for what `histogram` counts; that of nothing has the number 0 only.
pub(super) fn fit(histogram: &Histogram) -> Fitted {
    let nothing = vec![(0, 1)];
    let histogram = if histogram.is_empty() { &nothing } else { histogram };
    // A core of the most frequent number alone fits whatever there is.
    let most = histogram.iter().max_by_key(|(_, count)| *count).map_or(0, |(value, _)| *value);
    let alone = Shape { shift: 0, first: most, core: 1, below: 0, above: 0 };
    let mut best = fitted(histogram, alone, USUAL);
    let mut worse = 0;
    for shift in 0..16 {
        let found = cores(histogram, shift).into_iter().map(|core| fitted(histogram, core, USUAL));
        let Some(found) = found.min_by_key(|it| it.size) else { continue };
        if found.size < best.size {
            best = found;
            worse = 0;
        } else {
            worse += 1;
        }
        // Coarser tokens lose more and more once they lose.
        if worse == 2 {
            break;
        }
    }
    let core = best.table.shape;
    let others = KEPT.into_iter().map(|kept| fitted(histogram, core, kept));
    others.chain([best.clone()]).min_by_key(|it| it.size).unwrap_or(best)
}

/// Cores worth trying: from the first token that comes often to the last, for several meanings of often.
fn cores(histogram: &Histogram, shift: u32) -> Vec<Shape> {
    let mut counts: Vec<(i32, u64)> = Vec::new();
    for &(value, count) in histogram {
        let token = i32::from(value) >> shift;
        match counts.last_mut() {
            Some((last, sum)) if *last == token => *sum += count,
            _ => counts.push((token, count)),
        }
    }
    let mut cores: Vec<Shape> = Vec::new();
    let mut often = 1;
    loop {
        let mut within = counts.iter().filter(|(_, count)| *count >= often).map(|(token, _)| *token);
        let Some(first) = within.next() else { return cores };
        let core = (within.next_back().unwrap_or(first) - first) as usize + 1;
        let shape = Shape { shift, first: (first << shift) as i16, core, below: 0, above: 0 };
        if core <= TOKENS - 2 * 16 && cores.last() != Some(&shape) {
            cores.push(shape);
        }
        often *= 2;
    }
}

/// A table with that core, the tokens beside it that are needed, and so many bits of each frequency.
fn fitted(histogram: &Histogram, mut shape: Shape, kept: u32) -> Fitted {
    let numbers = || histogram.iter().map(|(value, _)| *value);
    (shape.below, shape.above) = (0, 0);
    let beside = |value: i16| (shape.of(value) + 1).saturating_sub(shape.core);
    let below = numbers().next().filter(|value| *value < shape.first).map_or(0, beside);
    shape.above = numbers().next_back().map_or(0, beside);
    shape.below = below;
    let mut counts = vec![0; shape.tokens()];
    for &(value, count) in histogram {
        counts[shape.of(value)] += count;
    }
    let (frequencies, rest, kept) = rounded(frequencies(&counts), kept);
    let table = Table { shape, kept, rest, frequencies };
    let mut size = table.bits() << FINE;
    for (index, (&count, &frequency)) in counts.iter().zip(&table.frequencies).enumerate() {
        let bits = log2(u64::from(TOTAL)) - log2(u64::from(frequency.max(1)));
        size += count * (bits + (u64::from(shape.token(index).extra) << FINE));
    }
    Fitted { table, size }
}

/// Frequencies rounded to so many bits behind their highest, or to more where rounding up would leave nothing to the
/// greatest, which has what the others leave; which of them that is, and how many bits it came to.
fn rounded(exact: Vec<u32>, kept: u32) -> (Vec<u32>, usize, u32) {
    let rest = (0..exact.len()).max_by_key(|&index| exact[index]).unwrap_or(0);
    let round = |&frequency: &u32| {
        let dropped = dropped(frequency, kept);
        (frequency + (1 << dropped >> 1)) >> dropped << dropped
    };
    let mut frequencies: Vec<u32> = exact.iter().map(round).collect();
    let others = frequencies.iter().sum::<u32>() - frequencies[rest];
    match TOTAL.checked_sub(others) {
        None | Some(0) => rounded(exact, kept + 1),
        Some(left) => {
            frequencies[rest] = left;
            (frequencies, rest, kept)
        }
    }
}

/// Frequencies in proportion to counts: 0 for none, at least 1 for some, [`TOTAL`] together.
fn frequencies(counts: &[u64]) -> Vec<u32> {
    let (total, sum) = (u64::from(TOTAL), counts.iter().sum::<u64>().max(1));
    let share = |&count: &u64| match count {
        0 => 0,
        count => ((count * total + sum / 2) / sum).max(1),
    };
    let mut shares: Vec<u64> = counts.iter().map(share).collect();
    // One more or less changes a token's size by its count over its share, nearly.
    let by = |(a, x): (u64, u64), (b, y): (u64, u64)| (a * y).cmp(&(b * x));
    loop {
        let given: u64 = shares.iter().sum();
        let some = (0..shares.len()).filter(|&at| counts[at] > 0);
        let at = if given > total {
            let weight = |at: usize| (counts[at], 2 * shares[at] - 1);
            some.filter(|&at| shares[at] > 1).min_by(|&a, &b| by(weight(a), weight(b)))
        } else if given < total {
            let weight = |at: usize| (counts[at], 2 * shares[at] + 1);
            some.max_by(|&a, &b| by(weight(a), weight(b)))
        } else {
            None
        };
        let Some(at) = at else { return shares.into_iter().map(|share| share as u32).collect() };
        if given > total { shares[at] -= 1 } else { shares[at] += 1 }
    }
}

/// The logarithm to base 2 of a number from 1 on, in units of [`FINE`], rounded down.
pub(super) fn log2(number: u64) -> u64 {
    let whole = number.max(1).ilog2();
    // 1 <= mantissa < 2, with 31 bits behind the point; squaring it gives the bits of its logarithm one by one.
    let mut mantissa = if whole > 31 { number >> (whole - 31) } else { number << (31 - whole) };
    (0..FINE).fold(u64::from(whole), |log, _| {
        mantissa = (mantissa * mantissa) >> 31;
        let bit = mantissa >> 32;
        mantissa >>= bit;
        log << 1 | bit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_their_last_bit() {
        for number in [1, 2, 3, 5, 10, 4095, 4096, 4097, 1 << 31, (1 << 33) + 7, (1 << 45) - 1] {
            let exact = (number as f64).log2() * f64::from(1 << FINE);
            assert!((log2(number) as f64 - exact).abs() <= 1.0, "{number}");
        }
    }

    #[test]
    fn frequencies_add_up_and_forget_nobody() {
        let many: Vec<u64> = (0..256).map(|at| 1 << (at % 40)).collect();
        for counts in
            [vec![1], vec![0, 7, 0], vec![1, 1_000_000_000], vec![1; 256], many, vec![3, 1, 1, 0, 9]]
        {
            let found = frequencies(&counts);
            assert_eq!(found.iter().sum::<u32>(), TOTAL, "{counts:?}");
            assert!(found.iter().zip(&counts).all(|(frequency, count)| (*frequency > 0) == (*count > 0)));
        }
    }

    #[test]
    fn every_number_has_a_token_that_holds_it() {
        for (shift, first, core) in [(0, 0, 1), (0, -7, 15), (3, -32768, 200), (7, 128, 2), (0, 32767, 1)] {
            let shape = Shape { shift, first, core, below: 16 - shift as usize, above: 16 - shift as usize };
            for value in i16::MIN..=i16::MAX {
                let index = shape.of(value);
                assert!(index < shape.tokens(), "{value} of {shape:?}");
                let token = shape.token(index);
                let raw = i32::from(value) - token.base;
                assert!((0..1 << token.extra).contains(&raw), "{value} is not in {token:?} of {shape:?}");
            }
        }
    }
}

//! A table: which numbers a token stands for, and how often it comes.
//!
//! Tokens of the *core* stand for `2^shift` numbers each, those *below* and *above* it for twice as many as the token
//! before: the rare ones far out share a token, and which of them it is follows as plain bits. So every 16-bit number
//! has a token in a table of a few bytes, wherever it lies.

use super::bits::{BitReader, BitWriter};
use super::{PART, PRECISION};
use crate::FormatError;

/// Tokens of a table: entries of the decoder keep theirs in a byte.
pub(super) const TOKENS: usize = 256;

/// Sum of the frequencies.
pub(super) const TOTAL: u32 = 1 << PRECISION;

/// Bits before the frequencies.
pub(super) const HEAD_BITS: u64 = 4 + 16 + 8 + 5 + 5 + 4;

/// Bits in which a frequency says how many bits it has.
const LENGTH_BITS: u32 = 4;

/// Said instead of how many bits by the one token that has what the others leave of [`TOTAL`].
const REST: u32 = 15;

/// A token: numbers from `base` on, `2^extra` of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) base: i32,
    pub(super) extra: u32,
}

/// Where the tokens of a table lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Bits of a number that the core leaves to plain bits.
    pub(super) shift: u32,
    /// The first number of the core.
    pub(super) first: i16,
    /// Tokens of the core, at least one.
    pub(super) core: usize,
    /// Tokens below the core, the nearest first.
    pub(super) below: usize,
    /// Tokens above the core, the nearest first.
    pub(super) above: usize,
}

impl Shape {
    pub(super) fn tokens(&self) -> usize {
        self.core + self.below + self.above
    }

    /// The number behind the core.
    fn end(&self) -> i32 {
        i32::from(self.first) + ((self.core as i32) << self.shift)
    }

    /// Token `index`: those of the core, those below, those above.
    pub(super) fn token(&self, index: usize) -> Token {
        let first = i32::from(self.first);
        // Of the tokens beside the core the first `t` cover `2^(shift + 1) + ... + 2^(shift + t)` numbers.
        let covered = |t: usize| (2 << (self.shift + t as u32)) - (2 << self.shift);
        let beside = |t: usize| self.shift + 1 + t as u32;
        if index < self.core {
            Token { base: first + ((index as i32) << self.shift), extra: self.shift }
        } else if index < self.core + self.below {
            let t = index - self.core;
            Token { base: first - covered(t + 1), extra: beside(t) }
        } else {
            let t = index - self.core - self.below;
            Token { base: self.end() + covered(t), extra: beside(t) }
        }
    }

    /// The token of a number, which may be one more below or above than there are.
    pub(super) fn of(&self, value: i16) -> usize {
        let (value, first) = (i32::from(value), i32::from(self.first));
        // How many tokens beside the core end before one that is `distance` numbers away from it.
        let beside = |distance: i32| ((distance >> (self.shift + 1)) + 1).ilog2() as usize;
        if value < first {
            self.core + beside(first - 1 - value)
        } else if value < self.end() {
            ((value - first) >> self.shift) as usize
        } else {
            self.core + self.below + beside(value - self.end())
        }
    }
}

/// A table as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) shape: Shape,
    /// Bits of a frequency behind its highest one; those after them are 0.
    pub(super) kept: u32,
    /// The token whose frequency is not written.
    pub(super) rest: usize,
    /// Of every token; together [`TOTAL`].
    pub(super) frequencies: Vec<u32>,
}

/// Bits of a frequency, its highest one included.
fn length(frequency: u32) -> u32 {
    u32::BITS - frequency.leading_zeros()
}

/// Bits of a frequency that are not kept.
pub(super) fn dropped(frequency: u32, kept: u32) -> u32 {
    length(frequency).saturating_sub(1 + kept)
}

impl Table {
    /// Bits that writing it takes.
    pub(super) fn bits(&self) -> u64 {
        let bits = |(index, &frequency): (usize, &u32)| {
            let kept =
                if index == self.rest { 0 } else { length(frequency).saturating_sub(1).min(self.kept) };
            u64::from(LENGTH_BITS + kept)
        };
        HEAD_BITS + self.frequencies.iter().enumerate().map(bits).sum::<u64>()
    }

    pub(super) fn write(&self, out: &mut BitWriter) {
        let Shape { shift, first, core, below, above } = self.shape;
        out.put(shift, 4);
        out.put(u32::from(first.cast_unsigned()), 16);
        out.put(core as u32 - 1, 8);
        out.put(below as u32, 5);
        out.put(above as u32, 5);
        out.put(self.kept, 4);
        for (index, &frequency) in self.frequencies.iter().enumerate() {
            if index == self.rest {
                out.put(REST, LENGTH_BITS);
                continue;
            }
            let length = length(frequency);
            out.put(length, LENGTH_BITS);
            out.put(frequency >> dropped(frequency, self.kept), length.saturating_sub(1).min(self.kept));
        }
    }

    pub(super) fn read(bits: &mut BitReader) -> Result<Self, FormatError> {
        let cut = || FormatError::malformed(PART, "it ends within a table of frequencies");
        let mut get = |width| bits.get(width).ok_or_else(cut);
        let (shift, first) = (get(4)?, get(16)? as u16 as i16);
        let (core, below, above) = (get(8)? as usize + 1, get(5)? as usize, get(5)? as usize);
        let shape = Shape { shift, first, core, below, above };
        if shift as usize + below.max(above) > 16 || shape.tokens() > TOKENS {
            let why = format!(
                "a table has {core} tokens of {shift} bits, {below} below and {above} above; 16 bits and {TOKENS} \
                 tokens are the most"
            );
            return Err(FormatError::malformed(PART, why));
        }
        let kept = get(4)?;
        let (mut frequencies, mut rest) = (Vec::with_capacity(shape.tokens()), None);
        for index in 0..shape.tokens() {
            let length = get(LENGTH_BITS)?;
            if length == REST && rest.is_none() {
                rest = Some(index);
                frequencies.push(0);
                continue;
            }
            let behind = length.saturating_sub(1);
            let high = if length == 0 { 0 } else { 1 << behind };
            let bits = behind.min(kept);
            frequencies.push(high | get(bits)? << (behind - bits));
        }
        let sum: u32 = frequencies.iter().sum();
        let Some(rest) = rest.filter(|_| sum < TOTAL) else {
            let why = format!(
                "the frequencies of a table add up to {sum}, which leaves nothing of {TOTAL} for a last one"
            );
            return Err(FormatError::malformed(PART, why));
        };
        frequencies[rest] = TOTAL - sum;
        Ok(Self { shape, kept, rest, frequencies })
    }
}

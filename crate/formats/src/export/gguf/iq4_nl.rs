//! IQ4_NL of ggml: blocks of 32 numbers, each the nearest level of a table times a scale, which is searched for.
//!
//! `w = d T[q]`. The scale that puts the extreme on the first level is moved by up to seven levels either way; the one with
//! the least squared error, weighted by the squares of the numbers, is taken. This is what `quantize_iq4_nl` of
//! `ggml-quants.c` does without an importance matrix.

use half::f16;

use super::quants::{extreme, halves};
use super::types::binary16;
use crate::gguf::IQ4;

/// Below this all numbers of a block are taken for zeros.
const NOTHING: f32 = 1e-15;

/// How far the extreme is tried to be from the first level, in units of the table.
const TRIES: i32 = 7;

pub(super) fn iq4_nl(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let extreme = extreme(x);
    let d = if extreme.abs() < NOTHING { 0.0 } else { scale(x, extreme) };
    binary16(d, out)?;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let codes: Vec<u8> = x.iter().map(|x| nearest(x * inverse)).collect();
    halves(&codes, out);
    // What a scale of zero in binary16 leaves is zeros, whatever the codes are.
    f16::from_f32(d).is_finite().then_some(())
}

/// The scale with the least error.
fn scale(x: &[f32], extreme: f32) -> f32 {
    // Sums of w q x and of w q q, of which the first squared over the second is what the scale explains.
    let sums = |inverse: f32| {
        x.iter().fold((0f32, 0f32), |(qx, qq), x| {
            let q = IQ4[usize::from(nearest(inverse * x))];
            let w = x * x;
            (qx + w * q * x, qq + w * q * q)
        })
    };
    let (qx, qq) = sums(-IQ4[0] / extreme);
    let mut d = qx / qq;
    let mut best = d * qx;
    for moved in -TRIES..=TRIES {
        let (qx, qq) = sums((moved as f32 + IQ4[0]) / extreme);
        if qq > 0.0 && qx * qx > best * qq {
            d = qx / qq;
            best = d * qx;
        }
    }
    d
}

/// The index of the nearest level, of two as near the larger one.
fn nearest(x: f32) -> u8 {
    IQ4.windows(2).take_while(|pair| 2.0 * x >= pair[0] + pair[1]).count() as u8
}

//! ggml's types with blocks of 32 numbers and one scale: what `quantize_row_*_ref` of `ggml-quants.c` computes.
//!
//! `d`, and `m` where there is one, are binary16; codes are rounded with the scale before that rounding. Number `i` and
//! number `i + 16` share a byte of codes, the first in the low half. With five bits the fifth ones stand before the others,
//! one bit for each number.

use super::types::binary16;

/// `w = d q`, q from -127 to 127.
pub(super) fn q8_0(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let d = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
    let inverse = inverse(d);
    binary16(d, out)?;
    out.extend(x.iter().map(|x| (x * inverse).round() as i8 as u8));
    Some(())
}

/// `w = d (q - 8)`, q from 0 to 15.
pub(super) fn q4_0(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let codes = around_zero(x, 8.0, out)?;
    halves(&codes, out);
    Some(())
}

/// `w = d q + m`, q from 0 to 15.
pub(super) fn q4_1(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let codes = from_least(x, 15.0, out)?;
    halves(&codes, out);
    Some(())
}

/// `w = d (q - 16)`, q from 0 to 31.
pub(super) fn q5_0(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let codes = around_zero(x, 16.0, out)?;
    fifths(&codes, out);
    halves(&codes, out);
    Some(())
}

/// `w = d q + m`, q from 0 to 31.
pub(super) fn q5_1(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let codes = from_least(x, 31.0, out)?;
    fifths(&codes, out);
    halves(&codes, out);
    Some(())
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The number of the largest magnitude, of equal ones the first.
pub(super) fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0f32, |most, &x| if most.abs() < x.abs() { x } else { most })
}

/// Writes a scale under which the extreme is code 0, `-middle` steps from zero; gives codes of `2 middle` levels.
fn around_zero(x: &[f32], middle: f32, out: &mut Vec<u8>) -> Option<Vec<u8>> {
    let d = extreme(x) / -middle;
    let inverse = inverse(d);
    binary16(d, out)?;
    let most = 2.0 * middle - 1.0;
    Some(x.iter().map(|x| (x * inverse + (middle + 0.5)).min(most) as u8).collect())
}

/// Writes a scale and the least number, which is code 0; the largest is code `most`.
fn from_least(x: &[f32], most: f32, out: &mut Vec<u8>) -> Option<Vec<u8>> {
    let least = x.iter().copied().fold(f32::MAX, f32::min);
    let d = (x.iter().copied().fold(f32::MIN, f32::max) - least) / most;
    let inverse = inverse(d);
    binary16(d, out)?;
    binary16(least, out)?;
    Some(x.iter().map(|x| ((x - least) * inverse + 0.5).min(most) as u8).collect())
}

/// The low four bits of codes, two a byte.
pub(super) fn halves(codes: &[u8], out: &mut Vec<u8>) {
    let (low, high) = codes.split_at(codes.len() / 2);
    out.extend(low.iter().zip(high).map(|(low, high)| (low & 15) | (high << 4)));
}

/// The fifth bits of codes.
fn fifths(codes: &[u8], out: &mut Vec<u8>) {
    out.extend(
        codes
            .chunks(8)
            .map(|codes| codes.iter().enumerate().fold(0, |bits, (at, code)| bits | ((code >> 4) & 1) << at)),
    );
}

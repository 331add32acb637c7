//! ggml's K types: blocks of 256 numbers in parts of 32 or 16, whose scales are integers under a scale of the block.
//! What `quantize_row_q4_K_ref`, `_q5_K_ref` and `_q6_K_ref` of `ggml-quants.c` compute.

use half::f16;

use super::types::binary16;

/// Below this all numbers of a part are taken for zeros.
const NOTHING: f32 = 1e-15;

/// `w = d s q - dmin m` in parts of 32: s and m from 0 to 63, q from 0 to 15.
pub(super) fn q4_k(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let codes = with_least(x, &Search { most: 15.0, first: -1.0, tries: 20 }, out)?;
    // Each 32 bytes hold two parts, the first in the low halves.
    for pair in codes.chunks(64) {
        let (low, high) = pair.split_at(32);
        out.extend(low.iter().zip(high).map(|(low, high)| low | (high << 4)));
    }
    Some(())
}

/// As [`q4_k`], q from 0 to 31: the fifth bits of the parts are the bits of 32 bytes before the others.
pub(super) fn q5_k(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let codes = with_least(x, &Search { most: 31.0, first: -0.5, tries: 15 }, out)?;
    out.extend((0..32).map(|at| {
        codes.chunks(32).enumerate().fold(0u8, |bits, (part, codes)| bits | (codes[at] >> 4) << part)
    }));
    for pair in codes.chunks(64) {
        let (low, high) = pair.split_at(32);
        out.extend(low.iter().zip(high).map(|(low, high)| (low & 15) | (high << 4)));
    }
    Some(())
}

/// `w = d s (q - 32)` in parts of 16: s from -128 to 127, q from 0 to 63.
pub(super) fn q6_k(x: &[f32], out: &mut Vec<u8>) -> Option<()> {
    let fits: Vec<(f32, Vec<u8>)> = x.chunks(16).map(around_zero).collect();
    // Squares of numbers may be out of reach where the numbers are not.
    fits.iter().all(|(scale, _)| scale.is_finite()).then_some(())?;
    let largest = super::quants::extreme(&fits.iter().map(|(scale, _)| *scale).collect::<Vec<_>>());
    if largest.abs() < NOTHING {
        out.resize(out.len() + 210, 0);
        return Some(());
    }
    let inverse = -128.0 / largest;
    let d = f16::from_f32(1.0 / inverse);
    let scales: Vec<i8> =
        fits.iter().map(|(scale, _)| (inverse * scale).round_ties_even().min(127.0) as i8).collect();
    let mut codes = Vec::with_capacity(256);
    for ((x, (_, fitted)), &scale) in x.chunks(16).zip(fits).zip(&scales) {
        let d = d.to_f32() * f32::from(scale);
        match d == 0.0 {
            true => codes.extend(fitted),
            false => {
                codes.extend(x.iter().map(|x| ((x / d).round_ties_even().clamp(-32.0, 31.0) + 32.0) as u8))
            }
        }
    }
    // Quarters of each half share bytes: low four bits in 64 bytes, high two in 32.
    for half in codes.chunks(128) {
        let code = |quarter: usize, at: usize| half[32 * quarter + at];
        out.extend((0..32).map(|at| (code(0, at) & 15) | (code(2, at) << 4)));
        out.extend((0..32).map(|at| (code(1, at) & 15) | (code(3, at) << 4)));
    }
    for half in codes.chunks(128) {
        out.extend((0..32).map(|at| (0..4).fold(0, |bits, q| bits | (half[32 * q + at] >> 4) << (2 * q))));
    }
    out.extend(scales.iter().map(|&scale| scale as u8));
    binary16(d.to_f32(), out)
}

/// How a part's scale and least number are searched for.
struct Search {
    /// The largest code.
    most: f32,
    /// What is added to it in the first try; a tenth more in each that follows.
    first: f32,
    /// How many tries follow the first.
    tries: u32,
}

/// Fits parts of 32, and writes scales and least numbers; gives the codes for those that were written.
fn with_least(x: &[f32], search: &Search, out: &mut Vec<u8>) -> Option<Vec<u8>> {
    let fits: Vec<Fit> = x.chunks(32).map(|part| fit(part, search)).collect();
    fits.iter().all(|fit| fit.scale.is_finite() && fit.below.is_finite()).then_some(())?;
    let most = |of: fn(&Fit) -> f32| fits.iter().map(of).fold(0f32, f32::max);
    let (scale, least) = (most(|fit| fit.scale), most(|fit| fit.below));
    let inverse = |most: f32| if most > 0.0 { 63.0 / most } else { 0.0 };
    let whole = |x: f32| x.round_ties_even().min(63.0) as u8;
    let parts: Vec<[u8; 2]> = fits
        .iter()
        .map(|fit| [whole(inverse(scale) * fit.scale), whole(inverse(least) * fit.below)])
        .collect();
    binary16(scale / 63.0, out)?;
    binary16(least / 63.0, out)?;
    out.extend(packed(&parts));
    let (d, dmin) = (f16::from_f32(scale / 63.0).to_f32(), f16::from_f32(least / 63.0).to_f32());
    let mut codes = Vec::with_capacity(x.len());
    for ((x, fit), [scale, below]) in x.chunks(32).zip(fits).zip(parts) {
        let (d, below) = (d * f32::from(scale), dmin * f32::from(below));
        match d == 0.0 {
            true => codes.extend(fit.codes),
            false => codes
                .extend(x.iter().map(|x| ((x + below) / d).round_ties_even().clamp(0.0, search.most) as u8)),
        }
    }
    Some(codes)
}

/// Eight scales and eight least numbers of six bits in twelve bytes: the first four of either as they are, the high bits of
/// the others above them, their low bits in the last four bytes.
fn packed(parts: &[[u8; 2]]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (j, &[scale, below]) in parts.iter().enumerate() {
        if j < 4 {
            bytes[j] = scale;
            bytes[j + 4] = below;
        } else {
            bytes[j + 4] = (scale & 15) | ((below & 15) << 4);
            bytes[j - 4] |= (scale >> 4) << 6;
            bytes[j] |= (below >> 4) << 6;
        }
    }
    bytes
}

/// `w = scale q - below`.
struct Fit {
    scale: f32,
    below: f32,
    codes: Vec<u8>,
}

/// Scale and least number of a part with the least squared error, where large numbers weigh more: line fits through the
/// codes that a few scales give.
fn fit(x: &[f32], search: &Search) -> Fit {
    let root = (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32).sqrt();
    let weights: Vec<f32> = x.iter().map(|x| root + x.abs()).collect();
    let mut least = x.iter().copied().fold(f32::MAX, f32::min);
    let largest = x.iter().copied().fold(f32::MIN, f32::max);
    // In the order in which the original adds.
    let (mut sum_w, mut sum_x) = (0f32, 0f32);
    for (w, x) in weights.iter().zip(x) {
        sum_w += w;
        sum_x += w * x;
    }
    least = least.min(0.0);
    if largest == least {
        return Fit { scale: 0.0, below: -least, codes: vec![0; x.len()] };
    }
    let codes_at = |inverse: f32, least: f32| -> Vec<u8> {
        x.iter().map(|x| (inverse * (x - least)).round_ties_even().clamp(0.0, search.most) as u8).collect()
    };
    let error = |scale: f32, least: f32, codes: &[u8]| {
        x.iter().zip(&weights).zip(codes).fold(0f32, |sum, ((x, w), &code)| {
            let off = scale * f32::from(code) + least - x;
            sum + w * (off * off)
        })
    };
    let mut scale = 1.0 / (search.most / (largest - least));
    let mut codes = codes_at(search.most / (largest - least), least);
    let mut best = error(scale, least, &codes);
    for tried in 0..=search.tries {
        // From the least number of the best line so far.
        let inverse = (search.first + 0.1 * tried as f32 + search.most) / (largest - least);
        let tried = codes_at(inverse, least);
        let (mut sum_l, mut sum_ll, mut sum_xl) = (0f32, 0f32, 0f32);
        for ((x, w), &code) in x.iter().zip(&weights).zip(&tried) {
            let l = f32::from(code);
            sum_l += w * l;
            sum_ll += w * l * l;
            sum_xl += w * l * x;
        }
        let determinant = sum_w * sum_ll - sum_l * sum_l;
        if determinant <= 0.0 {
            continue;
        }
        let mut of_line = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let mut at_zero = (sum_ll * sum_x - sum_l * sum_xl) / determinant;
        if at_zero > 0.0 {
            at_zero = 0.0;
            of_line = sum_xl / sum_ll;
        }
        let off = error(of_line, at_zero, &tried);
        if off < best {
            (best, scale, least, codes) = (off, of_line, at_zero, tried);
        }
    }
    Fit { scale, below: -least, codes }
}

/// A scale of 64 levels around zero for a part of 16, and the codes it gives.
fn around_zero(x: &[f32]) -> (f32, Vec<u8>) {
    let extreme = super::quants::extreme(x);
    if extreme.abs() < NOTHING {
        return (0.0, vec![0; x.len()]);
    }
    let level = |inverse: f32, x: f32| (inverse * x).round_ties_even().clamp(-32.0, 31.0);
    let sums = |inverse: f32| {
        x.iter().fold((0f32, 0f32), |(lx, ll), &x| {
            let (l, w) = (level(inverse, x), x * x);
            (lx + w * x * l, ll + w * l * l)
        })
    };
    let codes = |inverse: f32| x.iter().map(|&x| (level(inverse, x) + 32.0) as u8).collect::<Vec<u8>>();
    let inverse = -32.0 / extreme;
    let mut taken = inverse;
    let (lx, ll) = sums(inverse);
    let mut scale = if ll > 0.0 { lx / ll } else { 0.0 };
    let mut best = scale * lx;
    for moved in (-9..=9).filter(|moved| *moved != 0) {
        let inverse = -(32.0 + 0.1 * moved as f32) / extreme;
        let (lx, ll) = sums(inverse);
        if ll > 0.0 && lx * lx > best * ll {
            taken = inverse;
            scale = lx / ll;
            best = scale * lx;
        }
    }
    (scale, codes(taken))
}

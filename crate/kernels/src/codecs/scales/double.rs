//! Double quantization: scales less their mean, in 8-bit codes of the "dynamic"
//! table, with an absmax of their own for every 256.

use statepress_core::Scales;
use statepress_core::encoding::NESTED_BLOCK;
use statepress_core::tables::dynamic;

use super::super::fit::absmax;

/// Codes scales. The mean is summed in f64, in order, and rounded once.
pub(super) fn store(scales: &[f32]) -> Scales {
    let sum: f64 = scales.iter().map(|&scale| f64::from(scale)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let table = dynamic();
    let mut codes = Vec::with_capacity(scales.len());
    let mut nested = Vec::with_capacity(scales.len().div_ceil(NESTED_BLOCK));
    for scales in scales.chunks(NESTED_BLOCK) {
        let centred: Vec<f32> = scales.iter().map(|scale| scale - offset).collect();
        let largest = absmax(&centred);
        let inverse = if largest > 0.0 { 1.0 / largest } else { 0.0 };
        codes.extend(centred.iter().map(|value| nearest(table, value * inverse)));
        nested.push(largest);
    }
    Scales::Double { codes, nested, offset }
}

/// The scale of one group.
pub(super) fn scale(codes: &[u8], nested: &[f32], offset: f32, group: usize) -> f32 {
    dynamic()[usize::from(codes[group])] * nested[group / NESTED_BLOCK] + offset
}

/// The nearest entry, the lower one of two equally near.
fn nearest(table: &[f32; 256], x: f32) -> u8 {
    let above = table.partition_point(|&entry| entry < x).min(255);
    let below = above.saturating_sub(1);
    if (x - table[above]).abs() < (x - table[below]).abs() { above as u8 } else { below as u8 }
}

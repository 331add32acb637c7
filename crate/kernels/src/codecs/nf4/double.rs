//! Double quantization: the absmax values less their mean, in 8-bit codes of the "dynamic"
//! table, with an absmax of their own for every 256.

use statepress_core::encoding::NESTED_BLOCK;
use statepress_core::tensor::Absmax;

use super::largest;
pub use statepress_core::tables::{documented, dynamic as table};

/// Codes block maxima. The mean is summed in f64, in order, and rounded once.
pub fn encode(absmax: &[f32]) -> Absmax {
    let sum: f64 = absmax.iter().map(|&absmax| f64::from(absmax)).sum();
    let offset = (sum / absmax.len().max(1) as f64) as f32;
    let table = table();
    let mut codes = Vec::with_capacity(absmax.len());
    let mut nested = Vec::with_capacity(absmax.len().div_ceil(NESTED_BLOCK));
    for absmax in absmax.chunks(NESTED_BLOCK) {
        let centred: Vec<f32> = absmax.iter().map(|absmax| absmax - offset).collect();
        let scale = largest(&centred);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        codes.extend(centred.iter().map(|value| nearest(table, value * inverse)));
        nested.push(scale);
    }
    Absmax::Double { codes, nested, offset }
}

/// The absmax of one block.
pub fn decode(codes: &[u8], nested: &[f32], offset: f32, block: usize) -> f32 {
    table()[usize::from(codes[block])] * nested[block / NESTED_BLOCK] + offset
}

/// The nearest entry, the lower one of two equally near.
fn nearest(table: &[f32; 256], x: f32) -> u8 {
    let above = table.partition_point(|&entry| entry < x).min(255);
    let below = above.saturating_sub(1);
    if (x - table[above]).abs() < (x - table[below]).abs() { above as u8 } else { below as u8 }
}

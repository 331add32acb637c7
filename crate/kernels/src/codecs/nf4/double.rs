//! Double quantization: the absmax values less their mean, in 8-bit codes of the "dynamic"
//! table, with an absmax of their own for every 256.

use statepress_core::encoding::NESTED_BLOCK;
use statepress_core::tensor::Absmax;

use super::largest;

/// The dynamic table (Dettmers 2015; bitsandbytes `create_dynamic_map`), ascending: for
/// `i = 0..=6` the `2^i` midpoints of `2^i + 1` equally spaced points on [0.1, 1], times
/// `10^(i - 6)`, with both signs; 0; and 1. bitsandbytes' CPU library has -1 in place of the
/// lowest entry, and so do files it wrote.
pub fn table() -> &'static [f32; 256] {
    static TABLE: std::sync::OnceLock<[f32; 256]> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = documented();
        table[0] = -1.0;
        table
    })
}

/// The table before its lowest entry is overwritten.
pub fn documented() -> [f32; 256] {
    let mut values = vec![0.0f32, 1.0];
    for (i, power) in [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0f32].into_iter().enumerate() {
        let steps = 1 << i;
        // torch.linspace takes the second half from the end, and rounds each point once.
        let step = (1.0f32 - 0.1) / steps as f32;
        let point = |k: i32| {
            if k < (steps + 2) / 2 {
                step.mul_add(k as f32, 0.1)
            } else {
                (-step).mul_add((steps - k) as f32, 1.0)
            }
        };
        for k in 0..steps {
            let middle = (point(k) + point(k + 1)) / 2.0;
            values.extend([power * middle, -power * middle]);
        }
    }
    values.sort_unstable_by(f32::total_cmp);
    let mut table = [0.0; 256];
    table.copy_from_slice(&values);
    table
}

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

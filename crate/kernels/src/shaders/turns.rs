//! Frequencies of rotations as kernels take them.

/// Significant bits of the first two parts.
const BITS: u32 = 7;

/// Frequencies, radians a position, as `ops/attention/rotation.wgsl` takes them: in turns, each the
/// sum of three numbers, `[3, pairs]`. Products of the first two with positions below 2^17 are exact
/// in f32, so that an angle has no error of whole turns' rounding.
pub fn turns(inv_freq: &[f32]) -> Vec<f32> {
    let mut rest: Vec<f64> = inv_freq.iter().map(|&f| f64::from(f) / std::f64::consts::TAU).collect();
    let mut all = Vec::with_capacity(3 * rest.len());
    for _ in 0..2 {
        for rest in &mut rest {
            let part = f64::from_bits(rest.to_bits() >> (53 - BITS) << (53 - BITS));
            all.push(part as f32);
            *rest -= part;
        }
    }
    all.extend(rest.iter().map(|&rest| rest as f32));
    all
}

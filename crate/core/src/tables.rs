//! What the codes of grids with a table, and of scales, stand for. Kernels compute with them; formats recognise files that
//! were made with the same.

/// The values of the sixteen codes (bitsandbytes `create_normal_map`).
#[allow(clippy::excessive_precision)]
pub const NF4: [f32; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

/// The eight Lloyd-Max levels of a normal variable over the largest: every level is the mean of the numbers that are
/// nearer to it than to another, so that no eight levels have a smaller mean square error (Max 1960, table I).
#[allow(clippy::excessive_precision)]
pub const LM3: [f32; 8] = [
    -1.0,
    -0.6245089173316956,
    -0.35131242871284485,
    -0.11389422416687012,
    0.11389422416687012,
    0.35131242871284485,
    0.6245089173316956,
    1.0,
];

/// The four Lloyd-Max levels of a normal variable over the largest.
#[allow(clippy::excessive_precision)]
pub const LM2: [f32; 4] = [-1.0, -0.29977142810821533, 0.29977142810821533, 1.0];

/// `2^(-k / 8)` for `k` below 8: what the logarithmic scales are made of.
#[allow(clippy::excessive_precision)]
pub const EIGHTHS: [f32; 8] = [
    1.0,
    0.91700404320467123,
    0.84089641525371454,
    0.77110541270397041,
    std::f32::consts::FRAC_1_SQRT_2,
    0.64841977732550483,
    0.59460355750136054,
    0.54525386633262883,
];

/// The dynamic table (Dettmers 2015; bitsandbytes `create_dynamic_map`), ascending: for
/// `i = 0..=6` the `2^i` midpoints of `2^i + 1` equally spaced points on [0.1, 1], times
/// `10^(i - 6)`, with both signs; 0; and 1. bitsandbytes' CPU library has -1 in place of the
/// lowest entry, and so do files it wrote.
pub fn dynamic() -> &'static [f32; 256] {
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

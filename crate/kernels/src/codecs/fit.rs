//! Choosing the scale of a group: where its numbers are clipped.

/// How the clipping point is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The largest magnitude.
    Absmax,
    /// A percentile of the magnitudes, 0 to 100.
    Percentile(f64),
}

/// The clipping point of a group; `sorted` is for reuse.
pub fn limit(values: &[f32], clip: Clip, sorted: &mut Vec<f32>) -> f32 {
    match clip {
        Clip::Absmax => absmax(values),
        Clip::Percentile(percentile) => quantile(values, percentile, sorted),
    }
}

/// The largest magnitude.
pub fn absmax(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The percentile of the magnitudes as `torch.quantile` interpolates it: the rank and the
/// interpolation are in f32.
fn quantile(values: &[f32], percentile: f64, sorted: &mut Vec<f32>) -> f32 {
    sorted.clear();
    sorted.extend(values.iter().map(|value| value.abs()));
    sorted.sort_unstable_by(f32::total_cmp);
    if sorted.is_empty() {
        return 0.0;
    }
    let (below, weight) = rank(percentile, sorted.len());
    lerp(sorted[below], sorted[(below + 1).min(sorted.len() - 1)], weight)
}

/// The index below the rank of a percentile among `n` values, and how far the rank is above it.
fn rank(percentile: f64, n: usize) -> (usize, f32) {
    let rank = (percentile / 100.0) as f32 * (n - 1) as f32;
    // Above 2^24 values f32 may round the rank up, past the last index.
    ((rank.floor() as usize).min(n - 1), rank - rank.floor())
}

/// `torch.lerp`: from whichever end is nearer, rounded once.
fn lerp(low: f32, high: f32, weight: f32) -> f32 {
    if weight < 0.5 { weight.mul_add(high - low, low) } else { (low - high).mul_add(1.0 - weight, high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_is_an_index_however_many_values_there_are() {
        for n in [1, 2, 64, (1 << 24) + 4, 1 << 25, 38_615_040] {
            assert_eq!(rank(100.0, n), (n - 1, 0.0), "{n}");
            assert_eq!(rank(0.0, n), (0, 0.0), "{n}");
        }
        assert_eq!(rank(50.0, 4), (1, 0.5));
    }
}

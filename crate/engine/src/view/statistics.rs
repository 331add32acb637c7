//! What the numbers of a tensor are like; [`Statistics`] has the formulas.

use statepress_core::report::Statistics;

/// The statistics of `values`, in two passes: deviations are from the mean itself, so that nothing
/// cancels. f64 holds the fourth power of any float32.
pub fn of(values: &[f32]) -> Statistics {
    let finite = || values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value));
    let n = finite().count();
    let mut it = Statistics { non_finite: (values.len() - n) as u64, ..Statistics::default() };
    if n == 0 {
        return it;
    }
    let mut sum = 0.0;
    (it.min, it.max) = (f64::INFINITY, f64::NEG_INFINITY);
    for x in finite() {
        sum += x;
        it.min = it.min.min(x);
        it.max = it.max.max(x);
        it.zeros += u64::from(x == 0.0);
    }
    it.abs_max = it.max.abs().max(it.min.abs());
    if it.min == it.max {
        // The sum of equal numbers is rounded: their mean would not be exactly one of them.
        it.mean = it.min;
        return it;
    }
    it.mean = sum / n as f64;
    let (mut squares, mut fourths) = (0.0, 0.0);
    for x in finite() {
        let square = (x - it.mean) * (x - it.mean);
        squares += square;
        fourths += square * square;
    }
    it.std = (squares / n as f64).sqrt();
    it.kurtosis = n as f64 * fourths / (squares * squares) - 3.0;
    it
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_float32_is_too_large_or_too_small() {
        let it = of(&[f32::MAX, -f32::MAX, f32::MAX, -f32::MAX]);
        assert_eq!((it.mean, it.std, it.kurtosis), (0.0, f64::from(f32::MAX), -2.0));
        let tiny = f32::from_bits(1);
        let it = of(&[tiny, -tiny]);
        assert_eq!((it.mean, it.std, it.kurtosis), (0.0, f64::from(tiny), -2.0));
    }

    #[test]
    fn equal_numbers_have_no_spread_at_all() {
        let it = of(&[0.1; 3]);
        assert_eq!((it.min, it.mean, it.std, it.kurtosis), (f64::from(0.1f32), f64::from(0.1f32), 0.0, 0.0));
    }
}

//! Shapes are slices of dimensions, outermost first; these are the two questions asked of them.

/// The number of elements, or `None` when it overflows. A scalar (`[]`) has one.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))
}

/// A shape seen as a matrix: all dimensions but the last by the last.
///
/// This is how every codec sees a weight: a Linear `[out, in]` is itself, a depthwise
/// convolution `[D, 1, k]` is `[D, k]`, experts `[E, out, in]` are `[E * out, in]`, a vector `[n]`
/// is one row of `n`.
///
/// The product must not overflow: [`elements`] has been asked before.
pub fn matrix(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [n] => (1, *n),
        [rows @ .., cols] => (rows.iter().product(), *cols),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_counted_and_flattened() {
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(elements(&[3, 0]), Some(0));
        assert_eq!(elements(&[usize::MAX, 2]), None);
        assert_eq!(matrix(&[256, 1, 4]), (256, 4));
        assert_eq!(matrix(&[5, 28, 20]), (140, 20));
        assert_eq!(matrix(&[7]), (1, 7));
    }
}

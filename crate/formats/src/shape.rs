//! Checks that every shape from a file passes before anybody multiplies its dimensions.

use statepress_core::limits::DIMENSIONS;

use crate::FormatError;

/// The number of elements of a shape whose dimensions may be multiplied in any order and
/// grouping without overflow, zeros among them or not.
pub(crate) fn checked_elements(name: &str, shape: &[usize]) -> Result<usize, FormatError> {
    if shape.len() > DIMENSIONS {
        return Err(FormatError::TooLarge {
            what: format!("dimensions of tensor `{name}`"),
            value: shape.len() as u64,
            limit: DIMENSIONS as u64,
        });
    }
    // Eight bytes an element, so that bytes do not overflow either.
    let bytes = shape.iter().try_fold(8usize, |n, &dim| n.checked_mul(dim.max(1)));
    match bytes {
        Some(_) => Ok(shape.iter().product()),
        None => Err(FormatError::tensor(name, format!("the shape {shape:?} overflows"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_do_not_hide_an_overflow() {
        assert_eq!(checked_elements("a", &[]), Ok(1));
        assert_eq!(checked_elements("a", &[2, 0, 3]), Ok(0));
        assert_eq!(checked_elements("a", &[0, usize::MAX, 2]).unwrap_err().code(), "malformed-tensor");
        assert_eq!(checked_elements("a", &[1; 9]).unwrap_err().code(), "too-large");
    }
}

//! Elementary functions of four numbers at a time, to a few units in the last place.
//!
//! Polynomials are minimax fits; `erf` has the coefficients of Eigen. Each function's error over its
//! whole range is held by a test. NaN gives NaN.

// Coefficients stand as they were fitted or published.
#![allow(clippy::excessive_precision, clippy::unreadable_literal)]

use super::F32x4;

/// `a[0] + a[1] x + a[2] x^2 + ...`
#[inline(always)]
fn polynomial<const N: usize>(x: F32x4, a: [f32; N]) -> F32x4 {
    let mut sum = F32x4::splat(a[N - 1]);
    for &a in a[..N - 1].iter().rev() {
        sum = sum.mul_add(x, F32x4::splat(a));
    }
    sum
}

/// `e^x`; 0 below -87.7, where results would be subnormal, and infinity above 88.4.
///
/// `e^x = 2^n e^r` with `n` the integer nearest to `x / ln 2`.
#[inline(always)]
pub fn exp(x: F32x4) -> F32x4 {
    // At the ends 2^n is zero or infinite by its bits.
    let x = x.min(F32x4::splat(88.7)).max(F32x4::splat(-88.0));
    // Adding 1.5 * 2^23 rounds to an integer, which the low bits then hold.
    let magic = F32x4::splat(12_582_912.0);
    let shifted = x.mul_add(F32x4::splat(std::f32::consts::LOG2_E), magic);
    let n = shifted - magic;
    // ln 2 in two parts, the first of which multiplies integers exactly.
    let r = n.mul_add(F32x4::splat(-0.693359375), x);
    let r = n.mul_add(F32x4::splat(2.12194440e-4), r);
    // (e^r - 1 - r) / r^2 within 3e-9 for |r| <= ln 2 / 2.
    let small = polynomial(r, [0.49999994, 0.1666652, 0.041668393, 0.008368781, 0.0013814467]);
    let one = F32x4::splat(1.0);
    let exp_r = small.mul_add(r * r, r + one);
    exp_r * (shifted.to_bits().shl::<23>() + one.to_bits()).from_bits()
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: F32x4) -> F32x4 {
    let one = F32x4::splat(1.0);
    one / (one + exp(F32x4::ZERO - x))
}

/// `ln(1 + e^x)`.
///
/// `= max(x, 0) + ln(1 + t)` with `t = e^-|x|`, and `ln(1 + t) = 2 artanh s` with
/// `s = t / (2 + t) <= 1/3`, whose series keeps full relative precision for small `t`.
#[inline(always)]
pub fn softplus(x: F32x4) -> F32x4 {
    let t = exp(F32x4::ZERO - x.abs());
    let s = t / (F32x4::splat(2.0) + t);
    // 2 artanh(s) / s within 4e-9.
    let series = polynomial(s * s, [2.0, 0.66666317, 0.4002491, 0.279606, 0.28178334]);
    s.mul_add(series, x.max(F32x4::ZERO))
}

/// The error function: a rational approximation up to 4, beyond which it is 1 in f32.
#[inline(always)]
pub fn erf(x: F32x4) -> F32x4 {
    let (one, four) = (F32x4::splat(1.0), F32x4::splat(4.0));
    // The approximation ends an ulp short of 1, which GELU of -1e6 would multiply.
    let beyond = four.lt(x.abs());
    let sign = x.max(F32x4::ZERO - one).min(one);
    let x = x.max(F32x4::ZERO - four).min(four);
    let square = x * x;
    let over = polynomial(
        square,
        [
            -1.60960333262415e-2,
            -2.95459980854025e-3,
            -7.34990630326855e-4,
            -5.69250639462346e-5,
            -2.10102402082508e-6,
            2.77068142495902e-8,
            -2.72614225801306e-10,
        ],
    );
    let under = polynomial(
        square,
        [
            -1.42647390514189e-2,
            -7.37332916720468e-3,
            -1.68282697438203e-3,
            -2.13374055278905e-4,
            -1.45660718464996e-5,
        ],
    );
    beyond.select(sign, x * over / under)
}

/// `e^x - 1 - x`, without cancellation near 0.
#[inline(always)]
pub fn exp_m1_mx(x: F32x4) -> F32x4 {
    // (e^x - 1 - x) / x^2 within 3e-8 for |x| <= 1/2.
    let series = polynomial(x, [0.5, 0.16666666, 0.041665796, 0.008333452, 0.0013981997, 0.00019875629]);
    let near = x.abs().lt(F32x4::splat(0.5));
    near.select(series * x * x, exp(x) - F32x4::splat(1.0) - x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error over `from..to` against `exact`, relative to `unit(exact)`.
    fn error(
        f: impl Fn(F32x4) -> F32x4,
        exact: impl Fn(f64) -> f64,
        from: f32,
        to: f32,
        unit: impl Fn(f64) -> f64,
    ) -> f64 {
        const STEPS: usize = 200_000;
        let at = |i: usize| from + (to - from) * (i as f32 / STEPS as f32);
        let errors = (0..=STEPS).map(|i| {
            let x = at(i);
            let exact = exact(f64::from(x));
            (f64::from(f(F32x4::splat(x)).to_array()[i % 4]) - exact).abs() / unit(exact)
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn errors_are_a_few_units_in_the_last_place() {
        let relative = |exact: f64| exact.abs().max(1e-37);
        let within = |what: &str, error: f64, bound: f64| assert!(error < bound, "{what}: {error:e}");
        within("exp", error(exp, f64::exp, -87.0, 88.3, relative), 2e-7);
        let sigmoid_exact = |x: f64| 1.0 / (1.0 + (-x).exp());
        within("sigmoid", error(sigmoid, sigmoid_exact, -80.0, 40.0, relative), 3e-7);
        within("softplus", error(softplus, |x| x.exp().ln_1p(), -80.0, 30.0, relative), 3e-7);
        let series =
            |x: f64| if x.abs() < 1e-2 { x * x * (0.5 + x / 6.0 + x * x / 24.0) } else { x.exp() - 1.0 - x };
        within("exp_m1_mx", error(exp_m1_mx, series, -20.0, 20.0, relative), 2e-6);
    }

    #[test]
    fn erf_integrates_its_derivative() {
        // Simpson's rule, far finer than f32.
        let slope = |x: f64| std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
        let (steps, mut exact, step) = (4000, 0.0, 1.25e-3);
        for i in 0..steps {
            let x = f64::from(i) * step;
            let found = erf(F32x4::splat(x as f32)).to_array();
            let mirrored = erf(F32x4::splat(-x as f32)).to_array();
            assert!((f64::from(found[0]) - exact).abs() < 4e-7, "{x}: {} {exact}", found[0]);
            assert_eq!(found[0], -mirrored[3]);
            exact += step / 6.0 * (slope(x) + 4.0 * slope(x + step / 2.0) + slope(x + step));
        }
    }

    #[test]
    fn the_ends_of_the_range_are_right() {
        let one = |f: fn(F32x4) -> F32x4, x: f32| f(F32x4::splat(x)).to_array()[0];
        for (x, expected) in [(f32::NEG_INFINITY, 0.0), (-200.0, 0.0), (0.0, 1.0), (100.0, f32::INFINITY)] {
            assert_eq!(one(exp, x), expected, "exp {x}");
        }
        assert_eq!(one(exp, f32::INFINITY), f32::INFINITY);
        assert_eq!(one(sigmoid, -1e30), 0.0);
        assert_eq!(one(sigmoid, 1e30), 1.0);
        assert_eq!(one(softplus, 25.0), 25.0);
        assert_eq!(one(softplus, 1e30), 1e30);
        assert_eq!(one(erf, 1e30), 1.0);
        assert_eq!(one(erf, -1e30), -1.0);
        for f in [exp, sigmoid, softplus, erf, exp_m1_mx] {
            assert!(one(f, f32::NAN).is_nan());
        }
    }
}

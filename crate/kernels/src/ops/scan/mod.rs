//! The recurrence of a diagonal state-space model: `h = exp(dt A) h + dt (B a)`.

pub mod reference;

/// Runs the recurrence over `n` positions, one after the other.
///
/// `dt` is `[n]`, `bx` = `B a` is `[n, N]`, `a` is `[N]` and negative, `h` is `[N]` and is
/// brought up to date; `states` `[n, N]` receives `h` after each position. N is a handful and
/// positions depend on each other, so this plain loop is what runs.
pub fn sequential(dt: &[f32], bx: &[f32], a: &[f32], h: &mut [f32], states: &mut [f32]) {
    let n = a.len().max(1);
    for ((&dt, bx), states) in dt.iter().zip(bx.chunks_exact(n)).zip(states.chunks_exact_mut(n)) {
        for ((h, a), bx) in h.iter_mut().zip(a).zip(bx) {
            *h = decay(dt * a) * *h + dt * bx;
        }
        states.copy_from_slice(h);
    }
}

#[inline(always)]
fn decay(x: f32) -> f32 {
    crate::lanes::math::exp(crate::lanes::F32x4::splat(x)).to_array()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_input_decays_to_its_fixed_point() {
        let (n, a) = (200, [-1.0f32, -0.25]);
        let (mut h, mut states) = ([0.0f32; 2], vec![0.0; 2 * n]);
        sequential(&vec![0.5; n], &vec![1.0; 2 * n], &a, &mut h, &mut states);
        for (i, a) in a.iter().enumerate() {
            let fixed = 0.5 / (1.0 - (0.5 * a).exp());
            assert!((h[i] - fixed).abs() < 1e-4, "{h:?}");
            assert_eq!(states[2 * (n - 1) + i], h[i]);
        }
        assert_eq!(states[0], 0.5);
    }
}

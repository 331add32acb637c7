//! The recurrence in double precision.

use crate::rows::Rows;

/// As [`super::scan`].
#[expect(clippy::too_many_arguments, reason = "as the fast one")]
pub fn scan(u: Rows, dt: &[f32], b: Rows, c: Rows, a: &[f32], d: &[f32], h: &mut [f32], out: &mut [f32]) {
    let (channels, states) = (u.width(), b.width());
    let mut state: Vec<f64> = h.iter().map(|&h| f64::from(h)).collect();
    for t in 0..u.len() {
        for channel in 0..channels {
            let (dt, u) = (f64::from(dt[t * channels + channel]), f64::from(u.row(t)[channel]));
            let mut y = f64::from(d[channel]) * u;
            for i in 0..states {
                let h = &mut state[channel * states + i];
                let decay = (dt * f64::from(a[channel * states + i])).exp();
                *h = decay * *h + dt * u * f64::from(b.row(t)[i]);
                y += *h * f64::from(c.row(t)[i]);
            }
            out[t * channels + channel] = y as f32;
        }
    }
    h.iter_mut().zip(state).for_each(|(h, state)| *h = state as f32);
}

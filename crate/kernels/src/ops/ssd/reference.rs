//! The recurrence in double precision.

use super::Heads;
use crate::rows::Rows;

/// As [`super::scan`].
#[expect(clippy::too_many_arguments, reason = "as the fast one")]
pub fn scan(
    u: Rows,
    dt: &[f32],
    b: Rows,
    c: Rows,
    a: &[f32],
    d: &[f32],
    heads: &Heads,
    h: &mut [f32],
    out: &mut [f32],
) {
    let Heads { heads, groups, head: channels, states } = *heads;
    let mut state: Vec<f64> = h.iter().map(|&h| f64::from(h)).collect();
    for t in 0..u.len() {
        for head in 0..heads {
            let group = head / (heads / groups);
            let dt = f64::from(dt[t * heads + head]);
            let decay = (dt * f64::from(a[head])).exp();
            for channel in head * channels..(head + 1) * channels {
                let u = f64::from(u.row(t)[channel]);
                let d = if d.len() == heads { d[head] } else { d[channel] };
                let mut y = f64::from(d) * u;
                for i in 0..states {
                    let h = &mut state[channel * states + i];
                    *h = decay * *h + dt * u * f64::from(b.row(t)[group * states + i]);
                    y += *h * f64::from(c.row(t)[group * states + i]);
                }
                out[t * heads * channels + channel] = y as f32;
            }
        }
    }
    h.iter_mut().zip(state).for_each(|(h, state)| *h = state as f32);
}

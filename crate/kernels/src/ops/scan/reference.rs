//! The recurrence in double precision.

/// Runs the recurrence over all positions.
pub fn sequential(dt: &[f32], bx: &[f32], a: &[f32], h: &mut [f32], out: &mut [f32]) {
    let n = a.len();
    let mut state: Vec<f64> = h.iter().map(|&h| f64::from(h)).collect();
    for (t, &dt) in dt.iter().enumerate() {
        let dt = f64::from(dt);
        for i in 0..n {
            state[i] = (dt * f64::from(a[i])).exp() * state[i] + dt * f64::from(bx[t * n + i]);
            out[t * n + i] = state[i] as f32;
        }
    }
    for (h, state) in h.iter_mut().zip(state) {
        *h = state as f32;
    }
}

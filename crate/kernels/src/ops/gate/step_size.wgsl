// import: functions

// The step size of a scan as a projection gives it: softplus(x + bias) between two limits.

fn step_size(x: f32, bias: u32, least: f32, most: f32, i: u32) -> f32 {
    var biased = x;
    if (bias != NONE) {
        biased += constant(bias + i);
    }
    return clamp(softplus(biased), least, most);
}

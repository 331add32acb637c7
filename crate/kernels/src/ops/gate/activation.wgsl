// import: functions

// One of the activations, or none.

// x / 2 (1 + erf(x / sqrt 2))
override GELU: bool = false;
// GELU by its tanh approximation.
override GELU_TANH: bool = false;
override SILU: bool = false;

fn activated(x: f32) -> f32 {
    if (GELU) {
        return gelu(x);
    }
    if (GELU_TANH) {
        return gelu_tanh(x);
    }
    if (SILU) {
        return silu(x);
    }
    return x;
}

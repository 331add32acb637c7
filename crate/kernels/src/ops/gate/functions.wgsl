// Elementwise functions, as gate/mod.rs has them.

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-x));
}

fn silu(x: f32) -> f32 {
    return x * sigmoid(x);
}

// ln(1 + e^x) = max(x, 0) + 2 artanh(t / (2 + t)) with t = e^-|x|: keeps its digits for small t.
fn softplus(x: f32) -> f32 {
    let t = exp(-abs(x));
    let s = t / (2.0 + t);
    let q = s * s;
    let series = 2.0 + q * (0.66666317 + q * (0.4002491 + q * (0.279606 + q * 0.28178334)));
    return s * series + max(x, 0.0);
}

// A rational approximation up to 4 (coefficients of Eigen), beyond which it is 1 in f32.
fn erf(value: f32) -> f32 {
    let x = clamp(value, -4.0, 4.0);
    let q = x * x;
    let over = -1.60960333262415e-2 + q * (-2.95459980854025e-3 + q * (-7.34990630326855e-4
        + q * (-5.69250639462346e-5 + q * (-2.10102402082508e-6
        + q * (2.77068142495902e-8 + q * -2.72614225801306e-10)))));
    let under = -1.42647390514189e-2 + q * (-7.37332916720468e-3 + q * (-1.68282697438203e-3
        + q * (-2.13374055278905e-4 + q * -1.45660718464996e-5)));
    return select(x * over / under, sign(value), abs(value) > 4.0);
}

fn gelu(x: f32) -> f32 {
    return 0.5 * x * erf(x * 0.70710678118654752) + 0.5 * x;
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), as a sigmoid, which cannot overflow.
fn gelu_tanh(x: f32) -> f32 {
    return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x));
}

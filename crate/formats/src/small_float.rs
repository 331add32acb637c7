//! Floats of sixteen and eight bits, as numbers. Sources: IEEE 754 for binary16; "FP8 formats for deep learning"
//! (Micikevicius et al. 2022), and OCP's microscaling specification for E8M0. The values are torch's.

use statepress_core::DType;

/// The number that a byte of an eight-bit type is.
pub(crate) fn float8(dtype: DType, byte: u8) -> f32 {
    let bits = u16::from(byte);
    match dtype {
        // The largest exponent is a number like any other, but for NaN in its last place.
        DType::F8E4m3 if byte & 0x7f == 0x7f => f32::NAN,
        DType::F8E4m3 => Kind { width: 8, mantissa: 3, bias: 7 }.value(bits),
        // The upper byte of a binary16.
        DType::F8E5m2 => float16(bits << 8),
        _ if byte == 0xff => f32::NAN,
        _ => power_of_two(i32::from(byte) - 127),
    }
}

/// The number that a binary16 is.
pub(crate) fn float16(bits: u16) -> f32 {
    match bits & 0x7fff {
        0x7c01.. => f32::NAN,
        0x7c00 if bits == 0x7c00 => f32::INFINITY,
        0x7c00 => f32::NEG_INFINITY,
        _ => Kind { width: 16, mantissa: 10, bias: 15 }.value(bits),
    }
}

/// How many bits there are, and what they mean.
struct Kind {
    width: u32,
    mantissa: u32,
    bias: i32,
}

impl Kind {
    /// Sign, exponent, mantissa; an exponent of 0 has no leading one.
    fn value(self, bits: u16) -> f32 {
        let sign = 1 << (self.width - 1);
        let exponent = i32::from((bits & (sign - 1)) >> self.mantissa);
        let one = 1 << self.mantissa;
        let fraction = f32::from(bits & (one - 1)) / f32::from(one);
        let magnitude = match exponent {
            0 => fraction * power_of_two(1 - self.bias),
            _ => (1.0 + fraction) * power_of_two(exponent - self.bias),
        };
        if bits & sign == 0 { magnitude } else { -magnitude }
    }
}

/// 2^n for -127 <= n <= 127.
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(if n == -127 { 1 << 22 } else { ((n + 127) as u32) << 23 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_torch() {
        // torch.tensor([...], dtype=torch.uint8).view(torch.float8_e4m3fn).float(), and so on.
        let e4m3 = [0x00, 0x01, 0x07, 0x08, 0x38, 0x3c, 0x7e, 0x80, 0x81, 0xfe];
        let numbers = [0.0, 0.001953125, 0.013671875, 0.015625, 1.0, 1.5, 448.0, -0.0, -0.001953125, -448.0];
        assert_eq!(e4m3.map(|byte| float8(DType::F8E4m3, byte).to_bits()), numbers.map(f32::to_bits));
        let e5m2 = [0x01, 0x03, 0x04, 0x3c, 0x7b, 0xbd, 0x7c, 0xfc];
        let (tiny, inf) = (1.0 / 65536.0, f32::INFINITY);
        let numbers = [tiny, 3.0 * tiny, 4.0 * tiny, 1.0, 57344.0, -1.25, inf, -inf];
        assert_eq!(e5m2.map(|byte| float8(DType::F8E5m2, byte)), numbers);
        assert!(float8(DType::F8E4m3, 0xff).is_nan() && float8(DType::F8E5m2, 0x7d).is_nan());
        assert_eq!(
            [0, 1, 127, 254].map(|byte| float8(DType::F8E8m0, byte).log2()),
            [-127.0, -126.0, 0.0, 127.0]
        );
        assert!(float8(DType::F8E8m0, 255).is_nan());
        let bits = [0x0001, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0xc100, 0x7c00, 0xfc00];
        let numbers = [5.9604645e-8, 6.097555e-5, 6.1035156e-5, 1.0, 65504.0, -2.5, inf, -inf];
        assert_eq!(bits.map(float16), numbers);
        assert!(float16(0x7e00).is_nan());
    }
}

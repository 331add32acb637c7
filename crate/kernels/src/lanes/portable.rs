//! 128-bit vectors as arrays.

use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

/// Four f32.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub struct F32x4([f32; 4]);

/// Four i32.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub struct I32x4([i32; 4]);

/// Eight i16.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub struct I16x8([i16; 8]);

/// Sixteen bytes.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub struct U8x16([u8; 16]);

impl F32x4 {
    /// All lanes zero.
    pub const ZERO: Self = Self([0.0; 4]);

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    /// From memory.
    #[inline(always)]
    pub fn load(x: &[f32; 4]) -> Self {
        Self(*x)
    }

    /// To memory.
    #[inline(always)]
    pub fn to_array(self) -> [f32; 4] {
        self.0
    }

    /// `self * by + to`, rounded twice on every build.
    #[inline(always)]
    pub fn mul_add(self, by: Self, to: Self) -> Self {
        Self(from_fn(|i| self.0[i] * by.0[i] + to.0[i]))
    }

    /// The larger, or `self` where the two do not compare.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(from_fn(|i| if self.0[i] < other.0[i] { other.0[i] } else { self.0[i] }))
    }

    /// The smaller, or `self` where the two do not compare.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(from_fn(|i| if other.0[i] < self.0[i] { other.0[i] } else { self.0[i] }))
    }

    /// Without the sign.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    /// Numbers in `0..=i16::MAX` by magnitude, to the nearest integer.
    ///
    /// Adding 1.5 * 2^23 leaves no bits below the unit, so the hardware's own rounding (nearest
    /// even) does the work.
    #[inline(always)]
    pub fn round(self) -> I32x4 {
        const MAGIC: f32 = 12_582_912.0;
        I32x4(self.0.map(|x| (x + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32))
    }

    /// The bit patterns.
    #[inline(always)]
    pub fn to_bits(self) -> I32x4 {
        I32x4(self.0.map(|x| x.to_bits() as i32))
    }

    /// `self < other` as a mask of all ones or zeros.
    #[inline(always)]
    pub fn lt(self, other: Self) -> I32x4 {
        I32x4(from_fn(|i| -i32::from(self.0[i] < other.0[i])))
    }

    /// `self == other` as a mask.
    #[inline(always)]
    pub fn eq(self, other: Self) -> I32x4 {
        I32x4(from_fn(|i| -i32::from(self.0[i] == other.0[i])))
    }

    /// `[a0, b0, a1, b1]` and `[a2, b2, a3, b3]`.
    #[inline(always)]
    pub fn interleave(self, other: Self) -> [Self; 2] {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        [Self([a0, b0, a1, b1]), Self([a2, b2, a3, b3])]
    }

    /// The largest of all lanes, if they compare.
    #[inline(always)]
    pub fn largest(self) -> f32 {
        let [a, b, c, d] = self.to_array();
        a.max(b).max(c.max(d))
    }

    /// The sum of all lanes.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

impl I32x4 {
    /// All lanes zero.
    pub const ZERO: Self = Self([0; 4]);

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: i32) -> Self {
        Self([x; 4])
    }

    /// Eight 16-bit patterns as four lanes: even ones low, odd ones high.
    #[inline(always)]
    pub fn load16(x: &[u16; 8]) -> Self {
        Self(from_fn(|i| i32::from(x[2 * i]) | i32::from(x[2 * i + 1]) << 16))
    }

    /// To memory.
    #[inline(always)]
    pub fn to_array(self) -> [i32; 4] {
        self.0
    }

    /// The nearest f32.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(self.0.map(|x| x as f32))
    }

    /// The f32 with these bit patterns.
    #[inline(always)]
    pub fn from_bits(self) -> F32x4 {
        F32x4(self.0.map(|x| f32::from_bits(x as u32)))
    }

    /// The larger.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i].max(other.0[i])))
    }

    /// Shifted left.
    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        Self(self.0.map(|x| x << N))
    }

    /// Shifted right, keeping the sign.
    #[inline(always)]
    pub fn shr<const N: u32>(self) -> Self {
        Self(self.0.map(|x| x >> N))
    }

    /// The low 16 bits of every lane as signed numbers, times `factor`.
    ///
    /// On x86-64 one multiplication does the work of two shifts, of which there are fewer units.
    #[inline(always)]
    pub fn low_halves_times(self, factor: i16) -> Self {
        Self(self.0.map(|x| i32::from(x as i16) * i32::from(factor)))
    }

    /// Bits that both have.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Bits that either has.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] | other.0[i]))
    }

    /// As a mask: `a` where set, else `b`.
    #[inline(always)]
    pub fn select(self, a: F32x4, b: F32x4) -> F32x4 {
        F32x4(from_fn(|i| if self.0[i] != 0 { a.0[i] } else { b.0[i] }))
    }

    /// Whether any bit is set.
    #[inline(always)]
    pub fn any(self) -> bool {
        self.0 != [0; 4]
    }
}

impl I16x8 {
    /// From memory, little-endian.
    #[inline(always)]
    pub fn load_bytes(x: &[u8; 16]) -> Self {
        Self(from_fn(|i| i16::from_le_bytes([x[2 * i], x[2 * i + 1]])))
    }

    /// From signed bytes.
    #[inline(always)]
    pub fn widen(x: &[i8; 8]) -> Self {
        Self(x.map(i16::from))
    }

    /// The same pair four times.
    #[inline(always)]
    pub fn splat_pair(x: [i16; 2]) -> Self {
        Self(from_fn(|i| x[i % 2]))
    }

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: i16) -> Self {
        Self([x; 8])
    }

    /// To 16 bits, saturating: the lanes of `low`, then those of `high`.
    #[inline(always)]
    pub fn narrow(low: I32x4, high: I32x4) -> Self {
        let clamp = |x: i32| x.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        Self(from_fn(|i| clamp(if i < 4 { low.0[i] } else { high.0[i - 4] })))
    }

    /// To memory, as neighbouring pairs.
    #[inline(always)]
    pub fn to_pairs(self) -> [[i16; 2]; 4] {
        let [a, b, c, d, e, f, g, h] = self.0;
        [[a, b], [c, d], [e, f], [g, h]]
    }

    /// Bits that both have.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Shifted right as unsigned numbers.
    #[inline(always)]
    pub fn shr_unsigned<const N: u32>(self) -> Self {
        Self(self.0.map(|x| ((x as u16) >> N) as i16))
    }

    /// Products of lanes, added in neighbouring pairs.
    #[inline(always)]
    pub fn dot(self, other: Self) -> I32x4 {
        let product = |i: usize| i32::from(self.0[i]) * i32::from(other.0[i]);
        I32x4(from_fn(|i| product(2 * i) + product(2 * i + 1)))
    }

    /// Even lanes, widened with their sign.
    #[inline(always)]
    pub fn even(self) -> I32x4 {
        I32x4(from_fn(|i| i32::from(self.0[2 * i])))
    }

    /// Odd lanes, widened with their sign.
    #[inline(always)]
    pub fn odd(self) -> I32x4 {
        I32x4(from_fn(|i| i32::from(self.0[2 * i + 1])))
    }
}

impl U8x16 {
    /// From memory.
    #[inline(always)]
    pub fn load(x: &[u8; 16]) -> Self {
        Self(*x)
    }

    /// The same byte in every lane.
    #[inline(always)]
    pub fn splat(x: u8) -> Self {
        Self([x; 16])
    }

    /// Eight bytes, and the same eight again.
    #[inline(always)]
    pub fn load_twice(x: &[u8; 8]) -> Self {
        Self(std::array::from_fn(|i| x[i % 8]))
    }

    /// Bits that both have.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Bits that either has.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// All ones where the bytes are equal, else zero.
    #[inline(always)]
    pub fn eq(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] == other.0[i] { 0xff } else { 0 }))
    }

    /// Shifted right in pairs of bytes: the upper `N` bits of a byte are another's, and for masking.
    #[inline(always)]
    pub fn shr<const N: u32>(self) -> Self {
        Self(self.0.map(|x| x >> N))
    }

    /// Shifted left in pairs of bytes, for bytes whose upper `N` bits are zero.
    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        Self(self.0.map(|x| x << N))
    }

    /// Every byte less `less`, as a signed number of 16 bits; in `-128..=127`.
    #[inline(always)]
    pub fn widen_less(self, less: u8) -> [I16x8; 2] {
        let number = |i: usize| i16::from(self.0[i].wrapping_sub(less) as i8);
        [I16x8(std::array::from_fn(number)), I16x8(std::array::from_fn(|i| number(8 + i)))]
    }

    /// The low half of every byte.
    #[inline(always)]
    pub fn low_nibbles(self) -> Self {
        Self(self.0.map(|x| x & 15))
    }

    /// The high half of every byte.
    #[inline(always)]
    pub fn high_nibbles(self) -> Self {
        Self(self.0.map(|x| x >> 4))
    }

    /// Every byte, at most 15, looked up in a table of 16-bit numbers given as their low and high bytes.
    #[inline(always)]
    pub fn lookup(self, low: Self, high: Self) -> [I16x8; 2] {
        let entry = |i: usize| {
            let at = usize::from(self.0[i] & 15);
            i16::from_le_bytes([low.0[at], high.0[at]])
        };
        [I16x8(from_fn(entry)), I16x8(from_fn(|i| entry(8 + i)))]
    }
}

macro_rules! lanewise {
    ($vector:ident: $($op:ident $name:ident $method:expr),*) => {$(
        impl $op for $vector {
            type Output = Self;

            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                let method = $method;
                Self(from_fn(|i| method(self.0[i], other.0[i])))
            }
        }
    )*};
}

lanewise!(F32x4: Add add f32::add, Sub sub f32::sub, Mul mul f32::mul, Div div f32::div);
lanewise!(I32x4: Add add i32::wrapping_add, Sub sub i32::wrapping_sub);

//! 128-bit vectors as WebAssembly SIMD, with relaxed SIMD's cheaper table lookup where the build
//! has it: for indexes in range the two are the same. The same interface as `portable`.

use core::arch::wasm32::*;
use std::ops::{Add, Div, Mul, Sub};

use bytemuck::cast;

/// Four f32.
#[derive(Clone, Copy, Debug)]
pub struct F32x4(v128);

/// Four i32.
#[derive(Clone, Copy, Debug)]
pub struct I32x4(v128);

/// Eight i16.
#[derive(Clone, Copy, Debug)]
pub struct I16x8(v128);

/// Sixteen bytes.
#[derive(Clone, Copy, Debug)]
pub struct U8x16(v128);

impl F32x4 {
    /// All lanes zero.
    pub const ZERO: Self = Self(f32x4(0.0, 0.0, 0.0, 0.0));

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: f32) -> Self {
        Self(f32x4_splat(x))
    }

    /// From memory.
    #[inline(always)]
    pub fn load(x: &[f32; 4]) -> Self {
        Self(cast(*x))
    }

    /// To memory.
    #[inline(always)]
    pub fn to_array(self) -> [f32; 4] {
        cast(self.0)
    }

    /// `self * by + to`, rounded twice on every build. A fused instruction brought nothing that
    /// could be measured in V8, and builds would disagree.
    #[inline(always)]
    pub fn mul_add(self, by: Self, to: Self) -> Self {
        self * by + to
    }

    /// The larger, or `self` where the two do not compare.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(larger(self.0, other.0))
    }

    /// The smaller, or `self` where the two do not compare.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(smaller(self.0, other.0))
    }

    /// Without the sign.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self(f32x4_abs(self.0))
    }

    /// Numbers in `0..=i16::MAX` by magnitude, to the nearest integer.
    ///
    /// Adding 1.5 * 2^23 leaves no bits below the unit, so the hardware's own rounding (nearest
    /// even) does the work.
    #[inline(always)]
    pub fn round(self) -> I32x4 {
        const MAGIC: f32 = 12_582_912.0;
        (self + Self::splat(MAGIC)).to_bits() - I32x4::splat(MAGIC.to_bits() as i32)
    }

    /// The bit patterns.
    #[inline(always)]
    pub fn to_bits(self) -> I32x4 {
        I32x4(self.0)
    }

    /// `self < other` as a mask of all ones or zeros.
    #[inline(always)]
    pub fn lt(self, other: Self) -> I32x4 {
        I32x4(f32x4_lt(self.0, other.0))
    }

    /// `self == other` as a mask.
    #[inline(always)]
    pub fn eq(self, other: Self) -> I32x4 {
        I32x4(f32x4_eq(self.0, other.0))
    }

    /// `[a0, b0, a1, b1]` and `[a2, b2, a3, b3]`.
    #[inline(always)]
    pub fn interleave(self, other: Self) -> [Self; 2] {
        let (a, b) = (self.0, other.0);
        [Self(i32x4_shuffle::<0, 4, 1, 5>(a, b)), Self(i32x4_shuffle::<2, 6, 3, 7>(a, b))]
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
        let [a, b, c, d] = self.to_array();
        (a + c) + (b + d)
    }
}

impl I32x4 {
    /// All lanes zero.
    pub const ZERO: Self = Self(i32x4(0, 0, 0, 0));

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: i32) -> Self {
        Self(i32x4_splat(x))
    }

    /// Eight 16-bit patterns as four lanes: even ones low, odd ones high.
    #[inline(always)]
    pub fn load16(x: &[u16; 8]) -> Self {
        Self(cast(*x))
    }

    /// To memory.
    #[inline(always)]
    pub fn to_array(self) -> [i32; 4] {
        cast(self.0)
    }

    /// The nearest f32.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(f32x4_convert_i32x4(self.0))
    }

    /// The f32 with these bit patterns.
    #[inline(always)]
    pub fn from_bits(self) -> F32x4 {
        F32x4(self.0)
    }

    /// The larger.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(i32x4_max(self.0, other.0))
    }

    /// Shifted left.
    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        Self(i32x4_shl(self.0, N))
    }

    /// Shifted right, keeping the sign.
    #[inline(always)]
    pub fn shr<const N: u32>(self) -> Self {
        Self(i32x4_shr(self.0, N))
    }

    /// The low 16 bits of every lane as signed numbers, times `factor`.
    ///
    /// On x86-64 one multiplication does the work of two shifts, of which there are fewer units.
    #[inline(always)]
    pub fn low_halves_times(self, factor: i16) -> Self {
        Self(i32x4_dot_i16x8(self.0, i32x4_splat(i32::from(factor as u16))))
    }

    /// Bits that both have.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(v128_and(self.0, other.0))
    }

    /// Bits that either has.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        Self(v128_or(self.0, other.0))
    }

    /// As a mask: `a` where set, else `b`.
    #[inline(always)]
    pub fn select(self, a: F32x4, b: F32x4) -> F32x4 {
        F32x4(v128_bitselect(a.0, b.0, self.0))
    }

    /// Whether any bit is set.
    #[inline(always)]
    pub fn any(self) -> bool {
        v128_any_true(self.0)
    }
}

impl I16x8 {
    /// From memory, little-endian.
    #[inline(always)]
    pub fn load_bytes(x: &[u8; 16]) -> Self {
        Self(cast(*x))
    }

    /// From signed bytes.
    #[inline(always)]
    pub fn widen(x: &[i8; 8]) -> Self {
        Self(i16x8_extend_low_i8x16(i64x2(cast(*x), 0)))
    }

    /// The same pair four times.
    #[inline(always)]
    pub fn splat_pair(x: [i16; 2]) -> Self {
        Self(i32x4_splat(cast(x)))
    }

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(x: i16) -> Self {
        Self(i16x8_splat(x))
    }

    /// To 16 bits, saturating: the lanes of `low`, then those of `high`.
    #[inline(always)]
    pub fn narrow(low: I32x4, high: I32x4) -> Self {
        Self(i16x8_narrow_i32x4(low.0, high.0))
    }

    /// To memory, as neighbouring pairs.
    #[inline(always)]
    pub fn to_pairs(self) -> [[i16; 2]; 4] {
        cast(self.0)
    }

    /// Bits that both have.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(v128_and(self.0, other.0))
    }

    /// Shifted right as unsigned numbers.
    #[inline(always)]
    pub fn shr_unsigned<const N: u32>(self) -> Self {
        Self(u16x8_shr(self.0, N))
    }

    /// Products of lanes, added in neighbouring pairs.
    #[inline(always)]
    pub fn dot(self, other: Self) -> I32x4 {
        I32x4(i32x4_dot_i16x8(self.0, other.0))
    }

    /// Even lanes, widened with their sign.
    #[inline(always)]
    pub fn even(self) -> I32x4 {
        I32x4(i32x4_shr(i32x4_shl(self.0, 16), 16))
    }

    /// Odd lanes, widened with their sign.
    #[inline(always)]
    pub fn odd(self) -> I32x4 {
        I32x4(i32x4_shr(self.0, 16))
    }
}

impl U8x16 {
    /// From memory.
    #[inline(always)]
    pub fn load(x: &[u8; 16]) -> Self {
        Self(cast(*x))
    }

    /// The same byte in every lane.
    #[inline(always)]
    pub fn splat(x: u8) -> Self {
        Self(u8x16_splat(x))
    }

    /// Eight bytes, and the same eight again.
    #[inline(always)]
    pub fn load_twice(x: &[u8; 8]) -> Self {
        Self(i64x2_splat(cast(*x)))
    }

    /// Bits that both have.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(v128_and(self.0, other.0))
    }

    /// Bits that either has.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        Self(v128_or(self.0, other.0))
    }

    /// All ones where the bytes are equal, else zero.
    #[inline(always)]
    pub fn eq(self, other: Self) -> Self {
        Self(i8x16_eq(self.0, other.0))
    }

    /// Shifted right in pairs of bytes: the upper `N` bits of a byte are another's, and for masking.
    #[inline(always)]
    pub fn shr<const N: u32>(self) -> Self {
        // x86-64 shifts no bytes: u8x16_shr would be five instructions there.
        Self(u16x8_shr(self.0, N))
    }

    /// Shifted left in pairs of bytes, for bytes whose upper `N` bits are zero.
    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        Self(i16x8_shl(self.0, N))
    }

    /// Every byte less `less`, as a signed number of 16 bits; in `-128..=127`.
    #[inline(always)]
    pub fn widen_less(self, less: u8) -> [I16x8; 2] {
        let bytes = i8x16_sub(self.0, u8x16_splat(less));
        [I16x8(i16x8_extend_low_i8x16(bytes)), I16x8(i16x8_extend_high_i8x16(bytes))]
    }

    /// The low half of every byte.
    #[inline(always)]
    pub fn low_nibbles(self) -> Self {
        self.and(Self::splat(15))
    }

    /// The high half of every byte.
    #[inline(always)]
    pub fn high_nibbles(self) -> Self {
        self.shr::<4>().and(Self::splat(15))
    }

    /// Every byte, at most 15, looked up in a table of 16-bit numbers given as their low and high bytes.
    #[inline(always)]
    pub fn lookup(self, low: Self, high: Self) -> [I16x8; 2] {
        #[cfg(target_feature = "relaxed-simd")]
        let (low, high) = (i8x16_relaxed_swizzle(low.0, self.0), i8x16_relaxed_swizzle(high.0, self.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        let (low, high) = (i8x16_swizzle(low.0, self.0), i8x16_swizzle(high.0, self.0));
        [
            I16x8(i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(low, high)),
            I16x8(i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(low, high)),
        ]
    }
}

// f32x4.pmin and pmax are single instructions on x86-64, where f32x4.min takes eight. With relaxed
// SIMD, LLVM turns them into relaxed_min and relaxed_max, which may lose a NaN that they must keep;
// a lane select it leaves alone.
#[cfg(not(target_feature = "relaxed-simd"))]
use core::arch::wasm32::{f32x4_pmax as larger, f32x4_pmin as smaller};

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn larger(a: v128, b: v128) -> v128 {
    i32x4_relaxed_laneselect(b, a, f32x4_lt(a, b))
}

#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
fn smaller(a: v128, b: v128) -> v128 {
    i32x4_relaxed_laneselect(b, a, f32x4_lt(b, a))
}

macro_rules! lanewise {
    ($vector:ident: $($op:ident $name:ident $method:ident),*) => {$(
        impl $op for $vector {
            type Output = Self;

            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                Self($method(self.0, other.0))
            }
        }
    )*};
}

lanewise!(F32x4: Add add f32x4_add, Sub sub f32x4_sub, Mul mul f32x4_mul, Div div f32x4_div);
lanewise!(I32x4: Add add i32x4_add, Sub sub i32x4_sub);

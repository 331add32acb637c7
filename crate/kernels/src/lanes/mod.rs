//! Vectors of 128 bits with one interface: arrays that compilers vectorise, or WebAssembly SIMD.
//!
//! Kernels are written once, against this. Which implementation they get is decided at compile
//! time, so every call is a single instruction where there is one. Loads and stores go through
//! arrays of the right length: no pointer, no alignment to respect.

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm128;

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub use portable::{F32x4, I16x8, I32x4, U8x16};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm128::{F32x4, I16x8, I32x4, U8x16};

pub mod math;

/// Eight numbers, one per row of a panel.
pub type F32x8 = [F32x4; 2];

/// Loads eight numbers.
#[inline(always)]
pub fn load8(x: &[f32; 8]) -> F32x8 {
    let (halves, _) = x.as_chunks::<4>();
    [F32x4::load(&halves[0]), F32x4::load(&halves[1])]
}

/// Stores eight numbers.
#[inline(always)]
pub fn store8(x: F32x8) -> [f32; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (x[0].to_array(), x[1].to_array());
    [a, b, c, d, e, f, g, h]
}

/// Rows as columns.
#[inline(always)]
pub fn transpose([a, b, c, d]: [F32x4; 4]) -> [F32x4; 4] {
    let ([ac0, ac1], [bd0, bd1]) = (a.interleave(c), b.interleave(d));
    let ([first, second], [third, fourth]) = (ac0.interleave(bd0), ac1.interleave(bd1));
    [first, second, third, fourth]
}

/// Up to four numbers, then zeros.
#[inline(always)]
pub fn padded(x: &[f32]) -> [f32; 4] {
    let mut four = [0.0; 4];
    four[..x.len()].copy_from_slice(x);
    four
}

/// Replaces every number.
#[inline(always)]
pub fn map(x: &mut [f32], f: impl Fn(F32x4) -> F32x4) {
    let (chunks, tail) = x.as_chunks_mut::<4>();
    for chunk in chunks {
        *chunk = f(F32x4::load(chunk)).to_array();
    }
    if !tail.is_empty() {
        let result = f(F32x4::load(&padded(tail))).to_array();
        tail.copy_from_slice(&result[..tail.len()]);
    }
}
